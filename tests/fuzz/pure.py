"""The pure cores, called with inputs that nobody means; see the package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgpack

from edge_agent.errors import ConfigError, ProtocolError, SinkError, StoreDamaged
from edge_agent.forward.sinks.http.answer import HttpAnswer, Sent, judge, retry_after_s
from edge_agent.live.query import parse_query
from edge_agent.session import ClientSession, Window, decode_from_agent, decode_hello, resume_point
from edge_agent.store import check_payload
from edge_agent.values.filter import compile_filter
from edge_agent.values.moments import parse_moment, parse_position
from edge_agent.values.record import resolve_time
from edge_agent.values.time_format import parse_format
from edge_agent.wire import (
    Arrival,
    ServerSession,
    WireLimits,
    choose_subprotocol,
    decode_forwarded,
    parse_target,
    read_messages,
)
from edge_agent.wire.frames import FrameLane
from edge_agent.wire.shapes import Learner
from tests.fuzz.inputs import PATHS, Inputs

NOW_NS = 1_795_341_600 * 10**9
LIMITS = WireLimits()
#: What is foreseen for any input; everything else is a find.
FORESEEN = (ProtocolError, SinkError, StoreDamaged, ConfigError)


@dataclass
class Found:
    """What a run came to."""

    inputs: Counter[str] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)


def run(count: int, seed: int, first: int = 0) -> Found:
    """Inputs number ``first`` to ``first + count - 1`` of ``seed``, kind by kind in turns."""
    found = Found()
    kinds = list(KINDS.items())
    learner = Learner()
    for number in range(first, first + count):
        name, target = kinds[number % len(kinds)]
        found.inputs[name] += 1
        try:
            target(Inputs(f"{seed}/{number}"), learner)
        except FORESEEN:
            pass
        except Exception as error:  # noqa: BLE001 -- the find itself
            found.finds.append(f"{name}, seed {seed}, number {number}: {error!r:.300}")
    return found


def _messages(inputs: Inputs, learner: Learner) -> None:
    batch = [inputs.message() for _ in range(3)]
    arrival = Arrival("a/b", "s", NOW_NS, synced=True)
    together = read_messages(batch, 1, arrival, LIMITS, learner)
    # However a list is read, the same comes of it as message by message.
    at, numbers, rejects = 0, 0, 0
    for message in batch:
        alone = read_messages([message], 1 + numbers, arrival, LIMITS)
        if alone.failure is not None:
            break
        at, numbers, rejects = at + 1, numbers + alone.numbers, rejects + len(alone.rejects)
    told = (together.messages, together.numbers, len(together.rejects))
    assert told == (at, numbers, rejects), (told, at, numbers, rejects)
    for run_ in together.runs:
        unpacker = msgpack.Unpacker(timestamp=0, strict_map_key=True)
        unpacker.feed(run_.body)
        assert sum(isinstance(fields, dict) for fields in unpacker) == run_.count


def _frames(inputs: Inputs, _: Learner) -> None:
    data = inputs.frames()
    lane, bytewise = FrameLane(1 << 20), FrameLane(1 << 20)
    whole = lane.feed(data)
    assert all(len(part) for part in whole)
    for at in range(len(data)):
        bytewise.feed(data[at : at + 1])
    assert (lane.too_big, lane.passed, lane.close_seen) == (
        bytewise.too_big, bytewise.passed, bytewise.close_seen,
    )  # fmt: skip


def _session(inputs: Inputs, _: Learner) -> None:
    session = ServerSession("json", LIMITS, Window(1000, 1 << 20))
    hello = session.receive_hello(inputs.hello())
    point = resume_point(hello, "e" * 16, 7)
    session.welcome(point.next, "e" * 16, "")
    arrival = Arrival("a/b", "s", NOW_NS, synced=True)
    received = session.receive_data([inputs.message(), inputs.message()], arrival)
    messages = received.messages
    while session.is_behind:
        received = session.receive_more()
        messages += received.messages
    session.committed(session.number)
    assert session.failure is not None or messages == 2


def _hello(inputs: Inputs, _: Learner) -> None:
    decode_hello(inputs.hello())
    decode_hello(inputs.message())


def _client(inputs: Inputs, _: Learner) -> None:
    decode_from_agent(inputs.control())
    session = ClientSession("msgpack")
    session.hello("s", first=1, epoch="e" * 16)
    session.receive(inputs.control())
    session.receive(inputs.control())


def _segments(inputs: Inputs, _: Learner) -> None:
    for segment in decode_forwarded(inputs.segments()).segments:
        if (block := segment.block) is not None:
            check_payload(block.codec, block.raw_len, block.payload, block.count)


def _target(inputs: Inputs, _: Learner) -> None:
    text = inputs.text()
    choose_subprotocol([text, inputs.text(), "edge-agent.token." + text])
    parse_target(inputs.spoilt(PATHS[len(text) % len(PATHS)].encode()).decode("latin-1"))
    parse_target("/subscribe/a?from=" + text)


def _query(inputs: Inputs, _: Learner) -> None:
    keys = ("stream", "from", "to", "filter", "limit", "next", "aggregate")
    parameters = {key: drawn for key in keys if (drawn := inputs.text()) and len(drawn) % 3}
    parse_position(inputs.text())
    for key, text in parameters.items():
        try:
            parse_query({key: text}, NOW_NS)
        except ProtocolError:
            continue
    compile_filter(inputs.text())


def _times(inputs: Inputs, _: Learner) -> None:
    value = inputs.value(1)
    for form in ("iso", "unix", "unix-ms", "unix-us", "unix-ns"):
        try:
            parse_format(form, "Europe/Berlin", form_key="f", zone_key="z").moments(value)
        except ValueError:
            continue
    resolve_time(value, NOW_NS)
    parse_moment(inputs.text(), NOW_NS)


def _answers(inputs: Inputs, _: Learner) -> None:
    status, headers, body = inputs.answer()
    told = dict(headers)
    seconds = retry_after_s(told.get("Retry-After"), NOW_NS)
    assert seconds is None or 0 <= seconds < float("inf")
    accept = ("auto", "json", "status", "text:ok")[len(body) % 4]
    sent = [Sent(number, f"key/{number}") for number in range(1, 4)]
    judge(answer_of(status, told, body), "key", NOW_NS, accept, sent)


def answer_of(status: int, headers: dict[str, str], body: bytes) -> HttpAnswer:
    """What the sink makes of an answer, for its judgement."""
    return HttpAnswer(status, {name.lower(): value for name, value in headers.items()}, body)


KINDS: dict[str, Callable[[Inputs, Learner], None]] = {
    "messages": _messages,
    "frames": _frames,
    "sessions": _session,
    "hello": _hello,
    "clients": _client,
    "segments": _segments,
    "targets": _target,
    "questions": _query,
    "times": _times,
    "answers": _answers,
}
