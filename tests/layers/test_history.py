"""The store of histories: the same promises of Redis and of the process's own."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from channels_redis.core import RedisChannelLayer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.exceptions import ImproperlyConfigured
from redis import Redis as RedisClient

from gcrypt_channels.conf import HistoryLimits, HistorySettings, conf
from gcrypt_channels.crypto.primitives import AesGcm, hkdf
from gcrypt_channels.exceptions import DecryptionFailed, TryAgainLater
from gcrypt_channels.keys import purpose_secret
from gcrypt_channels.layers import history as histories
from gcrypt_channels.layers.envelope import Envelope, group_tag
from gcrypt_channels.layers.history import (
    WHOLE,
    History,
    Place,
    ProcessStore,
    RedisStore,
    current_history,
    limits_of,
)
from tests.servers import Redis

LIMITS = HistoryLimits(messages=5, seconds=300)


def redis_history(redis: Redis) -> History:
    return History(RedisStore(HistorySettings(redis.url, (), ())))


def process_history(redis: Redis) -> History:
    return History(ProcessStore())


@pytest.fixture(params=[redis_history, process_history])
def history(request: pytest.FixtureRequest, redis: Redis) -> History:
    made: History = request.param(redis)
    return made


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    return f"room {request.node.name}"


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


async def append(history: History, room: str, *numbers: int) -> Place:
    place = Place("", 0)
    for number in numbers:
        place = await history.append(room, b"%d" % number, LIMITS)
    return place


async def test_messages_are_counted_and_come_back_in_order(history: History, room: str) -> None:
    place = await append(history, room, 1, 2, 3)
    assert place.n == 3
    assert len(bytes.fromhex(place.epoch)) == 8
    window = await history.read(room, LIMITS, WHOLE, 0)
    assert window == (*place, [b"1", b"2", b"3"])
    assert window.after == 0


@pytest.mark.parametrize(
    ("after", "expected"), [(0, 5), (2, 5), (3, 4), (6, 1), (7, 0), (8, 0), (2**53 - 1, 0)]
)
async def test_what_is_behind_a_position_is_read(
    history: History, room: str, after: int, expected: int
) -> None:
    place = await append(history, room, *range(1, 8))
    window = await history.read(room, LIMITS, place.epoch, after)
    assert window.messages == [b"%d" % number for number in range(8 - expected, 8)]
    assert (window.n, window.after) == (7, 7 - expected)


async def test_of_another_epoch_all_is_read_and_without_one_nothing(
    history: History, room: str
) -> None:
    place = await append(history, room, 1, 2)
    assert len((await history.read(room, LIMITS, "0" * 16, 2)).messages) == 2
    assert await history.read(room, LIMITS, "", 0) == (*place, [])


async def test_a_silent_group_has_a_place_as_well(history: History, room: str) -> None:
    window = await history.read(room, LIMITS, "", 0)
    assert window.n == 0
    assert await append(history, room, 1) == (window.epoch, 1)


async def test_groups_are_counted_apart(history: History, room: str) -> None:
    one, two = await append(history, room, 1), await append(history, f"{room} 2", 1)
    assert one.n == two.n == 1
    assert one.epoch != two.epoch
    assert await history.places([f"{room} 2", "nobody's", room]) == [two, None, one]


async def test_what_is_too_old_is_not_read(history: History, room: str) -> None:
    limits = HistoryLimits(messages=5, seconds=1)
    place = await history.append(room, b"1", limits)
    while (await history.read(room, limits, WHOLE, 0)).messages:
        pass
    assert await history.places([room]) == [place]
    assert await history.append(room, b"2", limits) == (place.epoch, 2)
    assert await history.read(room, limits, WHOLE, 0) == (place.epoch, 2, [b"2"])


async def test_concurrent_senders_get_each_position_once(history: History, room: str) -> None:
    limits = HistoryLimits(messages=100, seconds=300)

    def publish() -> list[int]:
        async def run() -> list[int]:
            return [(await history.append(room, b"x", limits)).n for _ in range(20)]

        return async_to_sync(run)()

    found = await asyncio.gather(*(asyncio.to_thread(publish) for _ in range(4)))
    assert sorted(n for each in found for n in each) == list(range(1, 81))
    assert len((await history.read(room, limits, WHOLE, 0)).messages) == 80


# At rest


async def test_a_message_is_sealed_as_documented(redis: Redis, room: str, settings: Any) -> None:
    await append(redis_history(redis), room, 42)
    tag = group_tag(room)
    with RedisClient(port=redis.port) as client:
        [entry] = cast(Any, client).lrange(f"gcrypt:history:{{{tag.hex()}}}:messages", 0, -1)
    _, _, data = entry.partition(b":")
    sender, number = data[16:32], data[32:40]
    assert data[:16] == tag
    secret = purpose_secret("history", settings.GCRYPT_PASSPHRASE)
    key = hkdf(secret, info=b"gcrypt history" + room.encode() + sender, length=32)
    associated_data = room.encode() + data[16:48]
    assert AesGcm(key).open(bytes(4) + number, data[48:], associated_data) == b"42"
    with pytest.raises(DecryptionFailed):
        Envelope.from_bytes(data).open(room)  # nothing that is kept is a live message


def entries(redis: Redis, room: str) -> Any:
    return f"gcrypt:history:{{{group_tag(room).hex()}}}:messages"


def swap(client: Any, key: str, others: str) -> None:
    first, second = client.lrange(key, 0, 1)
    client.lset(key, 0, second)
    client.lset(key, 1, first)


def repeat(client: Any, key: str, others: str) -> None:
    client.lset(key, 1, client.lindex(key, 0))


def flip(client: Any, key: str, others: str) -> None:
    entry = bytearray(client.lindex(key, 0))
    entry[-1] ^= 1
    client.lset(key, 0, bytes(entry))


def graft(client: Any, key: str, others: str) -> None:
    client.lset(key, 0, client.lindex(others, 0))


def garble(client: Any, key: str, others: str) -> None:
    client.lset(key, 0, "9999999999999:x")


@pytest.mark.parametrize("change", [swap, repeat, flip, graft, garble])
async def test_a_window_that_was_changed_is_not_used(
    redis: Redis, room: str, change: Any, caplog: pytest.LogCaptureFixture
) -> None:
    history = redis_history(redis)
    place = await append(history, room, 1, 2, 3)
    await append(history, f"{room} 2", 1, 2, 3)
    with RedisClient(port=redis.port) as client:
        change(client, entries(redis, room), entries(redis, f"{room} 2"))
    with caplog.at_level(logging.ERROR):
        window = await history.read(room, LIMITS, WHOLE, 0)
    assert window == (*place, [])
    assert "was changed" in caplog.text


async def test_both_passphrases_open_a_window(redis: Redis, room: str, settings: Any) -> None:
    history = redis_history(redis)
    old = settings.GCRYPT_PASSPHRASE
    await append(history, room, 1)
    settings.GCRYPT_PASSPHRASE = ["another passphrase, as long as it", old]
    await append(history, room, 2)
    assert (await history.read(room, LIMITS, WHOLE, 0)).messages == [b"1", b"2"]


# Redis comes and goes


async def test_a_restart_begins_a_new_epoch(own_redis: Redis, tmp_path: Any, room: str) -> None:
    own_redis.stop()
    own_redis.options = ("--dir", str(tmp_path), "--dbfilename", "dump.rdb")
    own_redis.start()
    history = redis_history(own_redis)
    place = await append(history, room, 1, 2)
    with RedisClient(port=own_redis.port) as client:
        client.save()
    await append(history, room, 3)
    own_redis.kill()
    own_redis.start()  # with the older state
    with RedisClient(port=own_redis.port) as client:
        assert client.llen(entries(own_redis, room)) == 2
    assert await history.places([room]) == [None]
    after = await append(history, room, 4)
    assert after.n == 1
    assert after.epoch != place.epoch
    window = await history.read(room, LIMITS, place.epoch, 2)
    assert window == (*after, [b"4"])


async def test_a_wiped_store_begins_a_new_epoch(own_redis: Redis, room: str) -> None:
    history = redis_history(own_redis)
    place = await append(history, room, 1, 2)
    with RedisClient(port=own_redis.port) as client:
        client.flushall()
    assert await history.places([room]) == [None]
    window = await history.read(room, LIMITS, place.epoch, 2)
    assert window.n == 0
    assert window.epoch != place.epoch


async def test_what_was_trimmed_leaves_the_positions(own_redis: Redis, room: str) -> None:
    history = redis_history(own_redis)
    place = await append(history, room, 1, 2, 3)
    with RedisClient(port=own_redis.port) as client:
        client.ltrim(entries(own_redis, room), 2, -1)
        assert await history.read(room, LIMITS, place.epoch, 0) == (place.epoch, 3, [b"3"])
        client.delete(entries(own_redis, room))
    assert await append(history, room, 4) == (place.epoch, 4)
    assert await history.read(room, LIMITS, place.epoch, 0) == (place.epoch, 4, [b"4"])


async def test_what_may_have_been_counted_is_not_counted_again(redis: Redis, room: str) -> None:
    """The connection breaks before the answer comes."""
    store = RedisStore(HistorySettings(redis.url, (), ()))
    history = History(store)
    await append(history, room, 1)
    client = await store._client()
    call, calls = client.append, []

    async def lose_the_answer(*arguments: Any) -> Any:
        answer = await call(*arguments)
        calls.append(answer)
        if len(calls) == 1:
            raise client.lost
        return answer

    vars(client)["append"] = lose_the_answer
    assert (await append(history, room, 2)).n == 2
    assert len(calls) == 2
    assert (await append(history, room, 3)).n == 3
    window = await history.read(room, LIMITS, WHOLE, 0)
    assert window.messages == [b"1", b"2", b"3"]


async def test_a_connection_that_was_closed_is_opened_again(own_redis: Redis, room: str) -> None:
    history = redis_history(own_redis)
    await append(history, room, 1)
    with RedisClient(port=own_redis.port) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert (await append(history, room, 2)).n == 2
    window = await history.read(room, LIMITS, WHOLE, 0)
    assert window.messages == [b"1", b"2"]


async def test_redis_away_is_try_again_later(own_redis: Redis, room: str) -> None:
    history = redis_history(own_redis)
    await append(history, room, 1)
    own_redis.kill()
    for attempt in (append(history, room, 2), history.read(room, LIMITS, WHOLE, 0)):
        with pytest.raises(TryAgainLater):
            await attempt
    with pytest.raises(TryAgainLater):
        await history.places([room])
    own_redis.start()
    assert (await append(history, room, 3)).n == 1


async def test_a_redis_that_hangs_is_waited_for_no_longer_than_the_limit(
    own_redis: Redis, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it carries out later keeps the window in order."""
    monkeypatch.setattr(histories, "LAYER_TIMEOUT", 0.5)
    history = redis_history(own_redis)
    await append(history, room, 1)
    own_redis.suspend()
    with pytest.raises(TryAgainLater):
        await append(history, room, 2)
    with pytest.raises(TryAgainLater):
        await history.read(room, LIMITS, WHOLE, 0)
    own_redis.resume()
    await append(history, room, 3)
    messages = (await history.read(room, LIMITS, WHOLE, 0)).messages
    assert {b"1", b"3"} <= set(messages)


