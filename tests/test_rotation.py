"""The root passphrase is replaced: no live connection notices, and no open page fails."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import override_settings

from gcrypt_channels import Crypt
from gcrypt_channels.exceptions import DecryptionFailed, GcryptError
from gcrypt_channels.protocol.profiles import Profile, secure_profiles
from tests.scriptless import Scriptless
from tests.servers import Daphne, Site
from tests.visitors import Visitor

KEYED: tuple[Profile, ...] = (*secure_profiles(), "gcrypt.v1")
"""The profiles for which the key endpoint answers."""

OLD, NEW = secrets.token_hex(), secrets.token_hex()


@pytest.fixture
def deploy() -> Iterator[Callable[..., None]]:
    """Replace the list of passphrases under the feet of everything that runs."""
    with ExitStack() as stack:

        def replace(*passphrases: str) -> None:
            stack.enter_context(override_settings(GCRYPT_PASSPHRASE=list(passphrases)))

        yield replace


async def test_a_connection_outlives_its_root(db_engine: None, deploy: Any) -> None:
    deploy(OLD)
    alice = await Visitor.logged_in("alice")
    socket = await alice.open()
    deploy(NEW)
    assert await socket.ask("still here") == "still here"
    await socket.leave()


async def test_a_page_with_the_previous_key_needs_no_new_one(db_engine: None, deploy: Any) -> None:
    deploy(OLD)
    alice = await Visitor.logged_in("alice")
    old = await alice.fetch_key()
    deploy(NEW, OLD)
    socket = alice.socket(key=old)
    assert await socket.open() is None
    assert await socket.ask("hello") == "hello"
    await socket.leave()
    assert await alice.fetch_key() != old


async def test_a_page_with_the_next_key_is_served_by_a_worker_that_is_behind(
    db_engine: None, deploy: Any
) -> None:
    deploy(NEW, OLD)
    alice = await Visitor.logged_in("alice")
    new = await alice.fetch_key()
    deploy(OLD, NEW)
    socket = alice.socket(key=new)
    assert await socket.open() is None
    await socket.leave()


async def test_a_page_whose_key_is_gone_learns_the_new_kid_and_goes_on(
    db_engine: None, deploy: Any
) -> None:
    deploy(OLD)
    alice = await Visitor.logged_in("alice")
    old = await alice.fetch_key()
    deploy(NEW)
    socket = alice.socket(key=old)
    hello = await socket.greeting()
    new = await alice.fetch_key()  # while the handshake waits
    assert hello is not None
    assert new is not None
    assert hello.kid == new.kid
    await socket.send_frame(socket.wire.reply(new.psk, (), socket.binding))
    assert await socket.event() is not None
    assert await socket.ask("hello") == "hello"
    await socket.leave()


async def test_a_key_of_a_root_that_left_the_list_opens_nothing(
    db_engine: None, deploy: Any
) -> None:
    deploy(OLD)
    alice = await Visitor.logged_in("alice")
    old = await alice.fetch_key()
    deploy(NEW)
    socket = alice.socket(key=old)
    with pytest.raises(DecryptionFailed):  # it cannot even read the greeting
        await socket.open()
    await socket.send_frame(b"\x02" + bytes(64))
    assert await socket.closed() == (4400, "")


@pytest.mark.parametrize(("passphrases", "answer"), [((NEW, OLD), True), ((NEW,), False)])
async def test_a_classic_page_works_until_the_old_passphrase_leaves_the_list(
    db_engine: None, deploy: Any, passphrases: tuple[str, ...], answer: bool
) -> None:
    deploy(OLD)
    alice = await Visitor.logged_in("alice")
    page = Crypt((await alice.fetch_keys())["gcrypt.v1"]["passphrase"])
    deploy(*passphrases)
    socket = alice.socket()
    socket.scope["subprotocols"] = []
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output())["type"] == "websocket.accept"
    await socket.send_input({"type": "websocket.receive", "text": page.encrypt({"id": 1})})
    event = await socket.receive_output()
    if answer:
        assert page.decrypt(event["text"]) == {"id": 1}
        await socket.leave()
    else:
        assert event["code"] == 4400


STAGES = [
    {"GCRYPT_PASSPHRASE": OLD, "GCRYPT_PASSPHRASE_PREVIOUS": NEW},
    {"GCRYPT_PASSPHRASE": NEW, "GCRYPT_PASSPHRASE_PREVIOUS": OLD},
    {"GCRYPT_PASSPHRASE": NEW, "GCRYPT_PASSPHRASE_PREVIOUS": ""},
]
"""The runbook of `docs/sessions.md`, each stage rolled out worker by worker."""


@pytest.mark.cluster
async def test_the_runbook_refuses_nobody_at_any_moment(demo: Site) -> None:
    with ExitStack() as stack:
        workers = [Daphne("demo_project.asgi:application", demo) for _ in range(2)]
        for worker in workers:
            worker.env["GCRYPT_PASSPHRASE"] = OLD
            stack.enter_context(worker)
        alice = Scriptless()
        await asyncio.to_thread(alice.log_in, workers[0].url, "alice")
        held = first = await fetch(alice, workers[0])  # by a page that stays open
        for env in STAGES:
            for updated in workers:
                bystander = workers[0] if updated is workers[1] else workers[1]
                async with connect(alice, bystander, held) as live:
                    await asyncio.to_thread(updated.restart, **env)
                    assert await count(live) == 2, "another worker's connection was dropped"
                fresh = await fetch(alice, updated)
                for page in (held, fresh):
                    for worker in workers:
                        for profile in KEYED:
                            async with connect(alice, worker, page, profile) as socket:
                                assert await count(socket) == 2
            if env["GCRYPT_PASSPHRASE"] == NEW:
                held = await fetch(alice, workers[0])  # loaded anew before the old one goes
        for profile in KEYED:
            with pytest.raises(GcryptError):
                async with connect(alice, workers[0], first, profile) as socket:
                    await count(socket)


def connect(
    alice: Scriptless, worker: Daphne, keys: dict[str, Any], profile: Profile | None = None
) -> Any:
    return alice.connect(worker.url, "/ws/counter/", keys, profile=profile)


async def fetch(alice: Scriptless, worker: Daphne) -> dict[str, Any]:
    return await asyncio.to_thread(alice.fetch_keys, worker.url)


async def count(socket: Any) -> int:
    await socket.send_json({"id": 1})
    answer: int = (await socket.receive_json())["id"]
    return answer
