"""The contract of the store seam, for pytest.

Example:
    A plugin's whole test file::

        class TestShm(StoreContract):
            @pytest.fixture
            def open_store(self, tmp_path):
                server = ShmStoreServer(str(tmp_path), self.capacity_bytes)
                yield lambda: ShmStore(server.address)
                server.close()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from ray.abc.store import Store
from ray.testing.contracts._checks_store import REQUIRED, Check, StoreSubject
from ray.testing.contracts._checks_store_faults import UNDER_FAULTS
from ray.testing.contracts._checks_store_interrupted import INTERRUPTED
from ray.testing.contracts._checks_store_optional import OPTIONAL
from ray.testing.contracts._checks_store_puts import PUTS

StoreOpener: TypeAlias = Callable[[], Store]


class StoreContract:
    """Inherit it, override ``open_store``, and pytest runs every check against a fresh store.

    Checks that belong to a capability run where the store declares it and are skipped elsewhere.
    """

    #: What ``open_store`` must give the store; at least 1 MiB.
    capacity_bytes = 4 * 1024 * 1024

    @pytest.fixture
    def open_store(self) -> Iterator[StoreOpener]:
        """Required: yield a function that opens a client. All its clients belong to one fresh, empty store."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture 'open_store'")

    @pytest.fixture
    def peek(self) -> Callable[[bytes], bytes | None] | None:
        """Optional: a back door that reads a sealed object of ``store`` without its ``get``."""
        return None

    @pytest.fixture
    def plant(self) -> Callable[[bytes, bytes], None] | None:
        """Optional: a back door that makes a sealed object in ``store`` without its ``create``."""
        return None

    @pytest.fixture
    def store(self, open_store: StoreOpener) -> Iterator[Store]:
        """The first client; closed after the test."""
        store = open_store()
        yield store
        store.close()

    @pytest.fixture
    def subject(
        self,
        store: Store,
        open_store: StoreOpener,
        peek: Callable[[bytes], bytes | None] | None,
        plant: Callable[[bytes, bytes], None] | None,
    ) -> StoreSubject:
        """What the checks take."""
        return StoreSubject(store, self.capacity_bytes, open_store, peek, plant)

    @pytest.mark.parametrize("check", REQUIRED + PUTS + INTERRUPTED, ids=lambda check: check.__name__)
    def test_required(self, check: Check, subject: StoreSubject) -> None:
        """Every store."""
        check(subject)

    @pytest.mark.parametrize(
        ("capability", "check"),
        [(capability, check) for capability, group in OPTIONAL.items() for check in group],
        ids=lambda value: getattr(value, "__name__", value),
    )
    def test_optional(self, capability: str, check: Check, subject: StoreSubject) -> None:
        """Stores that declare the capability."""
        if capability not in subject.store.capabilities:
            pytest.skip(f"the store {subject.store.name!r} does not declare {capability!r}")
        check(subject)

    @pytest.mark.parametrize(
        ("capability", "check"),
        [(capability, check) for capability, group in UNDER_FAULTS.items() for check in group],
        ids=lambda value: getattr(value, "__name__", value),
    )
    def test_under_faults(self, capability: str, check: Check, subject: StoreSubject) -> None:
        """Every store, with clients that are refused, late, robbed and cut off."""
        if capability and capability not in subject.store.capabilities:
            pytest.skip(f"the store {subject.store.name!r} does not declare {capability!r}")
        check(subject)
