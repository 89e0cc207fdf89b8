"""The public functions take the options of the table, and say so in signature and Args section."""

import inspect
import re
import typing

import pytest

from tf1xent import losses, nn
from tf1xent._loss import faces, options
from tf1xent._loss.resolve import Resolved

TAKEN = {
    nn.masked_sparse_softmax_cross_entropy_with_logits: options.SparseOptions,
    nn.weighted_sparse_softmax_cross_entropy_with_logits: options.SparseOptions,
    nn.masked_softmax_cross_entropy_with_logits: options.DenseOptions,
    nn.weighted_softmax_cross_entropy_with_logits: options.DenseOptions,
    nn.softmax_cross_entropy_with_probabilities: options.ProbabilityOptions,
    losses.sparse_softmax_cross_entropy: options.SparseLossOptions,
    losses.softmax_cross_entropy: options.DenseLossOptions,
    losses.sequence_loss: options.SequenceOptions,
    losses.linear_softmax_cross_entropy: options.LinearOptions,
    losses.sharded_softmax_cross_entropy: options.ShardedOptions,
}
DROP_INS = (
    nn.softmax_cross_entropy_with_logits,
    nn.softmax_cross_entropy_with_logits_v2,
    nn.sparse_softmax_cross_entropy_with_logits,
)


def _args_section(function):
    """The entries of the Args section, {name: text}, the white space of the text made one."""
    docstring = inspect.cleandoc(function.__doc__)
    section = re.search(r"^Args:\n(.*?)\n\n", docstring, re.MULTILINE | re.DOTALL).group(1)
    entries = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _name(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize("function", list(TAKEN), ids=_name)
def test_signature_and_args_section_are_those_of_the_table(function):
    parameters, entries = inspect.signature(function).parameters, _args_section(function)
    names = typing.get_type_hints(TAKEN[function])
    assert set(names) <= set(options.BY_NAME) and set(names) <= set(parameters)
    for name, hint in names.items():
        option, parameter = options.BY_NAME[name], parameters[name]
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default == option.default and parameter.annotation == hint
        refused = hint is type(None)
        meaning = "must be None; it is for integer labels." if refused else option.meaning
        assert entries[name] == meaning
    given = {name for name in parameters if name in options.BY_NAME and name not in names}
    assert given <= {"weights", "label_smoothing"}  # where tf.losses has them by position
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@pytest.mark.parametrize("function", list(TAKEN) + list(DROP_INS), ids=_name)
def test_args_sections_name_every_parameter(function):
    parameters = _parameters(function) - {"_sentinel"}
    entries = set(_args_section(function))
    assert parameters <= entries
    # TF 1.13 has no `axis` for one of its functions.
    assert entries - parameters <= ({"axis"} if function in DROP_INS else set())


def test_every_option_is_taken_and_every_number_has_its_test():
    taken = set().union(*(typing.get_type_hints(cls) for cls in TAKEN.values()))
    assert taken == set(options.BY_NAME)
    assert len(options.BY_NAME) == len(options.TABLE)
    for option in options.TABLE:
        assert (option.requirement is None) == (option.holds is None)
        if option.holds is not None:
            assert option.name in Resolved._fields


@pytest.mark.parametrize("function", list(TAKEN), ids=_name)
def test_an_unknown_keyword_is_refused_as_by_python(function):
    for name in ("smoothing", "class_weight", *(set(options.BY_NAME) - _parameters(function))):
        # On some TensorFlows their dispatch says so first, without the function's name.
        with pytest.raises(TypeError, match=f"unexpected keyword argument {name!r}"):
            function([0], [[0.0, 1.0]], **{name: 1.0})


def _parameters(function):
    return set(inspect.signature(function).parameters)


def test_what_is_left_at_its_default_is_not_given():
    given = {"mask": None, "z_loss": 0, "softcap": 2.0, "class_weights": [1.0], "axis": 1}
    assert options.given_names(given) == ["class_weights", "softcap", "axis"]
    assert options.with_defaults(given)["epsilon"] == 1e-10


def test_a_docstring_without_an_entry_for_options_is_refused():
    def function(labels, **given):
        """Computes."""

    with pytest.raises(AssertionError, match="one entry for all options"):
        faces.with_options(options.ShardedOptions)(function)
