"""patch, unpatch, patched, is_patched, status, get_original: what they bind, and the way back."""

import functools
import inspect
import sys
import threading
import types
import warnings

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import nn as ops_nn
from tensorflow.python.ops import nn_ops

import tf1xent
from tests.oracle import reference
from tests.support.loss_graph import DENSE_V1, DENSE_V2, NAMES, SPARSE
from tf1xent.errors import PatchConflictWarning

SPARSE_OP = "SparseSoftmaxCrossEntropyWithLogits"
DENSE_OP = "SoftmaxCrossEntropyWithLogits"

# Found before anything is patched: the functions by their name in nn_ops, and the registry's own
# entries, which must come back as the very objects.
STOCK = {
    name: getattr(nn_ops, name)
    for name in (
        SPARSE,
        SPARSE + "_v2",
        DENSE_V1,
        DENSE_V2,
        DENSE_V2 + "_helper",
    )
    if hasattr(nn_ops, name)
}
REGISTRY = ops._gradient_registry._registry

CONFIDENT = np.array([[50.0, 0.0, 1.0]], np.float32)
CONFIDENT_LOSS = float(reference.Reference(CONFIDENT).sparse_loss(np.array([0]))[0])


def bindings():
    """{(module, name): function}: where loaded modules hold one of TensorFlow's functions."""
    stock = {id(function) for function in STOCK.values()}
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.split(".")[0] in ("tf1xent", "tests", __name__):
            continue
        # Not vars(module): a lazily loaded module must not be loaded for this.
        for name, value in list(object.__getattribute__(module, "__dict__").items()):
            if id(value) in stock:
                found[module_name, name] = value
    return found


def public_bindings():
    """What a program gets under the names of tf.nn and its compat modules, by attribute."""
    found = {}
    for path in ("nn", "compat.v1.nn", "compat.v2.nn"):
        module = tensorflow
        for part in path.split("."):
            module = getattr(module, part, None)
        for name in NAMES:
            if hasattr(module, name):
                found[path, name] = getattr(module, name)
    return found


def registered():
    return {name: REGISTRY[name] for name in (SPARSE_OP, DENSE_OP, "PreventGradient")}


@pytest.fixture(autouse=True)
def way_back():
    """Whatever a test does, all is as it was afterwards; checks that too."""
    before = bindings(), public_bindings(), registered()
    yield
    tf1xent.unpatch()
    after = bindings(), public_bindings(), registered()
    for one, other in zip(before, after):
        assert set(one) <= set(other)
        for key in one:
            assert one[key] is other[key], key


@pytest.fixture
def loaded():
    """Makes modules of the user's, loaded, with the globals it is given; unloads them."""
    made = []

    def make(name="program", **bound):
        module = types.ModuleType("patching_test_" + name)
        module.__dict__.update(bound)
        sys.modules[module.__name__] = module
        made.append(module.__name__)
        return module

    yield make
    for name in made:
        sys.modules.pop(name, None)


def confident_loss(function, labels=(0,)):
    with tf.Graph().as_default(), tf.Session() as session:
        return float(session.run(function(labels=tf.constant(labels), logits=CONFIDENT))[0])


def assert_ours(function):
    assert confident_loss(function) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def assert_stock(function):
    assert confident_loss(function) == 0.0


# --- What is bound ----------------------------------------------------------------------------


def test_every_binding_is_replaced_and_restored_by_identity():
    before, public = bindings(), public_bindings()
    assert ("tensorflow.python.ops.nn_ops", SPARSE) in before
    tf1xent.patch()
    assert bindings() == {}
    for key, function in public_bindings().items():
        assert function is not public[key], key
    tf1xent.unpatch()
    assert bindings().keys() == before.keys()
    assert all(bindings()[key] is function for key, function in before.items())
    assert all(public_bindings()[key] is function for key, function in public.items())


def test_names_that_share_a_function_share_it_under_the_patch():
    with tf1xent.patched():
        assert getattr(ops_nn, SPARSE) is getattr(nn_ops, SPARSE)
        assert getattr(tf.nn, SPARSE) is getattr(nn_ops, SPARSE)


def test_registry_entries_are_replaced_and_restored_by_identity():
    before = registered()
    tf1xent.patch()
    assert all(registered()[name] is not before[name] for name in before)
    tf1xent.unpatch()
    assert all(registered()[name] is before[name] for name in before)


