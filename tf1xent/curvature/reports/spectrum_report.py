"""The curvature of a model at a glance: a matrix and its layers, as text and as JSON."""

import dataclasses
import re
from typing import Any, Dict, List, Mapping, Optional

from tf1xent import _table
from tf1xent._typing import Session
from tf1xent.curvature.estimates.eigenvalues import Eigenvalues, top_eigenvalues
from tf1xent.curvature.estimates.result import Result, as_json
from tf1xent.curvature.estimates.spectral_density import SpectralDensity, spectral_density
from tf1xent.curvature.estimates.trace import TraceEstimate, trace

# What an operator says of a batch normalization that is in training or not by one tensor's value.
_DECIDED = re.compile(r"decided by ([^ ]+:\d+)$")


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCurvature(Result):
    """The diagonal block of one layer.

    Attributes:
      variables: their names.
      size: the number of parameters.
      eigenvalue: the one of largest magnitude.
      trace: its estimate, or None.
    """

    variables: List[str]
    size: int
    eigenvalue: float
    trace: Optional[TraceEstimate]

    def to_dict(self) -> Dict[str, Any]:
        """Returns the fields by name, as JSON types."""
        own = as_json(
            {"variables": self.variables, "size": self.size, "eigenvalue": self.eigenvalue}
        )
        return dict(own, trace=None if self.trace is None else self.trace.to_dict())


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumReport:
    """Eigenvalues, trace, density and layers of one matrix.

    Attributes:
      about: what was measured, by name, JSON types: "graph", "checkpoint", "matrix", "loss",
        "value" of the loss, "examples", "batches", "parameters", "variables", "left_out" and
        "batch_normalization"; and more that only the JSON has.
      eigenvalues: the largest by magnitude, with residuals.
      trace: its estimate, or None.
      density: the spectrum's, or None.
      layers: by name, the layers' blocks.
    """

    about: Dict[str, Any]
    eigenvalues: Eigenvalues
    trace: Optional[TraceEstimate]
    density: Optional[SpectralDensity]
    layers: Dict[str, LayerCurvature]

    def to_dict(self) -> Dict[str, Any]:
        """Returns all of it as JSON types."""
        return {
            **as_json(self.about),
            "eigenvalues": self.eigenvalues.to_dict(),
            "trace": None if self.trace is None else self.trace.to_dict(),
            "density": None if self.density is None else self.density.to_dict(),
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
        }

    def to_text(self) -> str:
        """Returns what was measured, and tables of the numbers."""
        parts = [*([self._heading()] if self.about else []), self._eigenvalue_table()]
        if self.trace is not None:
            parts.append(f"trace  {_trace_text(self.trace)}")
        if self.layers:
            parts.append(self._layer_table())
        return "\n\n".join(parts)

    def _heading(self) -> str:
        about = self.about
        matrix = "Hessian" if about["matrix"] == "hessian" else "Gauss-Newton matrix"
        lines = [
            f"{about['graph']}, checkpoint {about['checkpoint']}",
            f"{matrix} of {about['loss']} = {about['value']:.6g} over "
            f"{_table.count(about['examples'], 'example')} in "
            f"{about['batches']} batch{'es' if about['batches'] > 1 else ''}, in "
            f"{_table.count(about['parameters'], 'parameter')} of "
            f"{_table.count(len(about['variables']), 'variable')}",
        ]
        if about["left_out"]:
            lines.append(f"without {', '.join(about['left_out'])}, which the loss does not reach")
        statistics = list(about["batch_normalization"].values())
        for used in sorted(set(statistics)):
            number = _table.count(statistics.count(used), "batch normalization")
            lines.append(f"statistics of {number}: {used}")
        return "\n".join(lines)

    def _eigenvalue_table(self) -> str:
        found, residuals = self.eigenvalues, self.eigenvalues.residuals
        rows = [("", "eigenvalue", "residual")]
        for number, value in enumerate(found.values):
            residual = "" if residuals is None else f"{residuals[number]:.1e}"
            rows.append((str(number + 1), f"{value:.6g}", residual))
        return "\n".join(_table.aligned(rows))

    def _layer_table(self) -> str:
        rows = [("layer", "parameters", "largest eigenvalue", "trace")]
        for name, layer in self.layers.items():
            estimate = "" if layer.trace is None else _plus_minus(layer.trace)
            rows.append(
                (_table.shortened(name, 40), str(layer.size), f"{layer.eigenvalue:.6g}", estimate)
            )
        return "\n".join(_table.aligned(rows))


def _plus_minus(estimate: TraceEstimate) -> str:
    if estimate.standard_error == 0:
        return f"{estimate.value:.6g}"
    return f"{estimate.value:.6g} +- {estimate.standard_error:.2g}"


def _trace_text(estimate: TraceEstimate) -> str:
    text = _plus_minus(estimate)
    if estimate.standard_error:
        low, high = estimate.interval
        text += f", 95 % from {low:.6g} to {high:.6g}"
    return f"{text} ({estimate.method}, {_table.count(estimate.num_products, 'product')})"


def measure_spectrum(
    operator: Any,
    layers: Optional[Mapping[str, Any]] = None,
    *,
    top: int = 10,
    trace_products: int = 30,
    density_steps: int = 80,
    seed: int = 0,
    about: Optional[Mapping[str, Any]] = None,
) -> SpectrumReport:
    """Estimates eigenvalues, trace and density of an operator, and eigenvalue and trace by layer.

    Args:
      operator: as of `top_eigenvalues`.
      layers: by name, the operators of layers, such as submatrices of the operator.
      top: how many eigenvalues; at most as many as there are.
      trace_products: for each trace; 0 for none.
      density_steps: of Lanczos; 0 for no density.
      seed: of all random vectors.
      about: what is measured, for the report.
    """
    size = operator.shape[0]
    eigenvalues = top_eigenvalues(operator, min(top, size), seed=seed, vectors=True)
    eigenvalues = dataclasses.replace(eigenvalues, vectors=None)
    density = None
    if density_steps:
        density = spectral_density(operator, num_steps=min(density_steps, size), seed=seed)
    return SpectrumReport(
        about=dict(about or {}),
        eigenvalues=eigenvalues,
        trace=trace(operator, trace_products, seed=seed) if trace_products else None,
        density=density,
        layers={
            name: LayerCurvature(
                variables=list(layer.parameters.names),
                size=layer.shape[0],
                eigenvalue=float(top_eigenvalues(layer, seed=seed).values[0]),
                trace=trace(layer, trace_products, seed=seed) if trace_products else None,
            )
            for name, layer in (layers or {}).items()
        },
    )


def decided_statistics(
    statistics: Mapping[str, str], session: Session, feed: Mapping[Any, Any]
) -> Dict[str, str]:
    """Adds to `batch_norm_statistics` of an operator the values of tensors that decide."""
    found = dict(statistics)
    values: Dict[str, str] = {}
    for name, used in statistics.items():
        decides = _DECIDED.match(used)
        if decides is not None:
            tensor = decides.group(1)
            if tensor not in values:
                values[tensor] = str(session.run(tensor, feed))
            found[name] = f"{used}, which is {values[tensor]}"
    return found
