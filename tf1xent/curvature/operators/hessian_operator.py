"""The Hessian of a loss over data, as an operator."""

from typing import Any

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.operators.loss_operator import LossOperator, scalar
from tf1xent.curvature.products.hessian_products import hessian_product_of


class HessianOperator(LossOperator):
    """The Hessian of `loss` in `xs` over all data, for SciPy.

    Use it for eigenvalues, traces and linear systems of a trained model's loss. At a point that is
    no minimum it has negative eigenvalues; `GGNOperator` has none::

        H = sum_b w_b d2 loss_b / dx dx' / sum_b w_b

    Args:
      session, xs, feeds, options: see `CurvatureOperator`, as for products and attributes.
      loss: a scalar float tensor, the loss of one batch.
      **options: batch_weights, reduction, damping, block_size, log, batch_norm, progress, workers,
        worker_timeout.

    **Derivatives**: a product takes second derivatives, reverse over reverse, and costs 1.6 to 3
      gradients. A loss with TensorFlow's own cross-entropy needs `tf1xent.override_gradients()` or
      `tf1xent.patch()` first.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: the loss is not a scalar, is in another graph than the session's, or does not
        depend on one of `xs`; or a value is out of range.
      RuntimeError: the graph is finalized.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import HessianOperator
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     data = tf.placeholder(tf.float64, [None, 2])
    ...     x = tf.get_variable("x", initializer=np.zeros(2))
    ...     loss = tf.reduce_mean(tf.square(tf.linalg.matvec(data, x)))
    ...     session.run(tf.global_variables_initializer())
    ...     feeds = [{data: [[1, 0], [0, 2]]}, {data: [[1, 0]]}]
    ...     hessian = HessianOperator(session, loss, x, feeds)
    ...     print(hessian.to_dense().round(4))
    [[1.3333 0.    ]
     [0.     2.6667]]

    Source: B. A. Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """

    def __init__(
        self,
        session: Session,
        loss: Tensor,
        xs: Any,
        feeds: Any,
        **options: Any,
    ) -> None:
        loss = scalar("HessianOperator", loss)
        super().__init__(
            session,
            xs,
            feeds,
            lambda tensors: hessian_product_of(loss, tensors),
            [loss],
            **options,
        )
