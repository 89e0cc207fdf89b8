"""Whole networks, live and from files: the audit says what is true, before and after the override.

What stands in the way depends on the TensorFlow and on what tf1xent supplies by now; so no answer
is written here. Each is compared with what TensorFlow does.
"""

import contextlib

import pytest
import tensorflow.compat.v1 as tf

from tests.second_order.networks import NETWORKS
from tests.second_order.truth import agreement
from tf1xent.graphs.inspecting.loss import audit_file


@contextlib.contextmanager
def _control_flow(v2):
    """Builds graphs with one version of control flow; 1.13 has one only."""
    if not hasattr(tf, "enable_control_flow_v2"):
        yield
        return
    was_v2 = tf.control_flow_v2_enabled()
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    try:
        yield
    finally:
        (tf.enable_control_flow_v2 if was_v2 else tf.disable_control_flow_v2)()


LENGTHY = ("fused_lstm_tagger", "transformer")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.lengthy] if n in LENGTHY else []) for n in NETWORKS],
)
def test_the_audit_of_a_network_says_what_is_true(name, tmp_path):
    """With v1 loops: TF 2.x takes no graph and its file with functions in one process."""
    path = str(tmp_path / "network.meta")
    names = []

    def build():
        loss = NETWORKS[name]()
        tf.train.export_meta_graph(path)
        names.append(loss.name)
        return loss, tf.trainable_variables()

    with _control_flow(v2=False):
        live = agreement(build)
    (from_file,) = audit_file(path, names[0], None, "audit_file")
    assert len(from_file.xs) == len(live.xs)
    assert _met(from_file) == _met(live)
    assert from_file.has_second_derivative == live.has_second_derivative


def _met(audited):
    return [(found.name, found.kind, found.meets) for found in audited.findings]


def test_the_tagger_with_v2_control_flow():
    if not hasattr(tf, "enable_control_flow_v2"):
        pytest.skip("this TensorFlow has one version of control flow")
    with _control_flow(v2=True):
        agreement(lambda: (NETWORKS["dynamic_rnn_tagger"](), tf.trainable_variables()))
