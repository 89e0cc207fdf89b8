"""Where kernels must not be taken, and what they answer where TensorFlow's own ops are odd."""

import inspect

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.support.processes import output_of
from tf1xent import nn

PREFIX = "Tf1xentKernel"
SPARSE = nn.sparse_softmax_cross_entropy_with_logits
DENSE = nn.softmax_cross_entropy_with_logits_v2
# The loss of two equal logits, for each label.
LOG_2 = np.log(2.0)


# --- Functions ----------------------------------------------------------------------------------


def _loss(implementation):
    return SPARSE(labels=[1], logits=tf.zeros([1, 2]), implementation=implementation)


def _takes_kernels(implementation, wrapped):
    """Whether a loss is of kernels that is built by a function that ``wrapped`` calls."""
    found = []

    def build(*_):
        loss = _loss(implementation)
        operations = tf.get_default_graph().get_operations()
        found.append(any(op.type.startswith(PREFIX) for op in operations))
        return loss

    with tf.Graph().as_default():
        wrapped(build)
    return found[-1]


def test_auto_takes_no_kernels_in_functions(library):
    def defun(build):
        tf.function(build, autograph=False).get_concrete_function()

    def branch_in_defun(build):
        def body():
            return tf.cond(tf.constant(True), build, build)

        tf.function(body, autograph=False).get_concrete_function()

    if not hasattr(tf, "function"):
        pytest.skip("this TensorFlow has no tf.function")
    for wrapped in (defun, branch_in_defun):
        assert not _takes_kernels("auto", wrapped)
        assert _takes_kernels("kernel", wrapped)


def test_auto_takes_kernels_in_branches_and_loops_of_a_session_graph(library):
    def branch(build):
        tf.cond(tf.placeholder(tf.bool, []), build, build)

    def loop(build):
        tf.while_loop(lambda losses: True, lambda losses: build(), [tf.zeros([1])])

    for wrapped in (branch, loop, lambda build: build()):
        assert _takes_kernels("auto", wrapped)
    if not hasattr(tf, "control_flow_v2_enabled"):
        return  # 1.13 has the switch in private modules only
    was_on = tf.control_flow_v2_enabled()
    (tf.disable_control_flow_v2 if was_on else tf.enable_control_flow_v2)()
    try:
        for wrapped in (branch, loop):
            assert _takes_kernels("auto", wrapped)
    finally:
        (tf.enable_control_flow_v2 if was_on else tf.disable_control_flow_v2)()


_COMPILED_LATER = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
from tf1xent import nn
tf.enable_eager_execution()
function = nn.sparse_softmax_cross_entropy_with_logits
inner = tf.function(lambda x: function(labels=[1], logits=x, implementation="auto"))
logits = tf.zeros([1, 2])
outer = tf.function(lambda x: inner(x), **{sys.argv[1]: True})
print(float(inner(logits)[0]), float(outer(logits)[0]))
"""


@pytest.mark.lengthy
def test_a_function_that_was_traced_before_is_compiled(library):
    options = inspect.signature(tf.function).parameters if hasattr(tf, "function") else {}
    option = [name for name in ("jit_compile", "experimental_compile") if name in options]
    if not option:
        pytest.skip("this TensorFlow compiles no tf.function")
    output = output_of("-c", _COMPILED_LATER, option[0])
    np.testing.assert_allclose(list(map(float, output.split())), [LOG_2] * 2, rtol=1e-6)


# --- No class, and op determinism ---------------------------------------------------------------


def test_dense_rows_of_no_class_have_no_loss(library):
    with tf.Graph().as_default(), tf.Session() as session:
        logits, labels = (tf.placeholder(tf.float32, [None, None]) for _ in range(2))
        loss = DENSE(labels=labels, logits=logits, implementation="kernel")
        in_logits, in_labels = tf.gradients(loss, [logits, labels])
        (product,) = tf.gradients(in_logits, logits, grad_ys=logits)
        nothing = np.zeros([3, 0])
        results = session.run(
            [loss, in_logits, in_labels, product], {logits: nothing, labels: nothing}
        )
    assert results[0].tolist() == [0.0] * 3
    assert [result.shape for result in results[1:]] == [(3, 0)] * 3


@pytest.mark.parametrize("rows", [3, 0])
def test_sparse_rows_of_no_class_are_refused_in_tensorflows_words(library, rows):
    stock = tf1xent.get_original("sparse_softmax_cross_entropy_with_logits")
    messages = []
    for function, options in ((stock, {}), (SPARSE, {"implementation": "kernel"})):
        with tf.Graph().as_default(), tf.Session() as session:
            logits = tf.placeholder(tf.float32, [None, None])
            loss = function(labels=tf.zeros([rows], tf.int32), logits=logits, **options)
            with pytest.raises(tf.errors.InvalidArgumentError) as raised:
                session.run(loss, {logits: np.zeros([rows, 0])})
        text = raised.value.message
        messages.append(text[text.index("Must have at least one class") :].splitlines()[0])
    assert messages[0] == messages[1]


_DETERMINISTIC = """
import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
import tf1xent
tf2.config.experimental.enable_op_determinism()
stock = tf1xent.get_original("sparse_softmax_cross_entropy_with_logits")
def kernel(**arguments):
    return tf1xent.nn.sparse_softmax_cross_entropy_with_logits(implementation="kernel", **arguments)
def masked(labels, logits):
    return tf1xent.nn.masked_sparse_softmax_cross_entropy_with_logits(
        labels, logits, implementation="kernel")
for bad in (np.array([4, 3]), np.int64(0)):
    for function in (stock, kernel, masked)[: 3 if bad.ndim else 2]:
        for order in range(3):
            with tf.Graph().as_default(), tf.Session() as session:
                labels = tf.placeholder(tf.int64, bad.shape if bad.ndim else None)
                logits = tf.constant(np.ones([2 if bad.ndim else 1, 4], np.float32))
                result = function(labels=labels, logits=logits)
                for _ in range(order):
                    (result,) = tf.gradients(result, logits, grad_ys=result)
                try:
                    session.run(result, {labels: bad})
                    print("no error")
                except tf.errors.InvalidArgumentError as error:
                    lines = [l for l in str(error).splitlines() if "indices[" in l or "Expe" in l]
                    print((lines or [str(error)])[0].split("}} ")[-1].strip())
"""


@pytest.mark.lengthy
def test_labels_are_refused_in_a_gathers_words_with_op_determinism_on(library):
    if not hasattr(getattr(tensorflow, "config", None), "experimental") or not hasattr(
        tensorflow.config.experimental, "enable_op_determinism"
    ):
        pytest.skip("this TensorFlow has no op determinism")
    lines = output_of("-c", _DETERMINISTIC).splitlines()
    assert set(lines[:9]) == {"indices[0] = 4 is not in [0, 4)"} and len(lines) == 15
    assert lines[12] == lines[9] == "Expected batch_dims in the range [0, 0], but got 1"
