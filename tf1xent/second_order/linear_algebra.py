"""The gradient of the gradient of the Cholesky decomposition, as old graphs hold it.

TensorFlow's own gradient of `Cholesky` is made of stock ops. Graphs that older versions wrote have
the op `CholeskyGrad` instead, which reads the lower triangles L and G of its inputs::

    A = sym(L^-T P L^-1)      P = lower triangle of L^T G, its diagonal halved
    sym(M) = (M + M^T) / 2

With a cotangent U of A, V = sym(U) and D = lower triangle of L^-1 V L^-T, its diagonal halved::

    d / dG = lower triangle of L D
    d / dL = lower triangle of G D^T - 2 A V L^-T
"""

from typing import Tuple

from tf1xent._tf import tf
from tf1xent._typing import Operation, Tensor
from tf1xent.second_order.table import supplies


def _lower(matrix: Tensor) -> Tensor:
    return tf.matrix_band_part(matrix, -1, 0)


def _lower_with_half_diagonal(matrix: Tensor) -> Tensor:
    return _lower(matrix) - tf.matrix_diag(tf.matrix_diag_part(matrix)) / 2


def _transposed(matrix: Tensor) -> Tensor:
    return tf.matrix_transpose(matrix)


@supplies("CholeskyGrad", [], "Closed form, by triangular solves.")
@supplies("BatchCholeskyGrad", [], "Closed form, by triangular solves.")
def _cholesky_grad(op: Operation, cotangent: Tensor) -> Tuple[Tensor, Tensor]:
    factor, incoming = (_lower(tensor) for tensor in op.inputs)
    symmetric = (cotangent + _transposed(cotangent)) / 2
    half_solved = tf.matrix_triangular_solve(factor, symmetric)
    solved = tf.matrix_triangular_solve(factor, _transposed(half_solved))
    middle = _lower_with_half_diagonal(solved)
    in_incoming = _lower(tf.matmul(factor, middle))
    product = tf.matmul(half_solved, op.outputs[0])
    in_factor = _lower(tf.matmul(incoming, middle, transpose_b=True) - 2 * _transposed(product))
    return in_factor, in_incoming
