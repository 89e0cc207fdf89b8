"""The names of the rewrite modes. Imports nothing, so that the command line can list them."""

REWRITE_MODES = ("logsumexp", "tag", "untag")
# Older names, accepted wherever a mode is; errors name the new ones.
OLDER_NAMES = {"fused": "untag"}
