"""This package is the sensors' port: records come in here, and readers of records ask here.

What is said is specified in `edge_agent.wire`; this package says it, over real sockets, to many
peers at a time. The way of one connection::

    server ─▶ connection ─▶ handshake (h11) ─▶ admission (tokens) ─▶ websocket (trio-websocket)
                guard            400 404 426        401 403       └▶ posts, quick_posts (POST)

and of what comes over it, once it is open::

    socket ─▶ poller, or a task for TLS ─▶ transport: the frame lane (`wire.frames`)
                                                    │ lists of messages    │ all that is unusual
                                                    ▼                      ▼
                                            receive_queue ◀───────── trio-websocket
                                                    ▼
      plain_session · session (sensor_session, agent_session) · query_session
                                                    ▼
                                pump ─▶ log ─▶ acks ─▶ transport ─▶ socket

From the read to the log, and from the commit to the ack, everything is plain calls: tasks are only
for waiting. What all connections have in common is done by one task each: reading plain sockets
(`poller`), telling what a commit has settled (`acks.Teller`), looking for silence (`keepalive`),
giving turns to whoever has more to do than the frame lane does (`fair_turns`). A mistake in one of
them ends no more than that task, which is run again (`server`).

Who owns whom, and so who ends whom: `Server` its `Connection` objects; a connection the stream, its
place among the others, and a `WebSocket`; the WebSocket its `Inbox` and its `Transport`, which owns
the `Outgoing`; a `Pump`, which is given the WebSocket to use, its `Answers` and its `Feed`. What is
owned is given a weak proxy of its owner, or what to call for as long as it is called itself: it
never keeps its owner alive, and an end leaves no cycle to search for.

Invariants, each with its tests:

- No ack leaves before ``Ticket.wait`` has returned for the entry that holds its records.
- One peer never harms another: a guard per connection, a deadline on every wait, a bound on
  everything that is kept for a peer.
- From the first record that is refused on, nothing of that session is accepted.
- Who connects again and again and proves nothing costs next to nothing
  (`edge_agent.net.accepting`).
- Who has not proved who it is competes with its like alone, and no identity keeps another out
  (`edge_agent.net.connection_quota`).
- What a token opened ends within two seconds after that was revoked or narrowed (`tokens`).
- One source, one connection: a newer hello waits until everything that the older connection
  appended has been settled (`source_claims`).
- A source and an agent belong to the identity that was the first to use it, or whose token names
  it: nobody else is welcomed, takes over, or is told a number (`source_owners`).
- What the lane does not lift, and records that are looked at singly, are done a millisecond at a
  time, one connection for each pass of the event loop (`fair_turns`); rejects weigh in the window.
- The windows granted to all sessions together stay under ``limits.in_flight_bytes``
  (`flow_control`).
- Where an upstream bridges, no agent is told that something is here before that upstream has it, by
  an ack or by a welcome (`bridged_session`); sensors and claims do not wait for it.
- Any close of ours takes ``listen.close_timeout`` at most (`closing`).

trio-websocket is used through its public API only, and never by `serve_websocket`: an
unauthenticated peer can bring down the nursery that it runs in (`websocket`).
"""

from __future__ import annotations

from edge_agent.server.context import Parts, Visitor
from edge_agent.server.server import Server

__all__ = [
    "Parts",
    "Server",
    "Visitor",
]
