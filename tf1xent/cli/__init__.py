"""The command ``tf1xent``, also ``python -m tf1xent``: one module for each subcommand.

The convention that all subcommands follow:

- Options are long (``--output``). What a command reads and what it must write are positional.
- Results go to stdout. stderr has progress bars and one line for each error or warning, which
  begins with ``tf1xent COMMAND:``; it has none of TensorFlow's own log lines.
- An error says what is wrong and, if there is a remedy, one that works as it is written.
- The exit code is 0 where the command did what it is for, 1 where it was asked to check something
  and that did not hold, and 2 where it cannot run as given: wrong arguments, files that cannot be
  read or written, something that is not installed. A signal or a closed pipe that ends the command
  gives 128 and the signal's number.
- A command that exits with 2 has written nothing.
- ``--help`` and ``--version`` import only the standard library, and so does a subcommand's module.
  It has ``add_parser(commands)`` and ``run(options)``, which returns the exit code and imports what
  the command needs, after TensorFlow. It may have ``check(options)``, which returns what can be
  said against the options before TensorFlow is imported, or None. One that needs no TensorFlow, or
  not in this process, sets ``needs_tensorflow=False`` as a default of its parser.
"""

from tf1xent.cli.process import main

__all__ = ["main"]
