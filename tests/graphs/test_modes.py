"""The rewrite modes: one table, the names that the command line lists, older names."""

import inspect

import pytest
import tensorflow.compat.v1 as tf

from tests.support.graph_files import FROZEN, META, SAVED_MODEL, contents
from tf1xent import _modes, cli, graphs
from tf1xent.graphs import rewriting
from tf1xent.graphs.rewriting.modes import MODES

FUNCTIONS = (graphs.rewrite_graph_def, graphs.rewrite_meta_graph, graphs.rewrite_saved_model)


def frozen():
    return tf.GraphDef.FromString(FROZEN.read_bytes())


def test_the_table_has_the_modes_that_the_command_line_lists():
    assert tuple(MODES) == _modes.REWRITE_MODES
    assert set(_modes.OLDER_NAMES.values()) <= set(MODES)
    assert not set(_modes.OLDER_NAMES) & set(MODES)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_mode_is_documented(function):
    for name in MODES:
        assert f'"{name}"' in inspect.getdoc(function)
    for name in _modes.OLDER_NAMES:
        assert f'"{name}"' in inspect.getdoc(graphs.rewrite_graph_def)


def test_the_older_name_of_untag_is_accepted_everywhere(tmp_path):
    tagged = graphs.rewrite_graph_def(frozen(), "tag")
    assert tagged != frozen()
    assert graphs.rewrite_graph_def(tagged, "fused") == frozen()

    meta_graph = graphs.rewrite_meta_graph(META, "tag")
    want = graphs.rewrite_meta_graph(meta_graph, "untag")
    assert graphs.rewrite_meta_graph(meta_graph, "fused") == want != meta_graph

    graphs.rewrite_saved_model(SAVED_MODEL, tmp_path / "tagged", "tag")
    for mode in ("untag", "fused"):
        graphs.rewrite_saved_model(tmp_path / "tagged", tmp_path / mode, mode)
    assert contents(tmp_path / "fused") == contents(tmp_path / "untag")
    assert contents(tmp_path / "fused") != contents(tmp_path / "tagged")

    path = tmp_path / "tagged.pb"
    path.write_bytes(tagged.SerializeToString())
    for mode in ("untag", "fused"):
        new = tmp_path / f"{mode}.pb"
        rewriting.rewrite_path(path, new, mode, overwrite=False, caller="test")
        assert tf.GraphDef.FromString(new.read_bytes()) == frozen()
    command = tmp_path / "command.pb"
    assert cli.main(["rewrite", str(path), str(command), "--mode", "fused"]) == 0
    assert command.read_bytes() == (tmp_path / "untag.pb").read_bytes()


@pytest.mark.parametrize("mode", ["", "LOGSUMEXP", "stock", None, 3, b"tag", ["tag"]], ids=repr)
def test_a_wrong_mode_is_a_value_error_before_anything_is_read(mode, tmp_path):
    calls = [
        lambda: graphs.rewrite_graph_def(tf.GraphDef(), mode),
        lambda: graphs.rewrite_meta_graph(tmp_path / "none.meta", mode),
        lambda: graphs.rewrite_saved_model(tmp_path / "none", tmp_path / "target", mode),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="`mode` must be one of logsumexp, tag, untag"):
            call()
