"""Source before and after: the text, and by numbers that both compute the same.

`pair_files` says how the cases are written. The first half needs no TensorFlow.
"""

import re

import pytest

from tests.migrate.pair_files import PROOFS, read_pairs
from tf1xent.migrate import Options, migrate_source
from tf1xent.migrate.contents import migrate_content
from tf1xent.migrate.rules import RULES

PAIRS = read_pairs()
CHANGED = [pair for pair in PAIRS if pair.after != pair.before]
UNTOUCHED = [pair for pair in PAIRS if pair.after == pair.before]
CODES = {rule.code for rule in RULES}


def by_name(pairs):
    """A parameter `pair` for pytest."""
    return pytest.mark.parametrize("pair", pairs, ids=[pair.name for pair in pairs])


def options_of(pair):
    """What the header asks of the migration."""
    fix = pair.option("fix")
    return Options(
        target=pair.option("to", "tf1xent"), fix=frozenset(fix.split(",") if fix else ())
    )


def test_the_headers_make_sense():
    names = [pair.name for pair in PAIRS]
    assert len(set(names)) == len(names)
    for pair in PAIRS:
        assert pair.proof in PROOFS, pair.name
        assert set(pair.codes) <= CODES, pair.name
        assert pair.option("to", "tf1xent") in ("tf1xent", "stock"), pair.name
        assert not (pair.proof == "other" and pair.after == pair.before), pair.name
        if pair.proof in ("equal", "other", "fails") and pair in CHANGED:
            assert re.search(r"^def loss\(", pair.after, re.MULTILINE), pair.name


def test_every_rule_has_a_pair():
    shown = {code for pair in PAIRS for code in pair.codes}
    assert sorted(CODES - shown) == []


@by_name(PAIRS)
def test_text(pair):
    """As a file is read: without the functions that have none of the rules' words."""
    before = pair.before.encode("utf-8")
    result = migrate_content(before, False, options_of(pair))
    findings = [located.finding for located in result.findings]
    assert result.content.decode("utf-8") == pair.after
    assert tuple(finding.code for finding in findings) == pair.codes
    changed = [(finding.line, finding.column) for finding in findings if finding.changed]
    assert len(set(changed)) == len(changed), "two rules rewrite one place"
    assert bool(changed) == (pair.after != pair.before)
    if pair.after == pair.before:
        assert result.content is before


@by_name(CHANGED)
def test_a_second_run_changes_nothing(pair):
    again = migrate_source(pair.after, options_of(pair))
    assert again.text == pair.after
    assert not any(finding.changed for finding in again.findings)


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
def test_example_of_a_rule(rule):
    """What `list-rules` shows is what happens."""
    own = frozenset([rule.code])
    options = Options(fix=own, codes=own)
    result = migrate_source("import tensorflow as tf\n" + rule.before + "\n", options)
    assert rule.code in {finding.code for finding in result.findings}
    changed = result.text.replace("import tensorflow as tf\n", "").replace("import tf1xent\n", "")
    assert changed.strip() == (rule.before if rule.after is None else rule.after).strip()
    assert any(word in rule.before for word in rule.words)


@by_name(PAIRS)
def test_words_of_the_rules(pair):
    """A file without a rule's words is not parsed for it: each finding's rule has one here."""
    for rule in RULES:
        if rule.code in pair.codes:
            assert any(word in pair.before for word in rule.words), rule.code
