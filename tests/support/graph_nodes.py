"""Small GraphDefs, written node by node, with and without functions."""

import tensorflow.compat.v1 as tf

MODES = ("logsumexp", "tag", "untag")
SPARSE, DENSE = "SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"


def add(nodes, name, op, inputs=(), **attributes):
    """Adds a NodeDef; its attributes are bytes, integers, DTypes and protos."""
    node = nodes.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, tf.DType):
            node.attr[key].type = value.as_datatype_enum
        elif isinstance(value, bytes):
            node.attr[key].s = value
        elif isinstance(value, int):
            node.attr[key].i = value
        else:
            node.attr[key].CopyFrom(value)
    return node


def fused_node(nodes, name="xent", inputs=("x", "y"), **attributes):
    types = dict({"T": tf.float32, "Tlabels": tf.int64}, **attributes)
    return add(nodes, name, SPARSE, inputs, **types)


def small_graph():
    """x and y, placeholders of unknown shapes; xent of both."""
    graph_def = tf.GraphDef()
    add(graph_def.node, "x", "Placeholder", dtype=tf.float32)
    add(graph_def.node, "y", "Placeholder", dtype=tf.int64)
    fused_node(graph_def.node)
    return graph_def


def add_function(graph_def, name, calls=(), result="xent:loss:0"):
    """A function of (a, b) that holds a cross-entropy op and calls others with the same."""
    function = graph_def.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="a", type=tf.float32.as_datatype_enum)
    function.signature.input_arg.add(name="b", type=tf.int64.as_datatype_enum)
    function.signature.output_arg.add(name="r", type=tf.float32.as_datatype_enum)
    function.ret["r"] = result
    fused_node(function.node_def, inputs=("a", "b"))
    for number, callee in enumerate(calls):
        add(function.node_def, f"call{number}", callee, ["a", "b"])
    return function


def with_function(change=None, **options):
    """A graph whose node `call` calls the function `f`, after `change(f)`."""
    graph_def = small_graph()
    add(graph_def.node, "call", "f", ["x", "y"])
    function = add_function(graph_def, "f", **options)
    if change is not None:
        change(function)
    return graph_def


def calling(**calls):
    """A graph with functions that call these."""

    def build():
        graph_def = small_graph()
        add(graph_def.node, "call", sorted(calls)[0], ["x", "y"])
        for name, callees in calls.items():
            add_function(graph_def, name, callees)
        return graph_def

    return build


def unknown_op(function):
    add(function.node_def, "strange", "NobodyKnowsThis", ["a"])
    add(function.node_def, "reader", "Identity", ["strange:output:0"], T=tf.float32)
