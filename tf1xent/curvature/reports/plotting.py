"""Pictures of spectra, by matplotlib, which is imported when one is drawn."""

import io
from typing import Any, Optional

import numpy as np

from tf1xent._typing import Path

__all__ = ["plot_spectrum"]

_DENSITY_COLOR, _EIGENVALUE_COLOR, _NEGATIVE_COLOR = "tab:blue", "black", "tab:orange"
# Of a logarithmic density, decades below its largest value; what is lower is the kernel's tail.
_DECADES = 8
_FORMATS = ("png", "svg", "pdf")


def plot_spectrum(
    spectrum: Any,
    path: Optional[Path] = None,
    *,
    eigenvalues: Any = None,
    title: Optional[str] = None,
    size: Any = (7.0, 4.0),
    dpi: int = 110,
) -> Any:
    """Draws the density of a spectrum on a logarithmic axis, or single eigenvalues by rank.

    Use it on what `spectral_density` or `top_eigenvalues` return. No display is needed, and nothing
    of pyplot's state is changed.

    Args:
      spectrum: a `SpectralDensity`; or `Eigenvalues`, or an array of eigenvalues [k].
      path: where to write the picture: a path that ends in .png, .svg or .pdf. Default: nowhere.
      eigenvalues: `Eigenvalues` or an array [k], marked on the axis of a density.
      title: above the picture.
      size: width and height in inches.
      dpi: dots for an inch, for a PNG.

    Returns:
      The `matplotlib.figure.Figure`.

    Raises:
      ValueError: the path ends otherwise, or there is no eigenvalue, or one is not finite.
      ImportError: matplotlib is not installed.

    Example:

    >>> import os, tempfile
    >>> from tf1xent.curvature import plot_spectrum
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_spectrum([2.0, -1.0, 0.5], os.path.join(folder, "spectrum.png"))
    ...     print(os.listdir(folder))
    ['spectrum.png']
    """
    ending = None if path is None else str(path).rpartition(".")[2].lower()
    if ending is not None and ending not in _FORMATS:
        raise ValueError(
            f"plot_spectrum: `path` must end in .png, .svg or .pdf, got {path}. Name it so."
        )
    figure = _new_figure(size)
    axes = figure.add_subplot()
    if hasattr(spectrum, "density"):
        _draw_density(axes, spectrum, None if eigenvalues is None else _values(eigenvalues))
    else:
        _draw_ranks(axes, _values(spectrum))
    if title is not None:
        axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    if path is not None:
        # Without its date an SVG or PDF of the same numbers is the same.
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(str(ending))
        figure.savefig(path, format=ending, dpi=dpi, metadata=metadata)
    return figure


def spectrum_png(spectrum: Any, **options: Any) -> bytes:
    """Returns the picture of `plot_spectrum` as the bytes of a PNG."""
    dpi = options.pop("dpi", 110)
    file = io.BytesIO()
    plot_spectrum(spectrum, **options).savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def _new_figure(size: Any) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plot_spectrum: needs matplotlib. Run: pip install tf1xent[curvature]"
        ) from error
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def _values(eigenvalues: Any) -> np.ndarray:
    """Returns eigenvalues as an array, the largest first."""
    values = np.ravel(np.asarray(getattr(eigenvalues, "values", eigenvalues), np.float64))
    if not values.size or not np.isfinite(values).all():
        raise ValueError(
            "plot_spectrum: `eigenvalues` must hold finite numbers, and one at least, got "
            f"{values.size} of which {np.isfinite(values).sum()} are finite. Look where they "
            "come from."
        )
    return np.sort(values)[::-1]


def _draw_density(axes: Any, density: Any, eigenvalues: Optional[np.ndarray]) -> None:
    grid, heights = np.asarray(density.grid), np.asarray(density.density)
    top = heights.max()
    axes.plot(grid, heights, color=_DENSITY_COLOR, label="density")
    axes.set_yscale("log")
    axes.set_ylim(top * 10.0**-_DECADES, top * 3)
    if eigenvalues is not None:
        floor = np.full(eigenvalues.size, top * 10.0 ** (0.5 - _DECADES))
        label = f"{eigenvalues.size} largest eigenvalues"
        axes.plot(eigenvalues, floor, "|", color=_EIGENVALUE_COLOR, markersize=12, label=label)
        axes.legend(loc="upper right")
    axes.set_xlabel("eigenvalue")
    axes.set_ylabel("density of eigenvalues")


def _draw_ranks(axes: Any, values: np.ndarray) -> None:
    values = values[np.argsort(-np.abs(values), kind="stable")]
    ranks = 1 + np.arange(values.size)
    for sign, chosen, color in (
        ("positive", values > 0, _DENSITY_COLOR),
        ("negative", values < 0, _NEGATIVE_COLOR),
    ):
        if chosen.any():
            axes.plot(ranks[chosen], np.abs(values[chosen]), ".", color=color, label=sign)
    if (values != 0).any():
        axes.set_yscale("log")
        axes.legend(loc="upper right")
    axes.set_xlabel("rank by absolute value")
    axes.set_ylabel("absolute eigenvalue")
