"""F.cross_entropy of PyTorch: ignore_index, weight, label_smoothing, every reduction."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.references.agreement import (
    CLASS_WEIGHTS,
    LAYOUTS,
    MISSING,
    NUM_CLASSES,
    Derivatives,
    assert_agree,
    batch,
    cotangent,
    our_derivatives,
)
from tf1xent import losses, nn
from tf1xent.losses import Reduction

torch = pytest.importorskip("torch", reason=MISSING.format("PyTorch"))

# What PyTorch's mean is called here, for class indices and for class probabilities.
OF_INDICES = {"sum": Reduction.SUM, "mean": Reduction.SUM_BY_CLASS_WEIGHTS}
OF_PROBABILITIES = {"sum": Reduction.SUM, "mean": Reduction.SUM_OVER_BATCH_SIZE}

every_layout = pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"sequences"}))
every_reduction = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
with_and_without_weight = pytest.mark.parametrize("weight", [None, CLASS_WEIGHTS])
with_and_without_smoothing = pytest.mark.parametrize("label_smoothing", [0.0, 0.1])


def torch_loss(logits, labels, weight=None, **options):
    """F.cross_entropy of a tensor and arrays."""
    if weight is not None:
        options["weight"] = torch.tensor(weight)
    labels = labels if torch.is_tensor(labels) else torch.tensor(labels)
    return torch.nn.functional.cross_entropy(logits, labels, **options)


def torch_derivatives(build, point, vector):
    """The `Derivatives` of ``build(tensor)`` at a point, by differentiating twice."""
    tensor = torch.tensor(point, requires_grad=True)
    loss = build(tensor)
    weighted = (loss * torch.tensor(cotangent(tuple(loss.shape)))).sum()
    (gradient,) = torch.autograd.grad(weighted, tensor, create_graph=True)
    (product,) = torch.autograd.grad((gradient * torch.tensor(vector)).sum(), tensor)
    return Derivatives(*[result.detach().numpy() for result in (loss, gradient, product)])


@every_layout
@pytest.mark.parametrize("ignore_index", [None, -100, 3])
@with_and_without_weight
@with_and_without_smoothing
@every_reduction
def test_class_indices(layout, ignore_index, weight, label_smoothing, reduction):
    data = batch(layout)
    labels = np.where(data.mask, data.labels, -100) if ignore_index == -100 else data.labels
    ignore = {} if ignore_index is None else {"ignore_index": ignore_index}
    options = {
        "ignore_label": ignore_index,
        "class_weights": weight,
        "label_smoothing": label_smoothing,
        "axis": data.axis,
    }

    def our_loss(logits):
        if reduction == "none":
            return nn.masked_sparse_softmax_cross_entropy_with_logits(labels, logits, **options)
        options["reduction"] = OF_INDICES[reduction]
        return losses.sparse_softmax_cross_entropy(labels, logits, **options)

    def their_loss(logits):
        return torch_loss(
            logits, labels, weight, label_smoothing=label_smoothing, reduction=reduction, **ignore
        )

    assert_agree(
        our_derivatives(our_loss, data.logits, data.vector),
        torch_derivatives(their_loss, data.logits, data.vector),
    )


@every_layout
@with_and_without_weight
@with_and_without_smoothing
@every_reduction
def test_class_probabilities(layout, weight, label_smoothing, reduction):
    data = batch(layout)
    options = {
        "class_weights": weight,
        "label_smoothing": label_smoothing,
        "axis": data.axis,
    }

    def our_loss(logits):
        if reduction == "none":
            return nn.weighted_softmax_cross_entropy_with_logits(
                data.soft_labels, logits, **options
            )
        options["reduction"] = OF_PROBABILITIES[reduction]
        return losses.softmax_cross_entropy(data.soft_labels, logits, **options)

    def their_loss(logits):
        return torch_loss(
            logits, data.soft_labels, weight, label_smoothing=label_smoothing, reduction=reduction
        )

    assert_agree(
        our_derivatives(our_loss, data.logits, data.vector),
        torch_derivatives(their_loss, data.logits, data.vector),
    )


@with_and_without_weight
@with_and_without_smoothing
def test_derivatives_in_class_probabilities(weight, label_smoothing):
    data = batch("signals")

    # The second derivative in the labels is 0: it takes logits that follow them to have one.
    def our_loss(labels):
        return nn.weighted_softmax_cross_entropy_with_logits(
            labels,
            data.logits * labels,
            class_weights=weight,
            label_smoothing=label_smoothing,
            axis=data.axis,
        )

    def their_loss(labels):
        logits = torch.tensor(data.logits) * labels
        return torch_loss(logits, labels, weight, label_smoothing=label_smoothing, reduction="none")

    assert_agree(
        our_derivatives(our_loss, data.soft_labels, data.vector),
        torch_derivatives(their_loss, data.soft_labels, data.vector),
    )


NOTHING_TO_COUNT = {
    "all ignored": (np.zeros((2, NUM_CLASSES)), np.array([-100, -100]), None),
    "labels without weight": (np.zeros((2, NUM_CLASSES)), np.array([4, 4]), CLASS_WEIGHTS),
    "no rows": (np.zeros((0, NUM_CLASSES)), np.zeros(0, np.int64), None),
}


@pytest.mark.parametrize("case", sorted(NOTHING_TO_COUNT))
def test_a_mean_over_nothing_is_nan_there_and_0_here(case):
    logits, labels, weight = NOTHING_TO_COUNT[case]
    assert np.isnan(torch_loss(torch.tensor(logits), labels, weight).item())
    ours = our_derivatives(
        lambda tensor: losses.sparse_softmax_cross_entropy(
            labels,
            tensor,
            ignore_label=-100,
            class_weights=weight,
            reduction=Reduction.SUM_BY_CLASS_WEIGHTS,
        ),
        logits,
        np.ones_like(logits),
    )
    for result in ours:
        np.testing.assert_array_equal(result, np.zeros_like(result))


def test_nan_in_an_ignored_row_reaches_the_gradient_there_and_not_here():
    data = batch("rows")
    labels = np.where(data.mask, data.labels, -100)
    poisoned = np.where(data.mask[:, np.newaxis], data.logits, np.nan)

    def our_loss(logits):
        return losses.sparse_softmax_cross_entropy(
            labels, logits, ignore_label=-100, reduction=Reduction.SUM_BY_CLASS_WEIGHTS
        )

    theirs = torch_derivatives(lambda logits: torch_loss(logits, labels), poisoned, data.vector)
    clean = torch_derivatives(lambda logits: torch_loss(logits, labels), data.logits, data.vector)
    assert np.isnan(theirs.gradient[~data.mask]).all()
    assert_agree(our_derivatives(our_loss, poisoned, data.vector), clean)


def test_both_refuse_an_ignored_class_with_class_probabilities():
    data = batch("rows")
    with pytest.raises(RuntimeError, match="ignore_index is not supported"):
        torch_loss(torch.tensor(data.logits), data.soft_labels, ignore_index=3)
    with tf.Graph().as_default(), pytest.raises(ValueError, match="`ignore_label`"):
        losses.softmax_cross_entropy(data.soft_labels, data.logits, ignore_label=3)
