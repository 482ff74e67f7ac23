"""Loopback ports for servers that are started, or started again, by whoever names them a port."""

from __future__ import annotations

import itertools
import os
import socket

#: Below those that the kernel gives to whoever connects: a port from there may be some client's by
#: the time that a server has started.
PORTS = range(15_000, 32_000)
_offsets = itertools.count()


def free_port() -> int:
    """A loopback port that nobody uses now, and that no other process will be given here soon.

    Processes that run side by side begin at places of their own, thousands of ports apart although
    their ids differ by a few: with a hundred between them, one met the ports of another in minutes.
    """
    for offset in _offsets:
        port = PORTS[(os.getpid() * 6_481 + offset) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("counting does not end")