def test_values_are_ours_under_the_patch_and_tensorflows_after():
    assert_stock(tf.nn.sparse_softmax_cross_entropy_with_logits)
    tf1xent.patch()
    assert_ours(tf.nn.sparse_softmax_cross_entropy_with_logits)
    tf1xent.unpatch()
    assert_stock(tf.nn.sparse_softmax_cross_entropy_with_logits)


def test_globals_of_user_code(loaded):
    module = loaded(xent=STOCK[SPARSE], also=STOCK[SPARSE], other=len)
    with tf1xent.patched():
        assert module.xent is module.also
        assert module.xent is getattr(nn_ops, SPARSE)
        assert module.other is len
        assert_ours(module.xent)
    assert module.xent is STOCK[SPARSE] and module.also is STOCK[SPARSE]


def test_modules_imported_while_patched_get_tensorflows_function_back(loaded):
    tf1xent.patch()
    module = loaded(xent=tf.nn.sparse_softmax_cross_entropy_with_logits)
    assert_ours(module.xent)
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_a_second_patch_takes_in_what_was_loaded_since(loaded):
    tf1xent.patch()
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    assert_ours(module.xent)
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_unusual_modules_do_no_harm(loaded):
    class Lazy(types.ModuleType):
        def __getattr__(self, name):
            raise AssertionError("must not be loaded for a patch")

    lazy = Lazy("patching_test_lazy")
    sys.modules[lazy.__name__] = lazy
    sys.modules["patching_test_none"] = None
    sys.modules["patching_test_object"] = object()
    try:
        with tf1xent.patched():
            assert tf1xent.is_patched()
    finally:
        for name in ("lazy", "none", "object"):
            del sys.modules["patching_test_" + name]


def test_a_module_that_refuses_to_be_changed_does_not_break_undo(loaded):
    class Frozen(types.ModuleType):
        def __setattr__(self, name, value):
            raise AttributeError("read only")

    frozen = Frozen("patching_test_frozen")
    frozen.__dict__["xent"] = STOCK[SPARSE]
    sys.modules[frozen.__name__] = frozen
    before = bindings()
    try:
        try:
            tf1xent.patch()
        except AttributeError:
            pass
        tf1xent.unpatch()
        after = bindings()
    finally:
        del sys.modules[frozen.__name__]
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)
    assert registered()[SPARSE_OP]["type"] is not None
    assert not tf1xent.is_patched()


def test_a_module_unloaded_in_between_is_restored_too(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    del sys.modules[module.__name__]
    tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


# --- The way back -----------------------------------------------------------------------------


def test_idempotent():
    tf1xent.patch()
    function, entries = getattr(nn_ops, SPARSE), registered()
    tf1xent.patch()
    assert getattr(nn_ops, SPARSE) is function
    assert all(registered()[name] is entries[name] for name in entries)
    tf1xent.unpatch()
    assert not tf1xent.is_patched()
    tf1xent.unpatch()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_unpatch_without_a_patch():
    tf1xent.unpatch()
    assert not tf1xent.is_patched()


def test_nested_blocks():
    with tf1xent.patched():
        with tf1xent.patched():
            assert tf1xent.is_patched()
        assert tf1xent.is_patched()
        assert getattr(nn_ops, SPARSE) is not STOCK[SPARSE]
    assert not tf1xent.is_patched()


def test_a_block_inside_a_patch_leaves_it():
    tf1xent.patch()
    with tf1xent.patched():
        pass
    assert tf1xent.is_patched()


def test_patch_inside_a_block_outlives_it():
    with tf1xent.patched():
        tf1xent.patch()
    assert tf1xent.is_patched()


def test_unpatch_inside_a_block_takes_effect_at_its_end():
    tf1xent.patch()
    with tf1xent.patched():
        tf1xent.unpatch()
        assert tf1xent.is_patched()
    assert not tf1xent.is_patched()


def test_an_exception_passes_through_and_undoes():
    with pytest.raises(ZeroDivisionError):
        with tf1xent.patched():
            assert tf1xent.is_patched()
            raise ZeroDivisionError
    assert not tf1xent.is_patched()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_an_exception_in_an_inner_block():
    with tf1xent.patched():
        with pytest.raises(KeyError):
            with tf1xent.patched():
                raise KeyError
        assert tf1xent.is_patched()
    assert not tf1xent.is_patched()


def test_blocks_that_end_out_of_order():
    first, second = tf1xent.patched(), tf1xent.patched()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert tf1xent.is_patched()
    second.__exit__(None, None, None)
    assert not tf1xent.is_patched()


def test_unpatch_from_another_thread():
    tf1xent.patch()
    thread = threading.Thread(target=tf1xent.unpatch)
    thread.start()
    thread.join()
    assert not tf1xent.is_patched()
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]


