"""The names of the rewrite modes. Imports nothing, so that the command line can list them."""

KEEP = "keep"
REWRITE_MODES = ("logsumexp", "tag", "untag", KEEP)
# Older names, accepted wherever a mode is; errors name the new ones.
OLDER_NAMES = {"fused": "untag"}

# What becomes of v1 loops and branches.
FUNCTIONAL = "functional"
LOOPS = (KEEP, FUNCTIONAL)
