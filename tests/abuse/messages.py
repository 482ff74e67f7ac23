"""What stands in a message: JSON and msgpack that lie, bomb, or mean two things."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgpack

from tests.abuse.cases import Cases, Run
from tests.abuse.place import JSON, MSGPACK, Place

JSON_CASES, MSGPACK_CASES = Cases("JSON"), Cases("msgpack")
_ONE = {"sound": True}


def _name(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _stream(name: str) -> str:
    return f"abuse/{_name(name)}"


def nacked(cases: Cases, name: str, sent: str, message: str | bytes, *codes: str) -> None:
    """A message whose records are refused one by one; what comes behind it is stored."""

    async def run(place: Place) -> None:
        mode = MSGPACK if isinstance(message, bytes) else JSON
        async with (
            place.counts("records_nacked_total", codes[0]),
            place.socket(f"/ingest/{_stream(name)}", subprotocol=mode) as peer,
        ):
            begin = await peer.hello(_name(name))
            await peer.say(message)
            await peer.say(msgpack.packb(_ONE) if mode == MSGPACK else _ONE)
            told = await peer.acked(begin + len(codes) + 1)
            assert told == list(codes), told
        assert await place.stored(_stream(name)) == [_ONE]

    cases.add(name, sent, f"nack `{codes[0]}`, in quarantine; the next record is stored", run)


def ended(cases: Cases, name: str, sent: str, message: str | bytes, code: int) -> None:
    """A message that cannot be read as a whole."""

    async def run(place: Place) -> None:
        mode = MSGPACK if isinstance(message, bytes) else JSON
        async with place.socket(f"/ingest/{_stream(name)}", subprotocol=mode) as peer:
            await peer.hello(_name(name))
            await peer.say(message)
            assert (await peer.closed()).code == code
        assert await place.stored(_stream(name)) == []

    cases.add(name, sent, f"close {code}, nothing of it is stored", run)


def kept(
    cases: Cases, name: str, sent: str, message: str | bytes, answer: str, stored: Any
) -> None:
    """A message that is taken, and what is stored of it."""

    def _run() -> Run:
        async def run(place: Place) -> None:
            mode = MSGPACK if isinstance(message, bytes) else JSON
            async with place.socket(f"/ingest/{_stream(name)}", subprotocol=mode) as peer:
                begin = await peer.hello(_name(name))
                await peer.say(message)
                codes = await peer.acked(begin + 1)
                assert not codes, codes
            assert await place.stored(_stream(name)) == [stored]

        return run

    cases.add(name, sent, answer, _run())


_J = JSON_CASES
ended(_J, "100,000 brackets", "[[[[…", "[" * 100_000, 1007)
ended(_J, "100,000 maps in one another", '{"a":{"a":…', '{"a":' * 40_000, 1007)
ended(_J, "half a record", '{"t":21.5', '{"t":21.5', 1007)
ended(_J, "two values", '{"n":1}{"n":2}', '{"n":1}{"n":2}', 1007)
ended(_J, "a byte order mark", "U+FEFF before the record", '\ufeff{"n":1}', 1007)
ended(_J, "a message of blanks", "200 KB of blanks", " " * 200_000, 1007)
ended(
    _J, "an array of 20,000", "more elements than `batch_records`", "[" + "1," * 19_999 + "1]", 1009
)
ended(_J, "an empty text message", "no byte at all", "", 1007)
nacked(
    _J, "maps 17 deep", "one more than `record_depth`", '{"a":' * 17 + "1" + "}" * 17, "too_deep"
)
nacked(
    _J,
    "arrays 500 deep",
    "a field of arrays in one another",
    '{"a":' + "[" * 500 + "]" * 500 + "}",
    "too_deep",
)
nacked(_J, "a number of 400 digits", '{"n":999…}', '{"n":' + "9" * 400 + "}", "bad_record")
nacked(_J, "a number beyond 64 bits", "2^64", '{"n":18446744073709551616}', "bad_record")
nacked(_J, "half a surrogate pair", r'{"t":"\ud800"}', r'{"t":"\ud800"}', "bad_record")
nacked(_J, "half a surrogate pair as a key", r'{"\udfff":1}', r'{"\udfff":1}', "bad_record")
nacked(
    _J, "no record", "[null, [], [1]]", "[null,[],[1]]", "bad_record", "bad_record", "bad_record"
)
nacked(_J, "a record over the limit", "200 KB of text", json.dumps({"t": "x" * 200_000}), "too_big")
nacked(_J, "a record over the limit, with a NaN", "the same, where a NaN has to be mended",
       '[{"t":NaN,"x":"' + "x" * 200_000 + '"}]', "too_big")  # fmt: skip
nacked(_J, "a record of 70,000 numbers", "140 KB, more than `record_values`",
       json.dumps({"a": [1] * 70_000}, separators=(",", ":")), "too_many_values")  # fmt: skip
nacked(_J, "a record of 36,000 maps in arrays", "180 KB, more than `record_values`, and a NaN",
       '{"n":NaN,"a":[' + "[{}]," * 36_000 + "1]}", "too_many_values")  # fmt: skip
nacked(_J, "a time that is none", '{"time":"noon"}', '{"time":"noon"}', "bad_time")
nacked(
    _J,
    "a time in the year 99999",
    '{"time":"99999-01-01T00:00:00Z"}',
    '{"time":"99999-01-01T00:00:00Z"}',
    "bad_time",
)
nacked(_J, "a time of 10^300", '{"time":1e300}', '{"time":1e300}', "bad_time")
nacked(_J, "a time of true", '{"time":true}', '{"time":true}', "bad_time")
kept(_J, "a key twice", '{"n":1,"n":2}', '{"n":1,"n":2}', "the last one counts", {"n": 2})
kept(_J, "NaN and Infinity", '{"a":NaN,"b":-Infinity}', '{"a":NaN,"b":-Infinity}', "null",
     {"a": None, "b": None})  # fmt: skip
nacked(_J, "a number of 10^400", '{"n":1e400}', '{"n":1e400}', "bad_record")
kept(_J, "a NUL in a key", r'{"a\u0000b":1}', r'{"a\u0000b":1}', "stored as it is", {"a\0b": 1})
kept(_J, "keys of the protocol", '{"type":"ack","next":99}', '{"type":"ack","next":99}',
     "a record like any other", {"type": "ack", "next": 99})  # fmt: skip
kept(_J, "a key for prototypes", '{"__proto__":{"x":1}}', '{"__proto__":{"x":1}}', "a key like any other",
     {"__proto__": {"x": 1}})  # fmt: skip

_M = MSGPACK_CASES
ended(_M, "100,000 arrays in one another", "91 91 91 …", b"\x91" * 100_000, 1007)
ended(_M, "an array that claims 2^32", "dd ffffffff", b"\xdd\xff\xff\xff\xff", 1007)
ended(_M, "a map that claims 2^32", "df ffffffff", b"\xdf\xff\xff\xff\xff\xa1a\x01", 1007)
ended(
    _M,
    "text that claims 4 GB",
    "a map of text, db ffffffff",
    b"\x81\xa1a\xdb\xff\xff\xff\xffxx",
    1007,
)
ended(
    _M, "binary that claims 4 GB", "the same, c6 ffffffff", b"\x81\xa1a\xc6\xff\xff\xff\xffxx", 1007
)
ended(
    _M,
    "an extension that claims 4 GB",
    "the same, c9 ffffffff",
    b"\x81\xa1a\xc9\xff\xff\xff\xff\x05xx",
    1007,
)
ended(_M, "the byte that is never used", "c1", b"\xc1", 1007)
ended(_M, "something behind the record", "a map, then a byte", msgpack.packb(_ONE) + b"\x01", 1007)
ended(_M, "an empty binary message", "no byte at all", b"", 1007)
ended(
    _M,
    "an array of 20,000 maps",
    "more than `batch_records`",
    b"\xdd\x00\x00\x4e\x20" + b"\x80" * 20_000,
    1009,
)
nacked(_M, "a record of 70,000 arrays", "70 KB, 5 MB as objects, more than `record_values`",
       msgpack.packb({"a": [[]] * 70_000}), "too_many_values")  # fmt: skip
nacked(_M, "a record of arrays in arrays", "the same where no array has many elements",
       msgpack.packb({"a": [[[]] * 100] * 800}), "too_many_values")  # fmt: skip
nacked(_M, "msgpack 17 deep", "maps in one another", b"\x81\xa1a" * 17 + b"\x01", "too_deep")
nacked(
    _M,
    "a foreign extension",
    "extension type 5",
    msgpack.packb({"x": msgpack.ExtType(5, b"xx")}),
    "bad_record",
)
nacked(
    _M,
    "a timestamp of 3 bytes",
    "type -1 with 3 bytes",
    b"\x81\xa1t\xc7\x03\xff\x00\x00\x00",
    "bad_record",
)
nacked(_M, "a timestamp beyond time", "96 bits, the year 292 billion",
       b"\x81\xa4time\xc7\x0c\xff" + struct.pack(">Iq", 0, 2**62), "bad_record")  # fmt: skip
nacked(_M, "a timestamp of too many nanoseconds", "96 bits, 2^32-1 ns",
       b"\x81\xa4time\xc7\x0c\xff" + struct.pack(">Iq", 2**32 - 1, 1), "bad_record")  # fmt: skip
nacked(_M, "a key that is a number", "{1: 1}", b"\x81\x01\x01", "bad_record")
nacked(_M, "a key that is a map", "{{}: 1}", b"\x81\x80\x01", "bad_record")
nacked(_M, "msgpack text that is no UTF-8", "a1 ff as text", b"\x81\xa1a\xa1\xff", "bad_record")
nacked(_M, "a key that is no UTF-8", "a1 ff as a key", b"\x81\xa1\xff\x01", "bad_record")
kept(
    _M,
    "a msgpack key twice",
    "{a: 1, a: 2}",
    b"\x82\xa1a\x01\xa1a\x02",
    "the last one counts",
    {"a": 2},
)
