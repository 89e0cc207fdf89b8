"""Trains far past zero error with four cross-entropies, and shows which still learns.

    python tools/examples/collapse.py --short
    nice python tools/examples/collapse.py --out FOLDER
    python tools/examples/collapse.py --report FOLDER --page tools/docs/when_accuracy_matters.md

Where float32 rounds the label's probability to 1, TensorFlow's op has a loss of 0 and its gradient
lacks the label's entry ("softmax collapse": Prieto et al., Grokking at the Edge of Numerical
Stability, ICLR 2025). Compared are TensorFlow's op in float32 and in float64, the StableMax of that
paper, and tf1xent's function in float32, in three settings:

  addition    modular addition from 40 % of the pairs: the paper's setting, smaller
  digits      a classifier of scikit-learn's digits
  distilled   a small student of a confident teacher of digits, at temperature 1

The network and its weights are float32 everywhere. All of one seed start from the same weights.
Every finished run is a line of FOLDER/runs.jsonl; runs that stand there already are not made again,
so the command can be stopped and started at any time.
"""

import argparse
import functools
import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from tf1xent import nn  # noqa: E402

MODULUS, NUM_TRAINING_DIGITS, NUM_SEEDS = 29, 300, 5
TEACHER_STEPS = 1000
NUM_MEASUREMENTS, NUM_TIMED_STEPS, WARM_UP = 14, 60, 10

# --- Data -----------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Inputs [n, features]; targets, classes [n] or probabilities [n, classes]; true classes."""

    inputs: np.ndarray
    targets: np.ndarray
    classes: np.ndarray


def addition(seed: int) -> Tuple[Data, Data]:
    """All pairs (a, b), as two one-hot vectors side by side; the class is (a + b) % MODULUS."""
    first, second = np.divmod(np.arange(MODULUS**2), MODULUS)
    inputs = np.concatenate([np.eye(MODULUS)[first], np.eye(MODULUS)[second]], axis=1)
    return _split(inputs, (first + second) % MODULUS, seed, int(0.4 * MODULUS**2))


def digits(seed: int) -> Tuple[Data, Data]:
    """Pictures of digits and what they show."""
    pictures, classes = load_digits(return_X_y=True)
    return _split(pictures / 16.0, classes, seed, NUM_TRAINING_DIGITS)


@functools.lru_cache(maxsize=1)
def distilled(seed: int) -> Tuple[Data, Data]:
    """Pictures of digits and the probabilities that a teacher, trained on the same ones, gives."""
    train, test = digits(seed)
    with tf.Graph().as_default(), session() as running:
        teacher = Training(SETTINGS["digits"], "tf1xent", "Adam", seed, (train, test))
        running.run(tf.global_variables_initializer())
        for _ in range(TEACHER_STEPS):
            running.run(teacher.step)
        logits = running.run([part["logits"] for part in teacher.parts])
    train, test = (d._replace(targets=_softmax(x)) for d, x in zip((train, test), logits))
    return train, test


