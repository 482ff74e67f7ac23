"""Our protocol, spoken wrongly: hellos, numbers, takeovers, readers; and names that are none."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgpack
import trio

from tests.abuse.cases import Cases
from tests.abuse.place import JSON, MSGPACK, Closed, Place, upgrade

CASES, NAMES = Cases("The protocol"), Cases("Names")
case = CASES.case


def turned_away(
    cases: Cases, name: str, sent: str, message: Any, code: str, *, close: int = 1002
) -> None:
    """A first message that is answered with a stop and a close."""

    async def run(place: Place) -> None:
        async with place.counts("stops_total", code), place.socket(subprotocol=JSON) as peer:
            await peer.say(message)
            told = await peer.hear()
            assert (told["type"], told["code"]) == ("stop", code), told
            assert (await peer.closed()).code == close

    cases.add(name, sent, f"stop `{code}`, close {close}", run)


turned_away(CASES, "data before hello", "a record first", {"t": 21.5}, "bad_hello")
turned_away(CASES, "a hello that is an array", '["hello"]', ["hello"], "bad_hello")
turned_away(CASES, "a hello without a source", '{"type":"hello"}', {"type": "hello"}, "bad_hello")
turned_away(CASES, "a hello of 20 KiB", "a source of 20,480 characters",
            {"type": "hello", "source": "x" * 20_480}, "bad_hello")  # fmt: skip
turned_away(
    CASES,
    "a hello in another encoding, spoilt",
    "msgpack that ends too soon",
    b"\x82\xa4type",
    "bad_hello",
)
turned_away(CASES, "a map as a key of hello", "msgpack: {{}: 1}", b"\x81\x80\x01", "bad_hello")
turned_away(CASES, "a first number beyond 2^62", '"first":9223372036854775807',
            {"type": "hello", "source": "far", "first": 2**63 - 1}, "bad_hello")  # fmt: skip
turned_away(CASES, "a first number of true", '"first":true',
            {"type": "hello", "source": "far", "first": True}, "bad_hello")  # fmt: skip
turned_away(CASES, "a history of 65 openings", '"history" with more openings than are kept',
            {"type": "hello", "source": "old", "history": {"opening": "a", "before": [["b", 1]] * 65}},
            "bad_hello")  # fmt: skip
turned_away(CASES, "a hello nested 5,000 deep", "a value of brackets in hello",
            '{"type":"hello","source":' + "[" * 5000 + "]" * 5000 + "}", "bad_hello")  # fmt: skip


@case("numbers from before", "a hello that counts from 1 again, and the same records",
      "the welcome names the next number; what is sent again is not stored again")  # fmt: skip
async def _(place: Place) -> None:
    epoch = await _sent(place, "replay", 3)
    async with place.socket("/ingest/abuse/replay", subprotocol=JSON) as peer:
        assert await peer.hello("replay", epoch=epoch, first=1) == 4
    assert await place.stored("abuse/replay") == [{"n": 1}, {"n": 2}, {"n": 3}]


@case("numbers left out", "a hello whose `first` is far beyond the next number",
      "taken at that number, and counted as a gap")  # fmt: skip
async def _(place: Place) -> None:
    epoch = await _sent(place, "skips", 1)
    async with place.counts("source_gaps_total"):
        async with place.socket("/ingest/abuse/skips", subprotocol=JSON) as peer:
            assert await peer.hello("skips", epoch=epoch, first=1_000_000) == 1_000_000


@case("an epoch of somebody else's", "a hello with an epoch that was never given",
      "numbering begins anew at `first`")  # fmt: skip
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        assert await peer.hello("stranger", epoch="0" * 16, first=7) == 7


@case("acks from a sensor", "acks and nacks for what was never sent", "records like any other")
async def _(place: Place) -> None:
    async with place.socket("/ingest/abuse/acks", subprotocol=JSON) as peer:
        await peer.hello("acks")
        await peer.say({"type": "ack", "next": 2**62})
        await peer.say({"type": "nack", "at": 1, "code": "x", "message": ""})
        assert await peer.acked(3) == []
    assert len(await place.stored("abuse/acks")) == 2


@case("hello twice", "a second hello within a session", "a record like any other")
async def _(place: Place) -> None:
    async with place.socket("/ingest/abuse/twice", subprotocol=JSON) as peer:
        await peer.hello("twice")
        await peer.say({"type": "hello", "source": "another"})
        assert await peer.acked(2) == []


@case("one source, five times", "five sessions of one source at one time",
      "each newer one takes over, after a pause that doubles; the others get close 4409")  # fmt: skip
async def _(place: Place) -> None:
    async with AsyncExitStack() as stack:
        twins = [await stack.enter_async_context(place.socket(subprotocol=JSON)) for _ in range(5)]
        for twin in twins:
            await twin.hello("twin")
        closes = [(await twin.closed()).code for twin in twins[:-1]]
        await twins[-1].say({"n": 1})
        await twins[-1].acked(2)
    assert closes == [4409] * 4


@case(
    "sixteen that nobody can read",
    "plain mode, `[[` sixteen times",
    "close 1007; all in quarantine",
)
async def _(place: Place) -> None:
    async with place.counts("quarantined_total", "undecodable", least=16):
        async with place.socket("/ingest/abuse?ack=1") as peer:
            for _ in range(16):
                await peer.say("[[")
            assert (await peer.closed()).code == 1007


@case("subscriptions without end", "six live views, where five are allowed",
      "the sixth gets an error and close 1008; when one leaves, another may come")  # fmt: skip
async def _(place: Place) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(place.socket("/subscribe/**"))
        async with place.socket("/subscribe/**") as sixth:
            told = await sixth.hear()
            assert told["type"] == "error", told
            closed = await sixth.closed()
            assert closed.code == 1008, closed


@case("a chatting reader", "5,000 records sent on a subscription", "read, and without a meaning")
async def _(place: Place) -> None:
    before = len(await place.stored())
    async with place.socket("/subscribe/chat/**") as peer:
        for _ in range(50):
            await peer.say([{"n": 1}] * 100)
        await peer.say("")
    assert len(await place.stored()) == before


def asked_wrongly(name: str, sent: str, question: dict[str, Any], told: str) -> None:
    """A question that is an error, behind which the connection goes on."""

    async def run(place: Place) -> None:
        async with place.socket("/query") as peer:
            for _ in range(2):
                await peer.say(question)
                answer = await peer.hear()
                assert answer["type"] == "error" and told in answer["message"], answer

    CASES.add(name, sent, f"an error, `{told}`; the connection stays", run)


asked_wrongly("an id that is an array", "a question with an id of 1,000 arrays",
              {"id": [[]] * 1000, "stream": "**"}, "id: expected text or a number")  # fmt: skip
asked_wrongly("an id that is long", "a question with an id of 200,000 letters",
              {"id": "x" * 200_000, "stream": "**"}, "a query has at most 16384 bytes")  # fmt: skip
asked_wrongly("a filter of 5,000 words", "not not not …",
              {"id": 1, "stream": "**", "filter": "not " * 4_000 + "v > 1"}, "filter")  # fmt: skip
asked_wrongly("a step of a nanosecond", "figures for each of them",
              {"id": 1, "stream": "**", "fields": "v", "step": "1ns"}, "step: expected")  # fmt: skip


@case(
    "eight who fight for a source",
    "eight connections at a time that say hello as the same source, 20 times each",
    "who came last has it; afterwards the source goes on",
)
async def _(place: Place) -> None:
    async def fight() -> None:
        for _ in range(20):
            async with place.socket("/ingest/abuse/fight", subprotocol=JSON) as peer:
                await peer.say({"type": "hello", "source": "fought-for"})
                with suppress(Closed):
                    await peer.hear()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(fight)
    async with place.socket("/ingest/abuse/fight", subprotocol=JSON) as peer:
        begin = await peer.hello("fought-for")
        await peer.say({"n": 1})
        assert await peer.acked(begin + 1) == []


@case(
    "reloads without end", "SIGHUP, 50 times in a tenth of a second", "it goes on; nothing is held"
)
async def _(place: Place) -> None:
    assert place.agent.process is not None
    for _ in range(50):
        place.agent.process.send_signal(signal.SIGHUP)
        await trio.sleep(0.002)
    await place.agent.get("/healthz")


@case(
    "questions that are none", "nonsense on `/query`, ten times", "ten errors, the connection stays"
)
async def _(place: Place) -> None:
    async with place.socket("/query") as peer:
        for asked in ("", "[", "1", '{"id":1,"limit":-1}', '{"id":1,"from":"never"}', b"\xc1",
                      '{"id":1,"filter":"((("}', '{"id":1,"stream":"[a"}', '{"id":1,"limit":1e99}',
                      '{"id":1,"nonsense":true}'):  # fmt: skip
            await peer.say(asked)
            assert (await peer.hear())["type"] == "error"


async def _sent(place: Place, name: str, count: int) -> str:
    """Records of a source, acked; the epoch."""
    async with place.socket(f"/ingest/abuse/{name}", subprotocol=JSON) as peer:
        await peer.say({"type": "hello", "source": name})
        welcome = await peer.hear()
        for number in range(count):
            await peer.say({"n": number + 1})
        await peer.acked(count + 1)
    return str(welcome["epoch"])


def _refused_name(name: str, sent: str, stream: str, status: int = 400) -> None:
    async def run(place: Place) -> None:
        assert (await place.ask(upgrade(f"/ingest/{stream}"))).status == status

    NAMES.add(name, sent, str(status), run)


_refused_name("a stream of dots", "`..`", "..")
_refused_name("a part of dots", "`a/../b`", "a/../b")
_refused_name("an empty part", "`a//b`", "a//b")
_refused_name("a slash at the end", "`a/`", "a/")
_refused_name("201 bytes", "one more than a name may have", "x" * 201)
_refused_name("a wildcard", "`**`", "**")
_refused_name("an agent's own stream", "`$agents/x`", "$agents/x")
_refused_name("a control character", "`a%1bb`, an escape", "a%1b%5b31mb")
_refused_name("a line feed", "`a%0ab`", "a%0ab")
_refused_name("text from right to left", "`a%E2%80%AEb`", "a%E2%80%AEb")
_refused_name("a name of Cyrillic letters", "`%D0%B0`, which looks like a", "%D0%B0")
_refused_name("a drive", "`c:%5cx`", "c:%5cx")


@NAMES.case("streams in records", "`..`, `$agents/x`, `**`, 300 bytes, 1, null bytes as `stream`",
            "nack `bad_stream` for each")  # fmt: skip
async def _(place: Place) -> None:
    async with place.socket(subprotocol=JSON) as peer:
        begin = await peer.hello("streams")
        wrong = ["..", "$agents/x", "**", "x" * 300, 1, "a\0b", "", ["a"], {"a": 1}]
        await peer.say([{"stream": name, "n": 1} for name in wrong])
        assert await peer.acked(begin + len(wrong)) == ["bad_stream"] * len(wrong)


for _number, _source in enumerate(
    ("..", "$forward/a/b/c/d", "a b", "a\nb", "x" * 201, "\u202e", "**")
):
    turned_away(NAMES, f"a source that is no name ({_number + 1})", f"source {_source[:20]!r}",
                {"type": "hello", "source": _source}, "bad_hello" if len(_source) > 200 else "bad_source")  # fmt: skip


@NAMES.case("a pattern that would take for ever", "`/subscribe/` and fifty times `**/a/`",
            "an answer at once")  # fmt: skip
async def _(place: Place) -> None:
    pattern = "/".join(["**/a"] * 40)
    async with (
        place.socket(f"/subscribe/{pattern}"),
        place.socket("/ingest/" + "/".join("a" * 99), subprotocol=MSGPACK) as sender,
    ):
        await sender.hello("patterns")
        await sender.say(msgpack.packb({"n": 1}))
        await sender.acked(2)


@NAMES.case("half a wildcard", "`/subscribe/a*`", "400 or an error")
async def _(place: Place) -> None:
    assert (await place.ask(upgrade("/subscribe/a*"))).status == 400
