"""``python -m detectron2``: the same as the installed command."""

import sys

from detectron2.cli import main

sys.exit(main())
