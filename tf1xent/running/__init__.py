"""``tf1xent run``: starts a program in a Python whose TensorFlow is patched before the program's use.

Imports the standard library only; what the started Python does is in `starting`.
"""
