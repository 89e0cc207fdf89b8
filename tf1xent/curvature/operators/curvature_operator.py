"""What all operators share: products built once, and passes over the data that add them up."""

import copy
import numbers
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from scipy.sparse.linalg import LinearOperator

from tf1xent._tf import tf
from tf1xent._typing import Path, Session, Tensor
from tf1xent.curvature.behind import changed_variables
from tf1xent.curvature.operators.batch_norm import (
    BATCH,
    FROZEN,
    batch_norm_derivatives,
    batch_norm_statistics,
)
from tf1xent.curvature.operators.batches import Batches, Request
from tf1xent.curvature.operators.logged_products import LoggedProducts
from tf1xent.curvature.operators.parameters import Parameters, name_of
from tf1xent.curvature.products.differentiation import as_list, dense, graph_function
from tf1xent.curvature.workers.pool import pool_of

# Called with the variables; what it returns builds the product with one vector, which is given, as
# the product is, by one tensor for each variable.
MakeProduct = Callable[[List[Tensor]], Callable[[List[Tensor]], List[Tensor]]]


class CurvatureOperator(LinearOperator):
    """A symmetric matrix of a model over data, as a SciPy operator of float64.

    Its subclasses are `HessianOperator`, `GGNOperator`, `FisherOperator` and
    `EmpiricalFisherOperator`. A product is one pass over all batches, in their order::

        A v = sum_b w_b A_b v / sum_b w_b + damping v      reduction "mean"
        A v = sum_b A_b v + damping v                      reduction "sum"

    where A_b is the matrix of batch b. Sums are float64 and their order is fixed, so the same data
    give the same bits. A batch of weight 0 contributes nothing, also if its product is NaN. All
    that SciPy does with an operator works: ``@``, sums, ``scipy.sparse.linalg.eigsh`` and ``cg``.

    All ops are added to the graph when the operator is made, and none by a product; so it works in
    a graph that is finalized later. Each vector of a block needs about the memory of one gradient
    of a batch while it is computed, on top of the forward pass.

    With `workers` the batches are computed by other processes and machines, each a single-task
    `tf.train.Server` (``tf1xent worker --port N``). The client reads the feeds, hands batches to
    whoever is idle, and adds what comes back in float64 and in the order of the batches: the bits
    do not depend on which worker did what, and are those without workers, given machines of the
    same kind with as many threads. No more than two batches for each worker are read beyond the
    last one that was added. A worker gets the ops that a product needs and once, in a session of
    its own, the values of the variables; each result comes with a checksum of the values that it
    was computed from. One that ends, is silent for longer than `worker_timeout`, or has lost its
    state is left, with a warning; its batch goes to another, and it is tried again and taken back.
    A loss that draws random numbers draws them on the workers.

    Args:
      session: a `tf.Session`, or what has its `graph` and `run`. Variables count with their values
        at the time of each product.
      xs: a variable, a tensor, or a list of them; see `Parameters` for their order.
      feeds: the data. An iterable of feed dicts that can be read more than once, such as a list; a
        function that returns an iterable; an initializable iterator of tf.data, whose initializer
        is run before each pass; or None for one run without feeds.
      batch_weights: w_b of each batch. None: the leading dimension that all arrays of a feed share.
        A sequence, one entry for each batch; a function of the feed; or a scalar tensor, which is
        fetched in the same run as the product. Pass what the loss of a batch divides by, such as
        the number of valid tokens. A tf.data iterator needs a tensor.
      reduction: "mean" or "sum"; a sum takes no weights.
      damping: added to the diagonal; the attribute may be set at any time.
      block_size: how many vectors one session.run computes; more than one only helps ``A @ X``.
      log: the path of a file that keeps each product, so that the same program goes on where it was
        killed; see `ProductLog`.
      batch_norm: "frozen": derivatives hold the mean and variance of a batch constant; "batch":
        they are differentiated. Moving averages are never updated.
      progress: whether to show a bar; None shows it for long passes if stderr is a terminal.
      workers: None, for the session itself; or a list of targets, "grpc://host:port" or
        "host:port"; or a `tf.train.ClusterSpec` or a dict, with the job "worker" or one job, whose
        tasks are taken each by itself. The session then only gives the values of the variables.
        Ops run on the kind of device that they are placed on ("/gpu:0"), or on a CPU where a worker
        has none; jobs and tasks of the program's own cluster do not count.
      worker_timeout: seconds that one call of a worker may take, also its first, which sends the
        graph; give more than a batch needs on the slowest.

    Attributes:
      parameters: the map between the flat vector and the variables.
      damping: the number added to the diagonal.
      num_products: how many products with a vector have been computed; replayed ones do not count.
      batch_norm_statistics: by the name of each batch normalization's op, which mean and variance
        it uses: "batch, held constant", "batch", "moving averages", or "decided by TENSOR".

    Raises:
      TypeError, ValueError: an argument is of a wrong type, or its value out of range; with
        `workers` also `feeds` that are an iterator of tf.data, and, from the first product, ops
        that need more of the session than its variables, such as a table that is not fed.
      RuntimeError: the graph is finalized.
      tf.errors.OpError: from a product, of the type of the run of a batch, which it names.
      tf.errors.UnavailableError: from a product, no worker is left; it has what each said last.
      OSError: from a product, the log cannot be written.
    """

    damping: float

    def __init__(
        self,
        session: Session,
        xs: Any,
        feeds: Any,
        make_product: MakeProduct,
        differentiated: Sequence[Tensor],
        *,
        batch_weights: Any = None,
        reduction: str = "mean",
        damping: float = 0.0,
        block_size: int = 1,
        log: Optional[Path] = None,
        batch_norm: str = "frozen",
        progress: Optional[bool] = None,
        workers: Any = None,
        worker_timeout: float = 600.0,
    ) -> None:
        self._graph = _graph_of(self._name, session)
        pool = pool_of(self._name, session, workers, worker_timeout)
        self._data = Batches(self._name, session, feeds, batch_weights, reduction, progress, pool)
        self.damping = damping
        self._make_product, self._differentiated = make_product, list(differentiated)
        self._block_size = _positive(self._name, block_size)
        self._batch_norm = _mode(self._name, batch_norm)
        self._set_up(Parameters(xs), log)

    def _set_up(self, parameters: Parameters, log: Optional[Path]) -> None:
        """Builds the ops for these variables; called once, before any product."""
        super().__init__(np.dtype(np.float64), (parameters.size, parameters.size))
        self.parameters, self.num_products = parameters, 0
        self._check_graph()
        self.batch_norm_statistics = batch_norm_statistics(self._differentiated, self._batch_norm)
        with self._graph.as_default(), graph_function(self._name):
            with batch_norm_derivatives(self._differentiated, self._batch_norm):
                self._build()
                self._logged = None if log is None else self._log(log)
        self._check_changes_nothing()

    def _build(self) -> None:
        """Builds all that is computed."""
        xs = self.parameters.tensors
        found = tf.gradients(self._differentiated, xs)
        self._check_connected(found)
        self._gradient = dense(found, xs)
        self._vectors = [
            [tf.placeholder(x.dtype.base_dtype, x.shape) for x in xs]
            for _ in range(self._block_size)
        ]
        product = self._make_product(xs)
        self._products = [product(vectors) for vectors in self._vectors]
        self._data.include([*self._gradient, *sum(self._products, [])])

    @property
    def _name(self) -> str:
        return type(self).__name__

    # --- Products ---------------------------------------------------------------------------------

    def __repr__(self) -> str:
        used = sorted(set(self.batch_norm_statistics.values()))
        statistics = f", batch normalization: {', '.join(used)}" if used else ""
        size, number = self.parameters.size, len(self.parameters.names)
        return f"<{self._name} of {size} parameters in {number} variables{statistics}>"

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        columns = self._columns(X)
        if self._logged is None:
            products = self._computed(columns)
        else:
            products = self._logged.products(
                columns, self._blocks(len(columns)), self._computed, self._data, self._of_gradient
            )
        if self.damping:
            products += self.damping * columns
        return products.T

    def _computed(self, columns: np.ndarray) -> np.ndarray:
        """The products with vectors, both as rows, by one pass over the data."""
        products = np.zeros(columns.shape)
        blocks = self._blocks(len(columns))
        self._data.add_up([self._request(columns[block], products[block]) for block in blocks])
        self.num_products += len(columns)
        return products

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, [-1, 1]))

    def _adjoint(self) -> "CurvatureOperator":
        return self

    def _transpose(self) -> "CurvatureOperator":
        return self

    def to_dense(self) -> np.ndarray:
        """Returns the matrix, float64 [size, size], by `size` products."""
        return self.matmat(np.eye(self.parameters.size))

    def submatrix(self, selection: Any, *, log: Optional[Path] = None) -> "CurvatureOperator":
        """Returns the operator of the rows and columns of some of the variables.

        It reads the same data and has the same options; its ops are built here.

        Args:
          selection: the name of a layer or of a variable, a variable or tensor, or a list of them.
          log: the path of the product log of the submatrix.

        Raises:
          ValueError: a name or variable is not one of this operator's.
          RuntimeError: the graph is finalized.
        """
        part = copy.copy(self)
        part._set_up(Parameters(self.parameters.select(selection)), log)
        return part

    def _columns(self, X: np.ndarray) -> np.ndarray:
        """The vectors as rows."""
        if np.iscomplexobj(X):
            raise TypeError(
                f"{self._name}: a vector must be real, got dtype {X.dtype}. "
                "Multiply with its real and its imaginary part."
            )
        columns = np.ascontiguousarray(np.asarray(X).T, dtype=np.float64)
        if not np.isfinite(columns).all():
            raise ValueError(
                f"{self._name}: a vector must be finite, got NaN or Inf. Look where it is made."
            )
        return columns

    def _blocks(self, number: int) -> List[slice]:
        size = self._block_size
        return [slice(begin, min(begin + size, number)) for begin in range(0, number, size)]

    def _request(self, vectors: np.ndarray, products: np.ndarray) -> Request:
        def feed() -> Dict[Any, Any]:
            fed: Dict[Any, Any] = {}
            for tensors, vector in zip(self._vectors, vectors):
                fed.update(zip(tensors, self.parameters.unflatten(vector)))
            return fed

        return self._flat_request(self._products[: len(vectors)], products, feed)

    def _of_gradient(self) -> Request:
        """Asks for the gradient of what is differentiated."""
        return self._flat_request([self._gradient], np.zeros([1, self.parameters.size]))

    def _log(self, path: Path) -> LoggedProducts:
        functions, products = self._differentiated, self._products[0]
        return LoggedProducts(self._name, path, functions, products, self.parameters)

    def _flat_request(
        self,
        fetches: Sequence[Sequence[Tensor]],
        sums: np.ndarray,
        feed: Callable[[], Dict[Any, Any]] = dict,
    ) -> Request:
        slices = list(self.parameters.slices.values())
        return Request(fetches, self.parameters.names, slices, list(sums), feed)

    # --- Checks -----------------------------------------------------------------------------------

    def _check_graph(self) -> None:
        if self._graph.finalized:
            raise RuntimeError(
                f"{self._name}: the session's graph must not be finalized, since a new operator "
                "adds ops. Make it and its submatrices before tf.Graph.finalize(), and before a "
                "MonitoredSession."
            )
        for tensor in [*self._differentiated, *self.parameters.tensors]:
            if tensor.graph is not self._graph:
                raise ValueError(
                    f"{self._name}: everything must be in the session's graph, got "
                    f"{name_of(tensor)} of another one. Use tf.Session(graph=its graph)."
                )

    def _check_connected(self, found: Sequence[Any]) -> None:
        missing = [n for n, gradient in zip(self.parameters.names, found) if gradient is None]
        if missing:
            names = ", ".join(name_of(tensor) for tensor in self._differentiated)
            raise ValueError(
                f"{self._name}: `xs` must be connected to {names} by derivatives, got "
                f"{', '.join(missing)}, which are not. Leave them out."
            )

    def _check_changes_nothing(self) -> None:
        fetched = [tensor for product in self._products for tensor in product]
        changed = changed_variables(fetched + self._differentiated)
        if changed:
            ops = ", ".join(f"{name} ({op_type})" for name, op_type in sorted(changed.items()))
            names = ", ".join(name_of(tensor) for tensor in self._differentiated)
            raise ValueError(
                f"{self._name}: {names} must not change variables when computed, but runs {ops}. "
                "Take the tensor from before tf.control_dependencies; let batch normalization put "
                "its updates in a collection."
            )


