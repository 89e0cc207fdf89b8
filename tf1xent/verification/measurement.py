"""What was measured of one side, and how it travels from one process to another."""

import json
import os
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

Key = Tuple[str, str]


class Result(NamedTuple):
    """What a side makes of one batch.

    Attributes:
      value: the loss; None where it could not be computed.
      gradients: of the sum of the losses, by kind of input; without those that are None.
      products: of the Hessian and the batch's vectors, in the same way.
      error: what the run raised, of the whole or of a derivative.
    """

    value: Optional[np.ndarray]
    gradients: Dict[str, np.ndarray]
    products: Dict[str, np.ndarray]
    error: Optional[str]


class Measurement:
    """All of one side.

    Attributes:
      name: of the program, as the user gave it.
      versions: of Python and TensorFlow.
      parameters: the kind of each parameter that gets something.
      names: of all parameters.
      is_random: whether two runs of one batch differ.
      results: `Result`s by dtype and name of the batch.
      refusals: by dtype, why the loss could not be built.
      precisions: by dtype, the coarsest floating dtype on the way from the inputs to the loss.
      why_no_gradient, why_no_product: by dtype, why TensorFlow has none, or None.
    """

    def __init__(self, name: str, versions: str, parameters: Dict[str, str]) -> None:
        self.name = name
        self.versions = versions
        self.parameters = parameters
        self.names = list(parameters)
        self.is_random = False
        self.results: Dict[Key, Result] = {}
        self.refusals: Dict[str, str] = {}
        self.precisions: Dict[str, str] = {}
        self.why_no_gradient: Dict[str, Optional[str]] = {}
        self.why_no_product: Dict[str, Optional[str]] = {}

    @property
    def kinds(self) -> Tuple[str, ...]:
        """The kinds of all inputs."""
        return tuple(self.parameters.values())

    def save(self, prefix: str) -> None:
        """Writes PREFIX.npz, then PREFIX.json: who sees the second finds both complete."""
        arrays: Dict[str, np.ndarray] = {}
        results = []
        for number, (key, result) in enumerate(self.results.items()):
            if result.value is not None:
                arrays[f"{number} value"] = result.value
            for kind, array in result.gradients.items():
                arrays[f"{number} gradient {kind}"] = array
            for kind, array in result.products.items():
                arrays[f"{number} product {kind}"] = array
            results.append([*key, result.error])
        np.savez(prefix + ".npz", **arrays)  # type: ignore[arg-type]
        facts = {k: v for k, v in vars(self).items() if k != "results"}
        with open(prefix + ".part", "w", encoding="utf-8") as file:
            json.dump({**facts, "results": results}, file)
        os.replace(prefix + ".part", prefix + ".json")

    @classmethod
    def load(cls, prefix: str) -> "Measurement":
        """Reads what `save` has written."""
        with open(prefix + ".json", encoding="utf-8") as file:
            facts: Dict[str, Any] = json.load(file)
        measured = cls(facts["name"], facts["versions"], facts["parameters"])
        found: Dict[str, Dict[str, np.ndarray]] = {}
        with np.load(prefix + ".npz") as arrays:
            for name in arrays.files:
                number, _, what = name.partition(" ")
                found.setdefault(number, {})[what] = arrays[name]
        for number, (dtype, name, error) in enumerate(facts.pop("results")):
            parts = found.get(str(number), {})
            gradients, products = (
                {w.split(" ")[1]: a for w, a in parts.items() if w.startswith(what + " ")}
                for what in ("gradient", "product")
            )
            measured.results[dtype, name] = Result(parts.get("value"), gradients, products, error)
        vars(measured).update(facts)
        return measured
