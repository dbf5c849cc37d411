"""Drains this process at SIGTERM, and hands the signal to the ASGI server afterwards.

ASGI tells an application that the server stops when the sockets have gone already. So this package
handles the signal itself, in the way that each server leaves for it; ``docs/deployment.md`` has
the table. What cannot be handled is left as it is: the server then stops as it always did.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from ..conf import conf
from ..connection.daphne import finish_requests
from ..connection.transport import daphne_protocol, hypercorn_stream
from ..outbox import Send
from .drain import drain

logger = logging.getLogger(__name__)

HYPERCORN_MARGIN: Final = 1.0
"""Seconds of hypercorn's graceful timeout that are left for clients that do not read."""


class _State:
    """What was done in this process: ``handled`` once SIGTERM needs nothing more."""

    handled = False
    watcher: asyncio.Task[None] | None = None


_state = _State()


class _Handover:
    """Drains at the first signal, and passes it on when all connections have ended.

    A signal that comes meanwhile changes nothing; one that comes later is passed on at once.
    ``daphne`` is its server, of which HTTP requests have to end as well.
    """

    def __init__(self, pass_on: Callable[[], object], grace: float, *, daphne: Any = None) -> None:
        self._pass_on = pass_on
        self._grace = grace
        self._daphne = daphne
        self._drain: asyncio.Task[None] | None = None

    def on_signal(self) -> None:
        """Called on the event loop."""
        if self._drain is None:
            self._drain = asyncio.create_task(self._stop_serving())
            self._drain.add_done_callback(self._on_drained)
        elif self._drain.done():
            self._pass_on()

    async def _stop_serving(self) -> None:
        await drain(self._grace)
        if self._daphne is not None:
            await finish_requests(self._daphne)

    def _on_drained(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("Draining failed.", exc_info=task.exception())
        self._pass_on()


def install_handler(send: Send) -> None:
    """Drain at SIGTERM from now on; called with the server's ``send`` of each WebSocket.

    The server has installed its own handler by then, which is called afterwards.
    """
    if _state.handled:
        return
    _state.handled = True
    grace = conf.drain
    if not grace or threading.current_thread() is not threading.main_thread():
        return  # signals reach the main thread alone
    loop = asyncio.get_running_loop()
    # asyncio has no public way to learn which handler add_signal_handler() is about to replace.
    handle = getattr(loop, "_signal_handlers", {}).get(signal.SIGTERM)
    if handle is not None:  # hypercorn without workers, granian
        loop.add_signal_handler(signal.SIGTERM, _Handover(handle._run, grace).on_signal)
        return
    stream = hypercorn_stream(send)
    if stream is not None:
        grace = min(grace, max(0.0, stream.config.graceful_timeout - HYPERCORN_MARGIN))
        _watch_hypercorn(stream.context, grace)
    protocol = daphne_protocol(send)
    daphne = None if protocol is None else protocol.server
    _chain(signal.getsignal(signal.SIGTERM), grace, daphne=daphne)


def prepare_granian() -> None:
    """Make granian's workers drain at SIGTERM; called before granian takes its signals.

    uvloop keeps its handlers out of reach, so granian's own function that installs them is wrapped.
    """
    granian: Any = sys.modules.get("granian._signals")
    if granian is None or not conf.drain:
        return
    install = granian.set_loop_signals
    if hasattr(install, "__wrapped__"):
        return  # for another middleware

    def set_loop_signals(loop: asyncio.AbstractEventLoop) -> Any:
        event = install(loop)
        handover = _Handover(event.set, conf.drain)
        loop.add_signal_handler(signal.SIGTERM, handover.on_signal)
        _state.handled = True
        return event

    set_loop_signals.__wrapped__ = install  # type: ignore[attr-defined]
    granian.set_loop_signals = set_loop_signals


def _watch_hypercorn(context: Any, grace: float) -> None:
    """Drain when hypercorn's parent process tells this worker to stop, which sends no signal."""

    async def watch() -> None:
        await context.terminated.wait()
        await drain(grace)

    _state.watcher = asyncio.create_task(watch())


def _chain(previous: Any, grace: float, *, daphne: Any) -> None:
    """Handle SIGTERM before ``previous``, which Python calls in the main thread."""
    if previous is signal.SIG_IGN or previous is None or _is_uvloops(previous):
        return  # it is ignored, or handled out of reach

    def pass_on() -> None:
        if callable(previous):
            previous(signal.SIGTERM, None)
        else:
            signal.signal(signal.SIGTERM, previous)
            signal.raise_signal(signal.SIGTERM)

    handover = _Handover(pass_on, grace, daphne=daphne)

    def on_signal(*_: object) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            pass_on()  # nothing runs that could have connections
        else:
            loop.call_soon_threadsafe(handover.on_signal)

    signal.signal(signal.SIGTERM, on_signal)


def _is_uvloops(handler: Any) -> bool:
    """Whether ``handler`` only marks a signal that uvloop delivers to a handler of its own."""
    return type(getattr(handler, "__self__", None)).__module__.partition(".")[0] == "uvloop"
