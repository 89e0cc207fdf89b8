"""Measures one side: the loss of each batch, its gradients and Hessian-vector products.

Runs in the process that has TensorFlow, which may be another Python than the one that judges.
"""

import contextlib
import itertools
import platform
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from tf1xent import _tf
from tf1xent._tf import tf
from tf1xent._typing import DType, Tensor
from tf1xent.verification.batches import VECTOR, Batch
from tf1xent.verification.kinds import BATCH, CLASSES, FLOAT, KINDS, ROWS, TIME
from tf1xent.verification.measurement import Measurement, Result
from tf1xent.verification.programs import Parameter, Program

# One thread, no GPU: the same sums in the same order wherever both sides run.
_CONFIG = dict(
    device_count={"GPU": 0}, intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
)
VALUE, GRADIENT, PRODUCT = "value", "gradient", "product"


class _Sizes(NamedTuple):
    """The sizes of a batch: B, T (None where rows are [B]) and C; a static graph knows B."""

    batch: Optional[int]
    time: Optional[int]
    classes: int

    def shape(self, parameter: Parameter) -> Any:
        """Returns the shape of what is fed for a parameter."""
        rows = (BATCH,) if self.time is None else (BATCH, TIME)
        own = KINDS[parameter.kind].shape or ()
        letters = parameter.shape or sum(((rows if s == ROWS else (CLASSES,)) for s in own), ())
        known = {BATCH: self.batch, TIME: self.time, CLASSES: self.classes}
        return [known[letter] if letter in known else int(letter) for letter in letters]


class _Graph:
    """A loss with its derivatives in a graph and a session of its own."""

    def __init__(self, program: Program, dtype: str, sizes: _Sizes, dtypes: Sequence[DType]):
        self._sizes = sizes
        self.why_no_gradient: Optional[str] = None
        self.why_no_product: Optional[str] = None
        self.graph = tf.Graph()
        self.vectors: Dict[str, Tensor] = {}
        with self.graph.as_default():
            tf.set_random_seed(0)
            fed = [p for p in program.parameters if KINDS[p.kind].shape is not None]
            shapes = {p.name: sizes.shape(p) for p in fed}
            self.loss, self.inputs = program.build(
                dtype, dict(zip((p.name for p in fed), dtypes)), shapes
            )
            self.xs = {p.kind: self.inputs[p.name] for p in fed if KINDS[p.kind].differentiated}
            self.parameters = fed
            self.precision = _coarsest(self.loss, list(self.xs.values()))
            self.fetches = {VALUE: {"": self.loss}, GRADIENT: {}, PRODUCT: {}}
            self._differentiate()
        self.session = tf.Session(graph=self.graph, config=tf.ConfigProto(**_CONFIG))
        program.initialize(self.session)

    def _differentiate(self) -> None:
        kinds, xs = list(self.xs), list(self.xs.values())
        try:
            found = dict(zip(kinds, tf.gradients(self.loss, xs)))
        except (LookupError, TypeError, ValueError, NotImplementedError) as error:
            self.why_no_gradient = self.why_no_product = described(error)
            return
        gradients = {k: tf.convert_to_tensor(g) for k, g in found.items() if g is not None}
        self.fetches[GRADIENT] = gradients
        if not gradients:
            return
        try:
            for kind, gradient in gradients.items():
                self.vectors[kind] = tf.placeholder(gradient.dtype, self.xs[kind].shape)
            along = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(gradient * self.vectors[kind], self.loss.dtype))
                    for kind, gradient in gradients.items()
                ]
            )
            products = dict(zip(kinds, tf.gradients(along, xs)))
        except (LookupError, TypeError, ValueError, NotImplementedError) as error:
            self.why_no_product = described(error)
            return
        self.fetches[PRODUCT] = {
            k: tf.convert_to_tensor(p) for k, p in products.items() if p is not None
        }

    def run(self, batch: Batch) -> Result:
        """Feeds a batch; where the products, or the gradients, fail, without them."""
        sizes = self._sizes._replace(batch=batch.size)
        feed = {
            self.inputs[p.name]: batch.arrays[p.kind]
            .reshape(sizes.shape(p))
            .astype(self.inputs[p.name].dtype.as_numpy_dtype)
            for p in self.parameters
        }
        for kind, vector in self.vectors.items():
            parameter = next(p for p in self.parameters if p.kind == kind)
            feed[vector] = batch.arrays[VECTOR + kind].reshape(sizes.shape(parameter))
        failure = None
        for left_out in ((), (PRODUCT,), (PRODUCT, GRADIENT)):
            fetches = {k: {} if k in left_out else f for k, f in self.fetches.items()}
            if left_out and fetches == self.fetches:
                continue
            try:
                got = self.session.run(fetches, feed)
            except (tf.errors.OpError, ValueError, TypeError) as error:
                failure = failure or described(error)
                continue
            return Result(got[VALUE][""], got[GRADIENT], got[PRODUCT], failure)
        return Result(None, {}, {}, failure)


