"""Closes connections whose session or user has ended, on every process.

The hubs are told by a control message, which ``hub/tasks.py`` describes and carries out.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync

from ..exceptions import NoSessionKey
from ..groups import publish_control
from ..protocol.messages import check_close
from ..sessions.login import session_id
from ..sessions.token import token_id

logger = logging.getLogger(__name__)

MAX_NOTICES = 500
"""What one control message may name, which keeps it within the limits of a channel layer."""


async def disconnect_user(user: Any, reason: str = "disconnected") -> None:
    """Close every connection of ``user``, in all sessions and on all processes, with 4401.

    It ends connections, not sessions: who is still logged in can connect again.

    Args:
        user: the user, of any model.
        reason: told to the clients; at most 123 bytes of UTF-8.

    Raises:
        LocalError: the reason cannot be sent; nothing has happened.
        TryAgainLater: the channel layer is down, so only this process's connections were closed.
    """
    check_close(NoSessionKey.code, reason)
    await _publish([Notice("users", str(user.pk), reason)])


async def disconnect_session(session_key: str, reason: str = "disconnected") -> None:
    """Close every connection of the session, on all processes, with 4401.

    Args:
        session_key: as in ``request.session.session_key``.
        reason: told to the clients; at most 123 bytes of UTF-8.

    Raises:
        LocalError: the reason cannot be sent; nothing has happened.
        TryAgainLater: the channel layer is down, so only this process's connections were closed.
    """
    check_close(NoSessionKey.code, reason)
    await _publish([Notice("sessions", session_id(session_key), reason)])


async def disconnect_token(identity: str, reason: str = "disconnected") -> None:
    """Close every connection whose ticket was issued with a token, on all processes, with 4401.

    It ends connections, not the token: who still has that can connect again.

    Args:
        identity: names the token, as ``identity_of`` in ``gcrypt_channels.contrib`` gives it.
        reason: told to the clients; at most 123 bytes of UTF-8.

    Raises:
        LocalError: the reason cannot be sent; nothing has happened.
        TryAgainLater: the channel layer is down, so only this process's connections were closed.
    """
    check_close(NoSessionKey.code, reason)
    await _publish([Notice("sessions", token_id(identity), reason)])


disconnect_user_sync = async_to_sync(disconnect_user)
disconnect_session_sync = async_to_sync(disconnect_session)
disconnect_token_sync = async_to_sync(disconnect_token)


class Notice(NamedTuple):
    """That something ended, or may have.

    ``subject`` is the ``session_id`` of logins for the kind ``"sessions"``, else the primary key of
    a user as a string; the kind ``"recheck"`` needs no reason.
    """

    kind: str
    subject: str
    reason: str = ""


def announce(notice: Notice) -> None:
    """Send a notice to all hubs soon. This neither waits nor fails.

    A thread sends it: the caller may be a request that must not wait for a channel layer that is
    down, may run on an event loop, and may be one of many signals of one query. Notices that wait
    are sent as one message.
    """
    _notices.append(notice)
    _announcer.submit(_announce)


_notices: deque[Notice] = deque()
_announcer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gcrypt-announcer")


def _announce() -> None:
    notices = [_notices.popleft() for _ in range(min(len(_notices), MAX_NOTICES))]
    if notices:  # else they went out with those before
        try:
            asyncio.run(_publish(notices))
        except Exception:
            logger.exception(
                "Other processes may not know what ended; they find out within "
                "GCRYPT['REVALIDATE_INTERVAL']."
            )


def _after_fork() -> None:
    global _announcer  # noqa: PLW0603 - threads do not survive a fork
    _announcer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gcrypt-announcer")
    _notices.clear()  # the parent tells them


os.register_at_fork(after_in_child=_after_fork)


async def _publish(notices: list[Notice]) -> None:
    message: dict[str, Any] = {"op": "revoke", "sessions": {}, "users": {}, "recheck": []}
    for kind, subject, reason in notices:
        if kind == "recheck":
            message[kind].append(subject)
        else:
            message[kind].setdefault(subject, reason)
    await publish_control(message)
