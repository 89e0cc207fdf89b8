"""The names of modes and targets. Imports nothing, so that the command line can list them."""

KEEP = "keep"
REWRITE_MODES = ("logsumexp", "tag", "untag", KEEP)
# Older names, accepted wherever a mode is; errors name the new ones.
OLDER_NAMES = {"fused": "untag"}

# What becomes of v1 loops and branches.
FUNCTIONAL = "functional"
LOOPS = (KEEP, FUNCTIONAL)

# What migrated source calls.
TF1XENT = "tf1xent"
STOCK = "stock"
TARGETS = (TF1XENT, STOCK)

# What the labels of compared losses are, and the dtypes of their floating inputs.
LABEL_KINDS = ("sparse", "one-hot", "soft", "multi-hot")
DTYPES = ("float64", "float32")
