"""The eight attacks. Each runs against both servers; the verdict is made of what was observed.

The page plays alice: an attack tells it what to do, such as to send a message or to connect anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis.asyncio
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.contrib.auth import alogout
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from websockets.exceptions import WebSocketException

from demo_project.settings import REDIS_URL
from demo_project.stage.actors import fetch_key, socket_of
from demo_project.stage.redis_watch import PLAIN_LAYER, plain_group
from demo_project.stage.sandbox import PATIENCE, SIDES, Change, Note, Sandbox, Side
from gcrypt_channels.exceptions import GcryptError
from gcrypt_channels.protocol.events import Binding
from gcrypt_channels.protocol.frames import FrameKind
from gcrypt_channels.protocol.profiles import V2, V3, SecureProfile
from gcrypt_channels.protocol.secure import SecureSession

Tone = Literal["open", "sealed", "refused", "none"]

PAYMENT = "Please pay carol 100"
DOOR_CODE = "The door code is 4711"
GREETING = "Hello, lobby"
RECORDED = "Tell nobody: 4711"
FORGED = "The door code is 0000"
GENUINE = "Still here"
INVALID_FRAME = 4400
LOGGED_OUT = 4401


@dataclass(frozen=True)
class Verdict:
    """What came of an attack on one server.

    Attributes:
        tone: whether it worked ("open"), showed nothing but noise, was refused, or had no object.
        word: the verdict in one or two words.
        mark: the same for the button.
        got: what the attacker got.
        saw: what the client saw of it.
        why: the reason.
    """

    tone: Tone
    word: str
    mark: str
    got: str
    saw: str
    why: str


Attack = Callable[[Sandbox], Awaitable[tuple[Verdict, Verdict]]]


class NotNowError(Exception):
    """The attack cannot be run here; the message says why."""


# What was seen


def _bob_got(notes: list[Note], side: Side) -> list[str]:
    return [each.facts["message"] for each in notes if each.is_("bob", side)]


def _consumer_got(notes: list[Note], side: Side) -> list[str]:
    return [
        each.facts["got"] for each in notes if each.is_("consumer", side) and "got" in each.facts
    ]


def _close_of(notes: list[Note], side: Side, actor: str = "alice") -> int:
    """The code with which the server closed the socket; 0 if it did not."""
    closes = (each.facts["code"] for each in notes if each.is_("close", side, actor=actor))
    return next(closes, 0)


def _bob_got_or_closed(side: Side, times: int = 1) -> Callable[[list[Note]], bool]:
    return lambda notes: len(_bob_got(notes, side)) >= times or _close_of(notes, side) > 0


def _surprise(code: int) -> Verdict:
    """Neither what an attacker wants nor what the documentation says."""
    seen = f"Close {code}." if code else f"No answer in {PATIENCE:.0f} s."
    return Verdict(
        "open", "Not as expected", "surprise", "Not known.", seen, "See the server's log."
    )


def _refused(code: int, got: str, why: str, saw: str = "then a new connection.") -> Verdict:
    if code != INVALID_FRAME:
        return _surprise(code)
    return Verdict("refused", "Refused", "refused", got, f"Close {code}, {saw}", why)


# On the wire


def _lie_in_wait(sandbox: Sandbox, what: str, change: Change, **order: Any) -> int:
    """Arm a change of the next frame or request on both servers, and have the page make one."""
    for side in SIDES:
        sandbox.armed[what, side] = change
    mark = sandbox.mark()
    sandbox.tell({"at": "page", **order})
    return mark


def _flipped(event: dict[str, Any]) -> list[dict[str, Any]]:
    """One bit: in clear text the one that makes a 1 a 9; under encryption any behind the header."""
    if event.get("text") is not None:
        return [{**event, "text": event["text"].replace("1", chr(ord("1") ^ 8), 1)}]
    frame = bytearray(event["bytes"])
    frame[len(frame) // 2] ^= 8
    return [{**event, "bytes": bytes(frame)}]


async def flip(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """The proxy changes one bit of alice's next frame."""
    mark = _lie_in_wait(sandbox, "frame", _flipped, say=PAYMENT)
    notes = await sandbox.until(mark, *(_bob_got_or_closed(side) for side in SIDES))

    def verdict(side: Side) -> Verdict:
        got = _bob_got(notes, side)
        if got and got[0] != PAYMENT:
            return Verdict(
                "open", "It worked", "worked", f"bob reads “{got[0]}”.",
                "Nothing unusual, on either side.",
                "A WebSocket frame carries no proof of who wrote it.",
            )  # fmt: skip
        if got or _consumer_got(notes, side):
            return _surprise(_close_of(notes, side))
        return _refused(
            _close_of(notes, side),
            "A closed connection. The consumer saw nothing.",
            "Each frame is authenticated: with one wrong bit it does not open.",
        )

    return verdict("plain"), verdict("gcrypt")


