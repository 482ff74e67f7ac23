"""sd_notify over a real socket, and whom the watchdog trusts."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from edge_agent.ops import systemd
from edge_agent.ops.systemd import Notifier, run_watchdog
from tests.patience import PATIENCE_S


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(PATIENCE_S)
        yield receiver


def heard(receiver: socket.socket) -> list[str]:
    """Everything sent so far, one datagram each."""
    found = []
    receiver.setblocking(False)
    while True:
        try:
            found.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return found


def test_ready_status_and_stopping_are_one_datagram_each(supervisor: socket.socket) -> None:
    notifier = Notifier(supervisor.getsockname())
    notifier.ready("listening on\n127.0.0.1:8765")
    notifier.status("forwarding")
    notifier.stopping()
    assert heard(supervisor) == [
        "READY=1\nSTATUS=listening on 127.0.0.1:8765",
        "STATUS=forwarding",
        "STOPPING=1",
    ]


def test_a_socket_in_the_abstract_namespace_is_named_with_an_at_sign() -> None:
    name = f"edge-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        Notifier("@" + name).alive()
        assert heard(receiver) == ["WATCHDOG=1"]


def test_a_descriptor_goes_with_its_lines(supervisor: socket.socket, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w") as handed:
        lines = ["FDSTORE=1", "FDNAME=kept"]
        Notifier(supervisor.getsockname()).tell(lines, [handed.fileno()])
    text, (descriptor,), _, _ = socket.recv_fds(supervisor, 4096, 4)
    with os.fdopen(descriptor, "w") as received:
        received.write("the same file")
    assert text == b"FDSTORE=1\nFDNAME=kept" and file.read_text() == "the same file"


def test_what_was_told_is_waited_for(supervisor: socket.socket) -> None:
    notifier = Notifier(supervisor.getsockname())
    waiting = threading.Thread(target=notifier.settled)
    waiting.start()
    text, (descriptor,), _, _ = socket.recv_fds(supervisor, 4096, 4)
    assert text == b"BARRIER=1" and waiting.is_alive()
    os.close(descriptor)
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()


def test_a_supervisor_that_does_not_answer_is_not_waited_for_long(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(systemd, "SETTLED_S", 0.01)
    Notifier(supervisor.getsockname()).settled()
    assert "the supervisor does not answer" in caplog.messages


def test_without_a_supervisor_nothing_is_said() -> None:
    notifier = Notifier.from_environment({})
    assert not notifier.active and notifier.watchdog_s is None
    notifier.ready("nobody listens")


def test_a_supervisor_that_is_gone_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(str(tmp_path / "gone")).ready("hello")
    assert "could not notify" in caplog.text


@pytest.mark.parametrize(
    "environment,expected",
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval_comes_from_the_environment(
    environment: dict[str, str], expected: float | None
) -> None:
    assert Notifier.from_environment(environment).watchdog_s == expected


async def test_it_is_fed_at_a_third_of_its_interval_while_commits_go_on(
    supervisor: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(supervisor.getsockname(), watchdog_s=30.0)
    with trio.move_on_after(35):
        await run_watchdog(notifier, lambda: 0.0)
    assert heard(supervisor) == ["WATCHDOG=1"] * 4  # at 0, 10, 20, 30


async def test_it_starves_while_the_committer_is_stuck_and_eats_again_afterwards(
    supervisor: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(supervisor.getsockname(), watchdog_s=30.0)
    fed_at = []

    def waiting_s() -> float:
        # The card stalls from 15 s to 105 s: ten seconds at a time, it is patient for sixty.
        now = trio.current_time() - begun
        return now - 15 if 15 < now < 105 else 0.0

    begun = trio.current_time()
    with trio.move_on_after(125):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_watchdog, notifier, waiting_s)
            for second in range(0, 125, 10):
                await trio.sleep_until(begun + second + 1)
                if heard(supervisor):
                    fed_at.append(second)
            nursery.cancel_scope.cancel()
    assert fed_at == [0, 10, 20, 30, 40, 50, 60, 70, 110, 120]


async def test_the_status_line_is_sent_when_it_changes(
    supervisor: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    notifier = Notifier(supervisor.getsockname(), watchdog_s=3.0)
    lines = iter(["one", "one", "two", "two"])
    with trio.move_on_after(3.5):
        await run_watchdog(notifier, lambda: 0.0, describe=lambda: next(lines))
    assert [text for text in heard(supervisor) if text.startswith("STATUS")] == [
        "STATUS=one",
        "STATUS=two",
    ]


async def test_nobody_who_wants_feeding_means_no_task() -> None:
    await run_watchdog(Notifier(None), lambda: 0.0)
