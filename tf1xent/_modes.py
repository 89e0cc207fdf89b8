"""The modes of a rewrite, where the command line finds them without TensorFlow."""

REWRITE_MODES = ("logsumexp", "tag", "untag")
# Earlier names, which stay accepted, and what they mean.
OLD_REWRITE_MODES = {"fused": "untag"}