async def replay(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """The proxy hands alice's next frame on twice."""
    mark = _lie_in_wait(sandbox, "frame", lambda event: [event, event], say=PAYMENT)
    notes = await sandbox.until(
        mark,
        *(_bob_got_or_closed(side, times=2) for side in SIDES),
        lambda notes: len(_bob_got(notes, "gcrypt")) > 0,
    )

    def verdict(side: Side) -> Verdict:
        times = len(_bob_got(notes, side))
        if times > 1:
            return Verdict(
                "open", "It worked", "worked", "carol is paid twice.",
                "Nothing. alice pressed Send once.",
                "The server cannot tell a copy from a message.",
            )  # fmt: skip
        if times != 1:
            return _surprise(_close_of(notes, side))
        return _refused(
            _close_of(notes, side),
            "A closed connection. The copy reached nobody.",
            "Frames are counted: a copy is out of its turn and does not open.",
        )

    return verdict("plain"), verdict("gcrypt")


async def splice(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """alice opens one room, and the proxy makes it another."""
    room, other = sandbox.name, sandbox.other_room

    def redirected(scope: dict[str, Any]) -> list[dict[str, Any]]:
        path = scope["path"].replace(room, other)
        sandbox.note("request", _side_of(path), was=f"/ws/{room}/", now=f"/ws/{other}/")
        return [{**scope, "path": path, "raw_path": path.encode()}]

    mark = _lie_in_wait(sandbox, "request", redirected, reopen=True, say=GREETING)

    def over(side: Side) -> Callable[[list[Note]], bool]:
        return lambda notes: _got_into(notes, side, other) or _close_of(notes, side) > 0

    notes = await sandbox.until(mark, *(over(side) for side in SIDES))

    def verdict(side: Side) -> Verdict:
        if _got_into(notes, side, other):
            return Verdict(
                "open", "It worked", "worked", "alice acts in a room she never opened.",
                "Nothing. Her page shows the lobby.",
                "Nothing ties a socket to the URL that the page asked for.",
            )  # fmt: skip
        if any(each.is_("consumer", side, room=other) for each in notes):
            return _surprise(_close_of(notes, side))
        return _refused(
            _close_of(notes, side),
            "A closed connection. No consumer was started.",
            "The sealed handshake repeats host and path, and the server compares.",
            "before it opens.",
        )

    return verdict("plain"), verdict("gcrypt")


def _got_into(notes: list[Note], side: Side, room: str) -> bool:
    return any(each.is_("consumer", side, room=room, got=GREETING) for each in notes)


def _side_of(path: str) -> Side:
    return "plain" if path.startswith("/ws/plain/") else "gcrypt"


async def strip(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """The proxy deletes the best profile from what alice's page offers."""
    stripped: dict[Side, str] = {}

    def weakened(scope: dict[str, Any]) -> list[dict[str, Any]]:
        side = _side_of(scope["path"])
        profiles = [each for each in scope["subprotocols"] if each.startswith("gcrypt.v")]
        if len(profiles) < 2:
            return [scope]
        stripped[side] = profiles[0]
        rest = [each for each in scope["subprotocols"] if each != profiles[0]]
        sandbox.note("request", side, was=", ".join(profiles), now=", ".join(profiles[1:]))
        headers = [
            (name, ", ".join(rest).encode() if name == b"sec-websocket-protocol" else value)
            for name, value in scope["headers"]
        ]
        return [{**scope, "subprotocols": rest, "headers": headers}]

    mark = _lie_in_wait(sandbox, "request", weakened, reopen=True, say=DOOR_CODE)
    notes = await sandbox.until(mark, *(_bob_got_or_closed(side) for side in SIDES))

    def verdict(side: Side) -> Verdict:
        if side not in stripped:
            offered = "no encryption" if side == "plain" else "one profile only, in this browser,"
            return Verdict(
                "none", "Nothing to strip", "no need", "Everything, as before."
                if side == "plain" else "Nothing.", "Nothing.",
                f"There is {offered} that could be weakened.",
            )  # fmt: skip
        if DOOR_CODE in _bob_got(notes, side):
            return Verdict(
                "open", "It worked", "worked", "A weaker connection.", "Nothing.",
                "The offer is not protected.",
            )  # fmt: skip
        return _refused(
            _close_of(notes, side),
            "A closed connection. Not one message was sent.",
            "The sealed handshake repeats the offer, and the server compares.",
            "before it opens.",
        )

    return verdict("plain"), verdict("gcrypt")


# In Redis


async def read(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """Somebody reads along in the channel layer."""
    mark = sandbox.mark()
    sandbox.tell({"at": "page", "say": DOOR_CODE})
    notes = await sandbox.until(
        mark,
        *(
            lambda notes, side=side: any(each.is_("redis", side) for each in notes)
            for side in SIDES
        ),
        *(lambda notes, side=side: DOOR_CODE in _bob_got(notes, side) for side in SIDES),
    )

    def verdict(side: Side) -> Verdict:
        seen = [each.facts for each in notes if each.is_("redis", side)]
        if not seen or DOOR_CODE not in _bob_got(notes, side):
            return _surprise(0)
        everything = " ".join(each["group"] + each["member"] for each in seen)
        if any(word in everything for word in (DOOR_CODE, "alice", sandbox.name)):
            return Verdict(
                "open", "Everything read", "read all",
                "Each message, its author, and the name of the room.", "Nothing.",
                "The channel layer stores messages as they are.",
            )  # fmt: skip
        return Verdict(
            "sealed", "Noise", "noise", "A hash of the room's name, sizes and times.",
            "Nothing. bob got the message.",
            "Workers seal group messages for each other, not for Redis.",
        )  # fmt: skip

    return verdict("plain"), verdict("gcrypt")


async def forge(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """Somebody who can write to Redis makes up a message, and repeats a recorded one."""
    if not REDIS_URL:
        raise NotNowError("The demo runs without Redis: start it with make demo.")
    before = sandbox.mark()
    sandbox.tell({"at": "page", "say": RECORDED})
    recorded = await sandbox.until(before, lambda notes: RECORDED in _bob_got(notes, "gcrypt"))
    mark = sandbox.mark()
    message = {"user": "alice", "message": FORGED}
    layer = RedisChannelLayer(hosts=[REDIS_URL])
    await layer.group_send(plain_group(sandbox.name), {"type": "chat.message", **message})
    if channel := sandbox.bobs_channel.get("gcrypt"):
        await layer.send(channel, {"type": "chat.message", **message})
        await layer.send(channel, {"type": "websocket.receive", "text": json.dumps(message)})
    await _put_again([each.facts for each in recorded if each.is_("redis", "gcrypt")])
    await layer.close_pools()
    # A genuine message behind the forged ones shows that they have been dealt with.
    sandbox.tell({"at": "page", "say": GENUINE})
    notes = await sandbox.until(
        mark, *(lambda notes, side=side: GENUINE in _bob_got(notes, side) for side in SIDES)
    )

    def verdict(side: Side) -> Verdict:
        got = _bob_got(notes, side)
        if FORGED in got or RECORDED in got:
            return Verdict(
                "open", "It worked", "worked", "bob reads words that alice never wrote.",
                "A message from alice like every other.",
                "Consumers believe whatever the channel layer hands them.",
            )  # fmt: skip
        code = _close_of(notes, side, "bob") or _close_of(notes, side)
        if code or GENUINE not in got:
            return _surprise(code)
        return Verdict(
            "refused", "Dropped", "dropped", "Nothing. The server's log got a line.",
            "Nothing. All sockets stay open.",
            "No key, no message: what does not open reaches no handler.",
        )  # fmt: skip

    return verdict("plain"), verdict("gcrypt")


async def _put_again(recorded: list[dict[str, Any]]) -> None:
    """Put recorded messages back into Redis, as they were and with one letter changed."""
    client = redis.asyncio.from_url(REDIS_URL)
    try:
        for each in recorded:
            # MONITOR writes bytes that do not print as a Python literal does.
            member = each["member"].encode("latin-1").decode("unicode_escape").encode("latin-1")
            altered = member[:-1] + bytes([member[-1] ^ 1])
            now = time.time()
            await client.zadd(each["channel"], {member: now, altered: now + 1e-3})
    finally:
        await client.aclose()


# On the login


async def cookie(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """A thief uses alice's session cookie, and tries what he has recorded before."""
    before = sandbox.mark()
    sandbox.tell({"at": "page", "reopen": True, "say": DOOR_CODE})
    recorded = await sandbox.until(
        before, *(lambda notes, side=side: DOOR_CODE in _bob_got(notes, side) for side in SIDES)
    )

    async def verdict(side: Side) -> Verdict:
        frames = [each.facts for each in recorded if each.is_("wire", side, actor="alice")]
        try:
            async with socket_of(sandbox, side, "thief", sandbox.alice_session):
                got_in = True
        except (OSError, WebSocketException, GcryptError):
            got_in = False
        if side == "plain":
            has_read = any(DOOR_CODE in each["data"] for each in frames)
        else:
            sent = [bytes.fromhex(each["data"]) for each in frames if each["to"] == "client"]
            has_read = await _opens(sandbox, sent)
        if not got_in:
            return _surprise(0)
        if has_read:
            return Verdict(
                "open", "He is alice", "got in",
                "A socket as alice, and all that the proxy ever logged.", "Nothing.",
                "The cookie is the login, and old logs are readable.",
            )  # fmt: skip
        return Verdict(
            "open", "He is alice, for now", "got in",
            "A socket as alice until she logs out. Recorded traffic stays sealed.",
            "Nothing. His socket ends with her session.", "No encryption undoes a stolen login.",
        )  # fmt: skip

    return await verdict("plain"), await verdict("gcrypt")


async def _opens(sandbox: Sandbox, recorded: list[bytes]) -> bool:
    """Whether any frame that the server sent behind its HELLO opens with the session's key."""
    key = await fetch_key(sandbox, sandbox.alice_session)
    hello = next(i for i, frame in enumerate(recorded) if frame[0] == FrameKind.HELLO)
    profiles: tuple[SecureProfile, ...] = (V3, V2)
    for profile in profiles:
        thief = SecureSession(profile, role="client")
        with suppress(GcryptError):  # it was another profile's HELLO, or the frame does not open
            thief.receive(recorded[hello])
            thief.reply(key.psk, (), Binding((profile,), sandbox.host, sandbox.path("gcrypt")))
            thief.receive(recorded[hello + 1])
            return True
    return False


async def logout(sandbox: Sandbox) -> tuple[Verdict, Verdict]:
    """alice logs out elsewhere, with two sockets open on each server: hers and a thief's."""
    async with AsyncExitStack() as opened:
        for side in SIDES:
            await opened.enter_async_context(
                socket_of(sandbox, side, "thief", sandbox.alice_session)
            )
        mark = sandbox.mark()
        sandbox.tell({"at": "page", "show": "Log out"})
        request = HttpRequest()
        request.session = SessionStore(sandbox.alice_session)
        request.user = sandbox.alice
        started = time.perf_counter()
        await alogout(request)
        await sandbox.until(
            mark,
            *(
                lambda notes, actor=actor: _close_of(notes, "gcrypt", actor) > 0
                for actor in ("alice", "thief")
            ),
        )
        took = (time.perf_counter() - started) * 1000
        layer: Any = get_channel_layer(PLAIN_LAYER)
        await layer.group_send(
            plain_group(sandbox.name), {"type": "chat.message", "user": "bob", "message": DOOR_CODE}
        )
        notes = await sandbox.until(
            mark,
            *(
                lambda notes, actor=actor: _is_told(notes, "plain", actor)
                for actor in ("alice", "thief")
            ),
        )

    def verdict(side: Side) -> Verdict:
        codes = {_close_of(notes, side, actor) for actor in ("alice", "thief")}
        if codes == {LOGGED_OUT}:
            return Verdict(
                "refused", "Closed", "closed", f"Close {LOGGED_OUT}, on every worker.",
                f"Close {LOGGED_OUT} “logged out”, after {took:.0f} ms.",
                "A socket lives exactly as long as the login that opened it.",
            )  # fmt: skip
        if codes == {0} and _is_told(notes, side, "thief"):
            return Verdict(
                "open", "Still connected", "went on",
                "Each further message, for as long as he likes.",
                "A page that says alice, and works.",
                "Channels looks at the session once, when a socket opens.",
            )  # fmt: skip
        return _surprise(max(codes))

    result = verdict("plain"), verdict("gcrypt")
    sandbox.tell({"at": "page", "renew": True})
    return result


def _is_told(notes: list[Note], side: Side, actor: str) -> bool:
    return any(
        each.is_("wire", side, actor=actor, to="client") and DOOR_CODE in each.facts["data"]
        for each in notes
    )


ATTACKS: dict[str, Attack] = {
    "cookie": cookie,
    "logout": logout,
    "flip": flip,
    "replay": replay,
    "splice": splice,
    "strip": strip,
    "read": read,
    "forge": forge,
}


async def run(sandbox: Sandbox, name: str) -> dict[str, Any]:
    """Run an attack; what the page shows of it.

    Raises:
        NotNowError: it cannot be run here.
    """
    async with sandbox.in_use:
        sandbox.armed.clear()
        try:
            plain, gcrypt = await ATTACKS[name](sandbox)
        finally:
            sandbox.armed.clear()
    return {"plain": asdict(plain), "gcrypt": asdict(gcrypt)}
