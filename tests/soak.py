"""Whether this is the session ``soak``, which takes its time."""

import os

SOAK = os.environ.get("RAY_TEST_SOAK") == "1"
