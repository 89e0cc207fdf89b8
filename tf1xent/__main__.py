"""``python -m tf1xent`` is the command ``tf1xent``."""

import sys

from tf1xent.cli import main

if __name__ == "__main__":
    sys.exit(main())
