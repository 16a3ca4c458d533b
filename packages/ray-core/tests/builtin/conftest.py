import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def short_dir():
    """A directory whose path is short enough for a unix socket, unlike tmp_path's."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as path:
        yield Path(path)
