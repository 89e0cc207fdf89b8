"""What a program leaves beside its files: all that is needed to run them without its code."""

import json
import os
import re

import numpy as np
import tensorflow.compat.v1 as tf

MANIFEST = "manifest.json"
FUSED = ("SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits")


def ancestors(tensor):
    """Return the names of the ops that a tensor depends on."""
    found, waiting = set(), [tensor.op]
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting.extend(op.control_inputs)
            waiting.extend(source.op for source in op.inputs)
    return found


def read_of(variable, loss):
    """Return the tensor, if any, through which alone the loss reads a variable.

    It can be fed, and the loss differentiated by it. None where the variable goes into a function
    or a loop as it is.
    """
    operation = variable.op
    before = ancestors(loss)
    readers = [op for op in operation.outputs[0].consumers() if op.name in before]
    reads = [op for op in readers if op.type in ("Identity", "ReadVariableOp")]
    return reads[0].outputs[0] if len(reads) == len(readers) == 1 else None


def fused_ops(graph_def):
    """Return the cross-entropy ops: names in the main graph, and by function of the library."""
    functions = {
        function.signature.name: [node.name for node in function.node_def if node.op in FUSED]
        for function in graph_def.library.function
    }
    main = [node.name for node in graph_def.node if node.op in FUSED]
    return main, {name: nodes for name, nodes in functions.items() if nodes}


def described(graph, loss, gradients, feeds, fetches, **place):
    """Return one entry of a manifest.

    Args:
        graph: the `tf.Graph`.
        loss: its scalar loss.
        gradients: pairs of a parameter tensor and its recorded gradient, or None.
        feeds: pairs of a placeholder and its value.
        fetches: other tensors worth reading.
        **place: kind, file, checkpoint and tags.
    """
    before = ancestors(loss)
    unfed = {op.name for op in graph.get_operations() if op.type == "Placeholder"} & before
    unfed -= {placeholder.op.name for placeholder, _ in feeds}
    if unfed:
        raise ValueError(f"the loss needs placeholders that are not fed: {sorted(unfed)}")
    lost = [parameter.name for parameter, _ in gradients if parameter.op.name not in before]
    if lost:
        raise ValueError(f"the loss does not depend on {lost}")
    op_names, function_ops = fused_ops(graph.as_graph_def())
    outside = [
        output.name
        for name in op_names
        for op in [graph.get_operation_by_name(name)]
        if op._get_control_flow_context() is None
        for output in op.outputs
    ]
    return dict(
        place,
        written_by=tf.VERSION,
        feeds={
            placeholder.name: {
                "dtype": placeholder.dtype.base_dtype.name,
                "values": np.asarray(value).tolist(),
            }
            for placeholder, value in feeds
        },
        loss=loss.name,
        parameters=[parameter.name for parameter, _ in gradients],
        gradients={
            parameter.name: None if gradient is None else gradient.name
            for parameter, gradient in gradients
        },
        fetches=sorted({loss.name, *(tensor.name for tensor in fetches), *outside}),
        op_names=op_names,
        function_ops=function_ops,
    )


def write_manifest(folder, entries):
    """Write the entries, by name."""
    text = json.dumps(entries, indent=1, sort_keys=True)
    # A row of numbers on one line.
    text = re.sub(r"\[[^][{}\"]*\]", lambda row: " ".join(row.group().split()), text)
    with open(os.path.join(folder, MANIFEST), "w") as file:
        file.write(text + "\n")


def train(session, step, feeds, times=5):
    """Initialize and take a few steps, so that no weight is what its initializer made it."""
    session.run(tf.global_variables_initializer())
    for _ in range(times):
        session.run(step, dict(feeds))


def save_checkpoint(folder, session):
    """Write model.meta and its checkpoint as a training script does."""
    saver = tf.train.Saver(save_relative_paths=True)
    saver.save(session, os.path.join(folder, "model"))
    return {"kind": "meta", "file": "model.meta", "checkpoint": "model", "tags": None}


def minimized(loss):
    """Add a momentum optimizer; return its step and pairs of a variable's read and gradient."""
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    pairs = optimizer.compute_gradients(loss)
    step = optimizer.apply_gradients(pairs, tf.train.get_or_create_global_step())
    reads = [(read_of(variable, loss), gradient) for gradient, variable in pairs]
    return step, [(read, gradient) for read, gradient in reads if read is not None]


def trained_and_saved(folder, loss, feeds, fetches, trained=None):
    """Train by momentum, then write checkpoint and manifest: what most of the programs end with.

    Where another loss is trained, no gradient of the one to look at is recorded.
    """
    step, gradients = minimized(loss if trained is None else trained)
    if trained is not None:
        reads = [read_of(variable, loss) for variable in tf.trainable_variables()]
        gradients = [(read, None) for read in reads]
    with tf.Session() as session:
        train(session, step, feeds)
        place = save_checkpoint(folder, session)
        name = os.path.basename(folder)
        entry = described(session.graph, loss, gradients, feeds, fetches, **place)
        write_manifest(folder, {name: entry})
