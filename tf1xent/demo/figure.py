"""The demo's picture: the Hessian's spectrum; loss and gradient of confident predictions."""

from typing import Any

import matplotlib

matplotlib.use("Agg")  # a file is written; no display is needed

import numpy as np  # noqa: E402
from matplotlib import pyplot  # noqa: E402

from tf1xent.demo import collapse  # noqa: E402

STOCK_COLOR, OUR_COLOR, EXACT_COLOR = "tab:red", "tab:blue", "black"
NOISE = 1e-14  # eigenvalues below this share of the largest are rounding errors of zeros


def _draw_spectrum(axes: Any, eigenvalues: np.ndarray) -> None:
    ranks = 1 + np.arange(len(eigenvalues))
    by_size = eigenvalues[np.argsort(-np.abs(eigenvalues))]
    kept = np.abs(by_size) > NOISE * np.abs(by_size[0])
    positive, negative = kept & (by_size > 0), kept & (by_size < 0)
    for sign, chosen, color in (
        ("positive", positive, OUR_COLOR),
        ("negative", negative, "tab:orange"),
    ):
        label = f"{sign}, {chosen.sum()} eigenvalues"
        axes.plot(
            ranks[chosen], np.abs(by_size[chosen]), ".", color=color, markersize=4, label=label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank by absolute value")
    axes.set_ylabel("absolute eigenvalue, nats per squared weight")
    axes.set_title(f"Hessian of the loss on digits,\n{len(eigenvalues)} hidden weights")
    axes.legend(loc="lower left")


def _draw_collapse(
    axes: Any,
    stock: np.ndarray,
    patched: np.ndarray,
    exact: np.ndarray,
    unit: str,
    title: str,
) -> None:
    confidences = collapse.CURVE_CONFIDENCES
    shown = np.where(stock == 0, np.nan, np.abs(stock))  # a logarithmic axis has no 0
    grey = {"color": EXACT_COLOR, "linewidth": 6, "alpha": 0.2}
    axes.plot(confidences, np.abs(exact), label="exact", **grey)
    axes.plot(confidences, shown, color=STOCK_COLOR, linewidth=3, label="TensorFlow, float32")
    axes.plot(confidences, np.abs(patched), "--", color=OUR_COLOR, label="tf1xent, float32")
    zeros = confidences[np.flatnonzero(stock == 0)]
    if zeros.size:
        floor = np.abs(exact).min()
        axes.plot(zeros, np.full(zeros.size, floor), "x", color=STOCK_COLOR, markersize=4)
        text = f"TensorFlow: exactly 0 from t = {zeros[0]:g}"
        axes.annotate(
            text, (zeros[0], floor), (0, 6), textcoords="offset points", color=STOCK_COLOR, size=9
        )
    axes.set_yscale("log")
    axes.set_xlabel("logit t of the true class, the nine others 0")
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend(loc="upper right")


def draw(
    path: str, eigenvalues: np.ndarray, stock: collapse.Curves, patched: collapse.Curves
) -> None:
    """Writes the PNG. `stock` and `patched` are `collapse.computed` of its CURVE_CONFIDENCES."""
    figure, (spectrum, loss, gradient) = pyplot.subplots(1, 3, figsize=(16, 5))
    _draw_spectrum(spectrum, eigenvalues)
    exact_loss, exact_gradient = collapse.exact(collapse.CURVE_CONFIDENCES)
    title = "Loss of ever more\nconfident predictions"
    _draw_collapse(loss, stock[0], patched[0], exact_loss, "loss, nats", title)
    unit = "absolute gradient at the true class, nats per unit of logit"
    title = "Gradient of ever more\nconfident predictions"
    _draw_collapse(gradient, stock[1], patched[1], exact_gradient, unit, title)
    for axes in (spectrum, loss, gradient):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110, format="png")
    pyplot.close(figure)
