"""The rules of the layout: floors, the seam, sizes, names, docstrings. Read by AST.

Each `*_faults` function returns what is wrong, in words; test_layout.py runs them over the
repository, and over bad snippets that they have to catch.
"""

import ast
import inspect
import re
import sys
from pathlib import Path

from tests import ROOT

# From the ground up; a file imports only from floors below its own (or from its own package).
FLOORS = (
    {"_modes", "_table", "_typing", "errors"},
    {"_tf"},
    {"_probes", "kernels"},
    {"_math"},
    {"_loss", "gradients"},
    {"nn", "second_order"},
    {"losses", "metrics", "curvature"},
    {"diagnostics"},
    {"patching", "graphs", "_registration"},
    {"__init__"},
    {"demo", "doctor", "migrate", "running"},
    {"verification"},
    {"cli"},
    {"__main__"},
)
SEAM = "_tf"
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common"}
VERSION_ATTRIBUTES = {"__version__", "__git_version__", "version", "VERSION", "GIT_VERSION"}
MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 50
# Homes and work folders of somebody's machine, not part of a longer path or of an address.
MACHINE_PATH = re.compile(r"(?<![\w.~*/-])/(?:root|home|Users|work)/\w")


def python_files(folder):
    """Return the Python files below a folder of the checkout."""
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path):
    """Return the dotted name of a file of the package; of a folder's own, with `.__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


PACKAGE = {module_name(path): path for path in python_files("tf1xent")}


def parsed(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def floor(name):
    """Return the floor of `tf1xent.NAME...`; LookupError for one that has none."""
    part = name.split(".")[1]
    for number, names in enumerate(FLOORS):
        if part in names:
            return number
    raise LookupError(f"{name} stands on no floor: give it one in the design and in FLOORS")


def imported_modules(tree, name):
    """Return the absolute names that a module imports, wherever in it: {(line, module)}.

    >>> sorted(imported_modules(ast.parse("from . import nn; import numpy as np"), "tf1xent.cli"))
    [(1, 'numpy'), (1, 'tf1xent.nn')]
    """
    package = name.split(".")[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(parts + ([node.module] if node.module else []))
            for alias in node.names:
                # `from package import module` imports the module.
                inner = f"{base}.{alias.name}"
                is_module = inner in PACKAGE or (base == "tf1xent" and is_floor(alias.name))
                found.add((node.lineno, inner if is_module else base))
    return found


def is_floor(name):
    """Tell whether FLOORS knows the name."""
    return any(name in names for names in FLOORS)


def floor_faults(tree, name):
    """Return the imports of a module of the package that do not go down."""
    faults = []
    own = name.split(".")[1]
    for line, imported in sorted(imported_modules(tree, name)):
        if imported.split(".")[0] in ("tools", "tests"):
            faults.append(f"line {line}: the package imports {imported}")
        if imported.split(".")[0] != "tf1xent":
            continue
        target = "tf1xent.__init__" if imported == "tf1xent" else imported
        if target.split(".")[1] != own and floor(target) >= floor(name):
            faults.append(f"line {line}: {imported} is not below {name}")
    return faults


def seam_faults(tree, strings=True):
    """Return what only the seam may do: private TensorFlow modules, and TensorFlow's version.

    Without `strings` those in code only: `migrate` reads the names in other people's source.
    """
    faults = []
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [dotted(node)]
        elif isinstance(node, (ast.Str if sys.version_info < (3, 8) else ast.Constant)):
            text = node.s if sys.version_info < (3, 8) else node.value
            read = strings and isinstance(text, str) and id(node) not in docstrings
            names = [text] if read else []
        for name in names:
            private = re.match(r"(tensorflow|tensorflow_core|tf)\.python\b", name)
            parts = name.split(".")
            versioned = {"tf", "tensorflow"} & set(parts[:-1]) and parts[-1] in VERSION_ATTRIBUTES
            if private or versioned:
                faults.append(f"line {node.lineno}: {name}")
    return faults


def dotted(node):
    """Return `a.b.c` of an attribute node, or what is left of it where it starts with a call."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts + [node.id if isinstance(node, ast.Name) else ""]))


