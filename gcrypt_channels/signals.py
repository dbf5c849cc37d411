"""Django signals about connections, for metrics and audit logs. None is sent per message.

Every WebSocket that asks :class:`~gcrypt_channels.GcryptMiddleware` for a connection causes either
``connection_refused``, or ``connection_opened`` and later ``connection_closed``. The sender is the
class ``GcryptMiddleware``. Receivers get these keyword arguments, none of which is secret:

* ``profile``: ``"gcrypt.v3"``, ``"gcrypt.v2"``, ``"gcrypt.v1"``, or ``""`` when none was agreed on;
* ``path``: the path of the WebSocket's URL;
* ``user_id``: the primary key of the logged-in user as a string, ``""`` for nobody;
* ``handshake``: seconds that the client took to prove its key, as a ``float``; with
  ``connection_opened`` alone, and 0 for ``gcrypt.v1``;
* ``code``: the WebSocket close code as an ``int``; not with ``connection_opened``;
* ``forged``: true if it ended because a frame did not open: the client does not hold the key, or
  the frame was changed on its way; not with ``connection_opened``.

A receiver that raises is logged by Django and harms nothing. Write it as ``async def``: the
connection waits for its receivers, and Django calls a synchronous one in a thread.
"""

from __future__ import annotations

from django.dispatch import Signal

connection_opened = Signal()
"""The handshake is complete (``gcrypt.v1`` has none); the application starts now."""

connection_closed = Signal()
"""A connection that was opened has ended, whoever ended it."""

connection_refused = Signal()
"""A connection ended before it reached the application: no key, no profile, a failed handshake, or
a client that left during it, which is 1006."""
