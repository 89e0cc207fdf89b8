"""tools/examples: each runs, and what it prints and returns is right by NumPy alone.

The oracles share the formula of a network and nothing else with the examples. Derivatives are
differences along the imaginary axis, f(x + ih).imag / h, which have no rounding error.
"""

import collections
import contextlib
import io
import re
import runpy

import numpy as np
import pytest

from tests import ROOT

EXAMPLES = ROOT / "tools" / "examples"
if not EXAMPLES.exists():
    pytest.skip("tools/ is not in this tree", allow_module_level=True)

Run = collections.namedtuple("Run", "found lines program")


def run(name):
    """What an example's main returns, what it prints, and its other names."""
    program = runpy.run_path(str(EXAMPLES / name))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        found = program["main"]()
    return Run(found, printed.getvalue().splitlines(), program)


def numbers(line):
    """The numbers of a line, in their order."""
    return [float(number) for number in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]\d+)?", line)]


def split(flat, num_inputs, num_hidden, num_outputs):
    """The weights of a network with one hidden layer, out of one vector."""
    shapes = [(num_inputs, num_hidden), (num_hidden,), (num_hidden, num_outputs), (num_outputs,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes)]


def log_softmax(logits):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# --- TRPO -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trpo():
    return run("trpo_step.py")


def policy_logits(flat, states):
    w1, b1, w2, b2 = split(flat, 2, 16, 3)
    return np.tanh(states.dot(w1) + b1).dot(w2) + b2


def fisher_matrix(flat, states):
    """The mean over states of J^T (diag(p) - p p^T) J."""
    steps = 1e-30j * np.eye(len(flat))
    jacobian = np.stack([policy_logits(flat + s, states).imag / 1e-30 for s in steps], axis=-1)
    chances = np.exp(log_softmax(policy_logits(flat, states)))
    means = np.einsum("sk,skp->sp", chances, jacobian)
    centred = np.sqrt(chances)[..., None] * (jacobian - means[:, None])
    return np.tensordot(centred, centred, axes=([0, 1], [0, 1])) / len(states)


def test_a_step_is_that_of_the_dense_fisher_matrix(trpo):
    step = trpo.found[3]
    damped = fisher_matrix(step.old, step.states) + trpo.program["DAMPING"] * np.eye(99)
    expected = np.linalg.solve(damped, step.gradient)
    assert np.linalg.norm(step.solution - expected) <= 1e-3 * np.linalg.norm(expected)
    # Without the Fisher matrix it would be another direction.
    cosine = expected.dot(step.gradient) / np.linalg.norm(expected)
    assert cosine < 0.9 * np.linalg.norm(step.gradient)


def test_the_kl_is_what_it_says_and_within_its_bound(trpo):
    for step, after in zip(trpo.found, trpo.found[1:]):
        old, new = (
            log_softmax(policy_logits(weights, step.states)) for weights in (step.old, after.old)
        )
        kl = (np.exp(old) * (old - new)).sum(axis=-1).mean()
        assert step.kl == pytest.approx(kl, rel=1e-8)
        assert 0.1 * trpo.program["MAX_KL"] < step.kl <= trpo.program["MAX_KL"]
        assert step.surrogate > 0


def test_the_cart_learns(trpo):
    *steps, last = trpo.lines
    for line, step in zip(steps, trpo.found):
        _, _, _, kl, surrogate = numbers(line)
        assert (kl, surrogate) == (round(step.kl, 5), round(step.surrogate, 4))
    assert len(steps) == len(trpo.found) == 8
    assert numbers(steps[0])[1] < -3
    assert numbers(last)[0] > -0.5


# --- MAML -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maml():
    return run("maml_step.py")


def outer_loss(flat, inputs, rate):
    """The mean loss of the queries after a step on the support, its gradient written out."""
    losses = []
    for support, support_labels, query, query_labels in zip(*inputs):
        w1, b1, w2, b2 = split(flat, 64, 32, 3)
        hidden = np.tanh(support.dot(w1) + b1)
        errors = np.exp(log_softmax(hidden.dot(w2) + b2)) - np.eye(3)[support_labels]
        errors = errors / len(errors)
        behind = errors.dot(w2.T) * (1 - hidden**2)
        slopes = support.T.dot(behind), behind.sum(axis=0), hidden.T.dot(errors), errors.sum(axis=0)
        w1, b1, w2, b2 = (w - rate * slope for w, slope in zip((w1, b1, w2, b2), slopes))
        log_chances = log_softmax(np.tanh(query.dot(w1) + b1).dot(w2) + b2)
        losses.append(-log_chances[np.arange(len(query)), query_labels].mean())
    return np.mean(losses)


