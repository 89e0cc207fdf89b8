"""Which TensorFlow a module is written for, where a name means something else in 1.x and 2.x."""

from typing import TYPE_CHECKING, List, Optional

import libcst as cst

from tf1xent.migrate.names import dotted_name

if TYPE_CHECKING:
    from tf1xent.migrate.context import Context

V1, V2 = "v1", "v2"
# Names that `tensorflow` has in 1.x only, as far as programs use them that build losses.
V1_NAMES = frozenset(
    """
    AUTO_REUSE ConfigProto FIFOQueue FixedLenFeature GPUOptions GraphKeys InteractiveSession Print
    Session TFRecordReader VarLenFeature add_to_collection all_variables app arg_max assign
    assign_add assign_sub check_numerics contrib count_nonzero decode_raw diag disable_v2_behavior
    div enable_eager_execution enable_v2_behavior erf flags get_collection get_default_graph
    get_default_session get_local_variable get_variable get_variable_scope gfile global_norm
    global_variables global_variables_initializer initialize_all_variables initialize_variables
    is_nan layers local_variables local_variables_initializer log log1p logging make_template
    matrix_band_part multinomial parse_example parse_single_example placeholder
    placeholder_with_default py_func python_io random_crop random_normal random_shuffle
    random_uniform read_file reset_default_graph rsqrt scatter_add scatter_nd_update scatter_sub
    scatter_update set_random_seed sparse_placeholder sparse_reduce_sum sparse_tensor_dense_matmul
    sparse_tensor_to_dense sparse_to_dense squared_difference string_split string_to_number
    tables_initializer to_double to_float to_int32 to_int64 trainable_variables truncated_normal
    truncated_normal_initializer uniform_unit_scaling_initializer variable_scope
    variables_initializer
    """.split()
)
# Names that speak for 2.x, in a module that uses none of those.
V2_NAMES = frozenset(["GradientTape", "compat", "function"])
VERSION_NAMES = V1_NAMES | V2_NAMES
_V1_PACKAGES = ("tensorflow.contrib", "tensorflow.examples")


def written_for(context: "Context") -> Optional[str]:
    """Returns V1 or V2, as the names say that a module uses of `tensorflow`; None if none does."""
    uses = _Uses(context)
    context.module.visit(uses)
    names = {name.split(".", 2)[1] for name in uses.names if name.startswith("tensorflow.")}
    if not V1_NAMES.isdisjoint(names):
        return V1
    if any(one == old or one.startswith(old + ".") for old in _V1_PACKAGES for one in uses.names):
        return V1
    return None if V2_NAMES.isdisjoint(names) else V2


class _Uses(cst.CSTVisitor):
    """Collects full names: of what is imported, and of what may tell."""

    def __init__(self, context: "Context") -> None:
        super().__init__()
        self.names: List[str] = []
        self._context = context

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if node.attr.value in VERSION_NAMES:
            self.names.append(self._context.full_name(node) or "")

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        if node.module is not None and not node.relative:
            base = dotted_name(node.module)
            self._note_import(base)
            if not isinstance(node.names, cst.ImportStar):
                for alias in node.names:
                    self._note_import(f"{base}.{dotted_name(alias.name)}")
        return False

    def visit_Import(self, node: cst.Import) -> bool:
        for alias in node.names:
            self._note_import(dotted_name(alias.name))
        return False

    def _note_import(self, name: str) -> None:
        if not name.startswith("tensorflow.compat"):
            self.names.append(name)
