from __future__ import annotations

import pytest

from gcrypt_channels.protocol.states import TRANSITIONS, State, Step

ENDS = {State.CLOSED, State.FAILED}


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_but_those_of_a_failure_can_be_reached() -> None:
    reached = {State.START}
    while True:
        more = {
            state
            for row in (TRANSITIONS[state] for state in reached)
            for steps in row
            for state in steps.values()
        }
        if more <= reached:
            break
        reached |= more
    assert reached == set(State) - {State.FAILED, State.OVERFLOWED}


def test_nothing_leads_out_of_the_ends_and_something_out_of_all_others() -> None:
    assert {
        state for state, (server, client) in TRANSITIONS.items() if not server and not client
    } == ENDS


def test_a_side_that_closed_says_nothing_more() -> None:
    for server, client in TRANSITIONS.values():
        if Step.CLOSE in server:
            assert not TRANSITIONS[server[Step.CLOSE]][0]
        if Step.CLOSE in client:
            assert not TRANSITIONS[client[Step.CLOSE]][1]


def test_a_client_may_send_data_only_after_it_saw_the_accept() -> None:
    accepted = {State.OPEN, State.SERVER_CLOSED, State.CLIENT_CLOSED}
    for state, (server, client) in TRANSITIONS.items():
        if state not in accepted:
            assert Step.DATA not in client
            assert Step.DATA not in server
            assert Step.GROUP not in server


@pytest.mark.parametrize("step", [Step.HELLO, Step.ACCEPT, Step.GROUP])
def test_some_steps_are_the_servers_alone(step: Step) -> None:
    assert all(step not in client for _, client in TRANSITIONS.values())


def test_reply_is_the_clients_alone() -> None:
    assert all(Step.REPLY not in server for server, _ in TRANSITIONS.values())
