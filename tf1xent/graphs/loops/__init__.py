"""v1 loops and branches of a graph become functional: While and If ops, and lists of tensors.

net                     nodes by name, in which parts can be replaced
bodies                  a part of a graph as a function
whiles, branches        one loop, one branch
regions                 loops and branches inside one another
tensor_arrays, reads    what goes through loops: TensorArrays, variables
functional              all of a graph
"""

from tf1xent.graphs.loops.functional import make_graph_functional

__all__ = ["make_graph_functional"]
