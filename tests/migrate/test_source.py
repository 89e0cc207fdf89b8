"""Bytes to text and back: encodings, byte order marks, newlines; and what cannot be read."""

import codecs

import pytest

from tf1xent.migrate.contents import migrate_content
from tf1xent.migrate.finding import Options
from tf1xent.migrate.source import Fault, read_source

MARK = codecs.BOM_UTF8
# Sources whose bytes are kept, where nothing changes and around what changes.
CONTENTS = {
    "plain": b"x = 1\n",
    "empty": b"",
    "no last newline": b"x = 1",
    "blank end": b"x = 1\n\n  \n\t",
    "windows": b"x = 1\r\ny = '''\r\n'''\r\n",
    "old mac": b"x = 1\ry = 2\r",
    "mixed newlines": b"x = 1\r\ny = 2\nz = 3\r\n\nw = 4",
    "utf-8": "x = 'Erdős'\n".encode(),
    "mark": MARK + "x = 'Erdős'\n".encode(),
    "mark and cookie": MARK + "# coding: utf-8\nx = 'Erdős'\n".encode(),
    "only a mark": MARK,
    "latin-1": "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"),
    "second line": "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nx = '€'\n".encode(
        "cp1252"
    ),
    "gbk": "# coding: gbk\nx = '损失'\n".encode("gbk"),
    "cookie in a string": "'''\n# coding: latin-1\n'''\nx = 'é'\n".encode(),
    "characters that are no newlines": "x = 1  # \x0b \x1c \x85 \u2028\n\x0c\ny = 2\n".encode(),
    "tabs": b"if x:\n\ty = 1 \t\n",
    "backslashes": b"x = 1 + \\\n  2\n",
}
CALL = b"tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)"


@pytest.mark.parametrize("case", sorted(CONTENTS))
def test_bytes_come_back(case):
    content = CONTENTS[case]
    source = read_source(content)
    assert source.content(source.text) == content
    assert "\ufeff" not in source.text
    assert "\r" not in source.text


@pytest.mark.parametrize("case", sorted(set(CONTENTS) - {"empty", "only a mark"}))
def test_bytes_around_a_change_stay(case):
    """What is before and behind the call, and the newline of the import that is added."""
    content = CONTENTS[case]
    newline = b"\r\n" if b"\r\n" in content else b"\r" if b"\r" in content else b"\n"  # its first
    end = b"" if content.endswith((b"\n", b"\r", b"\t")) else newline
    if case == "blank end":
        content = content[:-1]
    start = content + end + b"import tensorflow as tf" + newline
    for last in (newline, b""):
        migrated = migrate_content(start + b"loss = " + CALL + last, False, Options())
        want = b"import tf1xent" + newline + b"loss = " + CALL.replace(b"tf.", b"tf1xent.") + last
        assert migrated.content == start + want
        (found,) = migrated.findings
        assert (found.cell, found.finding.column) == (None, 8)
        assert found.finding.line == read_source(start).text.count("\n") + 1


def test_a_file_without_a_loss_is_its_own_bytes():
    for content in (b"import tensorflow as tf\nx = (", b"print 'softmax'", b"x = 1"):
        migrated = migrate_content(content, False, Options())
        assert migrated.content is content and migrated.findings == ()


def test_mixed_newlines_stay_with_their_lines():
    source = read_source(b"a\r\nb\nc\rd\r\ne")
    assert source.content("a\nB\nc\nd\ne") == b"a\r\nB\nc\rd\r\ne"
    assert source.content("a\nb\nnew\nc\nd\ne") == b"a\r\nb\nnew\r\nc\rd\r\ne"
    assert source.content("a\nd\ne") == b"a\r\nd\r\ne"
    assert source.content("a\nb\nc\nd\nE\nf\n") == b"a\r\nb\nc\rd\r\nE\r\nf\r\n"


def fault(content, is_notebook=False):
    with pytest.raises(Fault) as caught:
        migrate_content(content, is_notebook, Options())
    found = caught.value
    return found.message, found.line, found.column


def test_what_cannot_be_decoded_is_named():
    assert fault(b"x = 1\n\n'\xe9'") == ("is not encoded in utf-8", 3, None)
    assert fault(MARK + b"x = 1\n\n'\xe9'") == ("is not encoded in utf-8", 3, None)
    for content, said in {
        b"# coding: klingon\n": "cannot be decoded: unknown encoding: klingon",
        b"# coding: rot13\n": "cannot be decoded: 'rot13' is not a text encoding",
        b"# coding: utf-7\nx = '+AGEAYg-'": "is encoded in utf-7, which cannot be written back",
        b"'\xe9'": "cannot be decoded: invalid or missing encoding declaration",
    }.items():
        assert fault(content)[0].startswith(said)


def test_what_does_not_parse_is_named_at_its_place():
    start = b"import tensorflow as tf\nloss = " + CALL + b"\n"
    assert fault(start + b"print loss\n") == ("is Python 2: a print statement", 3, 1)
    assert fault(start + b"try: x\nexcept E, e: y\n") == ("is Python 2: `except E, e`", 4, 1)
    message, line, _ = fault(start + b"\nx = = 1\n")
    assert message.startswith("is no Python 3: ") and line == 4
    assert fault(start + b"x = " + b"-" * 5000 + b"1")[0] == "is nested too deeply to be read"
