"""Source in, source and findings out."""

from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import libcst as cst
from libcst.metadata import (
    MetadataWrapper,
    PositionProvider,
    ScopeProvider,
)

from tf1xent.migrate.context import Context
from tf1xent.migrate.finding import DEFAULTS, Finding, Options, Result
from tf1xent.migrate.rule import Match, Rule, Verdict
from tf1xent.migrate.rules import RULES
from tf1xent.migrate.skipping import MARK, skipped
from tf1xent.migrate.tree import children

__all__ = ["migrate_source"]

_Found = Tuple[cst.CSTNode, Rule, Match]


def migrate_source(text: str, options: Options = DEFAULTS) -> Result:
    """Asks the rules about a module, and rewrites what they may rewrite.

    Args:
      text: the source of a module of Python 3.
      options: which rules, and what they rewrite to.

    Returns:
      A Result. Where nothing is rewritten its text is `text` itself.

    Raises:
      libcst.ParserSyntaxError: the text is no Python 3.

    Example:

    >>> from tf1xent.migrate import migrate_source
    >>> source = '''import tensorflow as tf
    ... loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
    ... '''
    >>> print(migrate_source(source).text)
    import tensorflow as tf
    import tf1xent
    loss = tf1xent.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
    <BLANKLINE>
    """
    rules = [rule for rule in RULES if options.codes is None or rule.code in options.codes]
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    metadata = wrapper.resolve_many([ScopeProvider])
    context = Context(wrapper.module, metadata, options)
    search = _Search(context, rules, _skips(text, wrapper))
    search.look(wrapper.module)
    if not search.found:
        return Result(text, ())
    positions = wrapper.resolve(PositionProvider)
    findings = sorted(
        _finding(positions[node].start, rule, match, options) for node, rule, match in search.found
    )
    new = _rewritten(context, search.replacements)
    return Result(text if new is None else new.code, tuple(findings))


def _skips(text: str, wrapper: MetadataWrapper) -> Callable[[cst.CSTNode, Rule], bool]:
    """Returns a test whether a comment keeps a rule from a node."""
    if MARK not in text:  # positions take as long as the rules
        return lambda node, rule: False
    is_skipped, positions = skipped(text), wrapper.resolve(PositionProvider)
    return lambda node, rule: is_skipped(positions[node].start.line, rule.code)


def _applies(rule: Rule, match: Match, options: Options) -> bool:
    if match.replacement is None or rule.verdict is Verdict.REPORTED:
        return False
    return rule.verdict is Verdict.REWRITTEN or rule.code in options.fix


def _finding(start: Any, rule: Rule, match: Match, options: Options) -> Finding:
    changed = _applies(rule, match, options)
    fixable = rule.verdict is Verdict.FIXED and match.replacement is not None
    return Finding(start.line, start.column + 1, rule.code, match.message, changed, fixable)


class _Search:
    """Asks the rules about each node, from the outside in.

    The first rule that rewrites a node has it: no other rule is asked about it, and within it only
    about what the replacement takes over. So no two rules rewrite one place.
    """

    def __init__(
        self,
        context: Context,
        rules: List[Rule],
        is_skipped: Callable[[cst.CSTNode, Rule], bool],
    ) -> None:
        self.found: List[_Found] = []
        self.replacements: Dict[cst.CSTNode, cst.CSTNode] = {}
        self._context = context
        self._is_skipped = is_skipped
        self._by_type: Dict[type, List[Rule]] = {}
        for rule in rules:
            for node in rule.nodes:
                self._by_type.setdefault(node, []).append(rule)

    def look(self, node: cst.CSTNode) -> None:
        """Asks about a node and what is below it."""
        for rule in self._by_type.get(type(node), ()):
            match = rule.match(node, self._context)
            if match is None or self._is_skipped(node, rule):
                continue
            self.found.append((node, rule, match))
            if _applies(rule, match, self._context.options):
                assert match.replacement is not None
                self.replacements[node] = match.replacement
                for kept in _kept(match.replacement, self._context.parents):
                    if kept is not node:
                        self.look(kept)
                return
        for child in children(node):
            self.look(child)


