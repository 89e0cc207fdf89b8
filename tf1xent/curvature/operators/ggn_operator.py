"""The generalized Gauss-Newton matrix of a loss over data, as an operator."""

from typing import Any

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.operators.curvature_operator import float_outputs
from tf1xent.curvature.operators.loss_operator import LossOperator, scalar
from tf1xent.curvature.products.gauss_newton import ggn_product_of


class GGNOperator(LossOperator):
    """The generalized Gauss-Newton matrix of `loss` over all data, for SciPy.

    It is the Hessian without the curvature of the model: positive semidefinite for a loss that is
    convex in `outputs`, and the Hessian itself for a model that is linear in `xs`::

        G = sum_b w_b J_b^T (d2 loss_b / d outputs d outputs') J_b / sum_b w_b

    Args:
      session, xs, feeds, options: see `CurvatureOperator`, as for products and attributes.
      loss: a scalar float tensor, the loss of one batch.
      outputs: the tensor, or list of tensors, through which the loss depends on `xs`: the logits.
      **options: batch_weights, reduction, damping, block_size, log, batch_norm, progress, workers,
        worker_timeout.

    **Derivatives**: a product takes first derivatives of the model and second ones of the loss in
      `outputs`; it costs 1.3 to 2.8 gradients. A loss with TensorFlow's own cross-entropy needs
      `tf1xent.override_gradients()` or `tf1xent.patch()` first.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: the loss is not a scalar, is in another graph than the session's, or does not
        depend on one of `xs`; or a value is out of range.
      RuntimeError: the graph is finalized.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import GGNOperator
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     data = tf.placeholder(tf.float64, [None, 2])
    ...     x = tf.get_variable("x", initializer=np.ones(2))
    ...     outputs = tf.square(tf.linalg.matvec(data, x))
    ...     loss = tf.reduce_mean(tf.square(outputs - 1) / 2)
    ...     session.run(tf.global_variables_initializer())
    ...     ggn = GGNOperator(session, loss, outputs, x, [{data: [[1, 0], [0, 2]]}])
    ...     print(ggn @ [1, 1])
    [ 2. 32.]

    Source: N. N. Schraudolph, Fast curvature matrix-vector products, 2002.
    """

    def __init__(
        self,
        session: Session,
        loss: Tensor,
        outputs: Any,
        xs: Any,
        feeds: Any,
        **options: Any,
    ) -> None:
        loss = scalar("GGNOperator", loss)
        outputs = float_outputs("GGNOperator", "outputs", outputs)
        super().__init__(
            session,
            xs,
            feeds,
            lambda tensors: ggn_product_of(loss, outputs, tensors),
            [loss],
            **options,
        )
