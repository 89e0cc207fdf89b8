"""The script of a dump: runs its step again, with nothing but TensorFlow and NumPy."""

import textwrap
from typing import List, Mapping, Sequence

_SCRIPT = '''\
"""{headline}

Runs the step again as tf1xent kept it, from before the update. Needs TensorFlow 1.13 or later, and
nothing of the program that trained.{notes}
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf

os.chdir(os.path.dirname(os.path.abspath(__file__)))
tf.disable_eager_execution()
config = tf.ConfigProto(allow_soft_placement=True)
config.graph_options.rewrite_options.disable_meta_optimizer = True  # each op runs by itself
with tf.Session(config=config) as session:
    saver = tf.train.import_meta_graph("{name}.meta", clear_devices=True)
{gradients}
    saver.restore(session, os.path.abspath("{name}")){tables}
    loss, gradients = session.run([{loss!r}, gradients], dict(np.load("{feeds}")))
print("loss", loss)
for name, gradient in gradients.items():
    bad = np.sum(~np.isfinite(np.asarray(gradient, np.float64)))
    print("gradient of", name + ":", bad, "of", np.size(gradient), "entries are not finite")
'''
_BUILT = """\
variables = tf.trainable_variables()
gradients = tf.gradients(session.graph.get_tensor_by_name({loss!r}), variables)
gradients = {{v.op.name: getattr(g, "values", g) for v, g in zip(variables, gradients)}}
gradients = {{name: gradient for name, gradient in gradients.items() if gradient is not None}}"""
_TABLES = "\n    session.run(tf.tables_initializer())"


def script_text(
    headline: str,
    loss: str,
    gradients: Mapping[str, str],
    *,
    name: str,
    feeds: str,
    has_tables: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """Returns the script.

    Args:
      headline: the first line of its docstring.
      loss: the name of the loss.
      gradients: by name of a variable, the name of its gradient; empty to have them built.
      name: of the checkpoint and the graph, beside the script.
      feeds: the name of the file with the feeds, beside the script.
      has_tables: whether the graph has lookup tables.
      notes: sentences on what the files lack.
    """
    if gradients:
        entries = "".join(f"    {name!r}: {gradient!r},\n" for name, gradient in gradients.items())
        built = f"gradients = {{\n{entries}}}"
    else:
        built = _BUILT.format(loss=loss)
    return _SCRIPT.format(
        headline="\n".join(_filled(headline)),
        notes="".join("\n" + line for note in notes for line in _filled(note)),
        name=name,
        gradients=textwrap.indent(built, "    "),
        tables=_TABLES if has_tables else "",
        loss=loss,
        feeds=feeds,
    )


def _filled(text: str) -> List[str]:
    """Returns the lines of a docstring for a text of names, which can hold anything."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return textwrap.wrap(quoted, 97, break_long_words=False, break_on_hyphens=False)
