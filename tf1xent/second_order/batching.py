"""The gradient of the gradient of `Unbatch`, which hands each caller its part of a batch."""

from typing import Tuple

from tf1xent import _tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies

# As long as TensorFlow's own gradient of a batch waits for the parts: 60 s.
_TIMEOUT_MICROS = 60_000_000


@supplies(
    "UnbatchGrad",
    ["Unbatch"],
    "Linear: the gradient is Unbatch, which has one itself where tf.contrib.batching is imported.",
    orders="second",
)
def _unbatch_grad(op: Operation, cotangent: Tensor) -> Tuple[None, None, Tensor, None]:
    _, batch_index, _, part = op.inputs
    unbatched = _tf.raw_op("Unbatch")(
        batched_tensor=cotangent,
        batch_index=batch_index,
        id=part,
        timeout_micros=_TIMEOUT_MICROS,
        **_tf.attributes(op, "container"),
    )
    return None, None, unbatched, None
