"""A pytest plugin that puts the encryption under a suite which knows nothing of it.

The environment variable `GCRYPT_FOREIGN_MODE` says how: `plain` changes nothing; in the others the
application under test is behind `GcryptMiddleware` and Channels' WebSocket communicator is ours.
With `mixin` every consumer inherits `EncryptedJsonConsumer` before its other bases, with
`mixin-last` behind them, with `seal_outbound` not at all.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import gcrypt_report
import pytest

MODE = os.environ["GCRYPT_FOREIGN_MODE"]


class _HooksOfOtherPlugins:
    """What a suite's `conftest.py` implements for plugins of mere decoration."""

    def pytest_emoji_skipped(self, config: pytest.Config) -> None: ...

    def pytest_emoji_xfailed(self, config: pytest.Config) -> None: ...


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(_HooksOfOtherPlugins)


def pytest_sessionstart() -> None:
    """Called once Django is set up, and before a test is imported."""
    if MODE != "plain":
        _encrypt()


def _encrypt() -> None:
    """Make every communicator and every consumer with our class among its bases.

    That is done where instances are made, since a suite may have imported the classes by now.
    """
    from channels.consumer import AsyncConsumer
    from channels.testing import WebsocketCommunicator
    from django.conf import settings

    from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware
    from gcrypt_channels.keys import Keyring
    from gcrypt_channels.signals import connection_opened
    from gcrypt_channels.testing import EncryptedWebsocketCommunicator

    settings.GCRYPT_PASSPHRASE = "a passphrase of the tests alone"

    def count(sender: object, **_: object) -> None:
        gcrypt_report.encrypted.append(sender)

    connection_opened.connect(count, weak=False)

    async def same_key_for_all(scope: Any) -> Keyring:
        return Keyring.derive("somebody")

    class Communicator(EncryptedWebsocketCommunicator):
        def __init__(self, application: Any, *args: Any, **kwargs: Any) -> None:
            middleware = GcryptMiddleware(
                application, resolver=same_key_for_all, seal_outbound=MODE == "seal_outbound"
            )
            super().__init__(middleware, *args, resolver=same_key_for_all, **kwargs)

    @functools.cache
    def derived(theirs: type, ours: type, *, ours_first: bool) -> type:
        """A class with both bases; `ours` where one of them is all of the other."""
        if issubclass(ours, theirs) or issubclass(theirs, ours):
            return ours if issubclass(ours, theirs) else theirs
        return type(theirs.__name__, (ours, theirs) if ours_first else (theirs, ours), {})

    def make_communicator(cls: type, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(derived(cls, Communicator, ours_first=False))

    def make_consumer(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(cls, "websocket_connect"):
            return object.__new__(cls)  # it is one of another protocol
        return object.__new__(derived(cls, EncryptedJsonConsumer, ours_first=MODE == "mixin"))

    WebsocketCommunicator.__new__ = make_communicator  # type: ignore[method-assign]
    if MODE != "seal_outbound":
        AsyncConsumer.__new__ = make_consumer  # type: ignore[method-assign]
