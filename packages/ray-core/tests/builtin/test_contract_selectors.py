"""The built-in selector keeps its contract."""

import pytest

from ray.builtin.poll_selector import PollSelector
from ray.testing.contracts.selector import SelectorContract


class TestPoll(SelectorContract):
    @pytest.fixture
    def make_selector(self):
        return PollSelector
