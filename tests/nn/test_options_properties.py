"""Identities of the losses with options, on examples that hypothesis makes up.

One graph for each kind of labels, with every option in it and of unknown sizes, is fed them all.
"""

import functools

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.option_cases import FUNCTIONS
from tf1xent import nn

FEW = settings(max_examples=25, deadline=None, derandomize=True)
NEUTRAL = {"label_smoothing": 0.0, "z_loss": 0.0, "temperature": 1.0, "focal_gamma": 0.0}


class _Graph:
    """Loss and gradient in the logits of one function with all options but softcap fed."""

    def __init__(self, kind):
        self.graph = tf.Graph()
        with self.graph.as_default():
            labels = ("int64", [None]) if kind == "sparse" else ("float64", [None, None])
            shapes = {
                "labels": labels,
                "logits": ("float64", [None, None]),
                "mask": ("bool", [None]),
                "weights": ("float64", [None]),
                "class_weights": ("float64", [None]),
                "class_mask": ("bool", [None]),
            }
            shapes.update({name: ("float64", []) for name in NEUTRAL})
            self.inputs = {name: tf.placeholder(*shape) for name, shape in shapes.items()}
            loss = FUNCTIONS[kind][1](**self.inputs)
            self.results = loss, tf.gradients(loss, self.inputs["logits"])[0]
        self.session = tf.Session(graph=self.graph)

    def run(self, **arrays):
        """(loss, gradient); what is not given is what changes nothing."""
        num_rows, num_classes = arrays["logits"].shape
        neutral = {
            "mask": np.ones(num_rows, bool),
            "weights": np.ones(num_rows),
            "class_weights": np.ones(num_classes),
            "class_mask": np.ones(num_classes, bool),
        }
        arrays = dict(dict(NEUTRAL, **neutral), **arrays)
        feed = {self.inputs[name]: value for name, value in arrays.items()}
        return self.session.run(self.results, feed)


_graph = functools.lru_cache(maxsize=None)(_Graph)


@st.composite
def _examples(draw, least_rows=0, least_classes=1):
    """All inputs of a batch, by name, with labels that no class mask leaves out."""
    num_rows = draw(st.integers(least_rows, 4))
    num_classes = draw(st.integers(least_classes, 5))
    eighths = st.integers(-200, 200).map(lambda n: n / 8.0)
    size = num_rows * num_classes
    logits = draw(st.lists(eighths, min_size=size, max_size=size))
    random = np.random.RandomState(draw(st.integers(0, 2**31 - 1)))
    class_mask = random.uniform(size=num_classes) < 0.75
    class_mask[random.randint(num_classes)] = True
    return {
        "logits": np.reshape(logits, (num_rows, num_classes)).astype(np.float64),
        "labels": random.choice(np.flatnonzero(class_mask), size=num_rows).astype(np.int64),
        "mask": random.uniform(size=num_rows) < 0.6,
        "weights": random.uniform(0.25, 2.0, size=num_rows),
        "class_weights": random.uniform(0.25, 2.0, size=num_classes),
        "class_mask": class_mask,
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.5])),
        "z_loss": draw(st.sampled_from([0.0, 0.25])),
        "temperature": draw(st.sampled_from([1.0, 0.5, 3.0])),
        "focal_gamma": draw(st.sampled_from([0.0, 0.5, 2.0])),
    }


def _one_hot(example):
    num_classes = example["logits"].shape[1]
    return np.eye(num_classes)[example["labels"]].reshape(-1, num_classes)


def _both(example):
    """Each kind of labels: its graph, and the example with such labels."""
    soft = dict(example, labels=_one_hot(example))
    return [(_graph("sparse"), example), (_graph("soft"), soft)]


def _alike(results, others, rtol=1e-10):
    """Both equal, but for roundings relative to the largest derivative of the row."""
    np.testing.assert_allclose(results[0], others[0], rtol=rtol, atol=1e-14)
    largest = np.abs(others[1]).max(axis=1, initial=1e-3)[:, np.newaxis]
    np.testing.assert_allclose(results[1] / largest, others[1] / largest, rtol=0, atol=rtol)


BY_ROW = ("logits", "labels", "mask", "weights")


def _rows(example, chosen):
    return {name: value[chosen] if name in BY_ROW else value for name, value in example.items()}


