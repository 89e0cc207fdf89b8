"""What is taken for Python 2, and what is not."""

import pytest

from tf1xent.migrate import python2
from tf1xent.migrate.python2 import SIGNS
from tf1xent.migrate.scanning import statements

# By what they have: each line is refused by Python 3.13, or means something else there.
PYTHON_2 = {
    "a print statement": [
        'print "x"',
        "print x",
        "print x, y",
        "print 3",
        "print `x`",
        "print {1: 2}",
        "print ~x",
        "print not x",
        'print >>sys.stderr, "x"',
        "if x: print x",
        "x = 1; print x",
        "else: print 'x' % y",
        "f = lambda: 1; print f",
        "print lambda: 1",
    ],
    "an exec statement": ['exec "x = 1"', "exec code in names"],
    "`except E, e`": [
        "except ValueError, error:",
        "except (ValueError, KeyError), error: pass",
        "except ValueError, TypeError:",
    ],
    "`raise E, message`": ['raise ValueError, "x"', "raise E, e, traceback", "if x: raise E, e"],
    "backticks": ["x = `y`"],
    "the operator `<>`": ["if a <> b: pass"],
    "an octal number such as 0755": ["os.chmod(path, 0755)", "x = [00644]", "x = 0_7"],
    "a long number such as 10L": ["x = 10L", "x = 0xFFl"],
    'a string such as ur""': ['x = ur"\\d"', "x = UR'''\\d'''"],
    "a parameter in brackets": [
        "def f(a, (b, c)): pass",
        "def f((b, c), a): pass",
        "f = map(lambda (a, b): a, x)",
    ],
    "tabs mixed with spaces": [
        "if x:\n        y\n\tz",
        "if x:\n        if y:\n\t    z",
        "def f():\n    if x:\n\ty\n    z",
    ],
}
PYTHON_3 = [
    'print("x")',
    "print",
    "print('a'), b",
    "print (a, b)",
    "print = logger.info",
    "x = print if y else z",
    "print if y else z",
    "print in x, print not in x, print is None, print or x",
    "print.x, print[0], -print",
    "print >= x, print > x",
    "print: int = 3",
    "self.print('x')",
    "exec('x')",
    "exec(code, names)",
    "exec in x",
    "try: pass\nexcept (ValueError, KeyError) as error: pass",
    "try: pass\nexcept ValueError as error: f(a, b)",
    "try: pass\nexcept f(a, b): x = a, b",
    "raise ValueError('a', 'b')",
    "raise f(a, b) from g(a, b)",
    "x = 0, 00, 0o755, 0.755, 0755.5, 08e1, 0x7",
    "x = 1_000_000, 0xff_ff, 017.5j",
    "x = 'print x' \"`y`\" '''\nprint z\nexcept E, e:\n'''",
    "x = r'''\\\\''' + 'it''s' + \"it's\" + 'say \"`\"'",
    "x = ''\nprint('`')",
    'x = """\n0755 <> 10L ` "" \\"""\n""" + rb"0755" + f"{x}`"',
    "# print x\nx = 1  # except E, e: `0755` 10L <>",
    "if x:\n  # \t print x\n\ty\n\tz",
    "if x:\n\ty\n\n        # a comment may stand anywhere\n\tz",
    "x = (1,\n\t2,\n        3)",
    "if x:\n\tif y:\n\t\tz\n\tz\nx",
    "if x:\n    '''\n\ttext\n        text\n'''\n    y",
    "x = {'print': print, 'exec': exec}",
    "def f(a=(1, 2), *, b: (1, 2) = (3,)): pass",
    "f = lambda a=(1, 2): (a, 3)",
    "f = lambda: (1, 2)",
    "x[lambda: 1:2]",
    "print_x = ur = L = l = u = 1",
    "x = u'x' + U'x' + R'x' + bR'x'",
    "from __future__ import print_function",
    "async def f():\n    async with x: await y",
    "x = 1 if y<z>a else 2",
    "@print\ndef f(): pass",
    "x = a \\\n    + b",
    "é = 1",
    "",
]


def python2_sign(text, magics=False):
    """The first sign of Python 2 in a text."""
    return python2.python2_sign(statements(text, magics))


def cases():
    return [(what, text) for what, texts in PYTHON_2.items() for text in texts]


@pytest.mark.parametrize(("what", "text"), cases(), ids=str)
def test_python_2_is_recognised(what, text):
    """Also behind other code."""
    sign = python2_sign(text)
    assert sign is not None and sign.what == what
    before = "import x\n\nclass C(object):\n    '''Text.'''\n    def f(self):\n        return 1\n\n"
    line = sign.line + before.count("\n")
    assert python2_sign(before + text + "\n") == sign._replace(line=line)


def test_every_sign_has_its_cases():
    assert {what for what, _ in SIGNS} == set(PYTHON_2) - {"tabs mixed with spaces"}


@pytest.mark.parametrize("text", PYTHON_3)
def test_python_3_is_no_python_2(text):
    compile(text if "async" not in text else "", "<test>", "exec")  # the case itself is right
    assert python2_sign(text) is None


def test_the_first_sign_is_named_at_its_place():
    text = "x = 1\nif x: y = `x`; print x\nprint x\n"
    assert python2_sign(text) == ("backticks", 2, 11)
    assert python2_sign("print `x`\n") == ("a print statement", 1, 1)
    assert python2_sign("\r\ndef f():\r\n    return (0755)\r\n") == (
        "an octal number such as 0755",
        3,
        13,
    )


def test_other_errors_are_not_python_2():
    for text in ("x = (", "'''", "x = 'y", "def f(:", "x = ?", "\0", "if x\n  y", "  x\n y"):
        assert python2_sign(text) is None


def test_magics_of_a_notebook_are_no_python_2():
    text = "%matplotlib inline\n!echo `date` 0755 it's\nx = !ls `pwd`\n?print x\nprint x\n"
    assert python2_sign(text, magics=True) == ("a print statement", 5, 1)
