"""Damaged graphs: a report, a new graph or an error of our own comes out, and nothing else.

The examples are the same ones every time. With TF1XENT_FUZZ_EXAMPLES=20000 in the environment there
are so many of each kind, and others every time.
"""

import functools
import os
import tempfile

import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.reading import FILES, entries
from tf1xent import graphs
from tf1xent.errors import GraphFileError, RewriteError
from tf1xent.graphs import rewriting

MORE = int(os.environ.get("TF1XENT_FUZZ_EXAMPLES", "0"))


def examples(number):
    return settings(
        max_examples=MORE or number,
        derandomize=not MORE,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


MODES = ("logsumexp", "tag", "untag")
FILE_SEEDS = ["frozen/frozen.pb", "frozen/frozen.pbtxt", "defun/model.meta", "cond/model.meta"]
GRAPH_SEEDS = {"frozen", "defun", "defun_with_gradient", "tf_function", "cond_v2", "cond"}
INTERESTING = ("CrossEntropy", "PreventGradient", "Enter", "Switch", "Merge", "Exit", "Call", "If")


def outcome(function, *arguments):
    """What comes out where it may: the result, or None for an error that names what is wrong."""
    try:
        return function(*arguments)
    except (GraphFileError, RewriteError) as error:
        assert len(str(error)) > 20
        return None


def inspected(graph):
    report = graphs.inspect_graph(graph)
    return str(report) + report.to_json()


# Bytes -------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def seed_bytes(name):
    return (FILES / "tf115" / name).read_bytes()


@st.composite
def damaged_files(draw):
    """(file name, content)"""
    name = draw(st.sampled_from(FILE_SEEDS))
    data = bytearray(seed_bytes(name))
    places = st.integers(0, len(data) - 1)
    kind = draw(st.sampled_from(["bytes", "bits", "cut", "splice", "repeat"]))
    if kind == "bytes":
        for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1)):
            data[place] = value
    elif kind == "bits":
        for place, bit in draw(st.lists(st.tuples(places, st.integers(0, 7)), min_size=1)):
            data[place] ^= 1 << bit
    elif kind == "cut":
        del data[draw(places) :]
    else:
        other = data if kind == "repeat" else seed_bytes(draw(st.sampled_from(FILE_SEEDS)))
        begin = draw(st.integers(0, len(other) - 1))
        part = other[begin : begin + draw(st.integers(0, 400))]
        place = draw(places)
        data[place : place + draw(st.integers(0, 400))] = bytes(part)
    return os.path.basename(name), bytes(data)


@examples(100)
@given(damaged_files(), st.sampled_from(MODES))
def test_damaged_files_are_read_or_refused(file, mode):
    name, content = file
    with tempfile.TemporaryDirectory() as folder:
        old, new = os.path.join(folder, "old"), os.path.join(folder, "new")
        os.mkdir(old)
        os.mkdir(new)
        source, target = os.path.join(old, name), os.path.join(new, name)
        with open(source, "wb") as opened:
            opened.write(content)
        outcome(inspected, source)

        def rewritten():
            rewriting.rewrite_path(source, target, mode, overwrite=False, caller="fuzz")
            return True

        is_written = bool(outcome(rewritten))
        assert os.listdir(old) == [name]
        assert os.listdir(new) == [name] * is_written


# Protos ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def seed_graphs():
    return {
        entry.id: entry.load_graph_def()
        for entry in entries()
        if entry.id.split("-")[1] in GRAPH_SEEDS
    }


