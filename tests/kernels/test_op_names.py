"""The ops' names in the C++ sources and in Python."""

import re

from tests import ROOT
from tf1xent import _tf
from tf1xent.graphs.formula import kernel_ops
from tf1xent.kernels import op_names

SOURCES = sorted([*(ROOT / "ops").glob("*.h"), *(ROOT / "ops").glob("*.cc")])


def names_in_sources(pattern):
    """Returns what the group of a pattern matches in any of the C++ sources, in order."""
    return [name for path in SOURCES for name in re.findall(pattern, path.read_text())]


def test_the_sources_register_the_ops_that_python_names():
    assert names_in_sources(r'REGISTER_OP\("(\w+)"\)') == [*op_names.OP_NAMES]


def test_the_sources_register_a_kernel_for_each_op():
    assert names_in_sources(r'TF1XENT_REGISTER\("(\w+)"') == [*op_names.OP_NAMES]


def test_graphs_describe_each_op():
    assert [*kernel_ops.KERNEL_OPS] == [*op_names.OP_NAMES]


def test_no_other_file_of_the_package_spells_a_name():
    spelled = [
        (path.name, name)
        for path in sorted((ROOT / "tf1xent").rglob("*.py"))
        for name in op_names.OP_NAMES
        if f'"{name}"' in path.read_text(encoding="utf-8")
    ]
    assert spelled == [("op_names.py", name) for name in op_names.OP_NAMES]


def test_the_registered_ops_have_the_inputs_and_outputs_that_graphs_describe(library):
    del library  # it is loaded, which registers the ops
    for name in op_names.OP_NAMES:
        registered, described = _tf.op_definition(name), kernel_ops.kernel_op_definition(name)
        for which in ("input_arg", "output_arg"):
            wanted, found = (
                [(each.name, each.type_attr) for each in getattr(definition, which)]
                for definition in (registered, described)
            )
            assert found == wanted