def float_outputs(function: str, name: str, outputs: Any) -> List[Tensor]:
    """Returns outputs of a model as a list; TypeError unless each is a float tensor."""
    found = as_list(outputs)
    for output in found:
        if not hasattr(output, "dtype") or not output.dtype.base_dtype.is_floating:
            raise TypeError(
                f"{function}: `{name}` must be float tensors, got "
                f"{getattr(output, 'dtype', type(output).__name__)}. Pass logits."
            )
    return found


def _positive(function: str, block_size: Any) -> int:
    is_integer = isinstance(block_size, numbers.Integral) and not isinstance(block_size, bool)
    if not is_integer or block_size < 1:
        raise ValueError(
            f"{function}: `block_size` must be an integer of at least 1, got {block_size!r}. "
            "Each vector of a block needs the memory of a gradient."
        )
    return int(block_size)


def _mode(function: str, batch_norm: str) -> str:
    if batch_norm not in (FROZEN, BATCH):
        raise ValueError(
            f"{function}: `batch_norm` must be 'frozen' or 'batch', got {batch_norm!r}. "
            "'frozen' holds the statistics of a batch constant."
        )
    return batch_norm


def _graph_of(function: str, session: Any) -> Any:
    if not hasattr(session, "graph") or not hasattr(session, "run"):
        raise TypeError(
            f"{function}: `session` must be a tf.Session, got {type(session).__name__}. "
            "Pass the session that holds the variables' values."
        )
    return session.graph
