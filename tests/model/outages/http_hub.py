"""An HTTP server in memory that knows ``Idempotency-Key``, and the many ways in which it does not.

It keeps what it was sent under each key, and takes a key once. What it is told to do instead of
answering 200 is a mode, of which several may be on at one time; the newest counts.
"""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from typing import Any, Final

import h11
import msgspec
import trio

from edge_agent.forward.batches.batch_limit import CUTS_MAX
from tests.model.outages.ledger import Counted
from tests.model.outages.wires import Network

#: What the server does; a fault's amount is the place in this list.
MODES: Final = (
    "429", "503", "401", "413", "422", "500",
    "redirect", "portal", "hang", "half", "lost",
)  # fmt: skip
#: A body with more records is too big while the mode is 413.
RECORDS_MAX: Final = 3
#: Records with such a number are refused while the mode is 422.
POISON: Final = 7
_PORTAL: Final = b"<html><body>Welcome to Grand Hotel. Please log in.</body></html>"


class _Line(msgspec.Struct):
    id: str
    source: str
    fields: dict[str, Any]


class HttpHub:
    """Serves on the network's ``http``.

    Attributes:
        modes: the faults at present.
        bodies: key to the hash of the body that came under it first, taken or not.
        taken: id to fields, in the order in which they were taken; without aggregates, which
            are in ``aggregates``.
        doubled: ids that were taken under more than one key, though the answers to the first were
            not lost `CUTS_MAX` times: from then on an agent may take the batch for one that does
            not get through, and sends its halves.
        problems: what no server should see.
        busy: simulated seconds that an ordinary answer takes.
    """

    def __init__(self, network: Network, busy: float = 0.2) -> None:
        self.modes: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.taken: dict[str, dict[str, object]] = {}
        self.ids: set[str] = set()
        self.doubled: set[str] = set()
        self.aggregates: list[Counted] = []
        self.problems: list[str] = []
        self.answers: dict[str, int] = {}
        self._keys: set[str] = set()
        self._first_key: dict[str, str] = {}
        self._lost: Counter[str] = Counter()
        self._network, self._busy = network, busy

    async def run(self) -> None:
        """Until cancelled."""
        listeners = list(await self._network.listen("127.0.0.1:80"))
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve, await listeners[0].accept())

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                while await self._one(connection, stream):
                    connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return  # A connection that broke is the other side's to notice.

    async def _one(self, connection: h11.Connection, stream: trio.abc.Stream) -> bool:
        headers: dict[str, str] = {}
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Request):
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        await trio.sleep(self._busy)
        reply = self._judge(headers, bytes(body))
        if reply is None:
            await trio.sleep_forever()  # Until the other side has had enough.
        assert reply is not None
        # On the way, too, answers are lost.
        if self._mode in ("half", "lost") or self._network.link("agent", "http").mutes:
            self._lost[headers["idempotency-key"]] += 1
        data = connection.send(reply[0]) or b""
        data += connection.send(h11.Data(data=reply[1])) or b"" if reply[1] else b""
        if self._mode == "half":
            await stream.send_all(data[: len(data) // 2])
            return False
        if self._mode == "lost":
            return False
        await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
        return connection.our_state is h11.DONE

    @property
    def _mode(self) -> str:
        return self.modes[-1] if self.modes else ""

    def _judge(self, headers: dict[str, str], body: bytes) -> tuple[h11.Response, bytes] | None:
        """The answer; None for none at all."""
        mode = self._mode
        self.answers[mode] = self.answers.get(mode, 0) + 1
        plain = gzip.decompress(body) if "content-encoding" in headers else body
        lines = [msgspec.json.decode(line, type=_Line) for line in plain.splitlines()]
        key = headers["idempotency-key"]
        self._note(key, body)
        if mode == "hang":
            return None
        if mode in ("429", "503"):
            return _reply(int(mode), b"later", ("Retry-After", "7"))
        if mode in ("401", "500"):
            return _reply(int(mode), b"no")
        if mode == "redirect":
            return _reply(302, b"", ("Location", "http://portal.example/"))
        if mode == "portal":
            return _reply(200, _PORTAL, ("Content-Type", "text/html"))
        if key in self._keys:
            # Known before it is looked into: what was taken is not refused afterwards.
            return _reply(200, b"{}", ("Content-Type", "application/json"))
        if mode == "413" and len(lines) > RECORDS_MAX:
            return _reply(413, b"too much")
        if mode == "422" and any(poisonous(line.fields) for line in lines):
            return _reply(422, b"seven")
        self._take(key, lines)
        return _reply(200, b"{}", ("Content-Type", "application/json"))

    def _note(self, key: str, body: bytes) -> None:
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if self.bodies.setdefault(key, digest) != digest:
            self.problems.append(f"the key {key} came with other bytes than before")

    def _take(self, key: str, lines: list[_Line]) -> None:
        self._keys.add(key)
        # What was refused may be tried uncompressed, as itself, and be taken both ways by then.
        key = key.removesuffix("/plain")
        for line in lines:
            # What was sent to find out what is wrong comes again in its turn.
            first = key if "/probe-" in key else self._first_key.setdefault(line.id, key)
            if first != key and self._lost[first] < CUTS_MAX:
                self.doubled.add(line.id)
            again = line.id in self.ids
            self.ids.add(line.id)
            counted = Counted.of(line.source, line.fields)
            if counted is None:
                self.taken[line.id] = line.fields
            elif not again:
                self.aggregates.append(counted)


def poisonous(fields: dict[str, object]) -> bool:
    """Whether the server, in its mode 422, refuses a record with these fields."""
    number = fields.get("n")
    return isinstance(number, int) and number % POISON == 0


def _reply(status: int, body: bytes, *headers: tuple[str, str]) -> tuple[h11.Response, bytes]:
    length = ("Content-Length", str(len(body)))
    return h11.Response(status_code=status, headers=[length, *headers]), body
