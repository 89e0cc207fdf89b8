"""TensorFlow's sides, all in one session, and the machine's limits on the memory of its logits."""

import concurrent.futures
import contextlib
import functools
import importlib
import itertools
import sys
from argparse import Namespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import measuring
import numpy as np
import tensorflow.compat.v1 as tf
from worker import Computation, Inputs, make_inputs

SPARSE, DENSE = "sparse_softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2"
# Bound before tf1xent is imported, so that nothing can have replaced them.
STOCK = {name: getattr(tf.nn, name) for name in (SPARSE, DENSE)}
LIMITS = ("read", "copy")
# What TensorFlow raises for a derivative, or for a kernel of a dtype, that it does not have.
MISSING = (
    LookupError,
    TypeError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)


def describe(settings: Namespace) -> Any:
    """Returns the versions, and why the kernels cannot be measured if they cannot."""
    sys.path.insert(0, settings.checkout)
    from tf1xent import errors, kernels

    missing = {}
    try:
        kernels.library()
    except errors.KernelsError as error:
        missing = {"kernel": str(error), "before-kernel": str(error)}
    return {"NumPy": np.__version__, "TensorFlow": tf.__version__}, missing


# --- What a side builds ---------------------------------------------------------------------------


def plain(labels: Any, logits: Any) -> Any:
    """The textbook formula, by plain autodiff."""
    if labels.dtype.is_floating:
        normalizer = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
        return tf.reduce_sum(labels * (normalizer - logits), axis=-1)
    rows = tf.range(tf.size(labels, out_type=labels.dtype))
    of_labels = tf.gather_nd(logits, tf.stack([rows, labels], axis=1))
    return tf.reduce_logsumexp(logits, axis=-1) - of_labels


def rewritten(stock: Callable[..., Any], labels: Any, logits: Any) -> Any:
    """What reads the loss that `tf1xent.graphs.rewrite_graph_def` puts in place of TensorFlow's.

    A run that fetches this loss itself would compute its second output too, which nothing reads.
    """
    from tf1xent import graphs

    with tf.Graph().as_default() as graph:
        fed = [tf.placeholder(tensor.dtype, tensor.shape) for tensor in (labels, logits)]
        loss = stock(labels=fed[0], logits=fed[1]).name
    graph_def = graphs.rewrite_graph_def(graph.as_graph_def())
    inputs = {fed[0].name: labels, fed[1].name: logits}
    return tf.identity(tf.import_graph_def(graph_def, inputs, return_elements=[loss])[0])


def loss_function(side: str, settings: Namespace) -> Callable[..., Any]:
    """Returns the function of a side: (labels, logits) -> losses."""
    name = DENSE if settings.dense else SPARSE
    if side in ("stock", "plain"):
        return STOCK[name] if side == "stock" else plain
    if side == "rewritten":
        return functools.partial(rewritten, STOCK[name])
    ours = getattr(importlib.import_module("tf1xent.nn"), name)
    return functools.partial(ours, implementation=side.replace("before-", ""))


def make_variables(inputs: Inputs, settings: Namespace) -> Tuple[List[Any], Any, Dict[Any, Any]]:
    """Returns logits, labels, weights and vector as tensors, and what to run once and to feed.

    Inputs are variables: constants would be folded, and feeds copied at every call.
    """
    dtype = tf.as_dtype(settings.dtype)
    label_dtype = dtype if settings.dense else tf.int32
    initializers, feeds, tensors = [], {}, []
    for value in inputs:
        fed = tf.placeholder(value.dtype, value.shape)  # in NumPy's dtypes: bfloat16 is none
        wanted = label_dtype if value is inputs.labels else dtype
        made = tf.Variable(tf.cast(fed, wanted), trainable=False, use_resource=False)
        initializers.append(made.initializer)
        feeds[fed] = value
        tensors.append(tf.identity(made))
    return tensors, initializers, feeds


def build(side: str, order: str, tensors: Sequence[Any], settings: Namespace) -> List[Any]:
    """Returns the tensors that an order hands back."""
    logits, labels, weights, vector = tensors
    before = len(tf.get_default_graph().get_operations())
    loss = loss_function(side, settings)(labels=labels, logits=logits)
    results = [loss * weights if settings.weighted else loss]
    if order != "loss":
        results += tf.gradients(results[0], logits)
    if order in ("hvp", "product"):
        results[1:] = tf.gradients(results[1], logits, grad_ys=vector)
    operations = tf.get_default_graph().get_operations()[before:]
    has_kernels = any(operation.type.startswith("Tf1xentKernel") for operation in operations)
    if has_kernels != side.endswith("kernel"):
        raise RuntimeError(f"{side} computes {results} by {'' if has_kernels else 'no '}kernels")
    return results[1:] if order == "product" else results


