"""The load of POST: one request after the other on each of many connections, encoded beforehand.

Run as ``python -m benchmarks.post_load '{"port": …}'``; prints one JSON object, as
`benchmarks.load` does. They are real requests over bare sockets, none before the answer to the one
before it. The load shares the machine, so it does no more than it must: an answer that is byte for
byte one that was looked at before is not looked at again. Every connection has a stream of its own,
which is how what was stored is found again: posts of one address have one source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from benchmarks.load import Task, connected, main
from benchmarks.pump import Flow

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length: *(\d+)\r?$", re.IGNORECASE | re.MULTILINE)
_SEEN_MAX = 1000
#: Whole answers that were a 200.
_seen: set[bytes] = set()


@cache
def head_before(port: int, stream: str, text: bool) -> bytes:
    """A request's head up to its length, with what curl sends."""
    kind = "json" if text else "msgpack"
    return (
        f"POST /ingest/{stream} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: curl/8.5.0\r\n"
        f"Accept: */*\r\nContent-Type: application/{kind}\r\nContent-Length: "
    ).encode()


def requests(bodies: Sequence[bytes], head: bytes) -> list[bytes]:
    """Whole requests."""
    return [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]


def take_answers(flow: Flow, data: bytes) -> None:
    """For `Flow.receive`: every whole answer moves ``acked`` by one request.

    Raises:
        ConnectionError: an answer is no 200.
    """
    if not flow.rest and data in _seen:
        _take(flow)
        return
    flow.rest += data
    while _HEAD_END in flow.rest:
        head, _, rest = flow.rest.partition(_HEAD_END)
        found = _LENGTH.search(head)
        if not head.startswith(b"HTTP/1.1 200 ") or found is None:
            raise ConnectionError(f"refused: {flow.rest[:500]!r}")
        if len(rest) < int(found[1]):
            return
        size = len(head) + len(_HEAD_END) + int(found[1])
        if len(_seen) < _SEEN_MAX:
            _seen.add(flow.rest[:size])
        flow.rest = flow.rest[size:]
        _take(flow)


def _take(flow: Flow) -> None:
    flow.acked = flow.upto[flow.settled]
    flow.settled += 1


def post_flow(task: Task, index: int) -> Flow:
    """A connection with one request in flight, encoded before it is opened."""
    stream = f"{task.source}/{index}"
    chunks = requests(task.bodies(index), head_before(task.port, stream, task.text))
    upto = [min((n + 1) * task.batch, task.count(index)) for n in range(len(chunks))]
    sock = connected(task.host, task.port, task.ca_file)
    # Of one address only so many that have proved nothing are heard at a time.
    sock.sendall(requests([b"[]"], head_before(task.port, stream, True))[0])
    answer = sock.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(f"refused: {answer!r}")
    return Flow(sock, chunks, upto, task.batch, take_answers, source=stream)


if __name__ == "__main__":
    main(lambda task: [post_flow(task, index) for index in range(task.connections)])
