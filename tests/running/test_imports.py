"""However a program comes by TensorFlow's functions, they are ours by then."""

import pytest

from tests.running.processes import run
from tests.support.processes import WITHOUT_KERAS

SPARSE = "sparse_softmax_cross_entropy_with_logits"
# By what is imported first, how a program takes the function.
WAYS = {
    "a name of a module": f"from tensorflow.nn import {SPARSE} as taken",
    "a private module": f"from tensorflow.python.ops.nn_ops import {SPARSE} as taken",
    "importlib": f"import importlib\n"
    f"taken = importlib.import_module('tensorflow.compat.v1.nn').{SPARSE}",
    "tf1xent": f"import tf1xent.nn\nimport tensorflow as tf\ntaken = tf.nn.{SPARSE}",
    "a second time": f"import importlib, tensorflow\nimportlib.reload(tensorflow)\n"
    f"taken = tensorflow.nn.{SPARSE}",
    "several threads": f"import threading\nfound = []\n\ndef take():\n"
    f"    from tensorflow.compat.v1.nn import {SPARSE} as taken\n    found.append(taken)\n\n"
    f"threads = [threading.Thread(target=take) for _ in range(4)]\n"
    f"for thread in threads: thread.start()\nfor thread in threads: thread.join()\n"
    f"assert len(set(found)) == 1\ntaken = found[0]",
}
COMPUTE = """
import tensorflow.compat.v1 as tf
with tf.Graph().as_default(), tf.Session() as session:
    loss = taken(labels=[0], logits=tf.constant([[20.0, 0.0]]))
    print("%.6e" % session.run(loss)[0])
"""


@pytest.mark.lengthy
@pytest.mark.parametrize("way", sorted(WAYS))
def test_the_function_that_a_program_takes_is_ours(way, tmp_path):
    (tmp_path / "program.py").write_text(WAYS[way] + COMPUTE)
    process = run("program.py", cwd=str(tmp_path), variables=WITHOUT_KERAS)
    assert process.code == 0, process.err
    assert process.out == "2.061154e-09\n"  # TensorFlow's own is 0
