"""Talking to systemd: readiness, a status line, and a watchdog that only honest progress feeds.

The protocol is sd_notify(3): one datagram per message to the AF_UNIX socket named by
``NOTIFY_SOCKET`` (a path, or ``@name`` in the abstract namespace). Without that variable every
call here does nothing. A notification that cannot be sent is never an error: the agent's work
does not depend on its supervisor.

The watchdog is fed at a third of ``WATCHDOG_USEC``, by a Trio task, so that a loop that hangs
feeds nothing; and only while the committer makes progress. An SD card may stall for many seconds
while it moves flash blocks about, so the committer counts as stuck only after `PATIENCE_S`.
"""

from __future__ import annotations

import array
import logging
import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence

import trio

logger = logging.getLogger(__name__)

#: How long the oldest append may wait for its commit before the watchdog goes hungry, in seconds.
#: Cards have been seen to stall for ten; a restart cannot help before that and loses the queue.
PATIENCE_S = 60.0
#: How long the supervisor may take to do what it was told.
SETTLED_S = 5


class Notifier:
    """The socket to the supervisor, or nothing."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = _socket_address(address) if address else None
        #: How often the supervisor wants to hear of us at least, in seconds; None: it does not.
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Notifier:
        """From ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``."""
        env = os.environ if environment is None else environment
        return cls(env.get("NOTIFY_SOCKET"), _watchdog_s(env))

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """The agent listens and answers."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        """The agent drains."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def tell(self, lines: Sequence[str], descriptors: Sequence[int]) -> None:
        """Lines of the protocol, and descriptors that go with them."""
        self._send(*lines, descriptors=descriptors)

    def settled(self) -> None:
        """Wait until the supervisor has done what it was told: sd_notify_barrier(3)."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._send("BARRIER=1", descriptors=[writing])
        finally:
            os.close(writing)
        poll = select.poll()
        poll.register(reading, 0)
        try:
            if not poll.poll(SETTLED_S * 1000):
                logger.warning("the supervisor does not answer")
        finally:
            os.close(reading)

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if self._address is None:
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A datagram to a supervisor whose queue is full would block the loop.
                sender.setblocking(False)
                text = "\n".join(lines).encode()
                sender.sendmsg([text], rights if descriptors else [], 0, self._address)
        except OSError as error:
            logger.warning("could not notify the supervisor: %s", error)


async def run_watchdog(
    notifier: Notifier,
    waiting_s: Callable[[], float],
    *,
    patience_s: float = PATIENCE_S,
    describe: Callable[[], str] | None = None,
) -> None:
    """Feed the watchdog until cancelled; return at once where nobody wants it fed.

    Args:
        notifier: where to; its ``watchdog_s`` sets the pace.
        waiting_s: for how long the oldest append has waited for its commit, 0 while none waits.
        patience_s: from how much waiting on the committer counts as stuck.
        describe: text for ``systemctl status``, sent when it changed.
    """
    if not notifier.active or notifier.watchdog_s is None:
        return
    said = ""
    hungry = False
    while True:
        waited = waiting_s()
        if waited < patience_s:
            notifier.alive()
            hungry = False
        elif not hungry:
            hungry = True
            logger.error("no commit for %.0f s: the watchdog is no longer fed", waited)
        text = describe() if describe is not None else ""
        if text != said:
            notifier.status(text)
            said = text
        await trio.sleep(notifier.watchdog_s / 3)


def _socket_address(name: str) -> str:
    # systemd writes the leading NUL of an abstract address as "@".
    return "\0" + name[1:] if name.startswith("@") else name


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    wanted = environment.get("WATCHDOG_USEC", "")
    for_pid = environment.get("WATCHDOG_PID", "")
    if not wanted.isdigit() or int(wanted) == 0:
        return None
    if for_pid and for_pid != str(os.getpid()):
        return None  # Meant for another process of this unit, see sd_watchdog_enabled(3).
    return int(wanted) / 1_000_000


def _one_line(text: str) -> str:
    return " ".join(text.split())
