"""Takes part in the runs of a session: fetches more with them, and sees their feeds and errors.

A `SessionRunHook` sees neither the feeds of other hooks nor a run that raises, and Keras runs no
hooks. So the two methods of the session that all runs go through are shadowed, on the one object:
the structures of fetches and feeds have become lists of tensors and arrays there.
"""

import operator
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from tf1xent._typing import Session, Tensor

Tensors = List[Tensor]
# What was asked for, and what was asked for with it.
Results = Tuple[List[Any], List[Any]]
# Runs what was asked for and some more tensors; returns both results. The tensors are one of the
# lists of the plan.
Run = Callable[[Tensors], Results]


class Watcher:
    """What takes part in runs."""

    def plan(
        self, asked: Sequence[Any], fed: Sequence[Any], connected: Mapping[str, Tensor]
    ) -> Optional[Any]:
        """Returns what `around` shall know of runs of this kind, or None to let them alone.

        Args:
          asked: the tensors that are fetched, in order, then the ops.
          fed: tensors that are fed.
          connected: by name of a fed tensor, the tensor whose value it gets.
        """
        raise NotImplementedError

    def around(self, plan: Any, keys: Sequence[Any], arrays: Sequence[Any], run: Run) -> List[Any]:
        """Calls `run`, and returns its first result; keys and arrays are the feeds."""
        raise NotImplementedError


def watch_runs(session: Session, watcher: Watcher) -> Callable[[], None]:
    """Lets a watcher take part in a session's runs; returns the function that ends it."""
    shadowed = ("_do_run", "_make_callable_from_options")
    before = {name: session.__dict__.get(name) for name in shadowed}
    session._do_run = _watched_run(session._do_run, watcher)
    session._make_callable_from_options = _watched_callables(
        session, session._make_callable_from_options, watcher
    )

    def end() -> None:
        for name, value in before.items():
            if value is None:
                session.__dict__.pop(name, None)
            else:
                setattr(session, name, value)

    return end


def training_function(model: Any) -> Any:
    """Returns the function by which a model of Keras' trains in graph mode, made now, or None."""
    # TF 1.13 has another one for `fit`, made by now.
    if getattr(model, "_fit_function", None) is not None:
        return model._fit_function
    # Where batches come from a generator, Keras makes it with the first of them.
    make = getattr(model, "_make_train_function", None)
    if getattr(model, "train_function", None) is None and make is not None:
        make()
    return getattr(model, "train_function", None)


def make_callable_again(function: Any) -> None:
    """Lets a function of Keras' ask the session anew for what runs it, at its next call."""
    function._callable_fn = None


def _watched_run(inner: Callable[..., Any], watcher: Watcher) -> Any:
    # By the ids of what is asked for and fed: the plan; and both, which keeps these ids theirs.
    plans: Dict[Any, Tuple[Any, Tensors, List[Any]]] = {}
    unwrap: Optional[Callable[[Any], Tensor]] = None

    def do_run(handle: Any, targets: Any, fetches: Any, feeds: Any, *options: Any) -> Any:
        nonlocal unwrap
        if handle is not None:  # a partial run
            return inner(handle, targets, fetches, feeds, *options)
        # 1.15 has tensors wrapped in a dictionary that is slow; 2.x has references to them.
        arrays = getattr(feeds, "_storage", feeds)
        if unwrap is None:
            unwrap = _unwrapping(next(iter(arrays), None))
        fed = map(unwrap or _same, arrays)
        key = (*map(id, targets), None, *map(id, fetches), None, *map(id, fed))
        found = plans.get(key)
        if found is None:
            asked, keys = [*fetches, *targets], list(map(unwrap or _same, arrays))
            found = plans[key] = watcher.plan(asked, keys, {}), keys, asked
        plan, keys, _ = found
        if plan is None:
            return inner(handle, targets, fetches, feeds, *options)

        # Its annotations are computed with each run: names, since List[Tensor] takes a microsecond.
        def run(more: Tensors) -> Results:
            if not more:
                return inner(handle, targets, fetches, feeds, *options), []
            values = inner(handle, targets, fetches + more, feeds, *options)
            return values[: len(fetches)], values[len(fetches) :]

        return watcher.around(plan, keys, list(arrays.values()), run)

    return do_run


def _unwrapping(key: Any) -> Optional[Callable[[Any], Tensor]]:
    """Returns what makes tensors of the keys of feeds, of which one is given; None for None."""
    if key is None:
        return None
    # Both have methods for it too, in Python, which every step would pay for.
    return operator.attrgetter("_wrapped") if hasattr(key, "_wrapped") else _same


def _same(key: Tensor) -> Tensor:
    return key


def _watched_callables(session: Session, inner: Callable[..., Any], watcher: Watcher) -> Any:
    def make_callable(options: Any) -> Any:
        element = session.graph.as_graph_element
        asked = [element(name) for name in [*options.fetch, *options.target]]
        fed = [element(name) for name in options.feed]
        connected = {c.to_tensor: element(c.from_tensor) for c in options.tensor_connection}
        plan = watcher.plan(asked, fed, connected)
        if plan is None:
            return inner(options)
        # By the names of what is fetched too.
        calls: Dict[Tuple[str, ...], Any] = {}
        number = len(options.fetch)

        def watched(*arrays: Any, **keywords: Any) -> Any:
            def run(more: Tensors) -> Results:
                names = tuple(tensor.name for tensor in more)
                if names not in calls:
                    own = type(options)()
                    own.CopyFrom(options)
                    own.fetch.extend(names)
                    calls[names] = inner(own)
                values = calls[names](*arrays, **keywords)
                return values[:number], values[number:]

            return watcher.around(plan, fed, arrays, run)

        return watched

    return make_callable
