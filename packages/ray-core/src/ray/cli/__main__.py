"""``python -m ray.cli``: the same as the command ``ray``."""

import sys

from ray.cli import main

sys.exit(main())
