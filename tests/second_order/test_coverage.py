"""Every gradient op of this TensorFlow has a gradient, or is supplied, or refused with a reason."""

import importlib
import re

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import op_def_pb2

from tests.second_order.test_supplied import CASES
from tf1xent import _tf
from tf1xent.second_order.table import REFUSED, SUPPLIED

GRADIENT_OP = re.compile("Grad|Backprop")
# By pattern, why an op whose name looks like a gradient's is none to be differentiated.
LEFT_OUT = {
    "^_": "the runtime's optimizers put it into a graph, after all differentiation",
    "^Tf1xent": "the kernels of this library",
    "^Debug": "TensorFlow's debugger, which registers their gradients when it is imported",
    "Accumulator": "state of distributed training",
    "GradientDescent": "an optimizer's step",
    "TPU|^Xla": "embedding tables of TPUs, which it trains",
    "^StopGradient$": "a constant because a program says so",
}


def op_definitions():
    """Return the definitions of all ops of this TensorFlow."""
    for module in (
        "tensorflow.python.client.pywrap_tf_session",
        "tensorflow.python.pywrap_tensorflow",
    ):
        try:
            runtime = importlib.import_module(module)
            break
        except ImportError:
            continue
    ops = op_def_pb2.OpList()
    ops.ParseFromString(runtime.TF_GetBuffer(runtime.TF_GetAllOpList()))
    return ops.op


def is_integral(argument, definition):
    """Return whether all types that a tensor of this argument of an op may have are integers."""
    fixed = [argument.type] if argument.type else []
    types = {attribute.name: attribute.allowed_values.list.type for attribute in definition.attr}
    types = list(types.get(argument.type_attr, fixed))
    return bool(types) and all(tf.as_dtype(number).is_integer for number in types)


def gradient_ops():
    """Return the gradient ops of this TensorFlow, by the rule of this file."""
    return {
        definition.name
        for definition in op_definitions()
        if GRADIENT_OP.search(definition.name)
        and not any(re.search(pattern, definition.name) for pattern in LEFT_OUT)
        and not all(is_integral(output, definition) for output in definition.output_arg)
    }


def gaps():
    return {op_type for op_type in gradient_ops() if _tf.has_gap(op_type)}


def test_the_rule_finds_gradient_ops():
    assert {
        "Conv2DBackpropInput",
        "ResizeBilinearGrad",
        "FakeQuantWithMinMaxArgsGradient",
    } <= gradient_ops()
    assert "BroadcastGradientArgs" not in gradient_ops()
    assert len(gaps()) > 40


def test_every_gap_is_supplied_or_refused():
    assert gaps() - {*SUPPLIED, *REFUSED} == set()


def test_no_op_is_supplied_and_refused():
    assert {*SUPPLIED} & {*REFUSED} == set()


def test_every_supplied_gradient_has_a_case():
    assert {*SUPPLIED} - {case.op_type for case in CASES} == set()


def test_reasons_say_what_to_do_in_its_place():
    for op_type, reason in REFUSED.items():
        assert re.fullmatch(r"[a-z].*\. [A-Z].*\.", reason), op_type
