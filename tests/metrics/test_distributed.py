"""Streaming metrics under tf.distribute: one value of the batches of all replicas."""

import json

import numpy as np

from tests.metrics.calls import NAMES
from tests.support.processes import output_of


def test_replicas_add_up_as_those_of_tf_metrics():
    report = json.loads(output_of("-m", "tests.metrics.distributed_program").splitlines()[-1])
    found = report["metrics"]
    assert len(found) == 2 * (1 + len(NAMES))  # with and without weights; one is of tf.metrics
    for name, case in found.items():
        # One value for all replicas, after every step.
        np.testing.assert_allclose(case["got"]["values"], case["wanted"], rtol=1e-6, err_msg=name)
        metric, weighted = name.split()
        collections = dict(found["stock " + weighted]["got"]["collections"])
        if metric == "token_count":  # which has no second variable
            collections.update(local_variables=1, metric_variables=1)
        assert case["got"]["collections"] == collections, name
    assert "streaming_accuracy: `strategy` must" in report["refusal"]
