"""What a name or an attribute holds: followed where it is certain, and nowhere else."""

import textwrap

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, ParentNodeProvider, ScopeProvider

from tf1xent.migrate.definitions import Definitions

# Each source asks what x holds in `use(x)`: the code behind "->", or nothing that is certain.
FOLLOWED = """
== a line before -> f(z)
x = f(z)
use(x)
== in a function -> f(z)
def g(z):
    x = f(z)
    use(x)
== through two names -> f(z)
y = f(z)
x = y
use(x)
== the last of two -> f(2)
x = f(1)
x = f(2)
use(x)
== annotated -> f(z)
x: int = f(z)
use(x)
== two targets -> f(z)
x = y = f(z)
use(x)
== in a block of a context manager -> f(z)
with scope():
    x = f(z)
with scope():
    use(x)
== used under a condition -> f(z)
x = f(z)
if a:
    use(x)
== the other branch's value -> f(z)
x = f(z)
if a:
    x = 1
else:
    use(x)
== within one round of a loop -> f(i)
for i in y:
    x = f(i)
    use(x)
== before a loop that leaves it alone -> f(z)
x = f(z)
for i in y:
    use(x)
== in a function inside -> f(z)
def g(z):
    x = f(z)
    def h():
        use(x)
== in a comprehension -> f(z)
x = f(z)
[use(x) for i in y]
== of the module -> f(z)
x = f(z)
def g():
    use(x)
== in the body of a try -> f(z)
try:
    x = f(z)
    use(x)
except E:
    pass
== an attribute -> f(z)
def g(self, z):
    self.x = f(z)
    use(self.x)
== an attribute through another -> f(z)
def g(self, z):
    self.y = f(z)
    self.x = self.y
    use(self.x)
== an attribute in blocks -> f(z)
def g(self, z):
    with scope():
        self.x = f(z)
    with scope():
        use(self.x)
== another class has an attribute of the name -> f(z)
class A:
    def g(self, z):
        self.x = f(z)
        self.h()
        use(self.x)
class B:
    def h(self):
        self.x = 1
== a method sets it, but is not called between -> f(z)
class A:
    def g(self, z):
        self.h()
        self.x = f(z)
        use(self.x)
    def h(self):
        self.x = 1
"""

UNSURE = """
== a parameter
def g(x):
    use(x)
== no value in sight
use(x)
== a condition between
x = f(1)
if a:
    x = f(2)
use(x)
== given under a condition
if a:
    x = f(2)
use(x)
== given by a loop
for x in y:
    use(x)
== an earlier round of a loop
x = f(1)
for i in y:
    use(x)
    x = f(2)
== an earlier round of while
x = f(1)
while a:
    use(x)
    x = f(2)
== a loop between
x = f(1)
for i in y:
    x = f(i)
use(x)
== the body of try, seen from the handler
x = f(1)
try:
    x = f(2)
except E:
    use(x)
== the body of try, seen from behind
x = f(1)
try:
    x = f(2)
except E:
    pass
use(x)
== the name of a handler
x = f(1)
try:
    f(2)
except E as x:
    use(x)
== several targets in one
x, y = f(z)
use(x)
== several statements on a line
x = f(1); x = f(2)
use(x)
== changed in place
x = f(1)
x += 1
use(x)
== a context manager that leaves early
x = f(1)
with suppress(E):
    x = f(2)
use(x)
== the name of a context manager
x = f(1)
with f(2) as x:
    use(x)
== the name of a context manager, behind it
x = f(1)
with f(2) as x:
    pass
use(x)
== a function of the name
x = f(1)
def x():
    pass
use(x)
== a name of the module that changes
x = f(1)
x = f(2)
def g():
    use(x)
== global, given elsewhere
x = f(1)
def g():
    global x
    x = f(2)
def h():
    use(x)
== a closure that may run later
def g():
    x = f(1)
    def h():
        use(x)
    x = f(2)
== a closure in a loop
def g():
    for i in y:
        x = f(i)
        def h():
            use(x)
== an attribute of another function
class A:
    def g(self, z):
        self.x = f(z)
    def h(self):
        use(self.x)
== an attribute under a condition
def g(self, z):
    if a:
        self.x = f(z)
    use(self.x)
== a method between that sets it
class A:
    def g(self, z):
        self.x = f(z)
        self.h()
        use(self.x)
    def h(self):
        self.x = 1
== handed to a function between
class A:
    def g(self, z):
        self.x = f(z)
        h(self)
        use(self.x)
    def h(self):
        self.x = 1
== the object is another one
def g(a, z):
    a = f(1)
    a.x = f(z)
    a = f(2)
    use(a.x)
== what holds it is another one
def g(self, z):
    self.a.x = f(z)
    self.a = f(1)
    use(self.a.x)
== an attribute in a lambda
def g(self, z):
    self.x = f(z)
    return lambda: use(self.x)
"""

