"""Runs the demo: the training script as it is, then patched, with checks of its results."""

import json
import os
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

import tf1xent
from tf1xent import _probes, _tf
from tf1xent.demo import collapse, digits, figure

Figures = Dict[str, Any]

DIFFERENCE_STEP = 1e-5  # in float64 both errors, eps / step and step squared, are then about 1e-10
NUM_LEADING = 8


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _relative_difference(matrix: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(matrix - reference) / np.linalg.norm(reference))


def _run_stock(epochs: int) -> Tuple[Optional[np.ndarray], Optional[str]]:
    """Runs the script unpatched; returns its Hessian, or the LookupError that ends it."""
    try:
        return digits.main(epochs).hessian, None
    except LookupError as error:
        message = f"LookupError: {error}".splitlines()[0]
        print(message, flush=True)
        return None, message


def hessian_in_float64(
    variables: List[np.ndarray], images: np.ndarray, labels: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the Hessian of the script's loss at `variables` twice, computed in float64.

    The first is tf.hessians. The second is central differences of tf.gradients, which need no
    second derivative.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        network = digits.build_network(tf.float64)
        weights = network.hidden_weights
        (hessian,) = tf.hessians(network.loss, weights)
        (gradient,) = tf.gradients(network.loss, weights)
        new_weights = tf.placeholder(tf.float64, weights.shape)
        assign = weights.assign(new_weights).op
        session.run(tf.global_variables_initializer())
        for variable, value in zip(network.variables, variables):
            variable.load(value.astype(np.float64), session)
        feed = {network.images: images, network.labels: labels}
        center = session.run(weights)
        hessian = session.run(hessian, feed).reshape(center.size, center.size)

        def gradient_at(index: int, step: float) -> np.ndarray:
            moved = center.copy()
            moved.flat[index] += step
            session.run(assign, {new_weights: moved})
            return session.run(gradient, feed).ravel()

        differences = np.empty_like(hessian)
        for index in tqdm(range(center.size), desc="finite differences", unit="weight"):
            forward, backward = (gradient_at(index, s * DIFFERENCE_STEP) for s in (1, -1))
            differences[index] = (forward - backward) / (2 * DIFFERENCE_STEP)
    return hessian, differences


def _check_hessian(
    trained: SimpleNamespace, stock_hessian: Optional[np.ndarray]
) -> Tuple[Figures, np.ndarray]:
    """Prints and returns the checks of the script's Hessian, and its float64 eigenvalues."""
    images, labels = digits.load_data()[0]
    hessian, differences = hessian_in_float64(trained.variables, images, labels)
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2)[::-1]
    figures: Figures = {
        "accuracy": float(trained.accuracy),
        "eigenvalues": np.linalg.eigvalsh(trained.hessian.astype(np.float64))[::-1].tolist(),
        "finite_difference_error": _relative_difference(hessian, differences),
        "float32_error": _relative_difference(trained.hessian, hessian),
        "asymmetry": _relative_difference(hessian.T, hessian),
    }
    leading = "  ".join(f"{value:.4g}" for value in figures["eigenvalues"][:NUM_LEADING])
    print(f"leading eigenvalues, nats per squared weight: {leading}")
    print("relative differences (Frobenius norm):")
    print("  float64 Hessian, finite differences: {finite_difference_error:.1e}".format(**figures))
    print("  float64 Hessian, its transpose:      {asymmetry:.1e}".format(**figures))
    print("  float32 Hessian, float64 Hessian:    {float32_error:.1e}".format(**figures))
    if stock_hessian is not None:
        figures["stock_difference"] = _relative_difference(trained.hessian, stock_hessian)
        print("  float32 Hessian, TensorFlow's own:   {stock_difference:.1e}".format(**figures))
    return figures, eigenvalues


def _print_probes() -> Dict[str, str]:
    """Prints what TensorFlow's own functions get wrong, and what ours compute there."""
    nn = tf1xent.nn
    for probe, stock in zip(_probes.PROBES, _probes.stock_findings()):
        ours = _probes.finding(
            probe,
            nn.sparse_softmax_cross_entropy_with_logits,
            nn.softmax_cross_entropy_with_logits_v2,
        )
        print(f"{stock.question}: {stock.verdict}")
        if stock.verdict != "right":
            shown = [_numbers(array) for array in (stock.computed, ours.computed, stock.exact)]
            print("    TensorFlow {}, tf1xent {}, exact {}".format(*shown))
    return dict(_probes.stock_deficiencies())


def _numbers(array: Optional[np.ndarray]) -> str:
    """Returns an array in one line; "nothing" for none."""
    if array is None:
        return "nothing"
    if array.ndim:
        return "[" + ", ".join(_numbers(part) for part in array) + "]"
    return f"{float(array):.4g}"


def _collapse_figures(stock: collapse.Curves, patched: collapse.Curves) -> Figures:
    exact_loss, exact_gradient = collapse.exact(collapse.TABLE_CONFIDENCES)
    figures: Figures = {"confidences": list(collapse.TABLE_CONFIDENCES)}
    for side, (losses, gradients) in (("stock", stock), ("patched", patched)):
        loss_errors = collapse.relative_errors(losses, exact_loss)
        gradient_errors = collapse.relative_errors(gradients, exact_gradient)
        figures[f"{side}_loss_errors"] = loss_errors.tolist()
        figures[f"{side}_gradient_errors"] = gradient_errors.tolist()
    return figures


def run(output: str, epochs: int = 30, json_path: Optional[str] = None) -> Figures:
    """Runs the demo, prints what it finds and writes the picture.

    Args:
      output: path of the PNG; a file that is there already is replaced.
      epochs: of training, in each of the two runs of the script.
      json_path: where to write the figures as JSON, or None.

    Returns:
      The figures, a dict.
    """
    tf.logging.set_verbosity(tf.logging.ERROR)
    print(f"tf1xent {tf1xent.__version__} on TensorFlow {_tf.version()}")
    confidences = (collapse.TABLE_CONFIDENCES, collapse.CURVE_CONFIDENCES)

    _heading(f"{os.path.basename(digits.__file__)} as it is")
    stock_hessian, lookup_error = _run_stock(epochs)
    stock_table, stock_curve = (collapse.computed(values) for values in confidences)

    _heading(f"{os.path.basename(digits.__file__)} after tf1xent.patch()")
    with tf1xent.patched():
        trained = digits.main(epochs)
        figures, eigenvalues = _check_hessian(trained, stock_hessian)
        patched_table, patched_curve = (collapse.computed(values) for values in confidences)

    _heading("TensorFlow's own functions on a few numbers")
    figures["probes"] = _print_probes()

    _heading("float32 loss and gradient, true class's logit t, the nine others 0")
    print("\n".join(collapse.table(stock_table, patched_table)))
    figures["lookup_error"] = lookup_error
    figures["collapse"] = _collapse_figures(stock_table, patched_table)

    figure.draw(output, eigenvalues, stock_curve, patched_curve)
    print(f"\nwrote {output}")
    if json_path:
        with open(json_path, "w") as file:
            json.dump(figures, file, indent=1)
    return figures
