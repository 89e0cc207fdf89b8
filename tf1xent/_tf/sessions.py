"""What sessions know of themselves and of feeds."""

from typing import Any, Dict, Mapping

import tensorflow.compat.v1 as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.util import nest

from tf1xent._typing import Graph, Session


class PlainSession(tf.Session):
    """A session whose errors are what the runtime says.

    `tf.Session` puts places in the program into an error's message, by a regular expression whose
    time grows with the square of the message; no other thread runs meanwhile. A server's error may
    quote a request with all its feeds: "The same RunStep request was received twice".
    """

    def _do_call(self, fn: Any, *args: Any) -> Any:
        return fn(*args)


def graph_options(session: Session) -> Any:
    """Returns how a session optimizes graphs, as tf.GraphOptions; a copy.

    The default where the session is wrapped, as by a MonitoredSession.
    """
    found = tf.GraphOptions()
    config = getattr(session, "_config", None)
    if config is not None:
        found.CopyFrom(config.graph_options)
    return found


def feeds_by_name(graph: Graph, feed: Mapping[Any, Any]) -> Dict[str, Any]:
    """Returns a feed dict as one from names of tensors, with sparse tensors in their parts.

    Raises:
      TypeError: a key is no tensor of the graph.
    """
    found = {}
    for key, value in nest.flatten_dict_items(dict(feed)).items():
        expand = next(e[2] for e in session_lib._REGISTERED_EXPANSIONS if isinstance(key, e[0]))
        for part, part_value in expand(key, value):
            try:
                tensor = graph.as_graph_element(part, allow_operation=False)
            except (KeyError, TypeError, ValueError) as error:
                raise TypeError(f"Cannot interpret feed_dict key as Tensor: {error}") from error
            found[str(tensor.name)] = part_value
    return found