# Whether what is handed to `here` can be written again where `there` is called.
REPEATABLE = """
== a parameter
def g(z):
    here(z)
    there()
== the same line gives it
def g():
    z = f(1)
    here(z)
    there()
== a number
here(1.5)
there()
== an attribute
def g(self):
    here(self.z)
    there()
== an import
from a import z
here(z)
there()
== in a function inside
def g(z):
    here(z)
    def h():
        there()
== in a branch
def g(z):
    here(z)
    if a:
        there()
== a name that the module does not give a value
here(z)
there()
"""

NOT_REPEATABLE = """
== another value since
def g(z):
    here(z)
    z = f(1)
    there()
== another value under a condition
def g(z):
    here(z)
    if a:
        z = f(1)
    there()
== changed in place
def g(z):
    here(z)
    z += 1
    there()
== a call
def g(z):
    here(f(z))
    there()
== an operation
def g(z):
    here(z + 1)
    there()
== an attribute that has another value
def g(self):
    here(self.z)
    self.z = f(1)
    there()
== an attribute in another function
def g(self):
    here(self.z)
def h(self):
    there()
== a parameter of the same name
def g(z):
    here(z)
    return lambda z: there()
== of a loop
def g(y):
    for z in y:
        here(z)
    there()
"""


def cases(text):
    """The name and the source of each case."""
    blocks = [block.partition("\n") for block in text.split("== ")[1:]]
    return [pytest.param(name, source, id=name) for name, _, source in blocks]


def looked_at(source):
    """The definitions of a module, its parents, and its calls by the name called."""
    wrapper = MetadataWrapper(cst.parse_module(textwrap.dedent(source)), unsafe_skip_copy=True)
    metadata = wrapper.resolve_many([ParentNodeProvider, ScopeProvider])
    parents = metadata[ParentNodeProvider]
    calls = [node for node in parents if isinstance(node, cst.Call)]
    by_name = {call.func.value: call for call in calls if isinstance(call.func, cst.Name)}
    return Definitions(parents, metadata[ScopeProvider]), wrapper.module, by_name


@pytest.mark.parametrize("name, source", cases(FOLLOWED))
def test_followed(name, source):
    definitions, module, calls = looked_at(source)
    held = definitions.value(calls["use"].args[0].value)
    assert module.code_for_node(held) == name.split(" -> ")[1]


@pytest.mark.parametrize("name, source", cases(UNSURE))
def test_unsure(name, source):
    definitions, _, calls = looked_at(source)
    used = calls["use"].args[0].value
    assert definitions.value(used) is used


@pytest.mark.parametrize("name, source", cases(REPEATABLE))
def test_repeatable(name, source):
    definitions, _, calls = looked_at(source)
    assert definitions.repeatable(calls["here"].args[0].value, calls["there"])


@pytest.mark.parametrize("name, source", cases(NOT_REPEATABLE))
def test_not_repeatable(name, source):
    definitions, _, calls = looked_at(source)
    assert not definitions.repeatable(calls["here"].args[0].value, calls["there"])


def test_uses_of_a_line():
    definitions, _, calls = looked_at(
        """
        x = f(1)
        use(x)
        x *= y
        there(x)
        """
    )
    line = calls["f"]
    target = next(
        node.targets[0].target
        for node in definitions._parents
        if isinstance(node, cst.Assign) and node.value is line
    )
    parents = [type(definitions._parents[one]) for one in definitions.uses(target)]
    assert sorted(parents, key=str) == [cst.Arg, cst.AugAssign]
