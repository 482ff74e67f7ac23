"""Other ways to take records in durably, each at its best, on the same bytes and the same disk.

A peer is a real server, started by us on a free loopback port with a folder of its own beside the
agent's, with the settings that its documentation recommends for messages that must not be lost.
It gets the same records as the payloads of its own protocol, encoded before the clock starts and
pipelined as far as it allows, over 1, 4 and 50 connections; its best counts. Afterwards it is asked
how many messages it holds, and there is no figure unless these are all.

The promises differ, so each is said in a sentence beside the figure. One that is not installed is
named as missing, with how to get it.
"""

from __future__ import annotations

from benchmarks.peers.lmdb_each import LmdbEach
from benchmarks.peers.mosquitto import Mosquitto
from benchmarks.peers.nats import Nats, NatsAlways
from benchmarks.peers.peer import Peer
from benchmarks.peers.redis import Redis
from benchmarks.peers.seed import Seed

#: By the name that a load is given.
PEERS: dict[str, Peer] = {
    "seed": Seed(),
    "lmdb": LmdbEach(),
    "redis": Redis(),
    "nats-always": NatsAlways(),
    "nats": Nats(),
    "mosquitto": Mosquitto(),
}

__all__ = ["PEERS", "Peer"]
