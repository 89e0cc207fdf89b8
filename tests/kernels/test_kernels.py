"""Which implementation computes a loss, and what the native ops do that the graph version does not.

Values, derivatives, shapes and errors of the kernels are those of the core's own tests, which run
on them too (`--implementation kernel`).
"""

import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tf1xent
from tests.oracle import reference
from tests.support.tolerances import assert_within_contract
from tf1xent import kernels, nn
from tf1xent.errors import KernelsError

PREFIX = "Tf1xentKernel"
SPARSE = nn.sparse_softmax_cross_entropy_with_logits
DENSE = nn.softmax_cross_entropy_with_logits_v2
LOGITS = np.array([[1.0, 2.0, -0.5], [0.0, 40.0, 3.0]], np.float32)
LABELS = np.array([2, 1], np.int64)


@pytest.fixture
def no_library(monkeypatch, tmp_path):
    """As in a process that has loaded nothing, with an empty cache."""
    loader = kernels.loading.Loader(kernels.sources.source_folder)
    monkeypatch.setenv("TF1XENT_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "library", loader.library)
    monkeypatch.setattr(kernels, "available", loader.available)


def _kernel_types(graph):
    return {op.type for op in graph.get_operations() if op.type.startswith(PREFIX)}


def _types_of_loss(**arguments):
    with tf.Graph().as_default() as graph:
        SPARSE(labels=tf.constant(LABELS), logits=tf.constant(LOGITS), **arguments)
    return _kernel_types(graph)


# --- The choice -------------------------------------------------------------------------------


def _all_functions(implementation):
    """Builds every loss that takes an implementation, each in a graph of its own."""
    logits, one_hot = LOGITS, np.eye(3, dtype=np.float32)[LABELS]
    chosen = {"implementation": implementation}
    weighted = {"weights": [1.0, 2.0], **chosen}
    sequence = (logits[np.newaxis], LABELS[np.newaxis], np.ones([1, 2], np.float32))
    calls = {
        "sparse": lambda: SPARSE(labels=LABELS, logits=logits, **chosen),
        "dense": lambda: DENSE(labels=one_hot, logits=logits, **chosen),
        "dense v1": lambda: nn.softmax_cross_entropy_with_logits(
            labels=one_hot, logits=logits, **chosen
        ),
        "masked sparse": lambda: nn.masked_sparse_softmax_cross_entropy_with_logits(
            LABELS, logits, ignore_label=-1, **chosen
        ),
        "masked dense": lambda: nn.masked_softmax_cross_entropy_with_logits(
            one_hot, logits, **chosen
        ),
        "weighted sparse": lambda: nn.weighted_sparse_softmax_cross_entropy_with_logits(
            LABELS, logits, **weighted
        ),
        "weighted dense": lambda: nn.weighted_softmax_cross_entropy_with_logits(
            one_hot, logits, **weighted
        ),
        "sparse loss": lambda: tf1xent.losses.sparse_softmax_cross_entropy(
            LABELS, logits, **chosen
        ),
        "dense loss": lambda: tf1xent.losses.softmax_cross_entropy(one_hot, logits, **chosen),
        "sequence loss": lambda: tf1xent.losses.sequence_loss(*sequence, **chosen),
        "linear loss": lambda: tf1xent.losses.linear_softmax_cross_entropy(
            LABELS, logits, np.eye(3, dtype=np.float32), **chosen
        ),
    }
    for name, call in calls.items():
        with tf.Graph().as_default() as graph:
            yield name, graph, call


def test_every_function_takes_the_kernels_where_they_are_asked_for(library):
    for implementation in ("kernel", "auto"):
        for name, graph, call in _all_functions(implementation):
            call()
            want = {PREFIX + ("DenseLoss" if "dense" in name else "SparseLoss")}
            assert _kernel_types(graph) == want, (name, implementation)
    for name, graph, call in _all_functions("graph"):
        call()
        assert _kernel_types(graph) == set(), name


def test_every_function_refuses_kernels_that_are_not_there(no_library):
    for name, graph, call in _all_functions("kernel"):
        with pytest.raises(KernelsError, match="python -m tf1xent build-kernels"):
            call()
        assert {op.type for op in graph.get_operations()} <= {"Const", "StopGradient"}, name
    for name, graph, call in _all_functions("auto"):
        call()
        assert _kernel_types(graph) == set(), name


def test_an_unknown_implementation_is_refused(monkeypatch):
    for _, _, call in _all_functions("fast"):
        with pytest.raises(ValueError, match="`implementation` must be one of graph, kernel, auto"):
            call()
    for function in (tf1xent.patch, lambda **kw: tf1xent.patched(**kw).__enter__()):
        with pytest.raises(ValueError, match="`implementation` must be one of"):
            function(implementation="fast")
    assert not tf1xent.is_patched()
    monkeypatch.setenv("TF1XENT_IMPLEMENTATION", "fast")
    with pytest.raises(ValueError, match="TF1XENT_IMPLEMENTATION must be one of"):
        _types_of_loss()


def test_the_environment_chooses_for_those_that_do_not(library, monkeypatch):
    monkeypatch.setenv("TF1XENT_IMPLEMENTATION", "kernel")
    assert _types_of_loss() == {PREFIX + "SparseLoss"}
    assert _types_of_loss(implementation="graph") == set()
    monkeypatch.delenv("TF1XENT_IMPLEMENTATION")
    assert _types_of_loss() == set()


def _types_under_patch():
    with tf.Graph().as_default() as graph:
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=tf.constant(LOGITS))
    return _kernel_types(graph)


