"""What can be fed and fetched in a graph, can be after it is rewritten.

TensorFlow computes, for a fetch, what it needs and what is not fed. So one tensor at a time is fed,
and of the placeholders only those that the graph as it was needs then.
"""

import numpy as np
import pytest
import tensorflow
import tensorflow.compat.v1 as tf

import tf1xent
from tests.corpus.reading import entries
from tests.support.called_losses import LABELS, LOGITS, both_outputs, exact
from tf1xent import graphs

WRITER = "tf113" if tensorflow.__version__.startswith("1.13.") else "tf115"
ENTRIES = {entry.id: entry for entry in entries()}
RUNNING = [e.id for e in entries() if e.id.startswith(WRITER) and e.refusal() is None]
# Of which one tensor in six is fed in a run, too, whatever it is.
THOROUGHLY = [WRITER + "-" + name for name in ("dense_classifier", "defun_with_gradient", "cond")]
# Of these "tag" changes more than attributes.
CALLING = ("defun", "defun_with_gradient", "tf_function")
FUSED = ("SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits")


def modes(entry):
    return ("tag", "logsumexp") if entry.id.split("-")[1] in CALLING else ("logsumexp",)


def rewritten(entry, mode):
    if entry.kind == "graph_def":
        return graphs.rewrite_graph_def(entry.load_graph_def(), mode)
    return graphs.rewrite_meta_graph(entry.meta_graph(), mode)


# --- What a fetch needs, told from the graph ----------------------------------------------------


class Needs:
    """What fetches of a GraphDef need; as TensorFlow 2.x reads control inputs, it takes an Identity
    for what it hands on, and a feed does not keep that from running."""

    def __init__(self, graph_def):
        self.ops = {node.name: node.op for node in graph_def.node}
        self.reads = {node.name: list(node.input) for node in graph_def.node}
        self.sources = {
            name
            for name, op in self.ops.items()
            if op != "Const" and not [r for r in self.reads[name] if r[0] != "^"]
        }

    def nodes(self, fetch, fed=None):
        """The nodes that run for a fetch where the tensor `fed` is given."""
        found, pending = set(), [fetch]
        while pending:
            reference = pending.pop()
            name, _, index = reference.lstrip("^").partition(":")
            if reference[0] == "^":
                while self.ops[name] == "Identity":
                    name = self.reads[name][0].split(":")[0]
            elif f"{name}:{index or 0}" == fed:
                continue
            if name not in found:
                found.add(name)
                pending += self.reads[name]
        return found


def feeds_and_fetches(needs, entry, names):
    """(tensor to feed, tensor to fetch) for the loss and one of the gradients in the graph."""
    gradients = list(filter(None, entry.gradients.values()))
    before = {name: needs.nodes(name) for name in [entry.loss, *gradients]}
    for fed in names:
        found = [name for name in gradients if fed.split(":")[0] in before[name] and name != fed]
        # Of all gradients the one that takes least: those of what is behind the logits.
        found = sorted(found, key=lambda name: len(needs.nodes(name, fed)))[:1]
        if fed.split(":")[0] in before[entry.loss] and fed != entry.loss:
            found.append(entry.loss)
        for fetch in found:
            yield fed, fetch


@pytest.mark.lengthy
@pytest.mark.parametrize("name", [name for name in ENTRIES if name.startswith(WRITER)])
def test_no_fetch_needs_more_than_before(name):
    """Whatever tensor of the corpus is fed, but for those inside of v1 loops, which refuse it."""
    entry = ENTRIES[name]
    graph_def = entry.load_graph_def()
    needs = Needs(graph_def)
    names = [f"{n.name}:{i}" for n in graph_def.node if "while/" not in n.name for i in range(2)]
    pairs = list(feeds_and_fetches(needs, entry, names))
    assert len(pairs) > 20
    for mode in modes(entry):
        proto = rewritten(entry, mode)
        later = Needs(proto if entry.kind == "graph_def" else proto.graph_def)
        for fed, fetch in pairs:
            more = later.nodes(fetch, fed) & later.sources - needs.nodes(fetch, fed)
            # Inlined calls have a variable's handle or a random number of their own.
            assert not more & needs.sources, (fed, fetch, more)


# --- Runs ---------------------------------------------------------------------------------------


def other_value(value):
    return value * 1.25 + 0.125 if value.dtype.kind == "f" else value


