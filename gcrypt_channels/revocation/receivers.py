"""Receivers of Django's own signals, through which a session's end reaches its connections.

None of them makes a login, a logout or a save fail or wait. What happens inside a transaction is
announced when the transaction is committed, and not at all when it is rolled back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessionStore
from django.db import router, transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest
from django.utils import timezone

from ..sessions.login import session_id
from ..sessions.store import session_store
from ..sessions.token import token_id
from .revocation import Notice, announce

logger = logging.getLogger(__name__)


def register() -> None:
    """Connect the receivers; for ``AppConfig.ready``."""
    if not apps.is_installed("django.contrib.auth"):
        return
    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    for model in apps.get_models(include_auto_created=True):
        if issubclass(
            model, get_user_model()
        ):  # proxy models and subclasses send their own signals
            post_save.connect(user_saved, sender=model)
            post_delete.connect(user_deleted, sender=model)
    store = session_store()
    if issubclass(store, DatabaseSessionStore):
        with suppress(RuntimeError):  # the default engine, in a project without that app
            post_delete.connect(session_deleted, sender=store.get_model_class())


def _quiet(receiver: Callable[..., None]) -> Callable[..., None]:
    """Log what ``receiver`` raises: it is called inside the project's own requests."""

    @wraps(receiver)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            receiver(*args, **kwargs)
        except Exception:
            logger.exception("The end of a session was not announced to its connections.")

    return wrapper


@_quiet
def logged_out(sender: Any, request: HttpRequest | None, user: Any, **kwargs: Any) -> None:
    """A logout; it is sent before the session is flushed."""
    session = getattr(request, "session", None)
    if session is not None:
        _end_session(session_id(session), "logged out")
    elif user is not None:
        announce(Notice("recheck", str(user.pk)))  # by channels.auth.logout(), which does not say


@_quiet
def logged_in(sender: Any, request: HttpRequest | None, user: Any, **kwargs: Any) -> None:
    """A login, which ends the session that was there before, if it was another one."""
    session: SessionBase | None = getattr(request, "session", None)
    if request is None or session is None:
        return
    before = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if before:
        ended = session_id(before)
        if ended != session_id(session):
            _end_session(ended, "logged in anew")


@_quiet
def session_deleted(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    """The row of a session is gone: by a flush, a new key, the admin, a query."""
    if instance.expire_date > timezone.now():  # clearsessions deletes masses that ended long ago
        notice = Notice("sessions", session_id(instance.session_key), "session ended")
        transaction.on_commit(partial(announce, notice), using=using, robust=True)


@_quiet
def user_saved(
    sender: Any,
    instance: Any,
    created: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **kwargs: Any,
) -> None:
    """A user changed, perhaps the password or ``is_active``."""
    if created or (update_fields is not None and update_fields <= {"last_login"}):
        return
    notice = Notice("recheck", str(instance.pk))
    transaction.on_commit(partial(announce, notice), using=using, robust=True)


@_quiet
def user_deleted(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
    """A user is gone."""
    notice = Notice("users", str(instance.pk), "account deleted")
    transaction.on_commit(partial(announce, notice), using=using, robust=True)


@_quiet
def token_deleted(identity: str, using: str) -> None:
    """A token of the project is gone; called by the receivers of ``gcrypt_channels.contrib``."""
    notice = Notice("sessions", token_id(identity), "token revoked")
    transaction.on_commit(partial(announce, notice), using=using, robust=True)


def _end_session(name: str, reason: str) -> None:
    if not name:
        return
    tell = partial(announce, Notice("sessions", name, reason))
    store = session_store()
    if issubclass(store, DatabaseSessionStore):
        using = router.db_for_write(store.get_model_class())
        transaction.on_commit(tell, using=using, robust=True)
    else:
        tell()  # these engines have no transactions: what they did stays done
