"""Reads the corpus, with any TensorFlow and without the programs that wrote it.

for entry in entries():
    with entry.open_in_session() as (graph, session, feed_dict):
        session.run(entry.loss, feed_dict)
"""

import collections
import contextlib
import json
import re
from pathlib import Path

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf
from google.protobuf import text_format

from tests.corpus.recording import MANIFEST

FILES = Path(__file__).resolve().parent / "files"

# What TensorFlow answers that cannot open an entry, when, and why.
Refusal = collections.namedtuple("Refusal", "error message reason")
# Control flow v2 was still an experiment in 1.13: no TensorFlow but 1.13 takes these.
REFUSED_AFTER_113 = {
    "tf113-loop_v2": Refusal(
        tf.errors.InvalidArgumentError,  # from the first run of anything
        "TensorListPopBack",
        "TensorListPopBack, which the gradients use, has one more input since",
    ),
    "tf113-tagger_v2": Refusal(
        ValueError,  # from the import
        "TensorListStack",
        "TensorListStack has one more input since",
    ),
}
REFUSED_BY_113 = {
    "tf115-cond_v2": Refusal(
        ValueError, "output_shapes", "StatelessIf has one more attribute, and not its default"
    ),
    "tf115-defun_with_gradient": Refusal(
        tf.errors.InvalidArgumentError,  # from the first run of the function
        "incompatible_shape_error",
        "Equal has one more attribute; the import drops defaults, but not in functions",
    ),
    "tf115-loop_v2": Refusal(
        tf.errors.InvalidArgumentError,  # from the first run of anything
        "TensorListPopBack",
        "TensorListPopBack has one more input",
    ),
    "tf115-tagger_v2": Refusal(
        ValueError, "parallel_iterations", "While has one more attribute, and not its default"
    ),
}


UNSTEADY = re.compile(
    "Switch|Enter|Merge|While|Random|Uniform|TruncatedNormal|Assign|Apply|Scatter|Restore|Save|"
    "Print|Queue"
)
NUMBERS = (tf.float32, tf.float64, tf.int32, tf.int64, tf.bool)


