"""What this TensorFlow can and cannot do, stock beside patched, or why it does not work.

TensorFlow may end the process that imports it. So `measuring` is a program of its own, which
imports it and runs the table of `checks`; `process` starts that program and outlives it. All else
imports the standard library only: `installation` (what is installed, without importing it),
`diagnosis` (the known causes of failures), `findings` and `report` (what it all means).
"""