def functions(tree):
    """Return every function of a module, methods and inner ones too."""
    return [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def size_faults(text):
    """Return the sizes over the limits; a function's docstring does not count."""
    faults = []
    lines = len(text.splitlines())
    if lines > MOST_LINES_OF_A_MODULE:
        faults.append(f"the module has {lines} lines")
    for function in functions(ast.parse(text)):
        # Python 3.7 knows no end_lineno: there the last node that starts has to do.
        nodes = [node for node in ast.walk(function) if hasattr(node, "lineno")]
        ends = [getattr(node, "end_lineno", node.lineno) for node in nodes]
        docstring = ast.get_docstring(function, clean=False)
        length = max(ends) - function.lineno + 1
        length -= len(docstring.splitlines()) if docstring else 0
        if length > MOST_LINES_OF_A_FUNCTION:
            faults.append(f"line {function.lineno}: {function.name} has {length} lines")
    return faults


def syntax_faults(text):
    """Return what Python 3.7 could not read; before 3.10, what the Python at hand could not."""
    try:
        if sys.version_info < (3, 10):
            ast.parse(text)
        else:
            ast.parse(text, feature_version=(3, 7))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    return []


def name_faults(path):
    """Return the parts of a path that say nothing."""
    return [part for part in Path(path).parts if Path(part).stem in VAGUE_NAMES]


def machine_path_faults(text):
    """Return the lines that name a place on somebody's machine."""
    return [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or str(ROOT) + "/" in line
    ]


def docstring_faults(function):
    """Return what the docstring of a public function lacks, as far as a program can tell.

    A function is its syntax tree; or itself, where a call made it: then every section is asked for.
    """
    if isinstance(function, ast.FunctionDef):
        name, docstring = function.name, ast.get_docstring(function) or ""
        names = [argument.arg for argument in function.args.args + function.args.kwonlyargs]
        nodes = list(ast.walk(function))
        returns = any(isinstance(n, ast.Return) and n.value is not None for n in nodes)
        raises = any(isinstance(n, ast.Raise) for n in nodes)
    else:
        name, docstring = function.__name__, inspect.getdoc(function) or ""
        names = list(inspect.signature(function).parameters)
        returns = raises = True
    wanted = {
        "a first line that ends with a full stop": docstring.split("\n")[0].endswith("."),
        "Args:": "Args:" in docstring or not names,
        "Returns:": re.search(r"Returns:|Yields:", docstring) or not returns,
        "Raises:": "Raises:" in docstring or not raises,
        "an example that runs (>>>)": ">>> " in docstring,
    }
    if not isinstance(function, ast.FunctionDef):
        for argument in names:
            wanted[f"the argument {argument}"] = re.search(rf"^  {argument}: ", docstring, re.M)
    if "logits" in names:
        wanted["Derivatives"] = "**Derivatives**" in docstring
        wanted["shapes, [..., num_classes]"] = "num_classes]" in docstring
        wanted["the unit (nats)"] = "nats" in docstring
        wanted["Source:"] = "Source:" in docstring
    return [f"{name} lacks {what}" for what, there in wanted.items() if not there]


def public_functions():
    """Return the functions of the package that `__all__` of their module or of tf1xent names."""
    exported = {
        (base, alias.name)
        for node in ast.walk(parsed(PACKAGE["tf1xent.__init__"]))
        if isinstance(node, ast.ImportFrom)
        for base in [f"tf1xent.{node.module}" if node.level else node.module]
        for alias in node.names
    }
    found = []
    for name, path in PACKAGE.items():
        tree = parsed(path)
        listed = names_in_all(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                if node.name in listed or (name, node.name) in exported:
                    found.append((f"{name}.{node.name}", node))
    return found


def made_functions():
    """Return (module, name) of what `__all__` of the module names and a call in it makes."""
    return [
        (module, name)
        for module, path in PACKAGE.items()
        for name in names_made_by_calls(parsed(path))
    ]


def names_made_by_calls(tree):
    """Return the names of `__all__` that the module binds to what a call returns.

    >>> names_made_by_calls(ast.parse("__all__ = ['f', 'g']; f, h = define(1); g = f"))
    ['f']
    """
    listed = names_in_all(tree)
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for bound in node.targets
        for target in (bound.elts if isinstance(bound, ast.Tuple) else [bound])
    ]
    return [t.id for t in targets if isinstance(t, ast.Name) and t.id in listed]


def names_in_all(tree):
    """Return the names that a module's `__all__` lists."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and dotted_targets(node) == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


def dotted_targets(node):
    """Return the plain names that an assignment binds."""
    return [target.id for target in node.targets if isinstance(target, ast.Name)]
