"""The metrics in NumPy float64, straight from their definitions; nothing of TensorFlow or tf1xent.

Arguments are rows: logits [n, C], labels [n] or [n, C], valid_rows [n] of bool, weights [n].
"""

import numpy as np


def probabilities(logits):
    """The softmax of each row."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def all_metrics(logits, labels, valid_rows, weights, k, num_bins):
    """Every metric of the rows that count, by name; weights None: 1, and an integer count."""
    logits, labels = np.asarray(logits, np.float64)[valid_rows], labels[valid_rows]
    given = np.ones(len(valid_rows)) if weights is None else np.asarray(weights, np.float64)
    kept = given[valid_rows]
    classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
    one_hot = labels if labels.ndim == 2 else np.eye(logits.shape[1])[labels]
    total = kept.sum()

    def mean(values):
        return (kept * values).sum() / total if total else 0.0

    p = probabilities(logits) if len(logits) else logits
    right = logits.argmax(axis=1) == classes
    true_logits = logits[np.arange(len(classes)), classes]
    nats = mean(-(one_hot * np.log(p)).sum(axis=1))
    return {
        "accuracy": mean(right),
        "top_k_accuracy": mean((logits > true_logits[:, np.newaxis]).sum(axis=1) < k),
        "negative_log_likelihood": nats,
        "perplexity": np.exp(nats),
        "expected_calibration_error": calibration_error(right, p, kept, num_bins),
        "brier_score": mean(((p - one_hot) ** 2).sum(axis=1)),
        "token_count": total,
    }


def calibration_error(right, p, weights, num_bins):
    """sum_m (W_m / W) |accuracy of bin m - confidence of bin m|, with the bins (a, b]."""
    if not weights.sum():
        return 0.0
    confidence = p.max(axis=1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        share = weights[inside].sum()
        if share:
            accuracy = np.average(right[inside], weights=weights[inside])
            error += share * abs(accuracy - np.average(confidence[inside], weights=weights[inside]))
    return error / weights.sum()
