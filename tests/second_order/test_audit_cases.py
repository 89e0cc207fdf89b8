"""For each gradient op that is supplied for: the audit says which derivatives are built."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.second_order.test_supplied import CASES
from tf1xent import _tf
from tf1xent.second_order import Kind, audit

FIRST = list({case.op_type: case for case in reversed(CASES)}.values())


@pytest.mark.lengthy
@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.op_type)
def test_the_audit_of_a_case(case):
    if _tf.op_definition(case.op_type) is None:
        pytest.skip("this TensorFlow has no such op")
    for overridden in (False, True):
        with tf.Graph().as_default():
            inputs = [tf.constant(np.asarray(value)) for value in case.inputs]
            loss = tf.reduce_sum(case.function(*inputs) ** 2)
            if overridden:
                tf1xent.override_gradients()
            try:
                audited = audit(loss, inputs)
                raised = _raised(loss, inputs)
            finally:
                if overridden:
                    tf1xent.restore_gradients()
        told = f"{raised}\n{audited}"
        if audited.has_second_derivative:
            assert raised is None, told
        else:
            left_out = any(found.kind is Kind.LEFT_OUT for found in audited.obstacles)
            assert raised is not None or left_out, told
        assert not overridden or audited.has_second_derivative, told


def _raised(loss, inputs):
    try:
        gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, inputs) if g is not None]
        tf.gradients(gradients, inputs, [tf.ones_like(g) for g in gradients])
    except Exception as error:
        return error
    return None
