"""Functions that are left out: what stands for them, and that nothing else changes."""

import pytest

from tf1xent.migrate.contents import migrate_content
from tf1xent.migrate.finding import Options
from tf1xent.migrate.reducing import reduce_module
from tf1xent.migrate.rewriting import migrate_source
from tf1xent.migrate.scanning import statements

LOSS = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)"


def reduced(text, word="loss"):
    return reduce_module(text, list(statements(text)), lambda part: word in part)


# A function, and the line that stands for its body; None if it stays.
BODIES = {
    "nothing outside": ("def f(a):\n    b = a\n    return b\n", "    0"),
    "what it reads": ("def f(a):\n    return g(a, h) + len(a)\n", "    (g, h, len,); 0"),
    "attributes": (
        "def f(self):\n    self.a.b, x = 1, self.c\n    self.d[self.e] = f(self.g)\n"
        "    self.h += 1\n    for self.i in (): del self.j\n"
        "    with x as self.k: self.l: int = 2\n    f().m = 3\n",
        "    (f, int,); self.a.b = self.h = self.i = self.j = self.k = self.l = 0",
    ),
    "functions inside": (
        "def f(a):\n    def g(b):\n        e\n        return a, b\n    return lambda c: (c, d)\n",
        "    (d, e,); 0",
    ),
    "a docstring": ("def f(\n    a\n):\n    '''One.\n\n    Two.\n    '''\n", "    0"),
    "comments and tabs": ("def f():\n\n  # One.\n\tx = 1\n\n\n\t# Two.\n\treturn x\n", "\t0"),
    "with a decorator": ("@a\n@b(\n  1)\ndef f(): # One.\n    c\n", "    (c,); 0"),
    "asynchronous": ("async def f():\n    await g\n", "    (g,); 0"),
    "strings": ("def f():\n    x = '''\nx = 1\n''' \\\n'y'\n    return x\n", "    0"),
    "with the word": ("def f():\n    loss = 1\n", None),
    "on one line": ("def f(): return 1\n", None),
    "globals": ("def f():\n    global a\n    a = 1\n", None),
    "globals inside": ("def f():\n    def g():\n        global a\n        import a\n", None),
    "without an end": ("def f():\n    return 1", None),
}


@pytest.mark.parametrize("case", sorted(BODIES))
def test_a_line_stands_for_a_body(case):
    text, stub = BODIES[case]
    before = "import x\nloss = 1\n"
    after = "" if case == "without an end" else "if loss:\n    pass\n"
    result = reduced(before + text + after)
    if stub is None:
        assert result.text == before + text + after and result.bodies == ()
        return
    (body,) = result.bodies
    assert text.endswith(body)
    assert result.text == before + text[: -len(body)] + f"{stub}#tf1xent-body 0\n" + after
    compile(result.text, "<reduced>", "exec")
    assert result.restored(result.text) == before + text + after


def test_lines_are_those_of_the_module():
    text = "a\ndef f():\n    b\n    c\n    d\nclass C:\n    def g(self):\n        e\n\n"
    text += "    def h(self):\n        loss\n    x = 1\n\n"
    text += "    def i(self):\n        j\n        k\nloss\n"
    result = reduced(text)
    lines, left = text.split("\n"), result.text.split("\n")
    assert len(result.bodies) == 3
    for number, line in enumerate(left, 1):
        if "#tf1xent-body" not in line:
            assert lines[result.line(number) - 1] == line
    assert result.restored(result.text.replace("loss", "new\nloss")) == text.replace(
        "loss", "new\nloss"
    )


def test_what_this_python_cannot_read_is_left_whole():
    text = "def f():\n    a\nx = = loss\n"
    assert reduced(text).text == text


def test_findings_are_the_same_as_without():
    """Reads and attributes of a function that is left out count."""
    text = f"""import tensorflow as tf

def other():
    '''Nothing.'''
    return 1

class Model(object):
    def __init__(self, y):
        self.size = 3
        self.y = y

    def build(self, y, z):
        self.one = {LOSS}
        self.two = tf.reduce_mean(
            {LOSS})

    def size_of(self):
        return self.size

def last(y, z):
    return {LOSS}
"""
    whole = migrate_source(text)
    migrated = migrate_content(text.encode(), False, Options())
    assert migrated.content.decode() == whole.text != text
    assert tuple(found.finding for found in migrated.findings) == whole.findings
    assert [finding.line for finding in whole.findings] == [13, 15, 21]