@pytest.mark.lengthy
@FEW
@given(_examples(), st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter(example, random):
    order = np.arange(example["logits"].shape[1])
    random.shuffle(order)
    for graph, inputs in _both(example):
        moved = {name: inputs[name][order] for name in ("class_weights", "class_mask")}
        moved["logits"] = inputs["logits"][:, order]
        is_soft = inputs["labels"].ndim == 2
        labels = inputs["labels"]
        moved["labels"] = labels[:, order] if is_soft else np.argsort(order)[labels]
        loss, gradient = graph.run(**inputs)
        _alike(graph.run(**dict(inputs, **moved)), (loss, gradient[:, order]))


@FEW
@given(_examples(), st.integers(-100, 100))
def test_a_constant_added_to_the_logits_changes_nothing(example, constant):
    for graph, inputs in _both(dict(example, z_loss=0.0)):
        moved = dict(inputs, logits=inputs["logits"] + constant)
        _alike(graph.run(**moved), graph.run(**inputs))


@FEW
@given(_examples(), st.integers(0, 4))
def test_a_batch_in_two_parts(example, size):
    for graph, inputs in _both(example):
        parts = [graph.run(**_rows(inputs, part)) for part in (slice(0, size), slice(size, None))]
        joined = [np.concatenate(results) for results in zip(*parts)]
        _alike(graph.run(**inputs), joined)


@FEW
@given(_examples(), st.sampled_from([np.nan, np.inf, 0.0]))
def test_masked_rows_are_rows_that_are_not_there(example, bad):
    counted = example["mask"]
    spoiled = dict(example, logits=example["logits"].copy(), weights=example["weights"].copy())
    spoiled["logits"][~counted] = spoiled["weights"][~counted] = bad
    for (graph, inputs), (_, clean) in zip(_both(spoiled), _both(example)):
        loss, gradient = graph.run(**inputs)
        assert not loss[~counted].any() and not gradient[~counted].any()
        _alike((loss[counted], gradient[counted]), graph.run(**_rows(clean, counted)))


@FEW
@given(_examples())
def test_a_weight_of_zero_is_a_mask(example):
    everything = np.ones(len(example["mask"]), bool)
    weights = np.where(example["mask"], example["weights"], 0.0)
    for graph, inputs in _both(example):
        unmasked = dict(inputs, mask=everything, weights=weights)
        _alike(graph.run(**unmasked), graph.run(**inputs))


@FEW
@given(_examples(), st.floats(0.125, 8.0))
def test_the_loss_is_linear_in_the_weights(example, factor):
    for graph, inputs in _both(example):
        once = graph.run(**inputs)
        more = graph.run(**dict(inputs, weights=factor * inputs["weights"]))
        _alike(more, [factor * result for result in once])


@FEW
@given(_examples(), st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
def test_classes_left_out_are_classes_that_are_not_there(example, bad):
    inside = example["class_mask"]
    spoiled = dict(example, logits=np.where(inside, example["logits"], bad))
    fewer = dict(example, labels=(np.cumsum(inside) - 1)[example["labels"]])
    fewer["logits"] = example["logits"][:, inside]
    for name in ("class_weights", "class_mask"):
        fewer[name] = example[name][inside]
    for (graph, inputs), (_, sliced) in zip(_both(spoiled), _both(fewer)):
        loss, gradient = graph.run(**inputs)
        assert not gradient[:, ~inside].any()
        _alike((loss, gradient[:, inside]), graph.run(**sliced))


@FEW
@given(_examples())
def test_temperature_divides_the_logits(example):
    temperature = example["temperature"]
    for graph, inputs in _both(example):
        divided = dict(inputs, logits=inputs["logits"] / temperature, temperature=1.0)
        loss, gradient = graph.run(**divided)
        _alike(graph.run(**inputs), (loss, gradient / temperature))


@FEW
@given(_examples())
def test_one_hot_labels_are_integer_labels(example):
    (sparse, integers), (soft, one_hot) = _both(example)
    _alike(soft.run(**one_hot), sparse.run(**integers))


@FEW
@given(_examples())
def test_smoothing_is_a_mixture_of_labels(example):
    inside, smoothing = example["class_mask"], example["label_smoothing"]
    mixture = (1 - smoothing) * _one_hot(example) + smoothing * inside / inside.sum()
    mixed = dict(example, labels=mixture, label_smoothing=0.0)
    _alike(_graph("soft").run(**mixed), _graph("sparse").run(**example))


@functools.lru_cache(maxsize=None)
def _plain_graph():
    """Functions with their options at the defaults, and the drop-ins, in float32."""
    graph = tf.Graph()
    with graph.as_default():
        logits = tf.placeholder("float32", [None, None])
        labels = tf.placeholder("int64", [None])
        soft = tf.placeholder("float32", [None, None])
        sparse = nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        dense = nn.softmax_cross_entropy_with_logits_v2(labels=soft, logits=logits)
        pairs = [(function(labels, logits), sparse) for function in FUNCTIONS["sparse"]]
        pairs += [(FUNCTIONS["soft"][1](soft, logits, label_smoothing=0.0), dense)]
        pairs += [(FUNCTIONS["soft"][0](soft, logits), dense)]
        gradients = [[tf.gradients(loss, logits)[0] for loss in pair] for pair in pairs]
    return tf.Session(graph=graph), (logits, labels, soft), (pairs, gradients)


@FEW
@given(_examples())
def test_without_options_they_are_the_drop_ins(example):
    session, inputs, results = _plain_graph()
    arrays = example["logits"], example["labels"], _one_hot(example)
    losses, gradients = session.run(results, dict(zip(inputs, arrays)))
    for ours, plain in losses + gradients:
        np.testing.assert_array_max_ulp(ours, plain, maxulp=1)
