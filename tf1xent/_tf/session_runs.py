"""Takes part in the runs of a session: fetches more with them, and sees their feeds and errors.

A `SessionRunHook` sees neither the feeds of other hooks nor a run that raises, and Keras runs no
hooks. So the two methods of the session that all runs go through are shadowed, on the one object:
the structures of fetches and feeds have become lists of tensors and arrays there.
"""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from tf1xent._typing import Session, Tensor

# Runs what was asked for, and more; returns both results.
Run = Callable[[], Tuple[List[Any], List[Any]]]


class Plan(NamedTuple):
    """What is fetched together with a run.

    Attributes:
      more: the tensors.
      fed_as: for each of the last of them, the name of the tensor that has its value in the run.
      asked: what the run fetches, kept so that ids stay its own.
    """

    more: List[Tensor]
    fed_as: List[str]
    asked: Sequence[Any]


class Watcher:
    """What takes part in runs."""

    def plan(
        self, asked: Sequence[Any], fed: Sequence[Any], connected: Mapping[str, Tensor]
    ) -> Optional[Plan]:
        """Returns a `Plan`, or None to let runs of that kind alone.

        Args:
          asked: tensors and ops that are fetched.
          fed: tensors that are fed.
          connected: by name of a fed tensor, the tensor whose value it gets.
        """
        raise NotImplementedError

    def around(self, plan: Plan, feeds: Sequence[Tuple[Any, Any]], run: Run) -> List[Any]:
        """Calls `run`, and returns its first result; `feeds` are (tensor, array)."""
        raise NotImplementedError


def watch_runs(session: Session, watcher: Watcher) -> Callable[[], None]:
    """Lets a watcher take part in a session's runs; returns the function that ends it."""
    shadowed = ("_do_run", "_make_callable_from_options")
    before = {name: session.__dict__.get(name) for name in shadowed}
    session._do_run = _watched_run(session, session._do_run, watcher)
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


def _watched_run(session: Session, inner: Callable[..., Any], watcher: Watcher) -> Any:
    plans: Dict[Any, Optional[Plan]] = {}

    def do_run(handle: Any, targets: Any, fetches: Any, feeds: Any, *options: Any) -> Any:
        if handle is not None:  # a partial run
            return inner(handle, targets, fetches, feeds, *options)
        fed = list(feeds)
        key = (*map(id, targets), None, *map(id, fetches), None, *map(id, map(_dereferenced, fed)))
        if key in plans:
            plan = plans[key]
        else:
            asked = [*targets, *fetches]
            plan = watcher.plan(asked, [_dereferenced(tensor) for tensor in fed], {})
            plans[key] = plan
        if plan is None:
            return inner(handle, targets, fetches, feeds, *options)
        more = plan.more

        def run() -> Tuple[List[Any], List[Any]]:
            values = inner(handle, targets, [*fetches, *more], feeds, *options)
            return values[: len(fetches)], values[len(fetches) :]

        return watcher.around(plan, list(feeds.items()), run)

    return do_run


def _watched_callables(session: Session, inner: Callable[..., Any], watcher: Watcher) -> Any:
    def make_callable(options: Any) -> Any:
        graph = session.graph

        def element(name: str) -> Any:
            return graph.as_graph_element(name)

        asked = [element(name) for name in [*options.fetch, *options.target]]
        fed = [element(name) for name in options.feed]
        connected = {c.to_tensor: element(c.from_tensor) for c in options.tensor_connection}
        plan = watcher.plan(asked, fed, connected)
        if plan is None:
            return inner(options)
        own = type(options)()
        own.CopyFrom(options)
        own.fetch.extend(tensor.name for tensor in plan.more)
        call, number = inner(own), len(options.fetch)

        def watched(*arrays: Any, **keywords: Any) -> Any:
            def run() -> Tuple[List[Any], List[Any]]:
                values = call(*arrays, **keywords)
                return values[:number], values[number:]

            assert plan is not None
            return watcher.around(plan, list(zip(fed, arrays)), run)

        return watched

    return make_callable


def _dereferenced(key: Any) -> Any:
    """Returns the tensor behind what the session has as the key of a feed."""
    # From 2.x on tensors cannot be hashed everywhere, and a reference stands for one.
    return key.deref() if type(key).__name__ == "Reference" else key


def fed_name(key: Any) -> str:
    """Returns the name of the tensor behind the key of a feed."""
    return str(_dereferenced(key).name)


def make_callable_again(function: Any) -> None:
    """Lets a function of Keras' ask the session anew for what runs it, at its next call."""
    function._callable_fn = None
