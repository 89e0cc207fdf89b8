"""What the operators of a scalar loss share: its value and gradient over the data."""

from typing import Any

import numpy as np

from tf1xent._tf import tf
from tf1xent._typing import Tensor
from tf1xent.curvature.operators.batches import Request
from tf1xent.curvature.operators.curvature_operator import CurvatureOperator


class LossOperator(CurvatureOperator):
    """An operator of a scalar loss, which has a value and a gradient over the data."""

    def _build(self) -> None:
        super()._build()
        self._loss = tf.reshape(self._differentiated[0], [])
        self._data.include([self._loss])

    def loss(self) -> float:
        """Returns the loss over the data: the mean (or sum) of the batches' losses."""
        total = np.zeros([1])
        self._data.add_up([Request([[self._loss]], ["the loss"], [slice(0, 1)], [total], dict)])
        return float(total[0])

    def gradient(self) -> np.ndarray:
        """Returns the gradient of the loss over the data in the variables, flat float64 [size]."""
        request = self._of_gradient()
        self._data.add_up([request])
        return request.sums[0]


def scalar(function: str, loss: Any) -> Tensor:
    """Returns a loss as a tensor.

    Raises:
      TypeError: it is no float tensor of a graph.
      ValueError: its static shape is not that of a scalar.
    """
    if not hasattr(loss, "dtype") or not loss.dtype.base_dtype.is_floating:
        raise TypeError(
            f"{function}: `loss` must be a float tensor, got "
            f"{getattr(loss, 'dtype', type(loss).__name__)}. Pass the tensor that is minimized."
        )
    if loss.shape.ndims not in (0, None):
        raise ValueError(
            f"{function}: `loss` must be a scalar, got shape {loss.shape}. Use tf.reduce_mean."
        )
    return loss
