"""Notebooks: one module of their cells, magics, and a diff of nothing but what changes."""

import json

import pytest

from tf1xent.migrate.contents import migrate_content
from tf1xent.migrate.finding import Options
from tf1xent.migrate.magics import mask, unmask
from tf1xent.migrate.source import Fault

CALL = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)"
NEW_CALL = CALL.replace("tf.", "tf1xent.")
IMPORT = "import tensorflow as tf"
NEW_IMPORT = IMPORT + "\nimport tf1xent"


def code(source, outputs=()):
    """A code cell; its source as Jupyter writes it, unless it is a list already."""
    lines = source if isinstance(source, list) else source.splitlines(keepends=True)
    return {
        "cell_type": "code",
        "execution_count": 3,
        "metadata": {"collapsed": True},
        "outputs": list(outputs),
        "source": lines,
    }


def text(source):
    """A cell of text."""
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def notebook(*cells, **more):
    """A notebook of version 4."""
    metadata = {"kernelspec": {"language": "python", "name": "python3"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 2, **more}


def dumped(content, **form):
    """As Jupyter writes it."""
    form = {"indent": 1, "ensure_ascii": False, **form}
    return (json.dumps(content, **form) + "\n").encode("utf-8")


def migrated(content):
    """The new bytes, and the places and codes of the findings."""
    result = migrate_content(content, True, Options())
    return result.content, [
        (found.cell, found.finding.line, found.finding.column) for found in result.findings
    ]


def sources(content):
    """The sources of all cells."""
    return ["".join(cell["source"]) for cell in json.loads(content.decode("utf-8"))["cells"]]


# Cells and magics --------------------------------------------------------------------------------


def test_an_import_of_one_cell_is_known_in_the_next():
    cells = [text("# Title"), code(IMPORT), code("x = 1\nloss = " + CALL)]
    new, places = migrated(dumped(notebook(*cells)))
    assert sources(new) == ["# Title", NEW_IMPORT, "x = 1\nloss = " + NEW_CALL]
    assert places == [(3, 2, 8)]


def test_a_second_time_changes_nothing():
    new, _ = migrated(dumped(notebook(code(IMPORT), code("loss = " + CALL))))
    again = migrate_content(new, True, Options())
    assert again.content is new and again.findings == ()


# Each is left as it is, and the call behind it is found.
MAGICS = {
    "line": "%matplotlib inline",
    "two": "%load_ext autoreload\n%autoreload 2",
    "with quotes": '!echo "it\'s" `date` (',
    "indented": "if x:\n    %matplotlib inline\n    !ls\nelse:\n    y",
    "continued": "!pip install \\\n    tensorflow \\\n    numpy",
    "captured": "files = !ls *.py\nz, w = %timeit -o x\nself.x[0] = !pwd",
    "help": "tf.nn?\n?tf.nn\ntf.nn.softmax??\n%timeit?",
    "time": "%time x = f(y)",
    "a cell of time": "%%time\nx = 1",
    "a cell of another language": "%%bash\nfor x in *; do echo $x; done",
    "a cell that is written": "\n%%writefile x.py\nimport tensorflow as tf\nloss = (",
    "html": "%%html\n<b>it's</b>\n",
    "no magics": "x = y \\\n  %z\nx = (y\n%z\n)\nx = '''\n%matplotlib\n!ls\n'''\nx = '?'",
    "only one": "%%javascript",
    "empty": "",
    "blank": "\n\n",
    "comment": "# %matplotlib inline ?",
    "semicolon": "plt.plot(x);",
}


@pytest.mark.parametrize("case", sorted(MAGICS))
def test_magics_stay_as_they_are(case):
    before = MAGICS[case]
    last = before + "\n" + "loss = " + CALL
    if before.lstrip().startswith("%%") and case != "a cell of time":
        last = "loss = " + CALL
    new, places = migrated(dumped(notebook(code(before), code(IMPORT), code(before), code(last))))
    assert sources(new) == [before, NEW_IMPORT, before, last.replace(CALL, NEW_CALL)]
    assert places == [(4, last.count("\n") + 1, 8)]


@pytest.mark.parametrize("case", sorted(MAGICS))
def test_masked_cells_are_python_of_as_many_lines(case):
    masked = []
    cell = MAGICS[case]
    python = mask(cell, masked)
    compile(python, "<cell>", "exec")
    assert python.count("\n") == cell.count("\n")
    assert unmask(python, masked) == cell
    assert bool(masked) == (case not in ("no magics", "empty", "blank", "comment", "semicolon"))


def test_a_captured_value_hides_what_the_name_held():
    assert mask("x = 1\nx = !ls", []).startswith("x = 1\nx = get_ipython()")


# JSON --------------------------------------------------------------------------------------------

FORMS = {
    "Jupyter": {},
    "wider": {"indent": 4},
    "one line": {"indent": None},
    "tabs": {"indent": "\t"},
    "escaped": {"ensure_ascii": True},
    "sorted": {"sort_keys": True},
    "tight": {"indent": None, "separators": (",", ":")},
}
OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["0.1\n", "損失 \u2028 é\n"]}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_only_lines_that_change_are_written(form):
    """All other bytes are those of the file: order of keys, outputs, escapes, numbers."""
    other = code("# 損失 é\nx = 'é\\n' + \"\\t\"\n", [OUTPUT])
    last = code("# é\nfor x in y:\n    loss = " + CALL + "  # é\nprint(loss)\n", [OUTPUT])
    whole = notebook(other, text(["é"]), code([IMPORT]), last, z=[1e-07, 1.0, None, {}])
    before = dumped(whole, **FORMS[form])
    whole["cells"][3]["source"][2] = "    loss = " + NEW_CALL + "  # é\n"
    whole["cells"][2]["source"] = [IMPORT + "\n", "import tf1xent"]
    new, places = migrated(before)
    assert new == dumped(whole, **FORMS[form])
    assert places == [(4, 3, 12)]


