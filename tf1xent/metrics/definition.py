"""A metric is defined once; its plain and its streaming function are made from the definition.

A definition is the metric's sums over rows, which add up over batches, and the value that comes
from the sums. The plain function takes the value of the sums of one batch, the streaming function
that of the sums of all batches so far.
"""

import inspect
import numbers
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import Labels, Logits, Name, Tensor, TensorLike
from tf1xent.metrics import documentation
from tf1xent.metrics.rows import as_rows
from tf1xent.metrics.running import stream

Collections = Optional[Sequence[str]]
ValueAndUpdate = Tuple[Tensor, Tensor]

if TYPE_CHECKING:
    from typing_extensions import Protocol, TypedDict, Unpack

    # What a type checker sees of the made functions. Their options are those of the two functions
    # below; a test compares them.
    class PlainOptions(TypedDict, total=False):
        mask: Optional[TensorLike]
        ignore_label: Optional[TensorLike]
        weights: Optional[TensorLike]
        axis: int
        name: Name

    class StreamingOptions(PlainOptions, total=False):
        metrics_collections: Collections
        updates_collections: Collections

    class Plain(Protocol):
        def __call__(
            self, labels: Labels, logits: Logits, **options: Unpack[PlainOptions]
        ) -> Tensor: ...

    class Streaming(Protocol):
        def __call__(
            self, labels: Labels, logits: Logits, **options: Unpack[StreamingOptions]
        ) -> ValueAndUpdate: ...
else:
    Plain = Streaming = Any


def _plain(
    labels: Labels,
    logits: Logits,
    *,
    mask: Optional[TensorLike] = None,
    ignore_label: Optional[TensorLike] = None,
    weights: Optional[TensorLike] = None,
    axis: int = -1,
    name: Name = None,
) -> Tensor:
    """The signature of a plain metric without arguments of its own; not called."""
    raise NotImplementedError


def _streaming() -> inspect.Signature:
    """The signature of a streaming metric: that of a plain one, with the collections."""
    plain = inspect.signature(_plain)
    parameters = list(plain.parameters.values())
    parameters[-1:-1] = [
        parameters[-1].replace(name=name, annotation=Collections)
        for name in ("metrics_collections", "updates_collections")
    ]
    return plain.replace(parameters=parameters, return_annotation=ValueAndUpdate)


def define_metric(
    name: str,
    module: str,
    sums: Callable[..., Sequence[Tensor]],
    value: Callable[..., Tensor],
    documented: documentation.Metric,
) -> Tuple[Any, Any]:
    """Makes the functions `name` and `streaming_name` of a metric; called in the metric's module.

    Args:
      name: of the plain function.
      module: `__name__` of the module.
      sums: called with the `Rows` of a batch, returns the sums, float64. Its further parameters are
        arguments of both functions, Python integers of at least 1.
      value: called with `Rows` and the sums, returns the metric. Of the rows it looks only at what
        is the same in every batch: the dtype, and whether there are weights.
      documented: what the docstrings say of this metric alone.

    Returns:
      The plain and the streaming function.
    """
    own = list(inspect.signature(sums).parameters.values())[1:]

    def value_of_batch(function: str, arguments: Dict[str, Any], own: Mapping[str, int]) -> Tensor:
        with tf.name_scope(arguments.pop("name"), name, list(arguments.values())[:2]):
            rows = as_rows(function, **arguments)
            return value(rows, *sums(rows, **own))

    def pair(
        function: str, arguments: Dict[str, Any], own: Mapping[str, int]
    ) -> Tuple[Tensor, Tensor]:
        return stream(function, name, sums, value, arguments, own)

    made = (
        _function(name, inspect.signature(_plain), own, value_of_batch),
        _function("streaming_" + name, _streaming(), own, pair),
    )
    for function, docstring in zip(made, documentation.docstrings(name, documented)):
        function.__doc__, function.__module__ = docstring, module
    return tuple(_tf.not_converted(function) for function in made)  # type: ignore[return-value]


def _function(
    name: str,
    asked: inspect.Signature,
    own: List[inspect.Parameter],
    compute: Callable[..., Any],
) -> Callable[..., Any]:
    """A function with the parameters of `asked` and its `own`, those of one kind together."""
    parameters = list(asked.parameters.values())
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    positional = parameters[: -len(keyword_only)]
    own_keywords = [p for p in own if p.kind is p.KEYWORD_ONLY]
    own_positional = [p for p in own if p.kind is not p.KEYWORD_ONLY]
    signature = asked.replace(parameters=positional + own_positional + own_keywords + keyword_only)

    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        integers = {p.name: _positive_integer(name, p.name, arguments.pop(p.name)) for p in own}
        return compute(name, arguments, integers)

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _positive_integer(function: str, name: str, value: Any) -> int:
    """`value`, which must be a Python integer of at least 1."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < 1:
        raise ValueError(
            f"{function}: `{name}` must be a Python integer of at least 1, got {value!r}. "
            "It is fixed when the graph is built."
        )
    return int(value)