class Damage:
    """Draws changes of one GraphDef and makes them."""

    def __init__(self, draw, graph_def):
        self.draw, self.graph_def = draw, graph_def
        self.functions = graph_def.library.function
        bodies = [function.node_def for function in self.functions]
        self.nodes = self.one_of([graph_def.node, *bodies, *bodies])
        names = {function.signature.name for function in self.functions}
        likely = [n for n in self.nodes if n.op in names or any(t in n.op for t in INTERESTING)]
        self.node = self.one_of(likely * 2 + list(self.nodes)) if self.nodes else None

    def one_of(self, values):
        return self.draw(st.sampled_from(list(values)))

    def number(self, below):
        return self.draw(st.integers(0, below - 1))

    def name(self):
        others = [node.name for node in self.nodes]
        odd = ["", "^", "x:²", ":0", "a:b:c:d", "x:99999999999999999999"]
        own = [f"^{self.node.name}", f"{self.node.name}:1", f"{self.node.name}:output:0"]
        return self.one_of(others + odd + own)

    def op_type(self):
        used = {node.op for node in self.graph_def.node}
        called = {function.signature.name for function in self.functions}
        odd = {"", "_Arg", "NobodyKnowsThis", "IdentityN", "NextIteration", "PartitionedCall"}
        return self.one_of(sorted(used | called | odd | set(INTERESTING)))

    def inputs(self):
        inputs = list(self.node.input)
        kind = self.one_of(["shuffle", "replace", "remove", "add"])
        if kind == "add" or not inputs:
            inputs.append(self.name())
        elif kind == "shuffle":
            inputs.reverse()
        elif kind == "replace":
            inputs[self.number(len(inputs))] = self.name()
        else:
            del inputs[self.number(len(inputs))]
        self.node.input[:] = inputs

    def remove_attribute(self):
        if self.node.attr:
            del self.node.attr[self.one_of(sorted(self.node.attr))]

    def change_attribute(self):
        odd = ["T", "Tlabels", "N", "num", "index", "f", "message", "frame_name"]
        value = self.node.attr[self.one_of(sorted(self.node.attr) + odd)]
        kind = value.WhichOneof("value")
        if kind == "type":
            value.type = self.one_of([0, 1, 2, 3, 7, 9, 14, 20, 101, 999])
        elif kind == "i":
            value.i = self.one_of([-1, 0, 2**31, -(2**63), 2**63 - 1])
        elif kind == "s":
            value.s = self.one_of([b"", b"\xff", b"softmax_cross_entropy_with_logits"])
        elif kind == "func":
            value.func.name = self.op_type()
        elif kind == "tensor":
            value.tensor.dtype = self.one_of(range(24))
            value.tensor.tensor_content = b"abc"
        elif kind == "list":
            del value.list.s[:], value.list.i[:], value.list.type[:], value.list.shape[:]
        else:
            value.placeholder = self.one_of(["", "T", "nothing"])

    def odd_attribute(self):
        gradients = [b"\xff", b"", b"Foreign", b"Tf1xentOfTheFuture"]
        self.node.attr["_gradient_op_type"].s = self.one_of(gradients)
        self.node.attr["_class"].list.s.extend([b"\xff@", b"loc:@" + self.node.name.encode()])

    def rename(self):
        self.node.name = self.name()

    def change_op(self):
        self.node.op = self.op_type()

    def duplicate(self):
        self.nodes.add().CopyFrom(self.node)

    def remove(self):
        del self.nodes[self.number(len(self.nodes))]

    def version(self):
        self.graph_def.versions.min_consumer = self.one_of([-1, 12, 2**31 - 1])

    def function(self):
        if not self.functions:
            return
        function = self.one_of(self.functions)
        signature = function.signature
        kind = self.one_of(["rets", "ret", "inputs", "outputs", "twice", "name", "last", "list"])
        if kind == "rets":
            for key in list(function.ret):
                del function.ret[key]
        elif kind == "ret":
            for key in list(function.ret):
                function.ret[key] = self.name()
        elif kind == "inputs":
            del signature.input_arg[:1]
        elif kind == "outputs":
            del signature.output_arg[:1]
        elif kind == "twice":
            self.functions.add().CopyFrom(function)
        elif kind == "name":
            signature.name = self.op_type()
        elif kind == "last" and "control_ret" in function.DESCRIPTOR.fields_by_name:
            function.control_ret["effect"] = self.name()
        else:
            arguments = [*signature.input_arg, *signature.output_arg]
            field = self.one_of(["type_attr", "number_attr", "type_list_attr", "name"])
            if arguments:
                setattr(self.one_of(arguments), field, self.one_of(["", "T", "N"]))


CHANGES = (
    *(Damage.inputs, Damage.remove_attribute, Damage.change_attribute, Damage.odd_attribute),
    *(Damage.rename, Damage.change_op, Damage.duplicate, Damage.remove, Damage.version),
    *(Damage.function, Damage.function),
)


def check_is_whole(rewritten, graph_def, mode):
    """All nodes are there under their names, then new ones; and every node that one reads."""
    names = [node.name for node in rewritten.node]
    before = [node.name for node in graph_def.node]
    assert names[: len(before)] == before and len(set(names)) == len(names)
    if mode == "untag":
        assert len(names) == len(before)
    there = set(names)
    for node in rewritten.node:
        for reference in node.input:
            name, _, index = reference.rpartition(":")
            read = name if index.isdigit() and name else reference.lstrip("^")
            assert read in there, (node.name, reference)


@examples(60)
@given(st.data())
def test_damaged_graphs_are_read_or_refused_and_never_changed(data):
    seed = data.draw(st.sampled_from(sorted(seed_graphs())))
    graph_def = tf.GraphDef()
    graph_def.CopyFrom(seed_graphs()[seed])
    for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=4)):
        damage = Damage(data.draw, graph_def)
        if damage.node is not None:
            change(damage)
    before = graph_def.SerializeToString(deterministic=True)
    outcome(inspected, graph_def)
    for mode in MODES:
        rewritten = outcome(graphs.rewrite_graph_def, graph_def, mode)
        if rewritten is not None:
            check_is_whole(rewritten, graph_def, mode)
    assert graph_def.SerializeToString(deterministic=True) == before
