"""The conversations in ``docs/protocol.md``, and how they are held with a real agent.

Each stands in fences of the kind ``text``. ``> VALUE`` is what the sensor sends, ``< VALUE`` what
the agent answers, each with the bytes below it; other lines are what else happens (`Happening`).
Of ``> segments`` the bytes are explained one by one, and the test knows the value. An answer in
JSON may stand without its bytes, as it is its own text.

``python -m tests.docs.conversations`` writes the bytes anew from the values, for whoever changed
one.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgpack
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from tests.end_to_end.support import AgentProcess
from tests.end_to_end.talking import connected
from tests.patience import PATIENCE_S

PAGE = Path(__file__).parent.parent.parent / "docs" / "protocol.md"
#: What is different in each run, and how it looks all the same.
VARYING = {
    "epoch": r'"[0-9a-f]{16}"',
    "time": r'"(|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z)"',
    "retry_after": r"[0-5]\.\d+",
}
#: In place of a value that JSON cannot show.
SEGMENTS = "segments"
_WIDTH = 16
_FENCE = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEX = re.compile(r"  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  .*)?")
_SIZE = re.compile(r"  (text|binary), (\d+) bytes")


@dataclass(frozen=True)
class Said:
    """One message: ``value`` as the page shows it, ``data`` by the bytes that the page shows."""

    by: Literal[">", "<"]
    value: str
    data: str | bytes


@dataclass(frozen=True)
class Happening:
    """``connect PATH [SUBPROTOCOL]``, ``cut``, ``< close CODE REASON``, ``> close CODE``, ``stop``
    (the agent is told to), ``stored STREAM FIELDS``.
    """

    what: str
    detail: str


def sections(text: str) -> dict[str, str]:
    """What stands below each heading that has a conversation below it."""
    found = {}
    for section in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if any("\nconnect " in f"\n{fence}" for fence in _FENCE.findall(body)):
            found[title] = body
    return found


def happenings(section: str) -> Iterator[Said | Happening]:
    """Everything that a section's conversations say, in order."""
    for fence in _FENCE.findall(section):
        if not fence.startswith(("GET ", "HTTP/")):
            for paragraph in fence.strip("\n").split("\n\n"):
                yield from _parse(paragraph.split("\n"))


def _parse(lines: list[str]) -> Iterator[Said | Happening]:
    while lines:
        line = lines.pop(0)
        by, _, rest = line.partition(" ")
        if by not in (">", "<") or rest.startswith("close "):
            what, _, detail = line.removeprefix("< ").removeprefix("> ").partition(" ")
            yield Happening(f"{by} close" if by in "<>" else what, detail)
            continue
        value = rest
        while lines and not _SIZE.fullmatch(lines[0]):
            value += lines.pop(0).strip()
        if not lines:
            yield Said("<", value, value)
            continue
        size = _SIZE.fullmatch(lines.pop(0))
        assert size is not None
        raw = b""
        while lines and (dump := _HEX.fullmatch(lines[0])):
            raw += bytes.fromhex(dump[1])
            lines.pop(0)
        assert len(raw) == int(size[2]), f"{len(raw)} bytes are shown of {line}"
        assert by in (">", "<")
        yield Said(by, value, raw.decode() if size[1] == "text" else raw)  # type: ignore[arg-type]  # asserted


def shown(text: str) -> str:
    """The page, with the bytes of each message as they follow from its value."""
    return _FENCE.sub(lambda fence: _shown(fence[0]), text)


def _shown(fence: str) -> str:
    lines, value = [], ""
    is_msgpack = False
    for line in fence.split("\n"):
        if line.startswith(("> ", "< ")) and not line[2:].startswith("close "):
            value = line[2:].replace(SEGMENTS, "")
        elif value and (size := _SIZE.fullmatch(line)):
            is_msgpack = size[1] == "binary"
            data = encoded(value) if is_msgpack else value.encode()
            lines += [f"  {size[1]}, {len(data)} bytes", *_dump(data)]
            value = "done"
            continue
        elif value == "done" and _HEX.fullmatch(line):
            continue
        elif value and value != "done":
            value += line.strip()
        lines.append(line)
    return "\n".join(lines)


