"""``tf1xent run``: starts a program in a Python that patches TensorFlow for it.

`interpreter`, `settings` and `launching` are of the process that starts, `startup`, `starting` and
`report` of the one that runs the program. All import the standard library only.
"""
