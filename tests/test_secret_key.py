"""`SECRET_KEY` is replaced, and the former one kept in `SECRET_KEY_FALLBACKS`.

HTTP renews a session of the former key when it next sees it, and the user stays logged in.
Channels' `AuthMiddleware` knows no fallbacks: it takes such a session for invalid and deletes it.
"""

from __future__ import annotations

from typing import Any

from tests.visitors import IN_DATABASE, Visitor, sweep_now


def replace_secret_key(settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one, and long enough for Django to accept it"


async def test_an_open_socket_stays_open(engine: str, settings: Any) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    replace_secret_key(settings)
    await sweep_now()
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_the_next_request_renews_the_session_and_so_ends_the_sockets_of_the_old_one(
    engine: str, settings: Any
) -> None:
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    replace_secret_key(settings)
    assert await alice.who() == "alice"
    if engine == "signed_cookies":  # the old cookie is still a valid one, for HTTP as well
        await sweep_now()
        assert await socket.ask("still here") == "still here"
        await socket.leave()
        return
    if engine not in IN_DATABASE:
        await sweep_now()
    assert await socket.closed() == (4401, "session ended")
    again = await alice.open()
    assert await again.ask("hello") == "hello"
    await again.leave()


async def test_a_page_that_makes_a_request_first_connects(engine: str, settings: Any) -> None:
    alice = await Visitor.logged_in("alice")
    replace_secret_key(settings)
    socket = await alice.open()  # it fetches its key, over HTTP
    assert await socket.ask("hello") == "hello"
    await socket.leave()


async def test_a_socket_that_comes_before_any_request_is_refused_and_logs_the_user_out(
    engine: str, settings: Any
) -> None:
    alice = await Visitor.logged_in("alice")
    await alice.fetch_key()
    replace_secret_key(settings)
    assert await alice.socket().open() == 4401
    # A cookie cannot be deleted from a socket, so there HTTP still renews the login.
    assert await alice.who() == ("alice" if engine == "signed_cookies" else "")
