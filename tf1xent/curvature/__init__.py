"""Curvature of any scalar loss: products, operators over data, spectra, traces, influence."""

from tf1xent.curvature.gauss_newton import ggn_vector_product
from tf1xent.curvature.ggn_operator import GGNOperator
from tf1xent.curvature.hessian_operator import HessianOperator
from tf1xent.curvature.hessian_products import hessian_vector_product
from tf1xent.curvature.jacobian_products import jacobian_vector_product, vector_jacobian_product

__all__ = [
    "GGNOperator",
    "HessianOperator",
    "ggn_vector_product",
    "hessian_vector_product",
    "jacobian_vector_product",
    "vector_jacobian_product",
]
