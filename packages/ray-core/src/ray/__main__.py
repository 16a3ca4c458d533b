"""``python -m ray`` is the ``ray`` command."""

import sys

from ray.cli import main

sys.exit(main())
