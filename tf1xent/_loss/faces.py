"""Signature and docstring of the public functions, from the table of options."""

import functools
import inspect
import re
import textwrap
from typing import Any, Callable, Container, Optional, Sequence, TypeVar, get_type_hints

from tf1xent._loss.options import TABLE, Option

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_options(
    takes: type, before: Optional[str] = None, first: Sequence[str] = ()
) -> Callable[[_Function], _Function]:
    """Decorator: the ``**options`` of a function are those of the class `takes`, and no others.

    Signature and docstring show each option by its name. The docstring's entry ``**options`` gives
    place to theirs. They stand before the keyword `before`, by default last; in the order of the
    table but for those that come `first`.
    """
    types = get_type_hints(takes)
    refused = {name for name, hint in types.items() if hint is type(None)}

    def place(option: Option) -> Any:
        name = option.name
        return name == "implementation", name in refused, name not in first

    taken = sorted((option for option in TABLE if option.name in types), key=place)

    def decorate(function: _Function) -> _Function:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        accepted = {*types, *(p.name for p in parameters)}

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in accepted:
                    raise TypeError(
                        f"{function.__name__}() got an unexpected keyword argument {name!r}"
                    )
            return function(*args, **kwargs)

        position = [p.name for p in parameters].index(before) if before else len(parameters)
        parameters[position:position] = [
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=types[option.name],
            )
            for option in taken
        ]
        shown = own.replace(parameters=parameters)
        setattr(call, "__signature__", shown)  # noqa: B010 - functions have no such field
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__annotations__["return"] = own.return_annotation
        call.__doc__ = _documented(function.__doc__, taken, refused)
        return call  # type: ignore[return-value]

    return decorate


def _documented(
    docstring: Optional[str], taken: Sequence[Option], refused: Container[str]
) -> Optional[str]:
    """The docstring with an entry for each option in the place of that for all."""
    if docstring is None:  # python -OO
        return None

    def entries(match: Any) -> str:
        indent, lines = match.group(1), []
        for option in taken:
            must_be_none = "must be None; it is for integer labels."
            meaning = must_be_none if option.name in refused else option.meaning
            lines += textwrap.wrap(
                f"{option.name}: {meaning}",
                width=100,
                initial_indent=indent,
                subsequent_indent=indent + "  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)

    entry = r"^( *)\*\*options:.*(?:\n\1 +\S.*)*$"
    documented, count = re.subn(entry, entries, docstring, flags=re.MULTILINE)
    assert count == 1, "the docstring has one entry for all options"
    return documented