def new_session(settings: Namespace) -> Any:
    # Every session says how many threads: the first one of a process makes the pools of all.
    threads = dict.fromkeys(
        ("intra_op_parallelism_threads", "inter_op_parallelism_threads"), settings.threads
    )
    return tf.Session(config=tf.ConfigProto(**threads))


def missing(side: str, order: str, settings: Namespace) -> Optional[str]:
    """Returns what TensorFlow raises for what it lacks, a derivative or a dtype, or None.

    Asked in a session of its own: a session refuses all of a graph with an op without a kernel.
    """
    if side not in ("stock", "plain"):
        return None
    with tf.Graph().as_default(), new_session(settings) as session:
        small = make_inputs((2, 3), settings.dense)
        tensors, initializers, feeds = make_variables(small, settings)
        try:
            results = build(side, order, tensors, settings)
            session.run(initializers, feeds)
            session.run(results)
        except MISSING as error:
            return f"{type(error).__name__}: {error}"
    return None


def nothing_after(results: List[Any]) -> Any:
    """Returns an op that computes the results and hands back nothing.

    IdentityN copies nothing. A tf.group would not do: Grappler turns operations that only a control
    edge needs into NoOps, and the benchmark would time nothing.
    """
    return tf.identity_n(results)[0].op


# --- The machine's limits -------------------------------------------------------------------------


def limits(logits: Any, threads: int) -> Dict[str, Computation]:
    """Returns one read and one copy of the bytes of an array, each thread a piece of its own."""
    source = logits.reshape(-1).view(np.uint8)
    pieces = np.array_split(source[: source.size // 8 * 8].view(np.int64), threads)
    pool = concurrent.futures.ThreadPoolExecutor(threads)

    def in_threads(operation: Callable[..., Any], *arrays: List[Any]) -> Callable[[int], float]:
        def repeat(number: int, *piece: Any) -> None:
            for _ in range(number):
                operation(*piece)

        def sample(number: int) -> float:
            # The threads are woken once a sample: that is no limit of the machine.
            def call() -> None:
                list(pool.map(functools.partial(repeat, number), *arrays))

            return measuring.time_sample(call, 1) / number

        return sample

    read = in_threads(np.bitwise_or.reduce, pieces)
    copy = in_threads(np.copyto, [np.zeros_like(piece) for piece in pieces], pieces)
    return {"read": Computation(read, list), "copy": Computation(copy, list)}


def lent_array(session: Any, tensor: Any) -> Any:
    """Returns a tensor as an array: its own memory where TensorFlow lends that, else a copy.

    What Session.run hands out is a copy; a Python function is given the memory itself on 2.11 on.
    """
    lent: List[Any] = []

    def take(array: Any) -> Any:
        lent.append(array)
        return np.int32(0)

    session.run(tf.py_func(take, [tensor], tf.int32))
    return lent[0]


@contextlib.contextmanager
def computations(inputs: Inputs, problem: Namespace) -> Iterator[Dict[Any, Any]]:
    """Yields {(order, side): Computation, or the error where TensorFlow has no such thing}."""
    made: Dict[Any, Any] = {}
    with tf.Graph().as_default():
        tensors, initializers, feeds = make_variables(inputs, problem)
        sides = [side for side in problem.sides if side not in LIMITS]
        for side, order in itertools.product(sides, problem.orders):
            made[order, side] = missing(side, order, problem)
            if made[order, side] is None:
                results = build(side, order, tensors, problem)
                made[order, side] = results, nothing_after(results)
        with new_session(problem) as session:
            session.run(initializers, feeds)
            for key, target in made.items():
                if not isinstance(target, str):
                    call = session.make_callable(target[1])
                    made[key] = Computation(
                        functools.partial(measuring.time_sample, call),
                        functools.partial(session.run, target[0]),
                    )
            if len(sides) < len(problem.sides):
                of_logits = limits(lent_array(session, tensors[0]), problem.threads)
                made.update({(o, s): of_logits[s] for o in problem.orders for s in LIMITS})
            yield made