class Entry:
    """A graph of the corpus; its tensors, ops and functions go by name.

    Attributes:
        id: such as "tf115-tagger".
        written_by: the version of TensorFlow that wrote it.
        kind: "meta", "graph_def" or "saved_model".
        path: the .meta, .pb or .pbtxt file, or the folder of the SavedModel, as str.
        checkpoint: prefix of its checkpoint, also within a SavedModel; None for a frozen graph.
        tags: the SavedModel's tags of the graph, or None.
        loss: the scalar loss.
        parameters: tensors that the loss can be differentiated by, and that can be fed.
        gradients: by parameter, the gradient of the loss that was in the graph already, or None.
        fetches: other tensors worth reading; never those that only exist for a loop's turn.
        op_names: the cross-entropy ops of the main graph.
        function_ops: the cross-entropy ops in functions, by function.
    """

    def __init__(self, label, folder, manifest):
        self.id = label
        self.written_by = manifest["written_by"]
        self.kind = manifest["kind"]
        self.path = str(folder / manifest["file"])
        self.checkpoint = manifest["checkpoint"] and str(folder / manifest["checkpoint"])
        if self.kind == "saved_model":
            self.checkpoint = str(folder / manifest["file"] / "variables" / "variables")
        self.tags = manifest["tags"]
        self.loss = manifest["loss"]
        self.parameters = manifest["parameters"]
        self.gradients = manifest["gradients"]
        self.fetches = manifest["fetches"]
        self.op_names = manifest["op_names"]
        self.function_ops = manifest["function_ops"]
        self._feeds = manifest["feeds"]

    def __repr__(self):
        return self.id

    def refusal(self):
        """Return why the TensorFlow at hand can not open the entry; None where it can."""
        is_113 = tensorflow.__version__.startswith("1.13.")
        return (REFUSED_BY_113 if is_113 else REFUSED_AFTER_113).get(self.id)

    def feed_dict(self):
        """Return arrays for the placeholders, by tensor name."""
        return {name: np.array(feed["values"], feed["dtype"]) for name, feed in self._feeds.items()}

    def meta_graph(self):
        """Return the MetaGraphDef; ValueError for a GraphDef."""
        if self.kind == "graph_def":
            raise ValueError(f"{self.id} is a GraphDef only")
        if self.kind == "meta":
            return _parsed(tf.MetaGraphDef(), self.path)
        saved = _parsed(_saved_model_proto(), str(Path(self.path, "saved_model.pb")))
        (found,) = [m for m in saved.meta_graphs if sorted(m.meta_info_def.tags) == self.tags]
        return found

    def load_graph_def(self):
        """Return the GraphDef."""
        if self.kind == "graph_def":
            return _parsed(tf.GraphDef(), self.path)
        return self.meta_graph().graph_def

    @contextlib.contextmanager
    def open_in_session(self, replacement=None):
        """Import the graph and restore its variables.

        Gradients of a graph with functional loops or branches have to be built before anything
        runs in the session: see `import_graph`.

        Args:
            replacement: what to import in its stead: a MetaGraphDef or GraphDef with the same
                variables, or the folder of a SavedModel with the same tags.

        Yields:
            The `tf.Graph` (the default one meanwhile), its `tf.Session`, and what to feed.
        """
        graph = tf.Graph()
        with graph.as_default(), tf.Session(graph=graph) as session:
            if self.kind == "saved_model":
                tf.saved_model.loader.load(session, self.tags, str(replacement or self.path))
            else:
                self.import_graph(replacement)(session)
            yield graph, session, self.feed_dict()

    def import_graph(self, replacement=None):
        """Import into the default graph, and run nothing.

        Args:
            replacement: a MetaGraphDef or GraphDef with the same variables to import instead.

        Returns:
            A function of a session of the graph, which restores the variables.
        """
        if replacement is None:
            replacement = self.load_graph_def() if self.kind == "graph_def" else self.meta_graph()
        if isinstance(replacement, tf.MetaGraphDef):
            tf.train.import_meta_graph(replacement)
        else:
            tf.import_graph_def(replacement, name="")
        return self._restore

    def every_fetch(self, graph):
        """Return the names of all numbers that the file's graph computes the same way in every run.

        Left out is what comes behind v1 branches and loops, random numbers, updates of variables
        and placeholders that nothing feeds.
        """
        nodes = self.load_graph_def().node
        unsteady = {node.name for node in nodes if UNSTEADY.search(node.op)}
        unsteady |= {
            node.name
            for node in nodes
            if node.op == "Placeholder" and node.name + ":0" not in self._feeds
        }
        reads = {
            node.name: {reference.split(":")[0].lstrip("^") for reference in node.input}
            for node in nodes
        }
        known = -1
        while len(unsteady) > known:  # loops need more than one round
            known = len(unsteady)
            for name, sources in reads.items():
                if sources & unsteady:
                    unsteady.add(name)
        found = []
        for node in nodes:
            op = graph.get_operation_by_name(node.name)
            if node.name not in unsteady and graph.is_fetchable(op):
                found += [t.name for t in op.outputs if t.dtype in NUMBERS]
        return found

    def _restore(self, session):
        if self.checkpoint is not None:
            names = self.meta_graph().saver_def
            feed = {names.filename_tensor_name: self.checkpoint}
            session.run(names.restore_op_name, feed)


def entries():
    """Return every entry of the corpus."""
    return [entry for folder in sorted(FILES.iterdir()) for entry in entries_in(folder)]


def entries_in(folder):
    """Return the entries of a folder that `tests.corpus.make` wrote."""
    found = []
    for path in sorted(Path(folder).glob("*/" + MANIFEST)):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found += [
            Entry(f"{Path(folder).name}-{name}", path.parent, entry)
            for name, entry in sorted(manifest.items())
        ]
    return found


def _parsed(proto, path):
    data = Path(path).read_bytes()
    if path.endswith(".pbtxt"):
        text_format.Merge(data.decode("utf-8"), proto)
    else:
        proto.ParseFromString(data)
    return proto


def _saved_model_proto():
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel()
