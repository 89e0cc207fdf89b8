"""The bytes of a file in, its bytes and findings out."""

import ast
import functools
import re
import warnings
from typing import Callable, FrozenSet, List, NamedTuple, Optional, Set, Tuple

import libcst as cst

from tf1xent.migrate.finding import Finding, Options, Result
from tf1xent.migrate.names import PACKAGES
from tf1xent.migrate.notebooks import Notebook
from tf1xent.migrate.python2 import python2_sign
from tf1xent.migrate.reducing import reduce_module
from tf1xent.migrate.rewriting import migrate_source
from tf1xent.migrate.rules import RULES
from tf1xent.migrate.scanning import Statement, statements
from tf1xent.migrate.skipping import MARK as SKIP_MARK
from tf1xent.migrate.source import Fault, read_source


class Located(NamedTuple):
    """A finding in a file.

    Attributes:
      cell: of a notebook, from 1, among all its cells; None in a module.
      finding: its line is the cell's.
    """

    cell: Optional[int]
    finding: Finding


class Migrated(NamedTuple):
    """A file after a migration.

    Attributes:
      content: the file's bytes; the very same object if nothing changes.
      findings: in the order of the source.
    """

    content: bytes
    findings: Tuple[Located, ...]


def migrate_content(content: bytes, is_notebook: bool, options: Options) -> Migrated:
    """Moves the bytes of a module or a notebook.

    Args:
      content: the file's bytes.
      is_notebook: whether it is JSON.
      options: which rules, and what they rewrite to.

    Raises:
      Fault: the content cannot be read as what it is.
    """
    source = read_source(content)
    if not any(name in source.text for name in PACKAGES) or not _may_have(source.text, options):
        return Migrated(content, ())
    text, findings = (_notebook if is_notebook else _module)(source.text, options)
    return Migrated(content if text is source.text else source.content(text), findings)


def _may_have(text: str, options: Options) -> bool:
    """Whether a rule can find something in a file."""
    return any(
        _search_words(options.codes, besides)(text)
        for besides in sorted({rule.besides for rule in RULES})
        if not besides or any(word in text for word in besides)
    )


def _has_word(options: Options) -> Callable[[str], object]:
    """Returns a test of a function's text: whether a rule can find something in it."""
    return _search_words(options.codes)


@functools.lru_cache(maxsize=None)
def _search_words(
    codes: Optional[FrozenSet[str]], besides: Optional[Tuple[str, ...]] = None
) -> Callable[[str], object]:
    asked = [rule for rule in RULES if codes is None or rule.code in codes]
    asked = [rule for rule in asked if besides is None or rule.besides == besides]
    words = {word for rule in asked for word in rule.words}
    return re.compile("|".join(map(_pattern, sorted(words))) or r"\Z.").search


def _pattern(word: str) -> str:
    """Returns the expression for a word of a rule; NumPy's logarithm is the commonest of all."""
    whole_name = r"(?<!\w)(?<!\bnp\.)(?<!\bnumpy\.)" if word.endswith("(") else ""
    return whole_name + re.escape(word)


def _module(text: str, options: Options) -> Tuple[str, Tuple[Located, ...]]:
    found = list(statements(text))
    sign = python2_sign(found)
    if sign is not None:
        raise Fault(f"is Python 2: {sign.what}", sign.line, sign.column)
    result = _migrate(text, found, options)
    return result.text, tuple(Located(None, finding) for finding in result.findings)


def _notebook(text: str, options: Options) -> Tuple[str, Tuple[Located, ...]]:
    notebook = Notebook(text)
    try:
        result = _migrate(notebook.module, list(statements(notebook.module)), options)
    except Fault as fault:
        if fault.line is None:
            raise
        cell, line = notebook.place(fault.line)
        raise Fault(fault.message, line, fault.column, cell) from fault
    findings = []
    for finding in result.findings:
        cell, line = notebook.place(finding.line)
        findings.append(Located(cell, finding._replace(line=line)))
    same = result.text is notebook.module
    return text if same else notebook.rebuilt(result.text), tuple(findings)


def _migrate(module: str, found: List[Statement], options: Options) -> Result:
    """Asks the rules, without the functions in which they can find nothing."""
    has_word = _has_word(options)
    names = _other_names(found, has_word)

    def concerns(part: str) -> bool:
        return bool(has_word(part)) or SKIP_MARK in part or any(name in part for name in names)

    reduced = reduce_module(module, found, concerns)
    try:
        result = migrate_source(reduced.text, options)
    except RecursionError as error:
        raise Fault("is nested too deeply to be read") from error
    except cst.ParserSyntaxError as error:
        # Python says better than libcst what is wrong, and where.
        line = reduced.line(error.raw_line)
        raise _python_fault(module) or Fault("cannot be read by libcst", line, 1) from error
    findings = tuple(
        finding._replace(line=reduced.line(finding.line)) for finding in result.findings
    )
    if result.text is reduced.text:
        return Result(module, findings)
    new = reduced.restored(result.text)
    if not _python_fault(module):
        fault = _python_fault(new)
        if fault is not None:
            raise Fault(f"would be no Python; please report this: {fault.message}")
    return Result(new, findings)


def _other_names(found: List[Statement], has_word: Callable[[str], object]) -> Set[str]:
    """Returns what statements with a rule's word call a function: as a variable, or by `as`."""
    names: Set[str] = set()
    for statement in found:
        texts = [token.text for token in statement.tokens]
        if ("as" in texts or "=" in texts) and has_word("".join(texts)):
            names.update(name for word, name in zip(texts, texts[1:]) if word == "as")
            names.update(texts[:1] if texts[1:2] == ["="] and "(" not in texts else [])
    return names


def _python_fault(module: str) -> Optional[Fault]:
    """Returns what this Python cannot read of a module, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(module)
        except SyntaxError as error:
            return Fault(f"is no Python 3: {error.msg}", error.lineno, error.offset)
        except (ValueError, RecursionError, MemoryError) as error:
            return Fault(f"is no Python 3: {error}")
    return None
