"""The wire, version 1. This docstring is the protocol; the modules below it do what it says.
``docs/protocol.md`` tells it to who writes a client, with the bytes of whole conversations.

Pure: no socket, no clock, no task. Whoever moves bytes is elsewhere (``server/``, ``client/``,
``forward/``), and asks here what they mean and what may happen next.

Endpoints
=========
A WebSocket (RFC 6455), no extensions::

    /ingest/STREAM          records come in: plain mode or a session; ?ack=1 (plain mode)
    /forward                another agent's blocks come in: a session in msgpack
    /subscribe/PATTERN      records go out as they become durable; ?from= ?filter=
    /query                  questions and bounded answers

STREAM and PATTERN are as in `edge_agent.values.stream_names`, percent-decoded once, slashes
included. Query keys that are not known, or given twice, are errors. How a connection speaks is
chosen by subprotocol, the first offered that is known: ``edge-agent.v1.plain``,
``edge-agent.v1+json``, ``edge-agent.v1+msgpack``; none of these means plain, without choosing one;
only unknown ones that begin with ``edge-agent.`` are refused. A token comes in ``Authorization:
Bearer TOKEN`` or, from browsers, as one more offered subprotocol ``edge-agent.token.`` + base64url
of its UTF-8, which is never chosen, and never in the URL.

Data messages
=============
A text message is JSON, a binary message msgpack, in every mode of ``/ingest``.

- A map is one record. An array is a batch, each element a record, in order. A number, text or
  boolean, alone or as an element, is the record ``{"value": it}``.
- Keys are text, at every level. Values are what the encoding has, with two limits: of msgpack's
  extension types only the timestamp, and whole numbers of at most 64 bits. A NaN is a value in
  msgpack. JSON has none: NaN, Infinity and -Infinity, which Python writes, are null there, as
  JavaScript writes them. Of a key that is there twice, the last one counts.
- ``time`` says when it was measured (`edge_agent.values.record.resolve_time`), or another key,
  where a rule for the stream says so (`TimeKey`); ``stream`` overrides the
  path's where the token allows it; null is as if the key were not there. A date before 2020 is
  an unset clock, unless the sender vouches for it: ``{"historic": "2010-01-01T00:00:00Z"}``.
- msgpack is stored byte for byte as sent, JSON as the msgpack of its values.

Limits (`WireLimits`): bytes of a message; elements of an array; bytes of a record as sent; values
in it; nesting of a record, its own map being the first level.

A record that is at fault by itself is a **reject** (`Reject`): it takes its number, its neighbours
stay, it goes to quarantine (its first 4 KiB, and how many it had):

================ ==================================================================
bad_record       not a map, number, text or boolean; a key that is no text; a value
                 that cannot be held (see above); text that is not UTF-8, or half a
                 surrogate pair
bad_time         ``time`` is none of the forms, NaN, or beyond the year 2262
bad_stream       ``stream`` is not a name
forbidden_stream the token does not allow it
too_deep         nested deeper than the limit
too_big          more bytes than a record may have; not looked into further
too_many_values  more values; not decoded
================ ==================================================================

A message that is at fault as a whole takes no number, and none of its elements does:

================ ==== =============================================================
undecodable      1007 not JSON, not msgpack, ends early, has something behind it;
                      nested so deep (some hundred levels) that it cannot be skipped over
too_big_message  1009 more bytes, or more elements, than a message may have
================ ==== =============================================================

Nothing is allocated for what a header merely claims, and a message is decoded in pieces of 64 KiB,
one that is longer in pieces of 32 KiB: whatever it holds, it costs an agent a few MB.

Plain mode
==========
Just send. The agent says nothing, unless ``?ack=1``: then ``{"ack": n}`` (the first n messages of
this connection are durable, as records or in quarantine; several at once) and, after the commit,
``{"error": CODE, "at": n, "message": …}`` about message n. Nothing is numbered; after a lost
connection the sender does not know what arrived. An undecodable message goes to quarantine and
the connection stays, until 16 in a row (`PlainSession`). A message over the limit ends it.

Sessions
========
Control messages are maps with a ``type``, in the subprotocol's encoding (hello in either). Keys and
types that are not known are ignored. ``?`` marks what may be missing::

    sender  hello    source, epoch?, first?, history? {opening, done, before, copied?}, resends?,
                     moved?, bridged?
    agent   welcome  epoch, next, window {records, bytes}, time, limits {message_bytes, …}, forked?,
                     resends?, bridged?
    agent   ack      next, window?
    agent   nack     at, code, message
    agent   stop     code, retry_after, message

The first message is hello; what the sender sends after it is data and nothing else, so a record
may have any keys. What may happen when is in two tables, in `states`; anything else is
``out_of_order``, close 1002, and changes nothing.

**Numbers.** Each record of a source has one, from 1. No number is sent with data: the sender counts
what it sends, the agent what it reads, from the welcome's ``next`` on. Everything before ``next``
is durable: stored, refused into quarantine, or dropped by a rule. ``next`` is committed in the same
transaction as the records.

**Where to go on** (`resume_point`). ``first`` is the oldest number that the sender still has, or
the next one if it has none; ``epoch`` names the store in whose numbering that is.

- no ``first``: the sender takes up the agent's ``next``.
- the agent's epoch, and ``first`` ≤ ``next``: on from ``next``; what is before it is not sent.
- the agent's epoch, and ``first`` > ``next``: a gap. Numbering restarts at ``first``; counted.
- another epoch, or none: numbering restarts at ``first``. Rather twice than lost.

If the welcome's ``next`` fits none of this (an old copy of a buffer, two senders under one name),
the sender numbers what it holds anew, from ``next`` on (`Resume.renumber`): again, rather twice.

**Copies.** Numbers alone do not tell a store that was set back to an older copy, and has given some
of them to other records since. So a sender whose store outlives the connection draws a random id
at each opening of it, and says in ``history`` which this one is, which came before and where they
ended. The agent keeps, with ``next`` and in the same transaction, the opening that sent what is
before it. What a welcome says goes on only within one history (`has_forked`, with an example);
else it is ``forked``. A sensor then numbers what it holds anew, from ``next`` on; an agent begins
under another source and another epoch of its own, naming the one it was known by (``copied``):
from what was acknowledged to it, or from where that source ends, if the hub was set back itself.
In both cases all that is held and was not acknowledged is sent: rather twice. A sender that says
no ``history`` is taken at its numbers, as is one whose history the agent does not know: what an
older version sent.

**Window.** Records and bytes sent and not yet acked; with nothing in flight one message is always
allowed, however large. An ack may change it. Sending more is no error: the agent stops reading
until it has committed (`ServerSession.has_room`), and TCP tells the sender. A reject counts 16 KiB
there. An ack may stand within a batch.

**Ack, nack.** An ack is cumulative, at most one for each commit. A nack is final and about content
alone; it follows the commit that put its record into quarantine, and precedes the ack that covers
its number. A message without records (an empty array) takes no number and is not in flight.

**Stop** means "not now" (``store_full``, ``store_failed``, ``rate``, ``closing``; in place of the
welcome also ``too_many_sources``, where there is no place for one more). Nothing is accepted any
more, acks for what was accepted still come, then the close. The sender keeps its data and returns
after ``retry_after`` seconds. ``forbidden_source`` and ``forbidden_origin`` are stops, too, that a
person has to do something about; the sentence says what, and the sender comes back slowly.

**Whose a source is.** With tokens a source belongs to the identity, the token's name, that was the
first to say hello with it, or whose token names it. Another one is told ``forbidden_source`` and
closed with 1008: before the welcome, before anybody is taken over, and before it learns ``next``.

**What cannot be read.** The message and everything after it is discarded; what was accepted before
is committed and acked; the close follows with ``next`` unchanged. The sender returns and sends
singly until past it. At the second failure at the same ``next`` (`FailureMemory`) the message takes
one number, goes to quarantine and is nacked; then the same close.

**One source, one connection.** A second hello for a source takes over: the first connection is
closed with 4409 and its appends settle before the welcome.

Agent to agent
==============
``/forward`` is a session whose data messages say their numbers: the sender's positions in its own
log. Their form is in `forward`. A message begins where the one before it ended, the first at
``next``; a block that ``next`` lies within is cut. ``first`` in hello is the oldest position
still held, so that an agent that has lost its store asks for all that is left. Beside blocks it
carries clock notes, by which records can be put right that were stored while a clock was not set.
They take no number and are never acked by themselves.

With tokens an agent's id belongs to one identity as a source does, with all its lanes; and so does
the id of each agent whose records come this way, from the first block or note on. A block has to
end its path with the id that hello said, and to come from an agent that belongs to this identity:
else everything before it is kept and acked, and a stop says ``forbidden_origin``. Notes about other
agents are ignored. Of a token that says which streams it may write, other streams of a block are
left out: their numbers are used up, a nack at the block's first number says ``forbidden_stream``.
A stream ``$agents/ID/…`` has to be one of an agent of this identity.

Close codes
===========
======= ===================================================================================
1002    the protocol was broken: ``out_of_order``, ``bad_hello``, ``bad_source``,
        ``bad_segment``; on the sender's side ``bad_control``
1007    undecodable
1008    not allowed: the token does not cover the source that hello named, or it belongs to
        somebody else (stop ``forbidden_source``); the same of a block's origin
        (stop ``forbidden_origin``); or (``revoked``) the token was revoked, allows less now or
        has a new secret
1009    too_big_message
1012    the agent stops as planned (stop ``closing``)
1013    not now (every other stop); ``full``: the place was needed for another
4409    taken over by a newer connection of the same source
======= ===================================================================================

Before the upgrade faults are HTTP (`HTTP_STATUS`): 400 ``bad_stream``, ``bad_pattern``,
``bad_query``, ``bad_subprotocol``; 401 ``bad_token``; 404 ``unknown_path``.
"""

