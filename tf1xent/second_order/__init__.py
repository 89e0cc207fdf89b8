"""Second derivatives of everything between the parameters and the loss.

TensorFlow differentiates its ops by gradient ops, and many of these have no gradient themselves:
`tf.hessians` then raises LookupError, or leaves out their part without a word. The modules of this
package supply them, one file a family. `tf1xent.override_gradients` and `tf1xent.patch` put them
where TensorFlow has none, and their way back removes them. A gradient that TensorFlow has, or that
a program registers itself, is never replaced, but for one: that of GRUBlockCell, see `gru`.
"""

from tf1xent.second_order import activation as activation
from tf1xent.second_order import batching as batching
from tf1xent.second_order import convolution as convolution
from tf1xent.second_order import crop_boxes as crop_boxes
from tf1xent.second_order import crops as crops
from tf1xent.second_order import ctc as ctc
from tf1xent.second_order import gru as gru
from tf1xent.second_order import linear_algebra as linear_algebra
from tf1xent.second_order import lstm as lstm
from tf1xent.second_order import normalization as normalization
from tf1xent.second_order import pooling as pooling
from tf1xent.second_order import quantization as quantization
from tf1xent.second_order import refused as refused
from tf1xent.second_order import removed_ops as removed_ops
from tf1xent.second_order import resize as resize
from tf1xent.second_order import sampling as sampling
from tf1xent.second_order import segments as segments
from tf1xent.second_order import sparse as sparse
from tf1xent.second_order.auditing import Audit, Finding, Kind, Verdict, audit

__all__ = ["Audit", "Finding", "Kind", "Verdict", "audit"]