def test_threads_that_enter_and_leave(loaded):
    module = loaded(xent=STOCK[SPARSE])
    before = bindings()
    outside = []
    barrier = threading.Barrier(6)

    def enter_and_leave():
        barrier.wait()
        for _ in range(5):
            with tf1xent.patched():
                for function in (module.xent, getattr(nn_ops, SPARSE), getattr(tf.nn, SPARSE)):
                    if function is STOCK[SPARSE]:
                        outside.append(function)

    threads = [threading.Thread(target=enter_and_leave) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outside == []
    assert not tf1xent.is_patched()
    after = bindings()
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)


def test_override_and_patch_end_independently():
    before = registered()
    tf1xent.override_gradients()
    tf1xent.patch()
    ours = registered()
    tf1xent.unpatch()
    assert all(registered()[name] is ours[name] for name in ours)
    assert tf1xent.status().gradients_overridden
    tf1xent.restore_gradients()
    assert all(registered()[name] is before[name] for name in before)
    tf1xent.override_gradients()
    with tf1xent.patched():
        tf1xent.restore_gradients()
        assert all(registered()[name] is ours[name] for name in ours)
    assert all(registered()[name] is before[name] for name in before)


# --- Somebody else in between -----------------------------------------------------------------


def test_a_binding_replaced_by_somebody_else_stays_theirs(loaded):
    def theirs(labels=None, logits=None):
        return None

    module = loaded(xent=STOCK[SPARSE], other=STOCK[SPARSE])
    tf1xent.patch()
    module.xent = theirs
    with pytest.warns(PatchConflictWarning, match="patching_test_program.xent"):
        tf1xent.unpatch()
    assert module.xent is theirs
    assert module.other is STOCK[SPARSE]
    assert getattr(nn_ops, SPARSE) is STOCK[SPARSE]
    assert not tf1xent.is_patched()


@pytest.mark.parametrize("leave", ["unpatch", "block"])
def test_the_warning_points_to_the_caller(loaded, leave):
    module = loaded(xent=STOCK[SPARSE])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if leave == "unpatch":
            tf1xent.patch()
            module.xent = len
            tf1xent.unpatch()
        else:
            with tf1xent.patched():
                module.xent = len
    (warning,) = [w for w in caught if issubclass(w.category, PatchConflictWarning)]
    assert warning.filename == __file__


def test_the_warning_as_an_error_does_not_break_undo(loaded):
    """A program that runs with warnings as errors must not be left half patched."""
    module = loaded(xent=STOCK[SPARSE])
    later = loaded("later", xent=STOCK[SPARSE])
    before = registered()
    tf1xent.patch()
    module.xent = len
    with warnings.catch_warnings():
        warnings.simplefilter("error", PatchConflictWarning)
        with pytest.raises(PatchConflictWarning):
            tf1xent.unpatch()
    try:
        assert later.xent is STOCK[SPARSE]
        assert not tf1xent.is_patched()
        assert all(registered()[name] is before[name] for name in before)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PatchConflictWarning)
            tf1xent.unpatch()