def _split(inputs: np.ndarray, classes: np.ndarray, seed: int, size: int) -> Tuple[Data, Data]:
    order = np.random.RandomState(seed).permutation(len(classes))
    inputs, classes = inputs[order].astype(np.float32), classes[order].astype(np.int64)
    return (
        Data(inputs[:size], classes[:size], classes[:size]),
        Data(inputs[size:], classes[size:], classes[size:]),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


# --- Losses ---------------------------------------------------------------------------------------


def _fused(targets: np.ndarray, logits: Any) -> Any:
    if targets.ndim == 1:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    labels = tf.constant(targets, logits.dtype)
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def _stablemax(targets: np.ndarray, logits: Any) -> Any:
    """-log of s(x_y) / sum_j s(x_j); s(x) = 1 + x from 0 on, 1 / (1 - x) below; float64 inside."""
    logits = tf.cast(logits, tf.float64)
    below, above = tf.minimum(logits, 0), tf.maximum(logits, 0)
    values = tf.where(logits < 0, 1 / (1 - below), 1 + above)
    num_classes = logits.shape.as_list()[1]
    targets = np.eye(num_classes)[targets] if targets.ndim == 1 else targets
    logs = tf.log(values / tf.reduce_sum(values, axis=1, keepdims=True))
    return -tf.reduce_sum(targets * logs, axis=1)


def _exact(targets: np.ndarray, logits: Any) -> Any:
    if targets.ndim == 1:
        return nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    labels = tf.constant(targets, logits.dtype)
    return nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


# Per example, from targets and float32 logits.
LOSSES: Dict[str, Callable[[np.ndarray, Any], Any]] = {
    "TF float32": _fused,
    "TF float64": lambda targets, logits: _fused(targets, tf.cast(logits, tf.float64)),
    "StableMax": _stablemax,
    "tf1xent": _exact,
}

# --- Settings -------------------------------------------------------------------------------------

# AdamW without weight decay is Adam. beta2 is the paper's. Its epsilon is 1e-30 or 1e-25; below
# 1e-19 the square of a float32 gradient is 0, and a step would be divided by epsilon alone.
OPTIMIZERS: Dict[str, Callable[[], tf.train.Optimizer]] = {
    "Adam": lambda: tf.train.AdamOptimizer(0.01, beta2=0.99, epsilon=1e-18),
    "Adam, defaults": lambda: tf.train.AdamOptimizer(0.01),
    "SGD": lambda: tf.train.MomentumOptimizer(0.3, 0.9),
}


class Setting(NamedTuple):
    """What is learned, by a network with such hidden layers, in how many steps of an optimizer."""

    data: Callable[[int], Tuple[Data, Data]]
    hidden: Tuple[int, ...]
    bias: bool
    steps: Dict[str, int]


SETTINGS = {
    "addition": Setting(addition, (48, 48), False, {"Adam": 2500, "SGD": 1000}),
    "digits": Setting(digits, (32,), True, {"Adam": 1000, "Adam, defaults": 1000}),
    "distilled": Setting(distilled, (16,), True, {"Adam": 1000}),
}

# --- Training -------------------------------------------------------------------------------------


def session() -> tf.Session:
    """Returns a session with one thread."""
    return tf.Session(
        config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    )


class Training:
    """The graph of one training: network, loss, step, and what is measured."""

    def __init__(
        self, setting: Setting, loss: str, optimizer: str, seed: int, data: Tuple[Data, Data]
    ):
        self.data = data
        train = data[0]
        sizes = [train.inputs.shape[1], *setting.hidden, int(train.classes.max()) + 1]
        layers = _layers(sizes, setting.bias, seed)
        variables = [variable for layer in layers for variable in layer]
        # What is measured of the training and the test data.
        self.parts = [_outputs(layers, part) for part in data]
        logits = self.parts[0]["logits"]
        losses = LOSSES[loss](train.targets, logits)
        mean = tf.cast(tf.reduce_mean(losses), tf.float32)
        gradients = tf.gradients(mean, variables)
        self.step = OPTIMIZERS[optimizer]().apply_gradients(zip(gradients, variables))
        self.measured = {
            "objective": mean,
            "gradients": gradients,
            "exact": tf.gradients(self.parts[0]["cross-entropy"], variables),
            # d losses / d logits, as float32 holds it.
            "rows": tf.gradients(losses, logits)[0],
            "parts": self.parts,
        }

    def measure(self, running: tf.Session) -> Dict[str, float]:
        """Returns what the table and the picture show, for the weights as they are."""
        found = running.run(self.measured)
        (train, test), logits = self.data, [part["logits"] for part in found["parts"]]
        used, exact = (
            np.concatenate([g.ravel() for g in found[name]]).astype(np.float64)
            for name in ("gradients", "exact")
        )
        label = train.targets if train.targets.ndim == 1 else train.targets.argmax(axis=1)
        rows, norm = found["rows"], np.linalg.norm(exact)
        return {
            "train accuracy": np.mean(logits[0].argmax(axis=1) == train.classes),
            "test accuracy": np.mean(logits[1].argmax(axis=1) == test.classes),
            "objective": found["objective"],
            "train cross-entropy": found["parts"][0]["cross-entropy"] - _entropy(train.targets),
            "test cross-entropy": found["parts"][1]["cross-entropy"] - _entropy(test.targets),
            "gradient norm": np.linalg.norm(used),
            "exact norm": norm,
            "error": np.linalg.norm(used - exact) / norm if norm else 0.0,
            "zero at label": np.mean(rows[np.arange(len(label)), label] == 0),
            "zero rows": np.mean((rows == 0).all(axis=1)),
            "largest logit": np.abs(logits[0]).max(),
        }


def _layers(sizes: Sequence[int], bias: bool, seed: int) -> List[List[tf.Variable]]:
    """Weights, uniform in +-1 / sqrt(inputs) as PyTorch starts them, and biases of 0."""
    random = np.random.RandomState(seed + 1000)
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        weights = random.uniform(-1, 1, size=[inputs, outputs]) / np.sqrt(inputs)
        starts = [weights, np.zeros(outputs)] if bias else [weights]
        # TF 1.x may update a variable that is no resource while the same step still reads it: then
        # no two runs are the same.
        layers.append([tf.Variable(s.astype(np.float32), use_resource=True) for s in starts])
    return layers


def _outputs(layers: Sequence[Sequence[tf.Variable]], data: Data) -> Dict[str, Any]:
    """Logits, and the exact cross-entropy of them in float64, which is what all are measured by."""
    outputs = tf.constant(data.inputs)
    for number, (weights, *bias) in enumerate(layers):
        outputs = tf.matmul(tf.nn.relu(outputs) if number else outputs, weights)
        outputs = outputs + bias[0] if bias else outputs
    losses = _exact(data.targets, tf.cast(outputs, tf.float64))
    return {"logits": outputs, "cross-entropy": tf.reduce_mean(losses)}


def _entropy(targets: np.ndarray) -> float:
    """The smallest cross-entropy that there is, so that what is left is a KL divergence."""
    if targets.ndim == 1:
        return 0.0
    return float(-np.mean(np.sum(targets * np.log(targets), axis=1)))


class Key(NamedTuple):
    """A training."""

    setting: str
    optimizer: str
    loss: str
    seed: int


def train(key: Key, num_steps: int) -> Dict[str, Any]:
    """Trains, measures at steps that lie evenly on a logarithmic scale; returns the curves."""
    setting = SETTINGS[key.setting]
    data = setting.data(key.seed)
    marks = np.unique(np.geomspace(10, num_steps, NUM_MEASUREMENTS).astype(int)).tolist()
    curves: Dict[str, List[float]] = {}
    with tf.Graph().as_default(), session() as running:
        training = Training(setting, key.loss, key.optimizer, key.seed, data)
        running.run(tf.global_variables_initializer())
        for step in range(1, num_steps + 1):
            running.run(training.step)
            if step in marks:
                for name, value in training.measure(running).items():
                    curves.setdefault(name, []).append(float(f"{value:.3g}"))
    return {**key._asdict(), "tensorflow": tf.__version__, "steps": marks, **curves}


def time_steps(name: str) -> Dict[str, float]:
    """Returns the median processor time of a step with each loss, taken in turns; milliseconds."""
    setting = SETTINGS[name]
    data = setting.data(0)
    seconds: Dict[str, List[float]] = {loss: [] for loss in LOSSES}
    with tf.Graph().as_default(), session() as running:
        steps = {loss: Training(setting, loss, "Adam", 0, data).step for loss in LOSSES}
        running.run(tf.global_variables_initializer())
        for _ in range(WARM_UP + NUM_TIMED_STEPS):
            for loss, step in steps.items():
                start = time.process_time()
                running.run(step)
                seconds[loss].append(time.process_time() - start)
    return {loss: 1e3 * float(np.median(times[WARM_UP:])) for loss, times in seconds.items()}


# --- Command --------------------------------------------------------------------------------------


def keys_of(num_seeds: int) -> List[Key]:
    """Returns all trainings, one seed after the other: an early stop leaves whole seeds."""
    return [
        Key(name, optimizer, loss, seed)
        for seed in range(num_seeds)
        for name, setting in SETTINGS.items()
        for optimizer in setting.steps
        for loss in LOSSES
    ]


def _append(path: Path, found: Dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        # A run that was cut off may have left a part of a line.
        file.write("\n" + json.dumps(found) + "\n")


def make(folder: Path, num_seeds: int) -> None:
    """Makes the runs that are not there yet."""
    import collapse_report as report

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "runs.jsonl"
    done = report.read(path)
    for name in SETTINGS:
        if name not in done.costs:
            _append(path, {"cost": name, "milliseconds": time_steps(name)})
    for key in keys_of(num_seeds):
        if key not in done.runs:
            start = time.perf_counter()
            run = train(key, SETTINGS[key.setting].steps[key.optimizer])
            _append(path, run)
            print(report.line_of(run), f"{time.perf_counter() - start:.0f} s", flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Runs the command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--out", type=Path, metavar="FOLDER", help="make the runs, and keep them there")
    add("--seeds", type=int, default=NUM_SEEDS, metavar="N", help="how many (5)")
    add("--short", action="store_true", help="one seed of `digits` with Adam, and 400 steps")
    add("--report", type=Path, metavar="FOLDER", help="report on runs, and make none")
    add("--page", type=Path, metavar="FILE", help="where --report puts table, picture and runs")
    options = parser.parse_args(arguments)
    import collapse_report as report

    if options.short:
        for loss in LOSSES:
            print(report.line_of(train(Key("digits", "Adam", loss, 0), 400)))
    if options.out:
        make(options.out, options.seeds)
    if options.report:
        report.write(options.report / "runs.jsonl", options.page)


if __name__ == "__main__":
    main()
