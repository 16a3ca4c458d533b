"""Where this package lies, told by a file that stays in its place: others may move deeper."""

from __future__ import annotations

import os
from typing import Final

_PACKAGE: Final = os.path.dirname(os.path.abspath(__file__))
#: The directory that the package was imported from.
IMPORTED_FROM: Final = os.path.dirname(_PACKAGE)
#: What the paths of this package's own files begin with.
OWN_CODE: Final = _PACKAGE + os.sep
#: The module whose ``main`` is the node manager's.
NODE_MAIN: Final = "ray.runtime.mains.node"
#: As ``NODE_MAIN``, of the process that a head has beside its node.
KEEPER_MAIN: Final = "ray.runtime.mains.keeper"
