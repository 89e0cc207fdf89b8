"""Whole networks, live and from files: the audit says what is true, before and after the override.

What stands in the way depends on the TensorFlow and on what tf1xent supplies by now; so no answer
is written here. Each is compared with what TensorFlow does.
"""

import pytest
import tensorflow.compat.v1 as tf

from tests.second_order.networks import NETWORKS
from tests.second_order.truth import agreement
from tf1xent.graphs.inspecting.loss import audit_file


@pytest.mark.parametrize("name", NETWORKS)
def test_the_audit_of_a_network_says_what_is_true(name, tmp_path):
    path = str(tmp_path / "network.meta")

    def build():
        loss = NETWORKS[name]()
        tf.train.export_meta_graph(path)
        build.loss = loss.name
        return loss, tf.trainable_variables()

    live = agreement(build)
    (from_file,) = audit_file(path, build.loss, None, "audit_file")
    assert from_file.xs == live.xs or len(from_file.xs) == len(live.xs)
    assert _met(from_file) == _met(live)
    assert from_file.has_second_derivative == live.has_second_derivative


def _met(audited):
    return [(found.name, found.kind, found.meets) for found in audited.findings]


@pytest.mark.parametrize("name", ["dynamic_rnn_tagger"])
def test_with_v2_control_flow_the_tagger_has_what_the_audit_promises(name):
    if not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has one version of control flow")
    was_enabled = tf.control_flow_v2_enabled()
    (tf.disable_control_flow_v2 if was_enabled else tf.enable_control_flow_v2)()
    try:
        agreement(lambda: (NETWORKS[name](), tf.trainable_variables()))
    finally:
        (tf.enable_control_flow_v2 if was_enabled else tf.disable_control_flow_v2)()