def test_a_patch_chooses_and_blocks_inside_choose_anew(library, monkeypatch):
    monkeypatch.delenv("TF1XENT_IMPLEMENTATION", raising=False)
    used = {PREFIX + "SparseLoss"}
    tf1xent.patch(implementation="kernel")
    try:
        assert _types_under_patch() == used
        assert tf1xent.status().implementation == "kernel"
        with tf1xent.patched(implementation="graph"):
            assert _types_under_patch() == set()
            with tf1xent.patched():
                assert _types_under_patch() == set()
        tf1xent.patch()
        assert _types_under_patch() == used
    finally:
        tf1xent.unpatch()
    tf1xent.patch()
    try:
        assert _types_under_patch() == set()
        assert tf1xent.status().implementation == "graph"
    finally:
        tf1xent.unpatch()


def test_a_patch_with_kernels_that_are_not_there_patches_nothing(no_library):
    with pytest.raises(KernelsError):
        tf1xent.patch(implementation="kernel")
    with pytest.raises(KernelsError), tf1xent.patched(implementation="kernel"):
        pass
    assert not tf1xent.is_patched()


def test_devices_without_kernels_get_the_graph_version(library):
    with tf.Graph().as_default() as graph:
        logits, labels = tf.constant(LOGITS), tf.constant(LABELS)
        with tf.device("/gpu:0"):
            loss = SPARSE(labels=labels, logits=logits, implementation="kernel")
        (gradient,) = tf.gradients(loss, logits)
        config = tf.ConfigProto(allow_soft_placement=True)
        with tf.Session(config=config) as session:
            session.run(gradient)
        assert _kernel_types(graph) == set()
        with tf.device("/gpu:0"), tf.device("/cpu:0"):
            SPARSE(labels=labels, logits=logits, implementation="kernel")
        assert _kernel_types(graph) == {PREFIX + "SparseLoss"}


def test_what_xla_compiles_gets_the_graph_version(library):
    if not (hasattr(tf, "function") and tf.executing_eagerly()):
        pytest.skip("this TensorFlow compiles no tf.function that it calls eagerly")
    option = "jit_compile" if tf.version.VERSION > "2.5" else "experimental_compile"

    @tf.function(**{option: True})
    def gradient(logits):
        return tf.gradients(SPARSE(labels=LABELS, logits=logits, implementation="kernel"), logits)

    oracle = reference.Reference(LOGITS)
    got = gradient(tf.constant(LOGITS))[0].numpy()
    assert_within_contract(got, oracle.sparse_gradient(LABELS), LOGITS)