# Settings


def test_the_longest_prefix_decides(settings: Any) -> None:
    limits = {"messages": 1, "seconds": 1}
    settings.GCRYPT = {
        "HISTORY": {
            "GROUPS": {
                "chat.": {**limits, "messages": 2},
                "": limits,
                "chat.room.": {**limits, "messages": 3},
            }
        }
    }
    found = [limits_of(each) for each in ("x", "chat.1", "chat.room.1", "gcrypt.user.1")]
    assert [each and each.messages for each in found] == [1, 2, 3, None]


def test_without_the_setting_no_group_has_a_history() -> None:
    assert limits_of("chat.1") is None
    with pytest.raises(ImproperlyConfigured):
        current_history(None)


def test_a_layer_that_reaches_others_needs_a_store_that_does(settings: Any, redis: Redis) -> None:
    settings.GCRYPT = {"HISTORY": {"GROUPS": {"": {"messages": 1, "seconds": 1}}}}
    assert current_history(None) is current_history(None)
    with pytest.raises(ImproperlyConfigured, match="URL"):
        current_history(RedisChannelLayer(hosts=[redis.url]))


def test_a_forked_process_shares_no_connection(settings: Any, redis: Redis) -> None:
    settings.GCRYPT = {"HISTORY": {"URL": redis.url, "GROUPS": {"": {"messages": 1, "seconds": 1}}}}
    history = current_history(None)
    histories.forget_histories()
    assert current_history(None) is not history
    assert "redis://" not in repr(conf.history)