def _kept(replacement: cst.CSTNode, originals: Any) -> List[cst.CSTNode]:
    """Returns the outermost nodes of the source that a replacement holds."""
    if replacement in originals:
        return [replacement]
    return [kept for child in children(replacement) for kept in _kept(child, originals)]


class _Replace(cst.CSTTransformer):
    def __init__(self, replacements: Dict[cst.CSTNode, cst.CSTNode]) -> None:
        super().__init__()
        self._replacements = replacements
        self._inside: Set[cst.CSTNode] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node not in self._replacements or node in self._inside

    def on_leave(self, original: Any, updated: Any) -> Any:
        new = self._replacements.get(original)
        if new is None or original in self._inside:
            return updated
        self._inside.add(original)
        return new.visit(self)


def _rewritten(
    context: Context, replacements: Dict[cst.CSTNode, cst.CSTNode]
) -> Optional[cst.Module]:
    if not replacements:
        return None
    new = context.module.visit(_Replace(replacements))
    assert isinstance(new, cst.Module)
    used: Set[int] = set()
    for replacement in replacements.values():
        _note_nodes(replacement, used)
    modules = sorted({module for node, module in context.made if id(node) in used})
    missing = [context.missing_import(module) for module in modules]
    return _with_imports(context, new, [statement for statement in missing if statement])


def _note_nodes(node: cst.CSTNode, noted: Set[int]) -> None:
    noted.add(id(node))
    for child in node.children:
        _note_nodes(child, noted)


def _with_imports(context: Context, module: cst.Module, statements: List[str]) -> cst.Module:
    """Puts imports behind the first ones of TensorFlow at the top, else behind the first of all.

    Not behind later ones: what an exported notebook runs in between may need them.
    """
    if not statements:
        return module
    place, first, found = 0, True, False
    for number, statement in enumerate(context.module.body):
        first = first and (_imports(statement) or number == 0 and _is_docstring(statement))
        if found and not _imports(statement):
            break
        found = found or _imports(statement, "tensorflow")
        if _imports(statement, "tensorflow") or first and not found:
            place = number + 1
    body = list(module.body)
    newline = cst.parse_module
    made = [
        newline(statement + "\n", module.config_for_parsing).body[0] for statement in statements
    ]
    if place < len(body) and isinstance(body[place], (cst.FunctionDef, cst.ClassDef)):
        if not body[place].leading_lines:  # the first of all
            lines = [cst.EmptyLine(indent=False)] * 2
            body[place] = body[place].with_changes(leading_lines=lines)
    if place and _is_docstring(body[place - 1]):
        made[0] = made[0].with_changes(leading_lines=[cst.EmptyLine(indent=False)])
    return module.with_changes(body=[*body[:place], *made, *body[place:]])


def _is_docstring(statement: cst.CSTNode) -> bool:
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    first = statement.body[0]
    return isinstance(first, cst.Expr) and isinstance(
        first.value, (cst.SimpleString, cst.ConcatenatedString)
    )


def _imports(statement: cst.CSTNode, package: Optional[str] = None) -> bool:
    """Whether a line imports something, or something of a package."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    for small in statement.body:
        if isinstance(small, cst.ImportFrom):
            modules = [small.module] if small.module is not None and not small.relative else []
        elif isinstance(small, cst.Import):
            modules = [alias.name for alias in small.names]
        else:
            modules = []
        if package is None and isinstance(small, (cst.Import, cst.ImportFrom)):
            return True
        for name in modules:
            while isinstance(name, cst.Attribute):
                name = name.value  # type: ignore[assignment]
            if isinstance(name, cst.Name) and name.value == package:
                return True
    return False
