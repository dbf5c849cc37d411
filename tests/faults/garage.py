"""Keeps one rig running from test to test, as long as the next test wants the same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.faults.rig import Rig

if TYPE_CHECKING:
    from typing_extensions import Self


class Garage:
    """Holds one rig at a time; it is used again unless a test has abandoned it."""

    def __init__(self) -> None:
        self._rig: Rig | None = None
        self._kind: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, kind: object, make: Callable[[], Rig]) -> Rig:
        """The running rig of this kind."""
        if self._rig is None or self._kind != kind or self._rig.is_abandoned:
            self.close()
            self._rig, self._kind = make().__enter__(), kind
        return self._rig

    def close(self) -> None:
        """Stop the rig that is running."""
        rig, self._rig = self._rig, None
        if rig is not None:
            rig.__exit__()
