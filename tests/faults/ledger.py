"""The account of what was published, and of what each connection heard and was told of.

What has to hold for one connection between two messages that it heard: every number in between that
the layer took is told as missing, and no more are told than there are numbers in between. Two
things are different before the first message: nobody needs to be told of what was published before
the connection was open, and one may be told for several.

The end of a connection tells of what comes after its last message.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.messages import is_intact


@dataclass
class Post:
    """One message of the publisher. `taken` is None while nobody knows."""

    began: float
    ended: float | None = None
    taken: bool | None = None


@dataclass
class Ear:
    """One connection of a client: when it began to connect, when it was open, what it heard.

    `notes` holds the contents of messages and the counts of gaps as they came.
    """

    began: float
    opened: float
    notes: list[tuple[str, object]] = field(default_factory=list)

    def hear(self, content: object) -> None:
        self.notes.append(("message", content))

    def tell(self, missed: int) -> None:
        self.notes.append(("gap", missed))


@dataclass
class Account:
    """What is to be reported of a run: the first two are no defects."""

    heard: int = 0
    missing: int = 0
    told: int = 0
    wrong: int = 0
    duplicate: int = 0
    reordered: int = 0
    untold: int = 0
    false_gaps: int = 0
    details: list[str] = field(default_factory=list)

    def defects(self) -> dict[str, int]:
        kinds = ("wrong", "duplicate", "reordered", "untold", "false_gaps")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def settle(posts: dict[int, Post], ears: list[Ear], *, doubts: int = 0) -> Account:
    """Compare what was published with what every connection heard.

    `doubts` is how many messages each connection may be told of that were not lost, because the
    server could not know.
    """
    account = Account()
    for ear in ears:
        _settle_one(posts, ear, account, doubts)
    return account


def _settle_one(posts: dict[int, Post], ear: Ear, account: Account, doubts: int) -> None:
    last: int | None = None
    heard: set[int] = set()
    told = 0
    for kind, value in ear.notes:
        if kind == "gap":
            assert isinstance(value, int)
            told += value
            continue
        if not is_intact(value) or value[0] not in posts:  # type: ignore[index]
            account.wrong += 1
            continue
        number: int = value[0]  # type: ignore[index]
        if number in heard:
            account.duplicate += 1
            continue
        if last is not None and number < last:
            account.reordered += 1
            continue
        doubts -= _compare(posts, ear, last, number, told, account, doubts)
        account.heard += 1
        account.told += told
        heard.add(number)
        last, told = number, 0


def _compare(
    posts: dict[int, Post],
    ear: Ear,
    last: int | None,
    number: int,
    told: int,
    account: Account,
    doubts: int,
) -> int:
    """Compare what was told between two messages, or before the first, with what was lost.

    Returns how many of the `doubts` were told.
    """
    between = _between(posts, ear, last, number)
    is_first = last is None
    lost = sum(
        bool(post.taken) and (post.began >= ear.opened or not is_first) for post in between.values()
    )
    account.missing += lost
    if told < (min(lost, 1) if is_first else lost):
        account.untold += lost - told
        account.details.append(
            f"between {last} and {number}: {lost} lost, {told} told ({_course(between, ear)})"
        )
    doubted = min(doubts, max(0, told - len(between)))
    if told - doubted > len(between):
        account.false_gaps += told - doubted - len(between)
        account.details.append(
            f"between {last} and {number}: {len(between)} missing, {told} told "
            f"({_course(between, ear)})"
        )
    return doubted


def _between(posts: dict[int, Post], ear: Ear, last: int | None, number: int) -> dict[int, Post]:
    """The posts between two messages, or those before the first that could reach the ear.

    Posts are numbered without a hole, and each ends before the next one begins.
    """
    found: dict[int, Post] = {}
    for each in range(number - 1, 0 if last is None else last, -1):
        post = posts[each]
        if last is None and post.ended is not None and post.ended < ear.began:
            break
        found[each] = post
    return dict(reversed(found.items()))


def _course(between: dict[int, Post], ear: Ear) -> str:
    """When the missing messages were sent, in seconds since the connection was open."""
    if not between:
        return "none"
    first, *_, last = [*between.values(), *between.values()]
    taken = [each for each, post in between.items() if post.taken]
    return (
        f"sent {first.began - ear.opened:+.2f} s to {last.began - ear.opened:+.2f} s after the "
        f"connection was open, taken {taken[:3]}…{taken[-3:]}"
    )
