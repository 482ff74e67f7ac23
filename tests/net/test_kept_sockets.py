"""Sockets that outlive an agent: what is inherited, what is used of it, and what is handed on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from edge_agent.net.accepting import listen_on
from edge_agent.net.kept_sockets import KeptSockets, handed_over, inherited


class Supervisor:
    """What it was told, and which sockets it holds, by name."""

    def __init__(self) -> None:
        self.held: dict[str, socket.socket] = {}
        self.settled = 0

    def tell(self, lines: Sequence[str], descriptors: Sequence[int]) -> None:
        what, name = lines
        name = name.removeprefix("FDNAME=")
        if what == "FDSTORE=1":
            self.held[name] = socket.socket(fileno=os.dup(descriptors[0]))
        else:
            assert what == "FDSTOREREMOVE=1" and not descriptors
            self.held.pop(name).close()

    def barrier(self) -> None:
        self.settled += 1

    def start(self) -> KeptSockets:
        """What the next agent begins with."""
        return KeptSockets(
            self.tell, self.barrier, [(name, one.dup()) for name, one in self.held.items()]
        )


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    found = Supervisor()
    yield found
    for one in found.held.values():
        one.close()


def end(kept: KeptSockets) -> None:
    """Close its copies, as the end of a process does."""
    for _, one in kept._held.values():
        one.close()


def port_of(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port


async def one_listener(
    port: int, kept: KeptSockets, host: str = "127.0.0.1"
) -> trio.SocketListener:
    (found,) = await listen_on(host, port, "listen.address", kept)
    return found


async def test_who_connects_between_two_agents_is_served_by_the_second(
    supervisor: Supervisor,
) -> None:
    first = supervisor.start()
    listener = await one_listener(0, first)
    port = port_of(listener)
    await listener.aclose()
    end(first)
    client = await trio.open_tcp_stream("127.0.0.1", port)
    await client.send_all(b"early")

    second = supervisor.start()
    second.keep_only({("127.0.0.1", port)})
    listener = await one_listener(port, second)
    async with listener, await listener.accept() as served:
        assert await served.receive_some(5) == b"early"
    await client.aclose()
    end(second)
    assert supervisor.settled == 0 and len(supervisor.held) == 1


async def test_a_port_that_is_opened_again_by_the_same_agent_is_the_same(
    supervisor: Supervisor,
) -> None:
    kept = supervisor.start()
    listener = await one_listener(0, kept)
    port = port_of(listener)
    await listener.aclose()
    async with await one_listener(port, kept) as again:
        assert port_of(again) == port
    kept.drop([("127.0.0.1", port)])
    assert not supervisor.held
    async with await one_listener(port, kept):
        assert len(supervisor.held) == 1
    end(kept)


async def test_another_address_in_the_configuration_wins_over_what_was_kept(
    supervisor: Supervisor,
) -> None:
    first = supervisor.start()
    listener = await one_listener(0, first)
    port = port_of(listener)
    await listener.aclose()
    end(first)

    second = supervisor.start()
    second.keep_only({("0.0.0.0", port)})
    assert not supervisor.held and supervisor.settled == 1
    async with await one_listener(port, second, "0.0.0.0") as listener:
        assert listener.socket.getsockname() == ("0.0.0.0", port)
    end(second)
    assert list(supervisor.held) == [f"kept 0.0.0.0 {port}"]


async def test_a_socket_unit_that_contradicts_the_configuration_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unit:
        port = unit.getsockname()[1]
        kept = KeptSockets(lambda *_: None, inherited=[("edge-agent.socket", unit.dup())])
        kept.keep_only({("0.0.0.0", port)})
        with pytest.raises(OSError, match=f"edge-agent.socket listens on 127.0.0.1:{port}"):
            await one_listener(port, kept, "0.0.0.0")
    assert f"systemd listens on 127.0.0.1:{port}, which the configuration does not name" in str(
        caplog.messages
    )


async def test_without_a_supervisor_a_port_closes_with_its_listener() -> None:
    kept = KeptSockets()
    listener = await one_listener(0, kept)
    port = port_of(listener)
    await listener.aclose()
    assert kept.addresses == []
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


def test_descriptors_are_those_that_systemd_names() -> None:
    given = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "one:two"}
    assert handed_over(given, 7) == [(3, "one"), (4, "two")]
    assert handed_over(given, 8) == []
    assert handed_over({}, 7) == []
    assert handed_over(given | {"LISTEN_FDS": "x"}, 7) == []
    assert handed_over(given | {"LISTEN_FDS": "-1"}, 7) == []
    # Of an older systemd without names, or names for others.
    assert handed_over(given | {"LISTEN_FDNAMES": "one"}, 7) == [(3, "unknown"), (4, "unknown")]


#: Is given a listening socket, one that is none, and a file; says what it takes.
CHILD = """
import os, socket, sys
from edge_agent.net.kept_sockets import KeptSockets, inherited
os.environ["LISTEN_PID"] = str(os.getpid())
kept = KeptSockets(inherited=inherited(os.environ))
print(kept.addresses)
print([name for name in os.environ if name.startswith("LISTEN")], os.get_inheritable(3))
"""


def test_what_is_no_listening_socket_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as idle:
        with Path(os.devnull).open() as file:
            shell = f'exec 3<&{server.fileno()} 4<&{idle.fileno()} 5<&{file.fileno()}; exec "$@"'
            done = subprocess.run(
                ["/bin/bash", "-c", shell, "bash", sys.executable, "-c", CHILD],
                env={**os.environ, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"},
                pass_fds=(server.fileno(), idle.fileno(), file.fileno()),
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        port = server.getsockname()[1]
    assert done.stdout.splitlines() == [f"['127.0.0.1:{port}']", "[] False"]


def test_an_inherited_environment_without_sockets_is_nothing_to_talk_of() -> None:
    assert inherited({}) == []
