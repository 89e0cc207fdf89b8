"""The arguments of `diagnose`: what users may write, checked and made one form."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Graph, Session, Tensor
from tf1xent.diagnostics.program.program import Program, ancestors


def session_of(session: Any, caller: str) -> Session:
    """Returns the session itself, where it is wrapped by a `MonitoredSession`."""
    if not hasattr(session, "run") or not hasattr(session, "graph"):
        raise TypeError(
            f"{caller}: `session` must be a tf.Session, got {type(session).__name__}. "
            "Pass the session in which the model is trained."
        )
    if hasattr(session, "run_step_fn"):  # its own run would run hooks
        return session.run_step_fn(lambda step_context: step_context.session)
    return session


def loss_of(graph: Graph, loss: Any, caller: str) -> Tensor:
    """Returns the tensor that a loss, or its name, means."""
    tensor = element_of(graph, loss, "loss", caller)
    if not tensor.dtype.base_dtype.is_floating:
        raise TypeError(
            f"{caller}: `loss` must be of a floating type, got {tensor.dtype.base_dtype.name}. "
            "Pass the tensor that the optimizer minimises."
        )
    return tensor


def element_of(graph: Graph, value: Any, argument: str, caller: str, ops: bool = False) -> Any:
    """Returns the tensor (or op) of the session's graph that a value or a name means."""
    named = value + ":0" if isinstance(value, str) and ":" not in value and not ops else value
    try:
        return graph.as_graph_element(named, allow_operation=ops)
    except (TypeError, ValueError, KeyError) as error:
        kind = "a tensor or an op" if ops else "a tensor"
        wrong = KeyError if isinstance(error, KeyError) else type(error)
        raise (ValueError if wrong is KeyError else wrong)(
            f"{caller}: `{argument}` must be {kind} of the session's graph, got {value!r}. "
            "Pass one of that graph, or its name."
        ) from None


def feeds_of(graph: Graph, feed_dict: Any, caller: str) -> Dict[str, np.ndarray]:
    """Returns what is fed, by name of a tensor; keys may be names, or composite."""
    if feed_dict is None:
        return {}
    if not isinstance(feed_dict, Mapping):
        raise TypeError(
            f"{caller}: `feed_dict` must be a dict, got {type(feed_dict).__name__}. "
            "Pass that of session.run."
        )
    found: Dict[str, np.ndarray] = {}
    for key, value in feed_dict.items():
        for tensor, part in _parts(graph, key, value, caller):
            found[tensor.name] = _array(tensor, part, caller)
    return found


def variables_of(program: Program, variables: Any, caller: str) -> Dict[str, np.ndarray]:
    """Returns given values of variables by the name of their op."""
    if variables is None:
        return {}
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"{caller}: `variables` must be a dict, got {type(variables).__name__}. "
            "Pass values by variable, or by its name."
        )
    found: Dict[str, np.ndarray] = {}
    for key, value in variables.items():
        name = key.split(":")[0] if isinstance(key, str) else getattr(_op(key), "name", None)
        if name not in program.variables:
            raise ValueError(
                f"{caller}: `variables` must name variables that the training uses, got {key!r}. "
                f"They are {_names(list(program.variables))}."
            )
        array = np.asarray(value)
        want = program.variables[name].shape
        if not want.is_compatible_with(array.shape):
            raise ValueError(
                f"{caller}: `variables` must have the shapes of the variables, got "
                f"{list(array.shape)} for `{name}` of {want}. Pass the values of that variable."
            )
        found[name] = array
    return found


def read_variables(session: Session, program: Program, given: Sequence[str], caller: str) -> Any:
    """Returns the values of variables, by name, without adding an op to the graph.

    Those in `given` may be uninitialised.
    """
    elements = {n: tensor for n, tensor in program.variables.items() if n not in given}
    try:
        return session.run(elements)
    except tf.errors.FailedPreconditionError:
        pass
    found, missing = {}, []
    for name, element in elements.items():
        try:
            found[name] = session.run(element)
        except tf.errors.FailedPreconditionError:
            missing.append(name)
    needed = [name for name in missing if name in program.trainable]
    if needed:
        raise ValueError(
            f"{caller}: `session` must have initialised variables, got {_names(needed)} without a "
            "value. Run their initializer, or pass `variables`."
        )
    return found


def runs_update(program: Program, fetch: Any) -> bool:
    """Tells whether what is fetched runs an update of a variable."""
    updates = {update.op for update in program.updates}
    return any(op in updates for op in ancestors([fetch]))


def data_of_step(program: Program) -> List[Tensor]:
    """Returns the tensors whose values a step must have: sources without a default."""
    return [t for t in program.sources if t.op.type != "PlaceholderWithDefault"]


def read_sources(
    session: Session, program: Program, feeds: Mapping[str, np.ndarray], caller: str
) -> Dict[str, np.ndarray]:
    """Reads one batch of what is not fed from the session's own input pipeline."""
    missing = [tensor for tensor in data_of_step(program) if tensor.name not in feeds]
    unfed = [
        tensor.name for tensor in missing if tensor.op.type in ("Placeholder", "PlaceholderV2")
    ]
    if unfed:
        raise ValueError(
            f"{caller}: `feed_dict` must feed all that the step reads, got nothing for "
            f"{_names(unfed)}. Pass the feed_dict of the step that went wrong."
        )
    if not missing:
        return {}
    try:
        values = session.run([tensor.name for tensor in missing], dict(feeds))
    except tf.errors.OpError as error:
        raise ValueError(
            f"{caller}: `feed_dict` must feed what the input pipeline gives no more, got "
            f"nothing for {_names([t.name for t in missing])}: {_tf.error_line(error)} "
            "Pass a batch."
        ) from error
    return {tensor.name: np.asarray(value) for tensor, value in zip(missing, values)}


def _parts(graph: Graph, key: Any, value: Any, caller: str) -> List[Any]:
    if isinstance(key, tf.SparseTensor):
        parts = [key.indices, key.values, key.dense_shape]
    elif isinstance(key, tf.IndexedSlices):
        parts = [key.values, key.indices] + ([] if key.dense_shape is None else [key.dense_shape])
    elif isinstance(key, (tuple, list)):
        parts = list(key)
    else:
        return [(element_of(graph, key, "feed_dict", caller), value)]
    try:
        values = list(value)
    except TypeError:
        values = []
    if len(values) != len(parts):
        raise ValueError(
            f"{caller}: `feed_dict` must give a composite key as many values as it has parts, "
            f"got {len(values)} for {len(parts)}. Pass them as session.run takes them."
        )
    return [pair for p, v in zip(parts, values) for pair in _parts(graph, p, v, caller)]


def _array(tensor: Tensor, value: Any, caller: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=tensor.dtype.base_dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{caller}: `feed_dict` must give `{tensor.name}` values of "
            f"{tensor.dtype.base_dtype.name}, got {type(value).__name__}: {error}. Convert them."
        ) from None
    if not tensor.shape.is_compatible_with(array.shape):
        raise ValueError(
            f"{caller}: `feed_dict` must give `{tensor.name}` the shape {tensor.shape}, got "
            f"{list(array.shape)}. Pass the feed_dict of session.run."
        )
    # The session cuts fractions off without a word: what was given shows that.
    given = np.asarray(value)
    return given if tensor.dtype.is_integer and given.dtype.kind == "f" else array


def _op(key: Any) -> Optional[Any]:
    try:
        return getattr(key, "deref", lambda: key)().op
    except (AttributeError, RuntimeError):
        return None


def _names(names: List[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(f"`{name}`" for name in names[:4]) + more
