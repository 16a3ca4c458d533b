"""The selector keeps its contract."""

import pytest

from ray.testing.contracts.selector import SelectorContract
from ray_async.selectors import EpollSelector


class TestEpoll(SelectorContract):
    @pytest.fixture
    def make_selector(self):
        return lambda runtime: EpollSelector()
