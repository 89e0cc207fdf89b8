"""Products that are looked up in a log before they are computed, and checked to be of one model."""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np

from tf1xent._typing import Path, Tensor
from tf1xent.curvature.behind import variables_behind
from tf1xent.curvature.operators.batches import Batches, Request
from tf1xent.curvature.operators.checksums import (
    checksum_of_arrays,
    checksum_of_feeds,
    checksum_of_ops,
)
from tf1xent.curvature.operators.parameters import Parameters, name_of
from tf1xent.curvature.operators.product_log import ProductLog


class LoggedProducts:
    """The products of one operator, in a log that is opened when the first is asked for.

    Made while the graph can still grow. The variables' values are compared at each call, ops and
    data when the log is opened.

    Args:
      owner: the kind of the operator.
      path: of the log.
      functions: the loss, outputs or losses.
      products: the tensors of a product.
      parameters: of the product.
    """

    def __init__(
        self,
        owner: str,
        path: Path,
        functions: Sequence[Tensor],
        products: Sequence[Tensor],
        parameters: Parameters,
    ) -> None:
        self._owner, self._path, self._parameters = owner, path, parameters
        self._functions, self._products = functions, products
        self._variables = variables_behind(products)
        self._log: Optional[ProductLog] = None
        self._values = ""

    def products(
        self,
        columns: np.ndarray,
        blocks: Sequence[slice],
        compute: Callable[[np.ndarray], np.ndarray],
        batches: Batches,
        gradient: Callable[[], Request],
    ) -> np.ndarray:
        """Returns the products with vectors, both as rows.

        Args:
          columns: the vectors, float64 [number, size].
          blocks: how they are computed; what a block gives is written before the next begins.
          compute: returns the products with vectors.
          batches: the data.
          gradient: asks for the gradient of a batch, by which the data of an iterator are known.
        """
        log = self._opened(batches, gradient)
        products = np.zeros(columns.shape)
        for block in blocks:
            missing = []
            for row in range(*block.indices(len(columns))):
                found = log.find(columns[row])
                if found is None:
                    missing.append(row)
                else:
                    products[row] = found
            if missing:
                products[missing] = compute(columns[missing])
            for row in missing:
                log.append(columns[row], products[row])
        return products

    def _opened(self, batches: Batches, gradient: Callable[[], Request]) -> ProductLog:
        fetched = batches.session.run(list(self._variables.values()))
        values = checksum_of_arrays(list(self._variables), fetched)
        if self._log is None:
            identity = {**self._identity(batches, gradient), "values": values}
            self._log = ProductLog(self._owner, self._path, identity, self._parameters.size)
            self._values = values
        if values != self._values:
            raise ValueError(
                f"{self._owner}: variables must not change while `log` is used, got other values "
                "than at the first product. Make a new operator with another log."
            )
        return self._log

    def _identity(self, batches: Batches, gradient: Callable[[], Request]) -> Dict[str, Any]:
        """What the products depend on beside the values of variables."""
        of_data: Mapping[str, str]
        if batches.is_iterator:
            request = gradient()
            batches.add_up([request])
            of_data = {"data": checksum_of_arrays(["gradient"], request.sums), "weights": ""}
        else:
            of_data = checksum_of_feeds(batches)
        weights = batches.weight_tensor
        of_tensor = "" if weights is None else str(weights.name)
        shapes = [list(shape) for shape in self._parameters.shapes]
        return {
            "kind": self._owner,
            "functions": [name_of(tensor) for tensor in self._functions],
            "variables": [list(pair) for pair in zip(self._parameters.names, shapes)],
            "ops": checksum_of_ops(self._products),
            "weights": [batches.reduction, of_tensor, of_data["weights"]],
            "data": of_data["data"],
        }
