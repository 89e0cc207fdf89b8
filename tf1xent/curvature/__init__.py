"""Curvature of any scalar loss: products, operators over data, spectra, traces, influence.

The graph functions follow the conventions of `tf.gradients`; the operators are SciPy linear
operators over a session and its data; the estimates take any symmetric operator or array. A model
may also come from its files alone (`load_model`, ``tf1xent spectrum``).
"""

try:
    import scipy.sparse.linalg as _scipy  # noqa: F401 - asked for here, to say what to do without
    import tqdm as _tqdm  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"tf1xent.curvature needs {error.name}. Run: pip install scipy tqdm", name=error.name
    ) from error

from tf1xent.curvature.estimates.effective_dimension import EffectiveDimension, effective_dimension
from tf1xent.curvature.estimates.eigenvalues import Eigenvalues, top_eigenvalues
from tf1xent.curvature.estimates.influence import Influence, influence
from tf1xent.curvature.estimates.layers import per_layer
from tf1xent.curvature.estimates.spectral_density import SpectralDensity, spectral_density
from tf1xent.curvature.estimates.trace import TraceEstimate, trace
from tf1xent.curvature.models.candidates import LossCandidate, loss_candidates
from tf1xent.curvature.models.loading import Model, load_model
from tf1xent.curvature.operators.curvature_operator import CurvatureOperator
from tf1xent.curvature.operators.empirical_fisher_operator import EmpiricalFisherOperator
from tf1xent.curvature.operators.fisher_operator import FisherOperator
from tf1xent.curvature.operators.ggn_operator import GGNOperator
from tf1xent.curvature.operators.hessian_operator import HessianOperator
from tf1xent.curvature.operators.parameters import Parameters
from tf1xent.curvature.products.empirical_fisher import empirical_fisher_vector_product
from tf1xent.curvature.products.fisher import fisher_vector_product
from tf1xent.curvature.products.gauss_newton import ggn_vector_product
from tf1xent.curvature.products.hessian_diagonal import hessian_diagonal
from tf1xent.curvature.products.hessian_products import hessian_vector_product
from tf1xent.curvature.products.hessians import hessians
from tf1xent.curvature.products.jacobian_products import (
    jacobian_vector_product,
    vector_jacobian_product,
)
from tf1xent.curvature.products.logits_hessian import logits_hessian
from tf1xent.curvature.reports.events import write_events
from tf1xent.curvature.reports.hook import CurvatureHook
from tf1xent.curvature.reports.plotting import plot_spectrum
from tf1xent.curvature.workers.serving import start_worker

__all__ = [
    "CurvatureHook",
    "CurvatureOperator",
    "EffectiveDimension",
    "Eigenvalues",
    "EmpiricalFisherOperator",
    "FisherOperator",
    "GGNOperator",
    "HessianOperator",
    "Influence",
    "LossCandidate",
    "Model",
    "Parameters",
    "SpectralDensity",
    "TraceEstimate",
    "effective_dimension",
    "empirical_fisher_vector_product",
    "fisher_vector_product",
    "ggn_vector_product",
    "hessian_diagonal",
    "hessian_vector_product",
    "hessians",
    "influence",
    "jacobian_vector_product",
    "load_model",
    "logits_hessian",
    "loss_candidates",
    "per_layer",
    "plot_spectrum",
    "spectral_density",
    "start_worker",
    "top_eigenvalues",
    "trace",
    "vector_jacobian_product",
    "write_events",
]
