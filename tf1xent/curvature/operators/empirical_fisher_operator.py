"""The empirical Fisher matrix of a model over data, as an operator."""

from typing import Any, Optional

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.operators.curvature_operator import CurvatureOperator, float_outputs
from tf1xent.curvature.products.empirical_fisher import empirical_fisher_product_of


class EmpiricalFisherOperator(CurvatureOperator):
    """The uncentred covariance of the examples' gradients over all data, for SciPy.

    Use it for the noise of stochastic gradients. It is not the Fisher information, since the labels
    are those of the data; `FisherOperator` is::

        E = sum_b w_b sum_i weights_i g_i g_i^T / sum_b w_b        g_i = d losses_i / dx

    Args:
      session, xs, feeds, options: see `CurvatureOperator`, as for products and attributes.
      losses: the loss of each example, float [...], not reduced; or a list of such tensors.
      weights: of the examples in their batch, [...]; default 1 / number of examples, the mean.
      **options: batch_weights, reduction, damping, block_size, log, batch_norm, progress, workers,
        worker_timeout.

    **Derivatives**: a product takes first derivatives only, and costs 1.3 to 2.8 gradients.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: the losses are in another graph than the session's, or do not depend on one of
        `xs`; or a value is out of range.
      RuntimeError: the graph is finalized.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import EmpiricalFisherOperator
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     x = tf.get_variable("x", initializer=np.zeros(2))
    ...     losses = tf.linalg.matvec(tf.constant([[2.0, 0.0], [0.0, 4.0]], tf.float64), x)
    ...     session.run(tf.global_variables_initializer())
    ...     print(EmpiricalFisherOperator(session, losses, x, None).to_dense())
    [[2. 0.]
     [0. 8.]]

    Source: F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher approximation for
    natural gradient descent, 2019.
    """

    def __init__(
        self,
        session: Session,
        losses: Any,
        xs: Any,
        feeds: Any,
        *,
        weights: Optional[Tensor] = None,
        **options: Any,
    ) -> None:
        losses = float_outputs("EmpiricalFisherOperator", "losses", losses)
        super().__init__(
            session,
            xs,
            feeds,
            lambda tensors: empirical_fisher_product_of(losses, tensors, weights=weights),
            losses,
            **options,
        )
