"""What a hub does for other modules, as long as there are connections: control messages, sweeps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..conf import conf

logger = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]
ControlHandler = Callable[[Any, Mapping[str, Any]], Work]
Sweep = Callable[[Any], Work]
"""Both are called with the :class:`~gcrypt_channels.hub.hub.Hub`, which this module cannot name."""

_control_handlers: dict[str, ControlHandler] = {}
_sweeps: list[Sweep] = []


def on_control(op: str) -> Callable[[ControlHandler], ControlHandler]:
    """Register a handler for the control messages whose ``"op"`` is ``op``."""

    def register(handler: ControlHandler) -> ControlHandler:
        _control_handlers[op] = handler
        return handler

    return register


def on_sweep(sweep: Sweep) -> Sweep:
    """Register what every hub with connections does each ``GCRYPT["REVALIDATE_INTERVAL"]``."""
    _sweeps.append(sweep)
    return sweep


class Duties:
    """The tasks of one hub, from its first connection to its last."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._sweeper = asyncio.create_task(self._sweep())
        self._working: set[asyncio.Task[None]] = set()

    def handle(self, message: Mapping[str, Any]) -> None:
        """Start the handler of a control message, if there is one."""
        handler = _control_handlers.get(message["op"])
        if handler is not None:
            self.start(handler(self._hub, message))

    def start(self, work: Work) -> None:
        """Do ``work`` beside everything else."""
        task = asyncio.create_task(self._guard(work))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled unstarted

    def end(self) -> asyncio.Future[Any]:
        """Cancel everything at once; the future is done when all of it has ended."""
        tasks = [self._sweeper, *self._working]
        for task in tasks:
            task.cancel()
        return asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, work: Work) -> None:
        try:
            await work
        except Exception:
            logger.exception("Work on the connections of this process failed.")

    async def sweep(self) -> None:
        """Do now what is done each ``GCRYPT["REVALIDATE_INTERVAL"]``."""
        for sweep in _sweeps:
            await self._guard(sweep(self._hub))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(conf.revalidate_interval)
            await self.sweep()