def answers_as_it_was(entry, names):
    """[(fetch, feed, what it is)] of what runs in the graph as it was."""
    needs, found = Needs(entry.load_graph_def()), []
    with entry.open_in_session() as (graph, session, feed):
        names = [n for n in entry.every_fetch(graph) if n in names and graph.is_feedable(n)]
        values = dict(zip(names, session.run(names, feed)))
        for fed, fetch in feeds_and_fetches(needs, entry, names):
            left = needs.nodes(fetch, fed)
            given = {name: feed[name] for name in feed if name.split(":")[0] in left}
            given[fed] = other_value(values[fed])
            try:
                found.append((fetch, given, session.run(fetch, given)))
            except tf.errors.OpError:
                pass  # what does not run as it was need not later
    return found


def check_feeds(name, names):
    entry = ENTRIES[name]
    wanted = answers_as_it_was(entry, names)
    for mode in modes(entry):
        with tf.Graph().as_default(), tf.Session() as session:
            entry.import_graph(rewritten(entry, mode))(session)
            for fetch, given, want in wanted:
                found = session.run(fetch, given)
                np.testing.assert_allclose(found, want, 1e-9, 1e-12, err_msg=str(list(given)))
    return len(wanted)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", RUNNING)
def test_what_the_ops_and_calls_read_and_return_can_be_fed(name):
    names = set()
    for node in ENTRIES[name].load_graph_def().node:
        if node.op in FUSED or "PartitionedCall" in node.op or "row_losses" in node.op:
            names |= {f"{node.name}:0", f"{node.name}:1"}
            names |= {r if ":" in r else r + ":0" for r in node.input if r[0] != "^"}
    check_feeds(name, names)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", THOROUGHLY)
def test_any_tensor_can_be_fed(name):
    """One in six: each feed is a graph of its own to the session, and takes its time."""
    nodes = ENTRIES[name].load_graph_def().node
    names = [f"{node.name}:{index}" for node in nodes for index in range(2)]
    assert check_feeds(name, set(names[::6])) >= 5


# --- Graphs of our own --------------------------------------------------------------------------


def sparse(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def dense(logits, labels):
    labels = tf.one_hot(labels, 3, dtype=logits.dtype)
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=logits)


def called(logits, labels):
    return both_outputs(logits, labels)[0]


def patched(logits, labels):
    with tf1xent.patched():
        return sparse(logits, labels)


def patched_dense(logits, labels):
    with tf1xent.patched():
        return dense(logits, labels)


LOSSES = [sparse, dense, called, patched, patched_dense]


def imported(graph, mode):
    graph_def = graph.as_graph_def()
    return graph_def if mode is None else graphs.rewrite_graph_def(graph_def, mode)


@pytest.mark.lengthy
@pytest.mark.parametrize("static", [True, False], ids=["static", "unknown"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_logits_can_be_fed(loss, static):
    """What they are computed from is not fed, and a variable on the way not initialized."""
    with tf.Graph().as_default() as graph:
        features = tf.placeholder(tf.float64, [2 if static else None, 4], name="features")
        labels = tf.placeholder(tf.int64, [2 if static else None], name="labels")
        weights = tf.get_variable("weights", [4, 3], tf.float64, use_resource=False)
        logits = tf.matmul(features, weights, name="logits")
        tf.reduce_sum(loss(logits, labels), name="loss")
        if loss is not called:
            total = graph.get_tensor_by_name("loss:0")
            tf.identity(tf.gradients(total, logits)[0], name="gradient")
    for mode in ("tag", "logsumexp"):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(imported(graph, mode), name="")
            feed = {"logits:0": LOGITS, "labels:0": LABELS}
            np.testing.assert_allclose(session.run("loss:0", feed), exact()[0], rtol=1e-12)
            if loss is not called:
                found = session.run("gradient:0", feed)
                np.testing.assert_allclose(found, exact()[1], rtol=1e-12)


@pytest.mark.parametrize("mode", [None, "tag", "logsumexp"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_what_makes_the_logits_does_not_run_where_they_are_fed(loss, mode):
    with tf.Graph().as_default() as graph:
        queue = tf.queue.FIFOQueue(10, tf.float64, [[2, 3]])
        queue.enqueue(tf.constant(LOGITS), name="put")
        logits = queue.dequeue(name="take")
        labels = tf.placeholder(tf.int64, [2], name="labels")
        tf.identity(queue.size(), name="size")
        tf.reduce_sum(loss(logits, labels), name="loss")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(imported(graph, mode), name="")
        session.run("put")
        for _ in range(2):
            found = session.run("loss:0", {"take:0": LOGITS, "labels:0": LABELS})
            np.testing.assert_allclose(found, exact()[0], rtol=1e-12)
        assert session.run("size:0") == 1