def test_forms_that_python_does_not_write_stay():
    before = b"""\xef\xbb\xbf{"cells" : [ {"source": ["import tensorflow as tf\\n",
      "\\u0078 = \\"\\/\\"\\n" ,"y = 1e-7"], "cell_type":"code"},
    {"cell_type" : "\\u0063ode", "source" :"loss = CALL\\nx"} ] , "n": 1E+05 }"""
    before = before.replace(b"CALL", CALL.encode())
    want = before.replace(b' tf\\n",\n      "', b' tf\\n",\n      "import tf1xent\\n",\n      "')
    assert migrated(before)[0] == want.replace(CALL.encode(), NEW_CALL.encode())


def test_windows_newlines_and_no_last_one():
    before = dumped(notebook(code(IMPORT), code("loss = " + CALL)))
    before = before.rstrip(b"\n").replace(b"\n", b"\r\n")
    new, _ = migrated(before)
    assert b"\n" not in new.replace(b"\r\n", b"") and not new.endswith(b"\n")
    assert sources(new) == [NEW_IMPORT, "loss = " + NEW_CALL]


def test_version_3():
    cells = [
        {"cell_type": "heading", "level": 1, "source": ["x"]},
        {"cell_type": "code", "input": [IMPORT], "language": "python", "outputs": []},
        {"cell_type": "code", "input": "loss = " + CALL, "language": "python", "outputs": []},
    ]
    content = {"metadata": {}, "nbformat": 3, "worksheets": [{"cells": cells, "metadata": {}}]}
    new, places = migrated(dumped(content))
    cells[1]["input"] = [IMPORT + "\n", "import tf1xent"]
    cells[2]["input"] = "loss = " + NEW_CALL
    assert new == dumped(content)
    assert places == [(3, 1, 8)]


# What is left alone ------------------------------------------------------------------------------


def test_other_languages_are_left_alone():
    content = notebook(code("library(tensorflow) # " + CALL))
    content["metadata"] = {"kernelspec": {"language": "R"}}
    before = dumped(content)
    assert migrate_content(before, True, Options()).content is before


@pytest.mark.parametrize(
    ("content", "message", "place"),
    [
        (b'{"cells": [', "is no JSON: ", (None, 2, None)),
        (b'{"nbformat": 4}', "is no notebook: it has no cells", (None, None, None)),
        (b'{"cells": [{"source": []}]}', "is no notebook: a cell has", (1, None, None)),
        (dumped(notebook(text("x"), code("x = 1\nprint x"))), "is Python 2: a print", (2, 2, 1)),
        (dumped(notebook(code("!ls"), code("x"), code("x\n y"))), "is no Python 3: ", (3, 2, None)),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_named(content, message, place):
    words = b'\n"tensorflow sparse_softmax_cross_entropy_with_logits"'
    content = content.rstrip(b"\n")
    content = content[:-1] + b', "x":' + words + b"}" if content.endswith(b"}") else content + words
    with pytest.raises(Fault) as caught:
        migrate_content(content, True, Options())
    fault = caught.value
    assert fault.message.startswith(message)
    assert (fault.cell, fault.line, fault.column and place[2]) == place
