"""Listening sockets that stay open while no agent runs, so that a restart refuses nobody.

The agent opens its ports as its configuration says, and hands a copy of each socket to systemd
(``FDSTORE=1`` of sd_notify(3), FileDescriptorStoreMax= in the unit). While one agent ends and the
next one starts, whoever connects waits in the kernel's queue of that socket. The next agent gets
them back by the protocol of sd_listen_fds(3), by which a socket unit hands over its own, too.

The configuration alone says where the agent listens: what is asked of a peer (TLS, tokens) depends
on it. So an inherited socket is used where its address is a configured one, and closed otherwise.
Example: the agent listened on 127.0.0.1:8765, and is started again with ``listen.address =
"0.0.0.0:8765"``. The old socket is taken out of systemd's store, and a new one is bound.

Without a supervisor nothing is inherited and nothing kept: a port closes with its listener.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence

logger = logging.getLogger(__name__)

Tell = Callable[[Sequence[str], Sequence[int]], None]
"""Sends lines, and descriptors with them, to the supervisor."""

Endpoint = tuple[str, int]
"""A numeric address, as getsockname(2) says it, and a port."""

#: Descriptors are handed over from this one on: SD_LISTEN_FDS_START.
FD_FIRST = 3
#: How sockets that we handed over are called, so that a socket unit's are told from them.
_OURS = "kept "
#: More are waiting than the kernel allows (net.core.somaxconn): it takes its own number then.
_BACKLOG = 65_535


class KeptSockets:
    """The sockets that were inherited, and those that the next agent is to inherit.

    Args:
        tell: reaches the supervisor; None where there is none.
        settled: waits until the supervisor has done what it was told.
        inherited: name and socket, as `inherited` gives them.
    """

    def __init__(
        self,
        tell: Tell | None = None,
        settled: Callable[[], None] = lambda: None,
        inherited: Iterable[tuple[str, socket.socket]] = (),
    ) -> None:
        self._tell, self._settled = tell, settled
        self._held: dict[Endpoint, tuple[str, socket.socket]] = {}
        for name, one in inherited:
            self._held[endpoint(one.fileno())] = name, one
        #: Where a socket unit listens that the configuration does not name.
        self.foreign: list[str] = []

    @property
    def addresses(self) -> list[str]:
        """Where sockets are held."""
        return [_in_words(where) for where in self._held]

    def keep_only(self, wanted: Collection[Endpoint]) -> None:
        """Close what is held and not ``wanted`` any more, before something else is bound."""
        self.drop([one for one in self._held if one not in wanted])

    def drop(self, endpoints: Iterable[Endpoint]) -> None:
        """Close what is held there, for this agent and the next."""
        told = False
        for where in endpoints:
            name, one = self._held.pop(where, ("", None))
            if one is None:
                continue
            one.close()
            if not name.startswith(_OURS):
                self.foreign.append(_in_words(where))
                text = "systemd listens on %s, which the configuration does not name: %s"
                logger.warning(text, _in_words(where), "whoever connects there waits for nobody")
            elif self._tell is not None:
                self._tell(["FDSTOREREMOVE=1", f"FDNAME={name}"], [])
                told = True
        if told:
            self._settled()

    def get(self, where: Endpoint) -> socket.socket | None:
        """A copy of the socket that listens at ``where``, if one is held."""
        found = self._held.get(where)
        return None if found is None else found[1].dup()

    def keep(self, descriptor: int) -> None:
        """Let the next agent, and whoever opens the same port again in this one, have a socket."""
        if self._tell is None:
            return
        held = socket.socket(fileno=os.dup(descriptor))
        where = endpoint(descriptor)
        if where in self._held:
            held.close()
            return
        name = _OURS + _in_words(where).replace(":", " ")  # A name may have no colon.
        self._held[where] = name, held
        self._tell(["FDSTORE=1", f"FDNAME={name}"], [held.fileno()])


def endpoint(descriptor: int) -> Endpoint:
    """Where a socket is bound."""
    with socket.socket(fileno=os.dup(descriptor)) as one:
        host, port = one.getsockname()[:2]
    return host, port


def _in_words(where: Endpoint) -> str:
    host, port = where
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def inherited(environment: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """What a supervisor hands over: TCP sockets that listen, each with its name. Everything else is
    closed. The variables are removed: our own children inherit nothing.
    """
    found: list[tuple[str, socket.socket]] = []
    for descriptor, name in handed_over(environment, os.getpid()):
        try:
            os.set_inheritable(descriptor, False)
            one = socket.socket(fileno=descriptor)
        except OSError as error:
            logger.warning("descriptor %d (%s) is no socket: %s", descriptor, name, error)
            continue
        is_tcp = one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM
        if not (is_tcp and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            logger.warning("the socket %s is none that listens on TCP: not used", name)
            one.close()
            continue
        one.listen(_BACKLOG)
        found.append((name, one))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    return found


def handed_over(environment: Mapping[str, str], pid: int) -> list[tuple[int, str]]:
    """Descriptors and their names by the rules of sd_listen_fds_with_names(3). Pure."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    descriptors = range(FD_FIRST, FD_FIRST + int(count))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != len(descriptors):
        names = ["unknown"] * len(descriptors)
    return list(zip(descriptors, names, strict=True))
