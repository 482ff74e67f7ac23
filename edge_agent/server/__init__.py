"""The sensors' port: how records come in, and how those on the same port read them.

What is said is specified in `edge_agent.wire`; this package says it, over real sockets, to many
peers at a time. The way of one connection::

    listener ─▶ connection ─▶ handshake (h11) ─▶ admission (tokens) ─▶ websocket (trio-websocket)
                  guard          400 404 426        401 403

and of what comes over it, once it is open::

    socket ─▶ shared reader, or a task for TLS ─▶ transport: the frame lane (`wire.frames`)
                                                    │ lists of messages    │ all that is unusual
                                                    ▼                      ▼
                                                  inbox ◀─────────── trio-websocket
                                                    ▼
      plain · session (ingest, forwarded) · reading ─▶ feed ─▶ log ─▶ answers ─▶ ack ─▶ socket

From the read to the log, and from the commit to the ack, everything is plain calls: tasks are only
for waiting. What all connections have in common is done by one task each: reading plain sockets
(`shared`), telling what a commit has settled (`answers.Teller`), looking for silence (`silence`),
giving turns to whoever has more to do than the frame lane does (`turns`). A mistake in one of them
ends no more than that task, which is run again (`listener`).

Invariants, each with its tests:

- No ack leaves before ``Ticket.wait`` has returned for the entry that holds its records.
- One peer never harms another: a guard per connection, a deadline on every wait, a bound on
  everything that is kept for a peer.
- From the first record that is refused on, nothing of that session is accepted.
- Who connects again and again and proves nothing costs next to nothing (`edge_agent.accepting`).
- Who has not proved who it is competes with its like alone, and no identity keeps another out
  (`edge_agent.connection_quota`).
- What a token opened ends within two seconds after that was revoked or narrowed (`tokens`).
- One source, one connection: a newer hello waits until everything that the older connection
  appended has been settled (`takeover`).
- A source and an agent belong to the identity that was the first to use it, or whose token names
  it: nobody else is welcomed, takes over, or is told a number (`owners`).
- What the lane does not lift, and records that are looked at singly, are done a millisecond at a
  time, one connection for each pass of the event loop (`turns`); rejects weigh in the window.
- The windows granted to all sessions together stay under ``limits.in_flight_bytes`` (`windows`).
- Any close of ours takes ``listen.close_timeout`` at most (`endings`).

trio-websocket is used through its public API only, and never by `serve_websocket`: an
unauthenticated peer can bring down the nursery that it runs in (`websocket`, `guarded`).
"""

from __future__ import annotations

from edge_agent.server.copies import CopiesSeen
from edge_agent.server.listener import Server, ServerStatistics
from edge_agent.server.parts import ConnectionView
from edge_agent.server.tls import CaFiles, certificate_end, make_ca, renew, server_context
from edge_agent.server.tokens import (
    Token,
    Tokens,
    add_token,
    list_tokens,
    revoke_token,
    rotate_token,
)

__all__ = [
    "CaFiles",
    "ConnectionView",
    "CopiesSeen",
    "Server",
    "ServerStatistics",
    "Token",
    "Tokens",
    "add_token",
    "certificate_end",
    "list_tokens",
    "make_ca",
    "renew",
    "revoke_token",
    "rotate_token",
    "server_context",
]
