"""What the installed command `tf1xent` is, for the checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tf1xent.cli import main  # noqa: E402

sys.exit(main())