def test_the_outer_gradient_is_that_of_the_outer_loss(maml):
    found, random = maml.found, np.random.RandomState(0)
    directions = [*random.normal(size=[5, len(found.weights)]), found.gradient]
    for direction in directions:
        moved = found.weights + 1e-30j * direction
        slope = outer_loss(moved, found.inputs, maml.program["RATE"]).imag / 1e-30
        assert direction.dot(found.gradient) == pytest.approx(slope, rel=1e-8)
        # First-order MAML follows another one.
        assert abs(direction.dot(found.first_order) - slope) > 1e-3 * abs(slope)


def test_training_across_tasks_helps(maml):
    before, after, comparison = map(numbers, maml.lines)
    assert (before[-1], after[-1]) == (round(maml.found.before, 3), round(maml.found.after, 3))
    assert after[-1] > before[-1] + 0.05
    error, difference = comparison
    assert error < 1e-12
    gap = np.linalg.norm(maml.found.gradient - maml.found.first_order)
    assert difference == round(100 * gap / np.linalg.norm(maml.found.gradient)) > 5


# --- Influence ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return run("influential_digits.py")


def slopes_of(weights, pictures, labels):
    """The gradient of each picture's loss in the weights, [pictures, 65 * 10]."""
    errors = np.exp(log_softmax(pictures.dot(weights))) - np.eye(10)[labels]
    return (pictures[:, :, None] * errors[:, None]).reshape(len(pictures), -1)


def fitted(pictures, labels, l2):
    """The weights of a multinomial logistic regression by Newton's method, and its Hessian."""
    flat = np.zeros(pictures.shape[1] * 10)
    for _ in range(20):
        weights = flat.reshape(-1, 10)
        chances = np.exp(log_softmax(pictures.dot(weights)))
        gradient = slopes_of(weights, pictures, labels).mean(axis=0) + l2 * flat
        # The sum over pictures x of the Kronecker product of x x^T and diag(p) - p p^T.
        outer = (pictures[:, :, None] * chances[:, None]).reshape(len(pictures), -1)
        blocks = -outer.T.dot(outer).reshape(-1, 10, pictures.shape[1], 10)
        for label in range(10):
            blocks[:, label, :, label] += (pictures * chances[:, [label]]).T.dot(pictures)
        hessian = blocks.reshape(len(flat), -1) / len(pictures) + l2 * np.eye(len(flat))
        if np.abs(gradient).max() < 1e-12:
            return weights, hessian
        flat = flat - np.linalg.solve(hessian, gradient)
    raise AssertionError("Newton's method does not converge")


def test_influences_are_those_of_the_dense_hessian(digits):
    found, program = digits.found, digits.program
    pictures, labels, flipped = program["load_data"]()
    number, kept, l2 = program["NUM_TRAINING"], found.order[1:], program["L2"]
    train, test = slice(number), slice(number, None)
    weights, hessian = fitted(pictures[train], labels[train], l2)
    slopes = slopes_of(weights, pictures, labels)
    of_training = np.linalg.solve(hessian, slopes[train].T) / number
    for influences, rows in (found.of_one, [found.number]), (found.of_all, test):
        expected = slopes[rows].mean(axis=0).dot(of_training)
        assert np.linalg.norm(influences - expected) <= 1e-3 * np.linalg.norm(expected)

    without, _ = fitted(pictures[kept], labels[kept], l2)

    def loss(weights):
        log_chances = log_softmax(pictures[found.number].dot(weights))
        return -log_chances[labels[found.number]]

    change = loss(without) - loss(weights)
    assert found.change == pytest.approx(change, rel=1e-3)
    assert found.of_one[found.order[0]] == pytest.approx(change, rel=0.2)


def test_what_harms_most_is_labelled_wrong(digits):
    title, harmful, helpful, again, precision = map(numbers, digits.lines)
    found = digits.found
    assert title[0] == found.number
    for line, rows in (harmful, found.order[:3]), (helpful, found.order[::-1][:3]):
        assert line[::3] == [round(found.of_one[row], 4) for row in rows]
        assert line[1::3] == list(rows)
    assert harmful[0] < 0 < helpful[0]
    assert again == [found.order[0], round(found.change, 4)]
    num_flipped, num_found = precision
    _, _, flipped = digits.program["load_data"]()
    worst = np.argsort(found.of_all)[: len(flipped)]
    assert num_found == len(set(worst) & set(flipped)) >= 0.75 * num_flipped
