"""Softmax cross-entropy of single examples, with exact derivatives of every order.

The drop-ins have the names, arguments and values of TensorFlow's own functions; the others take
options: masks, weights, label smoothing and more, all of which combine.
"""

from tf1xent.nn.drop_ins import (
    softmax_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)
from tf1xent.nn.masked import (
    masked_softmax_cross_entropy_with_logits,
    masked_sparse_softmax_cross_entropy_with_logits,
)
from tf1xent.nn.probabilities import softmax_cross_entropy_with_probabilities
from tf1xent.nn.weighted import (
    weighted_softmax_cross_entropy_with_logits,
    weighted_sparse_softmax_cross_entropy_with_logits,
)

__all__ = [
    "masked_softmax_cross_entropy_with_logits",
    "masked_sparse_softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "softmax_cross_entropy_with_probabilities",
    "sparse_softmax_cross_entropy_with_logits",
    "weighted_softmax_cross_entropy_with_logits",
    "weighted_sparse_softmax_cross_entropy_with_logits",
]