def test_a_wrapper_of_somebody_else_keeps_working(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    ours = module.xent

    @functools.wraps(ours)
    def wrapper(*args, **kwargs):
        return ours(*args, **kwargs)

    module.xent = wrapper
    with pytest.warns(PatchConflictWarning):
        tf1xent.unpatch()
    assert module.xent is wrapper
    assert confident_loss(wrapper) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def test_a_binding_that_somebody_deleted(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    del module.xent
    with pytest.warns(PatchConflictWarning):
        tf1xent.unpatch()
    assert not hasattr(module, "xent")


def test_a_binding_that_somebody_already_restored(loaded):
    module = loaded(xent=STOCK[SPARSE])
    tf1xent.patch()
    module.xent = STOCK[SPARSE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf1xent.unpatch()
    assert module.xent is STOCK[SPARSE]


def test_a_function_that_was_not_stock_when_we_came_is_left_alone(loaded):
    def theirs(labels=None, logits=None):
        return STOCK[SPARSE](labels=labels, logits=logits)

    module = loaded(xent=theirs)
    with tf1xent.patched():
        assert module.xent is theirs
        with tf.Graph().as_default(), tf.Session() as session:
            logits = tf.constant(CONFIDENT)
            (hessian,) = tf.hessians(module.xent(tf.constant([0]), logits), logits)
            assert session.run(hessian).any()  # by the gradient override


def test_a_gradient_replaced_by_somebody_else_stays_theirs():
    before = REGISTRY[SPARSE_OP]
    tf1xent.patch()
    theirs = dict(before)
    REGISTRY[SPARSE_OP] = theirs
    try:
        with pytest.warns(PatchConflictWarning, match=SPARSE_OP):
            tf1xent.unpatch()
        assert REGISTRY[SPARSE_OP] is theirs
    finally:
        REGISTRY[SPARSE_OP] = before


# --- Programs with a gradient of their own ----------------------------------------------------


def _register_theirs():
    calls = []
    name = f"PatchingTestGradient{len(REGISTRY)}"

    @ops.RegisterGradient(name)
    def theirs(op, loss_cotangent, _):
        calls.append(op.type)
        gradients = tf.expand_dims(loss_cotangent, -1) * op.outputs[1] * 3.0
        return gradients, None

    return name, calls


@pytest.mark.parametrize("op_type, function", [(SPARSE_OP, SPARSE), (DENSE_OP, DENSE_V2)])
def test_a_gradient_override_map_of_the_program_keeps_its_effect(op_type, function):
    name, calls = _register_theirs()
    labels = np.array([1, 0]) if function == SPARSE else np.eye(2, dtype=np.float32)[::-1]
    tf1xent.patch()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        logits = tf.constant([[1.0, 2.0], [3.0, 1.0]])
        with graph.gradient_override_map({op_type: name}):
            loss = getattr(tf.nn, function)(labels=labels, logits=logits)
        assert op_type in {op.type for op in graph.get_operations()}
        theirs = tf.gradients(loss, logits)[0]
        assert calls == [op_type]
        outside = getattr(tf.nn, function)(labels=labels, logits=logits)
        ours = tf.gradients(outside, logits)[0]
        theirs, ours = session.run([theirs, ours])
        np.testing.assert_allclose(theirs, 3.0 * ours, rtol=1e-5)


def test_a_gradient_override_map_for_other_ops_changes_nothing():
    tf1xent.patch()
    with tf.Graph().as_default() as graph:
        with graph.gradient_override_map({"Relu": "Identity"}):
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        assert SPARSE_OP not in {
            op.type for op in graph.get_operations() if op.name.endswith(SPARSE_OP)
        }


# --- Queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_is_patched(name):
    assert tf1xent.is_patched(name) is False and tf1xent.is_patched() is False
    with tf1xent.patched():
        assert tf1xent.is_patched(name) is True and tf1xent.is_patched() is True
    assert tf1xent.is_patched(name) is False


@pytest.mark.parametrize("name", NAMES)
def test_get_original(name):
    original = getattr(tf.nn, name)
    assert tf1xent.get_original(name) is original
    with tf1xent.patched():
        assert tf1xent.get_original(name) is original
        assert getattr(tf.nn, name) is not original


@pytest.mark.parametrize("query", [tf1xent.is_patched, tf1xent.get_original])
@pytest.mark.parametrize("name", ["relu", "", 3])
def test_unknown_names(query, name):
    with pytest.raises(ValueError, match="`name` must be one of .*sparse_softmax"):
        query(name)


def test_status():
    status = tf1xent.status()
    version = getattr(tf, "VERSION", None) or tf.version.VERSION
    assert status.tensorflow == version
    assert status.patched is False and status.gradients_overridden is False
    assert status.bindings == []
    tf1xent.patch()
    status = tf1xent.status()
    assert status.patched is True and status.gradients_overridden is True
    assert ("tensorflow.python.ops.nn_ops", SPARSE) in status.bindings
    assert ("tensorflow.python.ops.nn", SPARSE) in status.bindings
    assert len(set(status.bindings)) == len(status.bindings)
    for module, name in status.bindings:
        assert module in str(status) and name in str(status)
    assert version in str(status)


def test_status_lists_what_stock_lacks_the_same_patched_or_not():
    before = dict(tf1xent.status().stock)
    with tf1xent.patched():
        assert dict(tf1xent.status().stock) == before
    answers = {question: answer for question, answer in before.items()}
    mixed = [answer for question, answer in answers.items() if "mixed derivative" in question]
    assert mixed == ["wrong"]  # in every TensorFlow up to 2.21
    confident = [answer for question, answer in answers.items() if "confident" in question]
    assert confident == ["wrong"]
    (second,) = [answer for question, answer in answers.items() if "second" in question]
    with tf.Graph().as_default():
        logits = tf.constant([[0.0, 0.0]])
        loss = STOCK[SPARSE](labels=tf.constant([0]), logits=logits)
        try:
            tf.hessians(loss, logits)
        except LookupError:
            assert second == "raises LookupError"
        else:
            assert second == "right"


def test_status_of_an_override_alone():
    tf1xent.override_gradients()
    try:
        status = tf1xent.status()
        assert status.gradients_overridden is True and status.patched is False
    finally:
        tf1xent.restore_gradients()


# --- The functions' faces ---------------------------------------------------------------------


def _faces():
    """(name in nn_ops, TensorFlow's function, ours)."""
    with tf1xent.patched():
        return [(name, stock, getattr(nn_ops, name)) for name, stock in sorted(STOCK.items())]


def _full_signature(function):
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def test_signatures_and_names_are_those_of_tensorflow():
    for name, stock, ours in _faces():
        assert _full_signature(ours) == _full_signature(stock), name
        for attribute in ("__name__", "__module__", "__doc__"):
            assert getattr(ours, attribute) == getattr(stock, attribute), (name, attribute)
        assert callable(ours) and inspect.isfunction(ours), name


def test_dispatch_attributes_are_there():
    for name, stock, ours in _faces():
        for attribute in vars(stock):
            assert "dispatch" not in attribute or hasattr(ours, attribute), (name, attribute)


def test_export_names_are_those_of_tensorflow():
    """TensorFlow and its tools look up under which names a function is exported."""
    for name, stock, ours in _faces():
        for attribute in ("_tf_api_names", "_tf_api_names_v1"):
            assert getattr(ours, attribute, None) == getattr(stock, attribute, None), name


def _answer(function, *args, **kwargs):
    """What a call does: its static shape and dtype, or its error's type and message."""
    with tf.Graph().as_default():
        try:
            loss = function(*args, **kwargs)
        except Exception as error:  # whatever it is, ours has to be the same
            return type(error), str(error)
        return loss.dtype, loss.shape.as_list()


ROWS, ONE_HOT = [[1.0, 2.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
CALLS = [
    ("positional", lambda f, labels: _answer(f, labels, ROWS)),
    ("sentinel and named", lambda f, labels: _answer(f, None, labels, ROWS)),
    ("sentinel given", lambda f, labels: _answer(f, 1, labels=labels, logits=ROWS)),
    ("sentinel by name", lambda f, labels: _answer(f, _sentinel=None, labels=labels, logits=ROWS)),
    ("named", lambda f, labels: _answer(f, labels=labels, logits=ROWS)),
    ("named and name", lambda f, labels: _answer(f, labels=labels, logits=ROWS, name="xent")),
    ("nothing", lambda f, labels: _answer(f)),
    ("no logits", lambda f, labels: _answer(f, labels=labels)),
    ("no labels", lambda f, labels: _answer(f, logits=ROWS)),
    ("unknown argument", lambda f, labels: _answer(f, labels=labels, logits=ROWS, lables=1)),
    ("given twice", lambda f, labels: _answer(f, labels, ROWS, logits=ROWS)),
    ("too many", lambda f, labels: _answer(f, labels, ROWS, None, None, None, None, None)),
    ("dim", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=1)),
    ("axis", lambda f, labels: _answer(f, labels=labels, logits=ROWS, axis=-1)),
    ("axis 0", lambda f, labels: _answer(f, labels=labels, logits=ROWS, axis=0)),
    ("dim and axis", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=1, axis=1)),
    ("dim 0 and axis 0", lambda f, labels: _answer(f, labels=labels, logits=ROWS, dim=0, axis=0)),
]


@pytest.mark.parametrize("what, call", CALLS, ids=[what for what, _ in CALLS])
def test_calls_are_taken_or_refused_as_tensorflow_takes_or_refuses_them(what, call):
    for name, stock, ours in _faces():
        labels = [0, 1] if "sparse" in name else ONE_HOT
        want, got = call(stock, labels), call(ours, labels)
        assert got[0] == want[0], (name, want, got)
        if isinstance(want[1], str) and issubclass(want[0], TypeError):
            # Python's own words for a bad call name the function or not, by version.
            continue
        assert got[1] == want[1], (name, want, got)


def test_deprecated_dim_means_axis():
    logits = np.array([[1.0, 4.0], [2.0, 0.5]], np.float32)
    labels = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    with tf1xent.patched(), tf.Graph().as_default(), tf.Session() as session:
        for function in (DENSE_V1, DENSE_V2):
            losses = [
                getattr(tf.nn, function)(labels=labels, logits=logits, **{argument: 0})
                for argument in ("dim", "axis")
                if argument in inspect.signature(getattr(tf.nn, function)).parameters
                and not (function == DENSE_V1 and argument == "axis")
            ]
            want = reference.Reference(logits.T).dense_loss(labels.T).astype(np.float64)
            for loss in losses:
                np.testing.assert_allclose(session.run(loss), want, rtol=1e-6)


# --- Dispatch, autograph, eager ---------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_dispatch_for_a_third_partys_type(when):
    experimental = getattr(tensorflow, "experimental", None)
    if not hasattr(experimental, "dispatch_for_api"):
        pytest.skip("this TensorFlow has no tf.experimental.dispatch_for_api")

    class Masked(experimental.ExtensionType):
        __name__ = "tests.Masked." + when
        values: tensorflow.Tensor

    def theirs(labels, logits, name=None):
        return "theirs"

    def register():
        function = tensorflow.nn.sparse_softmax_cross_entropy_with_logits
        return experimental.dispatch_for_api(function, {"logits": Masked})(theirs)

    def call():
        return tensorflow.nn.sparse_softmax_cross_entropy_with_logits(
            labels=[0], logits=Masked(CONFIDENT)
        )

    if when == "before":
        register()
        assert call() == "theirs"
    with tf1xent.patched():
        if when == "after":
            register()
        assert call() == "theirs"
        assert_ours(tensorflow.nn.sparse_softmax_cross_entropy_with_logits)
    experimental.unregister_dispatch_for(theirs)


def _converting_function():
    """tf.function (2.x), or autograph's to_graph (1.x), of a function with a loop on a tensor."""

    def summed_losses(logits, labels):
        total = tf.constant(0.0)
        for _ in tf.range(tf.constant(2)):
            total += tf.reduce_sum(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        return total

    if hasattr(tensorflow, "function"):
        return tensorflow.function(summed_losses)
    return tf.autograph.to_graph(summed_losses)


def test_inside_functions_that_autograph_converts(recwarn):
    if not hasattr(tensorflow, "function"):
        try:  # TF 1.13's autograph needs the gast of its time
            tf.autograph.to_graph(confident_loss)
        except Exception as error:
            pytest.skip(f"this TensorFlow's autograph converts no function here: {error}")
    with tf1xent.patched(), tf.Graph().as_default(), tf.Session() as session:
        loss = _converting_function()(tf.constant(CONFIDENT), tf.constant([0]))
        assert session.run(loss) == pytest.approx(2 * CONFIDENT_LOSS, rel=1e-5)
    assert not [w for w in recwarn if "autograph" in str(w.message).lower()]


def test_our_functions_are_not_converted_by_autograph(caplog):
    if not hasattr(tensorflow, "function"):
        pytest.skip("this TensorFlow has no tf.function")
    with tf1xent.patched(), tf.Graph().as_default():
        converted = tf.autograph.to_graph(
            lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        )
        converted()
    assert "could not be transformed" not in caplog.text


def test_eager_calls():
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")
    with tf1xent.patched():
        loss = tensorflow.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=CONFIDENT)
        assert float(loss.numpy()[0]) == pytest.approx(CONFIDENT_LOSS, rel=1e-5)


def test_a_function_traced_before_the_patch_keeps_its_ops():
    """What is traced stays traced, as TensorFlow has it; what is traced anew is ours."""
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")

    @tensorflow.function
    def loss(logits):
        return tensorflow.nn.sparse_softmax_cross_entropy_with_logits(labels=[0], logits=logits)

    assert float(loss(tf.constant(CONFIDENT))[0]) == 0.0
    with tf1xent.patched():
        assert float(loss(tf.constant(CONFIDENT))[0]) == 0.0
        wide = np.concatenate([CONFIDENT, CONFIDENT - 60.0], axis=1)
        assert float(loss(tf.constant(wide))[0]) > 0.0