class Sentinel(Redis):
    """A Sentinel that knows one server, as `kept`."""

    LISTENING = re.compile(r"\+monitor master kept")

    def __init__(self, directory: Path, server: Redis, *options: str) -> None:
        super().__init__()
        self.config = directory / "sentinel.conf"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            *options,
            f"sentinel monitor kept 127.0.0.1 {server.port} 1",
        ]
        self.config.write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [*super().command()[:1], str(self.config), "--sentinel"]


async def test_a_sentinel_tells_which_server_it_is(redis: Redis, tmp_path: Path, room: str) -> None:
    with Sentinel(tmp_path, redis) as sentinel:
        settings = HistorySettings("redis://kept/1", (sentinel.url[:-2],), ())
        place = await append(History(RedisStore(settings)), room, 1)
    with RedisClient(port=redis.port, db=1) as client:
        assert client.llen(entries(redis, room)) == place.n == 1


# TLS


def make_certificate(directory: Path) -> dict[str, str]:
    """A certificate of 127.0.0.1 that vouches for itself: options of a server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a Redis of the tests")])
    now = datetime.now(timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "redis.crt").write_bytes(certificate.public_bytes(pem))
    (directory / "redis.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {
        "port": "0",
        "tls-cert-file": str(directory / "redis.crt"),
        "tls-key-file": str(directory / "redis.key"),
        "tls-ca-cert-file": str(directory / "redis.crt"),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


async def test_tls_is_used_and_checks_the_certificate(tmp_path: Path, room: str) -> None:
    options = make_certificate(tmp_path)
    known = f"?ssl_ca_certs={options['tls-ca-cert-file']}&ssl_check_hostname=True"
    server = Redis(*(word for name, value in options.items() for word in (f"--{name}", value)))
    server.options += ("--tls-port", str(server.port))
    with server:
        address = f"rediss://127.0.0.1:{server.port}/1"
        history = History(RedisStore(HistorySettings(address + known, (), ())))
        place = await append(history, room, 1, 2)
        assert (await history.read(room, LIMITS, place.epoch, 0)).messages == [b"1", b"2"]
        unknown, misnamed = address, address.replace("127.0.0.1", "localhost") + known
        for url in (unknown, misnamed, server.url):
            with pytest.raises(TryAgainLater):
                await append(History(RedisStore(HistorySettings(url, (), ()))), room, 3)

        lines = [f"{name} {value}" for name, value in options.items()]
        sentinel = Sentinel(tmp_path, server, *lines)
        sentinel.config.write_text(f"{sentinel.config.read_text()}tls-port {sentinel.port}\n")
        with sentinel:
            urls = (f"rediss://127.0.0.1:{sentinel.port}{known}",)
            history = History(RedisStore(HistorySettings(f"rediss://kept/1{known}", urls, ())))
            assert await append(history, room, 3) == place._replace(n=3)