from edge_agent.wire.encodings import json_fault, nulls_for_nan
from edge_agent.wire.forward import (
    BLOCK_OVERHEAD_BYTES,
    FORWARD_MESSAGE_BYTES,
    NOTES_MAX,
    SEGMENTS_MAX,
    Forwarded,
    Segment,
    covers,
    decode_forwarded,
    decode_segments,
    encode_segments,
)
from edge_agent.wire.frames import FrameLane, Part
from edge_agent.wire.frames_out import close_frame, cut_reason, data_frame
from edge_agent.wire.long_text import LongText, text_of
from edge_agent.wire.messages import read_in_turns, read_message, read_messages
from edge_agent.wire.plain import PlainSession
from edge_agent.wire.reading_types import (
    REJECT_BYTES_MAX,
    RUN_BYTES_MAX,
    Arrival,
    Received,
    Reject,
    TimeKey,
    TooBigMessage,
    Undecodable,
    WireLimits,
    make_reject,
)
from edge_agent.wire.records import fault_of_record
from edge_agent.wire.server_session import Goodbye, ReceivedSegments, ServerSession
from edge_agent.wire.shapes import Learner
from edge_agent.wire.short_turns import in_short_turns, run_slices
from edge_agent.wire.subprotocol import (
    HTTP_STATUS,
    Choice,
    ConnectionMode,
    Endpoint,
    choose_subprotocol,
    encode_token,
    parse_target,
)

__all__ = [
    "BLOCK_OVERHEAD_BYTES",
    "FORWARD_MESSAGE_BYTES",
    "HTTP_STATUS",
    "NOTES_MAX",
    "REJECT_BYTES_MAX",
    "RUN_BYTES_MAX",
    "SEGMENTS_MAX",
    "Arrival",
    "Choice",
    "ConnectionMode",
    "Endpoint",
    "Forwarded",
    "FrameLane",
    "Goodbye",
    "Learner",
    "LongText",
    "Part",
    "PlainSession",
    "Received",
    "ReceivedSegments",
    "Reject",
    "Segment",
    "ServerSession",
    "TimeKey",
    "TooBigMessage",
    "Undecodable",
    "WireLimits",
    "choose_subprotocol",
    "close_frame",
    "covers",
    "cut_reason",
    "data_frame",
    "decode_forwarded",
    "decode_segments",
    "encode_segments",
    "encode_token",
    "fault_of_record",
    "in_short_turns",
    "json_fault",
    "make_reject",
    "nulls_for_nan",
    "parse_target",
    "read_in_turns",
    "read_message",
    "read_messages",
    "run_slices",
    "text_of",
]
