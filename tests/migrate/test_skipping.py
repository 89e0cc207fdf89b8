"""Comments that keep rules from a place: which lines and which rules they mean."""

import pytest

from tf1xent.migrate import migrate_source
from tf1xent.migrate.contents import migrate_content
from tf1xent.migrate.finding import Options
from tf1xent.migrate.skipping import skipped

CODE, OTHER = "TX101", "TX201"


def lines(text, code=CODE):
    """The lines of a text where a rule is skipped."""
    is_skipped = skipped(text)
    return [line for line in range(1, text.count("\n") + 2) if is_skipped(line, code)]


CASES = {
    "none": ("x = 1\ny = 2\n", []),
    "its own line": ("a\nb  # tf1xent: skip\nc\n", [2]),
    "spaces do not matter": ("a\nb #tf1xent:  skip\nc\n", [2]),
    "more may follow": ("a\nb  # tf1xent: skip, the paper does so\nc\n", [2]),
    "after another comment": ("a\nb  # noqa  # tf1xent: skip\n", [2]),
    "all lines of a statement": ("a\nf(  # tf1xent: skip\n  1,\n  2)\nc\n", [2, 3, 4]),
    "at its end": ("a\nf(\n  1,\n  2)  # tf1xent: skip\nc\n", [2, 3, 4]),
    "in its middle": ("a\nf(\n  # tf1xent: skip\n  2)\nc\n", [2, 3, 4]),
    "by backslashes": ("a\nb = 1 + \\\n  2  # tf1xent: skip\nc\n", [2, 3]),
    "the next statement": ("a\n# tf1xent: skip\nf(\n  2)\nc\n", [3, 4]),
    "over blank lines and comments": ("# tf1xent: skip\n\n# more\nb\nc\n", [4]),
    "its block": ("# tf1xent: skip\nif a:\n  b\n\n  c\nd\n", [2, 3, 4, 5]),
    "its branches": (
        "# tf1xent: skip\nif a:\n  b\nelif c:\n  d\nelse:\n  e\nf\n",
        [2, 3, 4, 5, 6, 7],
    ),
    "its decorators": ("# tf1xent: skip\n@a\n@b\ndef c():\n  d\ndef e():\n  f\n", [2, 3, 4, 5]),
    "in a block": ("if a:\n  # tf1xent: skip\n  b\n  c\nd\n", [3]),
    "the last of a block": ("if a:\n  b\n  # tf1xent: skip\nc\n", [4]),
    "the last of a file": ("a\n# tf1xent: skip\n", []),
    "the head only": ("if a:  # tf1xent: skip\n  b\n", [1]),
    "the file": ("a\n# tf1xent: skip-file\nb\n", [1, 2, 3, 4]),
    "other words": ("a  # tf1xent: skipped\nb  # tf1xent: skip-all\nc  # tf1xent: skip=\n", []),
    "no comment": ("a = '# tf1xent: skip'\nb = '''\n# tf1xent: skip\n'''\nc\n", []),
    "other newlines": ("a\r\nb  # tf1xent: skip\r\nc\r\n", [2]),
    "tabs": ("if a:\n\t# tf1xent: skip\n\tif b:\n\t\tc\n\td\n", [3, 4]),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_lines_that_are_skipped(case):
    text, want = CASES[case]
    assert lines(text) == want


def test_codes_limit_each_kind():
    text = (
        "a  # tf1xent: skip=TX101\n# tf1xent: skip = TX101, TX103\nb\n# tf1xent: skip-file=TX301\n"
    )
    assert lines(text) == [1, 3]
    assert lines(text, "TX103") == [3]
    assert lines(text, "TX301") == [1, 2, 3, 4, 5]
    assert lines(text, OTHER) == []


def test_a_text_that_does_not_end_is_no_error():
    assert lines("a = (  # tf1xent: skip\n  '") == [1, 2]
    assert lines("a = '''  # tf1xent: skip\n") == []


def test_a_skipped_place_is_neither_rewritten_nor_reported():
    call = "tf.nn.sparse_softmax_cross_entropy_with_logits(\n    labels=y, logits=z)"
    text = f"import tensorflow as tf\na = {call}  # tf1xent: skip\n# tf1xent: skip=TX101\n"
    text += f"b = tf.reduce_mean({call})\nc = {call}  # tf1xent: skip=TX999\n"
    result = migrate_source(text)
    assert result.text == text.replace("tf\n", "tf\nimport tf1xent\n", 1).replace(
        f"c = {call}", f"c = {call.replace('tf.', 'tf1xent.')}"
    )
    assert [finding.line for finding in result.findings] == [7]


def test_a_comment_in_a_function_without_a_loss_may_mean_the_file():
    call = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)"
    text = (
        f"import tensorflow as tf\nx = {call}\ndef f():\n    # tf1xent: skip-file\n    return 1\n"
    )
    assert migrate_content(text.encode(), False, Options()).findings == ()
