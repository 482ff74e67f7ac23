"""What was read: taken or pushed, paused and resumed, in order."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from edge_agent.server.receive_queue import INBOX_BYTES, INBOX_MESSAGES, Inbox


def no_fault(error: Exception) -> None:
    raise error


async def test_what_has_gathered_is_taken_as_one_list() -> None:
    inbox = Inbox(no_fault)
    assert inbox.deliver(["a"])
    assert inbox.deliver([b"b", "c"])
    assert await inbox.take() == ["a", b"b", "c"]


async def test_who_takes_waits_for_something_to_come() -> None:
    inbox = Inbox(no_fault)
    taken: list[list[str | bytes]] = []

    async def take() -> None:
        taken.append(await inbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        inbox.deliver(["a"])
        inbox.deliver(["b"])
    assert taken == [["a", "b"]]


@pytest.mark.parametrize("messages", [["x"] * INBOX_MESSAGES, [b"x" * INBOX_BYTES]])
async def test_reading_pauses_while_too_much_waits(messages: list[str | bytes]) -> None:
    inbox = Inbox(no_fault)
    assert not inbox.deliver(messages)
    assert inbox.is_paused
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        assert await inbox.take() == messages
    assert not inbox.is_paused


async def test_after_diverting_messages_are_pushed_those_first_that_were_there() -> None:
    inbox = Inbox(no_fault)
    pushed: list[list[str | bytes]] = []

    def push(messages: list[str | bytes]) -> bool:
        pushed.append(messages)
        return True

    inbox.deliver(["hello", "1"])
    taken = await inbox.take()
    inbox.deliver(["2"])
    inbox.divert(push, taken[1:])
    assert inbox.deliver(["3"])
    assert pushed == [["1", "2"], ["3"]]


async def test_a_push_that_has_no_room_pauses_until_it_resumes() -> None:
    inbox = Inbox(no_fault)
    inbox.divert(lambda messages: False)
    assert not inbox.deliver(["1"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        inbox.resume()


async def test_a_push_that_raises_is_told_to_the_owner_and_not_to_the_reader() -> None:
    faults: list[Exception] = []
    inbox = Inbox(faults.append)

    def push(messages: list[str | bytes]) -> bool:
        raise ValueError("a bug")

    inbox.divert(push)
    inbox.deliver(["1"])
    assert [str(fault) for fault in faults] == ["a bug"]


async def test_after_the_end_what_waits_is_handed_out_and_nothing_more_comes_in() -> None:
    inbox = Inbox(no_fault)
    inbox.deliver(["1"])
    inbox.end(throw_away=False)
    assert inbox.deliver(["2"])
    assert await inbox.take() == ["1"]
    assert await inbox.take() == []


async def test_an_end_can_throw_away_what_waits_and_wakes_everybody() -> None:
    inbox = Inbox(no_fault)
    inbox.deliver([b"x" * INBOX_BYTES])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_room)
        nursery.start_soon(inbox.wait_got, 5)
        await trio.testing.wait_all_tasks_blocked()
        inbox.end(throw_away=True)
    assert await inbox.take() == []


async def test_who_waits_for_the_library_waits_for_all_that_it_has() -> None:
    inbox = Inbox(no_fault)
    assert inbox.has_got(0)
    assert not inbox.has_got(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_got, 2)
        await inbox.deliver_passed("1")
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        await inbox.deliver_passed("2")
    assert inbox.has_got(2)
    assert await inbox.take() == ["1", "2"]