def encoded(value: str) -> bytes:
    """JSON as the msgpack of the same value, keys in order, whole numbers as short as they go."""
    data: bytes = msgpack.packb(json.loads(value))
    return data


def _dump(data: bytes) -> Iterator[str]:
    for begin in range(0, len(data), _WIDTH):
        piece = data[begin : begin + _WIDTH]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in piece)
        yield f"  {piece.hex(' '):<{_WIDTH * 3 - 1}}  {text}"


class Player:
    """Holds the conversations of one section with one agent."""

    def __init__(self, agent: AgentProcess) -> None:
        self._agent = agent
        #: What stands in the page, by what it is called in this run.
        self._real: dict[str, str] = {}
        self._stored: list[tuple[str, Any]] = []
        self._mode = ""
        self._is_stopped = False

    async def play(self, happened: list[Said | Happening]) -> None:
        """Say what the sensor says, and compare what is answered."""
        while happened:
            one = happened.pop(0)
            assert isinstance(one, Happening) and one.what == "connect", one
            path, _, self._mode = one.detail.partition(" ")
            if self._is_stopped:
                self._is_stopped = False
                await self._agent.stop()
                await self._agent.start()
            async with connected(self._agent, path, self._mode) as socket:
                while happened and not _is(happened[0], "connect"):
                    if not await self._step(socket, happened.pop(0)):
                        break
        if self._stored:
            told = [(each["stream"], each["fields"]) for each in await self._agent.records()]
            assert told == self._stored, f"{told} is stored"

    async def _step(self, socket: WebSocketConnection, one: Said | Happening) -> bool:
        """False where the connection is over by that."""
        if isinstance(one, Said):
            if one.by == ">":
                await socket.send_message(self._as_here(one.data))
            else:
                with trio.fail_after(PATIENCE_S):
                    self._compare(one, await socket.get_message())
            return True
        match one.what:
            case "stored":
                stream, _, fields = one.detail.partition(" ")
                self._stored.append((stream, json.loads(fields)))
            case "stop":
                assert self._agent.process is not None
                self._agent.process.send_signal(signal.SIGTERM)
                self._is_stopped = True
            case "< close":
                said = await _closed(socket)
                assert said == one.detail, f"it closes with {said}, not with {one.detail}"
            case "> close":
                await socket.aclose(int(one.detail))
            case "cut":
                # What the agent answers is lost on the way; so it has had the message.
                with trio.fail_after(PATIENCE_S):
                    await socket.get_message()
                return False
            case _:
                raise AssertionError(one)
        return True

    def _as_here(self, data: str | bytes) -> str | bytes:
        for shown, real in self._real.items():
            if isinstance(data, str):
                data = data.replace(shown, real)
            else:
                data = data.replace(shown.encode(), real.encode())
        return data

    def _compare(self, wanted: Said, got: str | bytes) -> None:
        assert type(got) is type(wanted.data), got
        told = _decoded(got)
        assert self._encoded(told) == got, "compared is what was decoded"
        shown = _decoded(wanted.data)
        for key, form in VARYING.items():
            if key in shown and key in told:
                assert re.fullmatch(form, json.dumps(told[key])), told
                assert re.fullmatch(form, json.dumps(shown[key])), shown
                if key == "epoch":
                    assert self._real.setdefault(shown[key], told[key]) == told[key]
                told[key] = shown[key]
        assert self._encoded(told) == wanted.data, f"{told} is said, and {shown} stands in the page"

    def _encoded(self, value: Any) -> str | bytes:
        if self._mode.endswith("+msgpack"):
            return encoded(json.dumps(value))
        if self._mode.endswith("+json"):
            return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return json.dumps(value)


def _is(one: Said | Happening, what: str) -> bool:
    return isinstance(one, Happening) and one.what == what


def _decoded(data: str | bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
    return decoded


async def _closed(socket: WebSocketConnection) -> str:
    with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionClosed) as end:
        await socket.get_message()
    reason = end.value.reason
    assert reason is not None
    return f"{reason.code} {reason.reason or ''}".strip()


if __name__ == "__main__":
    PAGE.write_text(shown(PAGE.read_text()))
