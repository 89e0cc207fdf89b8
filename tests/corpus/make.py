"""Writes the corpus: `python -m tests.corpus.make FOLDER`, with TensorFlow 1.13.2 or 1.15.5.

Every program writes FOLDER/PROGRAM/; `files/tf113` and `files/tf115` here are what they wrote, and
must not exist when they are made again. The switch of control flow v2 is read when TensorFlow is
imported (1.13 has no other), so the programs for it run in a process of their own.
"""

import os
import subprocess
import sys

import tensorflow.compat.v1 as tf

from tests.corpus import control_flow, exports, functions, models

PROGRAMS = {
    "classifier": models.classifier,
    "dense_classifier": models.dense_classifier,
    "distillation": models.distillation,
    "tagger": control_flow.tagger,
    "loop": control_flow.loop,
    "cond": control_flow.cond,
    "defun": functions.defun,
    "defun_with_gradient": functions.defun_with_gradient,
    "tf_function": functions.tf_function,
    "frozen": exports.frozen,
    "keras": exports.keras,
    "estimator": exports.estimator,
    # Last: the numbers of functions go on from program to program.
    "branch_in_loop": control_flow.branch_in_loop,
}
PROGRAMS_V2 = {
    "tagger_v2": control_flow.tagger,
    "loop_v2": control_flow.loop,
    "cond_v2": control_flow.cond,
}
SWITCH = "TF_ENABLE_CONTROL_FLOW_V2"


def write(folder, programs):
    """Run programs, each in a graph of its own."""
    for name, program in programs.items():
        target = os.path.join(folder, name)
        os.makedirs(target)
        with tf.Graph().as_default():
            tf.set_random_seed(7)
            program(target)


def main(folder):
    """Run the programs of this process, and have another run those for control flow v2."""
    if os.environ.get(SWITCH) == "1":
        write(folder, PROGRAMS_V2)
        return
    write(folder, PROGRAMS)
    environment = dict(os.environ, **{SWITCH: "1"})
    subprocess.run([sys.executable, "-m", __spec__.name, folder], env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1])
