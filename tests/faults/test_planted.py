"""Each check of the harness fails when what it looks for is planted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.cases import SERVERS
from tests.faults.clients import Browser, Filter, OurClient, note
from tests.faults.garage import Garage
from tests.faults.ledger import Ear, Post, settle
from tests.faults.messages import text_of
from tests.faults.rig import Rig, Run
from tests.servers import Site

pytestmark = pytest.mark.cluster


def message(number: int) -> list[object]:
    return [number, text_of(number, 8)]


POSTS = {number: Post(float(number), number + 0.5, taken=number != 4) for number in range(1, 9)}


def account(
    *notes: object, began: float = 0.0, opened: float = 0.5, doubts: int = 0
) -> dict[str, int]:
    """The defects that an ear has which heard these numbers; `-n` is a gap of n."""
    ear = Ear(began, opened)
    for each in notes:
        if isinstance(each, int) and each < 0:
            ear.tell(-each)
        else:
            ear.hear(message(each) if isinstance(each, int) else each)
    return settle(POSTS, [ear], doubts=doubts).defects()


@pytest.mark.parametrize(
    ("notes", "defects"),
    [
        ((1, 2, 3), {}),
        ((1, -1, 3), {}),
        ((1, 3), {"untold": 1}),
        ((1, -1, 5), {"untold": 1}),  # 2 and 3, for 4 was refused
        ((1, -2, 5), {}),
        ((1, -3, 5), {}),  # it is not known that 4 was not on its way
        ((1, -4, 5), {"false_gaps": 1}),
        ((1, -1, 2), {"false_gaps": 1}),
        ((1, 2, 2), {"duplicate": 1}),
        ((1, -1, 3, 2), {"reordered": 1}),
        ((1, [2, "abc"]), {"wrong": 1}),
        ((1, [99, text_of(99, 8)]), {"wrong": 1}),
        ((1, "2"), {"wrong": 1}),
        ((3,), {"untold": 2}),
        ((-1, 3), {}),
        ((-3, 3), {"false_gaps": 1}),
        ((1, -5), {}),  # nothing came behind it that says whether it is true
    ],
)
def test_the_account_of_one_connection(notes: tuple[object, ...], defects: dict[str, int]) -> None:
    assert account(*notes) == defects


def test_a_doubt_is_told_once() -> None:
    assert account(1, -1, 2, doubts=1) == {}
    assert account(1, -2, 2, doubts=1) == {"false_gaps": 1}
    assert account(1, -1, 2, -1, 3, doubts=1) == {"false_gaps": 1}
    assert account(1, 3, doubts=1) == {"untold": 1}


def test_what_was_published_while_a_client_connected_may_be_missed_or_told() -> None:
    assert account(5, began=2.0, opened=4.7) == {}
    assert account(-3, 5, began=2.0, opened=4.7) == {}
    assert account(-4, 5, began=3.0, opened=4.7) == {"false_gaps": 2}


def test_what_was_published_before_a_client_was_in_need_not_be_told_unless_it_heard_more() -> None:
    assert account(3, opened=2.5) == {}
    assert account(-1, 5, opened=2.5) == {}
    assert account(1, -3, 6, opened=2.5) == {}
    assert account(1, -1, 6, opened=2.5) == {"untold": 2}


def dropping(ear: Ear, content: object) -> None:
    if content[0] % 20:  # type: ignore[index]
        ear.hear(content)


def doubling(ear: Ear, content: object) -> None:
    ear.hear(content)
    if content[0] % 20 == 0:  # type: ignore[index]
        ear.hear(content)


def reordering(ear: Ear, content: object) -> None:
    ear.hear(content)
    if content[0] % 20 == 0 and len(ear.notes) > 1:  # type: ignore[index]
        ear.notes[-2:] = reversed(ear.notes[-2:])


def garbling(ear: Ear, content: Any) -> None:
    number, text = content
    ear.hear([number, text if number % 20 else text[::-1]])


def inventing_gaps(ear: Ear, content: object) -> None:
    if content[0] % 20 == 0 and ear.notes:  # type: ignore[index]
        ear.tell(1)
    ear.hear(content)


PLANTED: dict[Filter, set[str]] = {
    note: set(),
    dropping: {"untold"},
    doubling: {"duplicate"},
    reordering: {"reordered", "untold"},
    garbling: {"wrong", "untold"},
    inventing_gaps: {"false_gaps"},
}


@pytest.fixture
def rig(garage: Garage, demo: Site) -> Rig:
    def make() -> Rig:
        return Rig(demo, layer="core", server=SERVERS["uvicorn"], workers=1)

    return garage.get("planted", make)


async def test_a_run_finds_what_is_done_to_its_messages(rig: Rig) -> None:
    run = Run(rig)
    async with run:
        browser = Browser(rig.workers[0].url)
        await browser.enter("bob")
        clients = {plant: run.admit(OurClient, browser, note=plant) for plant in PLANTED}
        await run.published(60)
        await run.recover()
    for plant, client in clients.items():
        assert set(settle(run.posts, client.ears).defects()) == PLANTED[plant], plant
    with pytest.raises(AssertionError) as caught:
        run.check()
    for kind in set[str]().union(*PLANTED.values()):
        assert kind in str(caught.value)


async def test_a_run_finds_who_does_not_come_back_and_ends_that_nobody_expects(rig: Rig) -> None:
    run = Run(rig)
    async with run:
        rig.redis.kill()
        with pytest.raises(AssertionError, match="not: every client is back"):
            await run.recover(within=1.0)
        rig.redis.start()
        await run.recover()
    with pytest.raises(AssertionError, match="ends with 1013"):
        run.check()


async def test_a_run_finds_what_a_worker_keeps(garage: Garage, demo: Site) -> None:
    garage.close()
    with Rig(demo, layer="core", server=SERVERS["uvicorn"], workers=1, PLANT="1") as rig:
        run = Run(rig, settle_within=1.0)
        async with run:
            await run.published(20)
        for found in ("connections left", "tasks left", "files left", "records in a log"):
            assert any(found in problem for problem in run.figures.problems), found
        with pytest.raises(AssertionError, match="files left"):
            run.check()