# --- The ops ----------------------------------------------------------------------------------


def test_tapes_and_functions_differentiate_the_ops(library):
    if not tf.executing_eagerly():
        pytest.skip("this TensorFlow has no eager execution by default")
    oracle = reference.Reference(LOGITS)
    vector = np.array([[1.0, -1.0, 0.5], [2.0, 0.0, 1.0]], np.float32)

    def product(logits):
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                loss = SPARSE(labels=LABELS, logits=logits, implementation="kernel")
            gradient = inner.gradient(loss, logits)
        return outer.gradient(gradient, logits, output_gradients=tf.constant(vector))

    want = np.asarray(oracle.derivative_product([vector]), np.float64)
    for function in (product, tf.function(product)):
        got = function(tf.constant(LOGITS)).numpy()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-30)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_derivatives_of_every_dtype_are_those_of_the_graph_version(library, dtype):
    # That one is checked against an oracle elsewhere; here the two share nothing but TensorFlow.
    found = []
    for implementation in ("kernel", "graph"):
        with tf.Graph().as_default(), tf.Session() as session:
            logits = tf.cast(tf.constant([[0.5, -0.25, 1.0]]), dtype)
            labels = tf.cast(tf.constant([[0.25, 0.5, 0.25]]), dtype)
            results = []
            for loss in (
                SPARSE(labels=[1], logits=logits, implementation=implementation),
                DENSE(labels=labels, logits=logits, implementation=implementation),
            ):
                (first,) = tf.gradients(loss * loss, logits)
                (second,) = tf.gradients(first * first, logits)
                (third,) = tf.gradients(second * second, logits)
                assert {first.dtype, second.dtype, third.dtype} == {logits.dtype}
                results += [loss, first, second, third]
            results += tf.gradients(results[5], labels)
            found.append(session.run([tf.cast(result, tf.float64) for result in results]))
    roundoff = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-14}[dtype]
    for got, want in zip(*found):
        np.testing.assert_allclose(got, want, rtol=8 * roundoff, atol=8 * roundoff)


def test_labels_out_of_range_raise_in_tensorflows_words(library):
    logits = np.zeros([3, 4], np.float32)
    for dtype in (np.int32, np.int64):
        for label in (-1, 4):
            labels = np.array([0, label, 1], dtype)
            messages = []
            for function, arguments in (
                (tf1xent.get_original("sparse_softmax_cross_entropy_with_logits"), {}),
                (SPARSE, {"implementation": "kernel"}),
            ):
                with tf.Graph().as_default(), tf.Session() as session:
                    loss = function(
                        labels=tf.placeholder_with_default(labels, [3]), logits=logits, **arguments
                    )
                    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
                        session.run(loss)
                text = raised.value.message
                messages.append(text[text.index("Received a label value") :].splitlines()[0])
            assert messages[0] == messages[1] and "outside the valid range of [0, 4)" in messages[0]


def test_the_product_alone_checks_its_labels_too(library):
    with tf.Graph().as_default(), tf.Session() as session:
        logits = tf.constant(LOGITS)
        labels = tf.placeholder_with_default(np.array([3, 0]), [2])
        for policy in (None, "nan"):
            loss = nn.masked_sparse_softmax_cross_entropy_with_logits(
                labels, logits, invalid_labels=policy, implementation="kernel"
            )
            (gradient,) = tf.gradients(loss, logits)
            (product,) = tf.gradients(gradient, logits, grad_ys=logits)
            if policy is None:
                with pytest.raises(tf.errors.InvalidArgumentError, match="label value of 3"):
                    session.run(product)
            else:
                value = session.run(product)
                assert np.isnan(value[0]).all() and np.isfinite(value[1]).all()


