"""The Fisher information matrix of a model over data, as an operator."""

from typing import Any, Optional

from tf1xent._typing import Session, Tensor
from tf1xent.curvature.operators.curvature_operator import CurvatureOperator, float_outputs
from tf1xent.curvature.products.fisher import fisher_product_of


class FisherOperator(CurvatureOperator):
    """The Fisher information of a model's own distribution over all data, for SciPy.

    It needs no labels: the expectation over them is exact. For softmax cross-entropy it equals the
    GGN::

        F = sum_b w_b sum_i weights_i J_i^T (diag(p_i) - p_i p_i^T) J_i / sum_b w_b

    Args:
      session, xs, feeds, options: see `CurvatureOperator`, as for products and attributes.
      outputs: the logits, float [..., number of outputs], or a list of such tensors.
      weights: of the rows in their batch, [...]; default 1 / number of rows, which is the mean.
      distribution: "categorical", "bernoulli" or "normal"; see `fisher_vector_product`.
      **options: batch_weights, reduction, damping, block_size, log, batch_norm, progress, workers,
        worker_timeout.

    **Derivatives**: a product takes first derivatives of the model, and costs 1.3 to 2.8 gradients.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: the outputs are in another graph than the session's, or do not depend on one of
        `xs`; or a value is out of range.
      RuntimeError: the graph is finalized.

    Example:

    >>> import numpy as np
    >>> import tensorflow.compat.v1 as tf
    >>> from tf1xent.curvature import FisherOperator
    >>> with tf.Graph().as_default(), tf.Session() as session:
    ...     logits = tf.get_variable("logits", initializer=np.zeros([1, 2]))
    ...     session.run(tf.global_variables_initializer())
    ...     print(FisherOperator(session, logits, logits, None).to_dense())
    [[ 0.25 -0.25]
     [-0.25  0.25]]

    Source: J. Martens, New insights and perspectives on the natural gradient method, 2014.
    """

    def __init__(
        self,
        session: Session,
        outputs: Any,
        xs: Any,
        feeds: Any,
        *,
        weights: Optional[Tensor] = None,
        distribution: str = "categorical",
        **options: Any,
    ) -> None:
        outputs = float_outputs("FisherOperator", "outputs", outputs)
        super().__init__(
            session,
            xs,
            feeds,
            lambda tensors: fisher_product_of(
                outputs, tensors, weights=weights, distribution=distribution
            ),
            outputs,
            **options,
        )
