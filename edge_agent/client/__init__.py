"""The client library: `Producer` for Trio, `BlockingProducer` for ordinary scripts.

::

    async with Producer("ws://127.0.0.1:8765/ingest/greenhouse/2", source="pi-7/bme280") as p:
        await p.send({"t": 21.5, "h": 40.2})

    with BlockingProducer("ws://127.0.0.1:8765/ingest/greenhouse/2", source="pi-7/bme280") as p:
        p.send({"t": 21.5, "h": 40.2})

What it promises, with the agent of PROTOCOL on the other side:

- A record that `send` took is kept until the agent has acked it, that is, has synced it to disk.
  It is sent again after every kind of disconnection and stored once.
- The buffer is bounded: when it is full `send` waits. In memory it lives as long as the process;
  leaving the scope waits ``close_timeout`` for the last acks and raises `Unacked` otherwise. With
  ``buffer_path`` it is a file, and what `send` returned for survives a power cut on this side.
- A record that the agent refuses for its content is told (``on_error``, kind ``nack``) and not
  sent again; the agent keeps it in quarantine.
- Records of one source keep their order. Sources do not wait for one another.
- What it raises on purpose is an `EdgeAgentError`, or a TimeoutError where a ``timeout`` was given.

It is also a distribution of its own, for machines without an agent: ``README.md`` beside this file.

``buffer.py`` and ``disk_buffer.py`` keep, ``position.py`` knows what was sent and acked (pure),
``connection.py`` is one session, ``link.py`` the loop of attempts, ``dial.py`` gets a WebSocket,
``producer.py`` and ``blocking.py`` are what is used.
"""

from edge_agent.client.blocking import BlockingProducer
from edge_agent.client.producer import Producer
from edge_agent.client.reports import Opened, Trouble, Unacked
from edge_agent.errors import (
    ConfigError,
    EdgeAgentError,
    ProtocolError,
    StoreFailed,
    StoreTooNew,
)
from edge_agent.net.backoff import Backoff

__all__ = [
    "Backoff",
    "BlockingProducer",
    "ConfigError",
    "EdgeAgentError",
    "Opened",
    "Producer",
    "ProtocolError",
    "StoreFailed",
    "StoreTooNew",
    "Trouble",
    "Unacked",
]