def described(error: BaseException) -> str:
    """Returns the type of an error and what it says, in a line."""
    return f"{type(error).__name__}: {_tf.error_line(error)}"


def _coarsest(loss: Tensor, xs: Sequence[Tensor]) -> str:
    """Returns the coarsest floating dtype on the way from some tensors to the loss."""
    needed, waiting = set(), [loss.op]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    names = {x.name for x in xs}
    coarsest = min((x.dtype.base_dtype for x in xs), key=_digits, default=loss.dtype.base_dtype)
    for op in loss.graph.get_operations():
        if op in needed and any(tensor.name in names for tensor in op.inputs):
            for tensor in op.outputs:
                if tensor.dtype.base_dtype.is_floating:
                    names.add(tensor.name)
                    coarsest = min(coarsest, tensor.dtype.base_dtype, key=_digits)
    return coarsest.name


def _digits(dtype: DType) -> int:
    return {"bfloat16": 8, "float16": 11, "float32": 24}.get(dtype.name, 53)


class _Side:
    """The graphs of a program in a dtype: one for all sizes, or where that fails one for each."""

    def __init__(self, program: Program, dtype: str, time: Optional[int], classes: int) -> None:
        self._program, self._dtype = program, dtype
        self._sizes = _Sizes(None, time, classes)
        self._static: Dict[int, _Graph] = {}
        self._any: Optional[_Graph] = None
        self._dtypes: Tuple[DType, ...] = ()

    def build(self, size: int) -> _Graph:
        """Builds a graph, for one size only if there is none for all; raises the first error."""
        fed = [p for p in self._program.parameters if KINDS[p.kind].shape is not None]
        choices = [
            (p.dtype,)
            if p.dtype
            else [self._dtype if d == FLOAT else d for d in KINDS[p.kind].dtypes]
            for p in fed
        ]
        first: Optional[Exception] = None
        for batch in (None, size):
            for dtypes in itertools.product(*choices):
                try:
                    sizes = self._sizes._replace(batch=batch)
                    graph = _Graph(self._program, self._dtype, sizes, dtypes)
                except Exception as error:  # whatever the user's function raises
                    first = first or error
                    continue
                self._dtypes = dtypes
                if batch is None:
                    self._any = graph
                else:
                    self._static[size] = graph
                return graph
        assert first is not None
        raise first

    def run(self, batch: Batch) -> Result:
        """Measures a batch."""
        graph = self._any or self._static.get(batch.size)
        if graph is None:
            try:
                sizes = self._sizes._replace(batch=batch.size)
                graph = _Graph(self._program, self._dtype, sizes, self._dtypes)
            except Exception as error:  # whatever the user's function raises
                return Result(None, {}, {}, described(error))
            self._static[batch.size] = graph
        return graph.run(batch)

    def close(self) -> None:
        """Closes the sessions."""
        for graph in [self._any, *self._static.values()]:
            if graph is not None:
                graph.session.close()


@contextlib.contextmanager
def _closing(side: _Side) -> Iterator[_Side]:
    try:
        yield side
    finally:
        side.close()


def measure(program: Program, batches: Sequence[Batch], time_steps: Optional[int]) -> Measurement:
    """Measures a program on batches, in this process.

    Args:
      program: a `programs.Program`.
      batches: of `batches.make_batches`.
      time_steps: T, where rows are [B, T].

    Returns:
      A `Measurement`. What the program raises is in it.
    """
    measured = Measurement(
        program.name,
        f"Python {platform.python_version()}, TensorFlow {_tf.version()}",
        {p.name: p.kind for p in program.parameters},
    )
    measured.names = program.names
    for dtype in sorted({batch.dtype for batch in batches}, reverse=True):
        chosen = [batch for batch in batches if batch.dtype == dtype]
        classes = chosen[0].arrays["logits"].shape[1]
        with _closing(_Side(program, dtype, time_steps, classes)) as side:
            try:
                graph = side.build(chosen[0].size)
            except Exception as error:  # whatever the user's function raises
                measured.refusals[dtype] = program.located(error)
                continue
            measured.precisions[dtype] = graph.precision
            measured.why_no_gradient[dtype] = graph.why_no_gradient
            measured.why_no_product[dtype] = graph.why_no_product
            for batch in chosen:
                measured.results[batch.key] = side.run(batch)
            again, first = side.run(chosen[0]).value, measured.results[chosen[0].key].value
            if first is not None and again is not None:
                same = np.array_equal(np.nan_to_num(first), np.nan_to_num(again))
                measured.is_random = measured.is_random or not same
    return measured
