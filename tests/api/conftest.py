"""Sessions for tests of what only processes have; each is checked for what it leaves held, stored or behind."""

from tests.faults.conftest import rounds, start

__all__ = ["rounds", "start"]