def test_the_loss_keeps_numbers_by_row_only(library):
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float32, [8, 1000])
        for loss in (
            SPARSE(labels=tf.zeros([8], tf.int32), logits=logits, implementation="kernel"),
            DENSE(labels=logits, logits=logits, implementation="kernel"),
        ):
            assert loss.shape.as_list() == [8]
        for op in graph.get_operations():
            if op.type.endswith("Loss"):
                assert all(out.shape.num_elements() <= 8 * 4 for out in op.outputs)


def test_runs_at_once_do_not_disturb_each_other(library):
    rows = np.random.RandomState(0).normal(size=(64, 1000)).astype(np.float32) * 5
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, None])
        labels = tf.placeholder(tf.int32, [None])
        loss = SPARSE(labels=labels, logits=x, implementation="kernel")
        (gradient,) = tf.gradients(loss, x)
        (product,) = tf.gradients(gradient, x, grad_ys=x)
        results = [loss, gradient, product]
    wrong = []

    def work(session, seed):
        random = np.random.RandomState(seed)
        for _ in range(20):
            size = random.randint(1, 64)
            feed = {x: rows[:size], labels: np.arange(size)}
            for value, want in zip(session.run(results, feed), alone):
                if value.tobytes() != want[:size].tobytes():
                    wrong.append(seed)

    with tf.Session(graph=graph) as session:
        alone = session.run(results, {x: rows, labels: np.arange(64)})
        threads = [threading.Thread(target=work, args=(session, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_gradient_takes_the_place_of_logits_that_nobody_needs(library):
    with tf.Graph().as_default(), tf.Session() as session:
        start = tf.placeholder(tf.float32, [4, 300])
        logits = tf.exp(start)
        loss = SPARSE(labels=[0, 1, 2, 3], logits=logits, implementation="kernel")
        (gradient,) = tf.gradients(loss, logits)
        (product,) = tf.gradients(gradient, logits, grad_ys=tf.sqrt(start))
        feed = {start: np.random.RandomState(0).uniform(0, 2, size=[4, 300])}
        together = session.run([logits, gradient, product], feed)
        for tensor, value in zip((logits, gradient, product), together):
            np.testing.assert_array_equal(session.run(tensor, feed), value)


def test_few_long_rows_are_those_of_a_single_thread(library):
    rows = np.random.RandomState(0).normal(size=(2, 100003)).astype(np.float32)
    found = []
    for threads in (1, 3):
        with tf.Graph().as_default():
            logits = tf.constant(rows)
            loss = SPARSE(labels=[7, 100002], logits=logits, implementation="kernel")
            (gradient,) = tf.gradients(loss, logits)
            (product,) = tf.gradients(gradient, logits, grad_ys=logits)
            config = tf.ConfigProto(intra_op_parallelism_threads=threads)
            with tf.Session(config=config) as session:
                found.append(session.run([loss, gradient, product]))
    for one, three in zip(*found):
        assert one.tobytes() == three.tobytes()


def test_subnormal_numbers_survive_loading(library):
    assert np.float32(1e-40) * np.float32(1) > 0
    assert np.array([1e-310])[0] / 2 > 0


def test_a_saved_graph_is_differentiated_after_an_import(library):
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float64, [2, 3], name="logits")
        loss = SPARSE(labels=tf.constant(LABELS), logits=logits, implementation="kernel")
    with tf.Graph().as_default(), tf.Session() as session:
        x, loss = tf.import_graph_def(
            graph.as_graph_def(), return_elements=["logits:0", loss.name], name=""
        )
        (gradient,) = tf.gradients(loss, x)
        (product,) = tf.gradients(gradient, x, grad_ys=tf.ones_like(x) * [1.0, 2.0, 3.0])
        got = session.run(product, {x: LOGITS})
    vectors = np.tile([1.0, 2.0, 3.0], (2, 1))
    want = np.asarray(reference.Reference(LOGITS).derivative_product([vectors]), np.float64)
    np.testing.assert_allclose(got, want, rtol=1e-12)
