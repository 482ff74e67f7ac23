"""The HTTP sink: one POST per batch, known upstream by its ``Idempotency-Key``.

::

    POST PATH HTTP/1.1
    Content-Type: application/x-ndjson        (or application/json, application/msgpack)
    Content-Encoding: gzip                    (or zstd, or none)
    Idempotency-Key: EPOCH/LOG/FIRST-LAST     (and /thinned-N where N of them gave way,
                                              /moved-N where a person moved the floor N times)
    Authorization: Bearer TOKEN

Delivery is at least once. The key's range is durable before the first send (``plan.py``) and the
bytes depend on nothing but the records, so a batch whose answer was lost comes again with the same
key and the same bytes; an upstream that knows keys drops it, and one that does not knows each
record by its ``id``. What counts as an answer is decided in ``answers.py``, how a record reads in
``rendering.py``. A range without any record of the upstream's patterns is not sent at all.

httpx2 is 7 MB, so this file is imported only where an HTTP upstream is configured.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress

import httpx2
import trio

from edge_agent import __version__
from edge_agent.clock import Clock
from edge_agent.commit import RunBlocking
from edge_agent.config import Upstream
from edge_agent.dial import Dial
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.answers import ANSWER_BYTES_MAX, Answer, judge
from edge_agent.forward.clockwait import waits_for_clock
from edge_agent.forward.credentials import client_context, read_token
from edge_agent.forward.rendering import CONTENT_TYPES, encode_body, rendered
from edge_agent.forward.sink import CLOSE_S, Acknowledged, Batch, Resume, Resumed
from edge_agent.store import Identity
from edge_agent.streams import compile_patterns


class HttpSink:
    """One log's POSTs to one URL; see the module's docstring.

    Args:
        upstream: its configuration.
        identity: who we are, for keys and ids.
        clock: for dates: a ``Retry-After``'s, and a certificate's.
        run_blocking: where a batch is rendered and compressed, tens of milliseconds.
        dial: opens byte streams; where it is None, httpx2 opens sockets itself.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        identity: Identity,
        clock: Clock,
        run_blocking: RunBlocking,
        dial: Dial | None = None,
    ) -> None:
        self._upstream, self._identity = upstream, identity
        self._clock, self._run_blocking, self._dial = clock, run_blocking, dial
        self._matches: Callable[[str], bool] = compile_patterns(upstream.streams)
        self._client: httpx2.AsyncClient | None = None

    @property
    def keyed(self) -> bool:
        """A batch is known upstream by its range."""
        return True

    async def open(self, nursery: trio.Nursery, resume: Resume) -> Resumed:
        """Nothing to agree on: go on behind the floor. The connection is made by `send`."""
        await trio.lowlevel.checkpoint()
        self._identity = resume.identity or self._identity
        return Resumed(resume.floor + 1)

    async def send(self, batch: Batch) -> Acknowledged:
        """POST the batch and wait for the answer, ``timeout`` seconds for everything together.

        Raises:
            SinkUnavailable: network, TLS, token file, or an answer that is no acknowledgement.
            SinkRefused: 400, 413, 422, or a record that the format cannot say.
        """
        count, body = await self._run_blocking(self._render, batch)
        if count == 0:
            return Acknowledged(batch.last)
        key = f"{self._identity.epoch}/{batch.log}/{batch.first}-{batch.last}"
        if batch.thinned:
            # Other bytes than the same range had before its records were thinned.
            key += f"/thinned-{batch.thinned}"
        if batch.moves:
            # By order, and rendered by what is known today: not what the range was before.
            key += f"/moved-{batch.moves}"
        answer = await self._post(body, key)
        problem = judge(answer, key, self._clock.read().wall_ns)
        if problem is not None:
            raise problem
        return Acknowledged(batch.last, count, len(body))

    async def settle(self, floor: int) -> Acknowledged:
        """Nothing is ever in flight between two sends."""
        await trio.sleep_forever()
        raise AssertionError("unreachable: sleep_forever ends by cancellation only")

    @property
    def drained(self) -> bool:
        """Nothing is ever in flight between two sends."""
        return True

    async def aclose(self) -> None:
        """Close the connection; a later `send` makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            with trio.move_on_after(CLOSE_S, shield=True), suppress(*_NETWORK_ERRORS):
                await client.aclose()

    def _render(self, batch: Batch) -> tuple[int, bytes]:
        agent, epoch = self._identity.agent_id, self._identity.epoch
        records = [rendered(record, agent, epoch) for record in batch.records(self._matches)]
        if not records:
            return 0, b""
        try:
            body = encode_body(records, self._upstream.format, self._upstream.compression)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # One of them cannot be said in this format; halving finds out which.
            raise SinkRefused(f"cannot be written as {self._upstream.format}: {error}") from error
        return len(records), body

    async def _post(self, body: bytes, key: str) -> Answer:
        headers = self._headers(key)
        if self._client is None:
            self._client = self._connect()
        try:
            with trio.fail_after(self._upstream.timeout):
                async with self._client.stream(
                    "POST", self._upstream.url, content=body, headers=headers
                ) as response:
                    return await _read(response)
        except trio.TooSlowError as error:
            message = f"no answer within {self._upstream.timeout:g} s"
            raise SinkUnavailable(f"{self._upstream.name}: {message}") from error
        except _NETWORK_ERRORS as error:
            waits = await waits_for_clock(error, self._upstream, self._clock, self._dial)
            said = SinkUnavailable(f"{self._upstream.name}: {_reason(error)}")
            raise waits or said from error

    def _connect(self) -> httpx2.AsyncClient:
        is_tls = self._upstream.url.startswith("https:")
        context = client_context(self._upstream.ca_file) if is_tls else None
        transport: httpx2.AsyncBaseTransport | None = None
        if self._dial is not None:
            # Imported here: where httpx2 opens the sockets itself nobody needs it.
            from edge_agent.forward.dialed import DialedTransport

            transport = DialedTransport(self._dial, context)
        return httpx2.AsyncClient(
            verify=context or False,
            transport=transport,
            # No proxy, no netrc, no certificates from the environment: where data and tokens go
            # is in the configuration alone.
            trust_env=False,
            follow_redirects=False,
            # The deadline around the whole request is ours; httpx2's are per read.
            timeout=None,
            limits=httpx2.Limits(max_connections=1, max_keepalive_connections=1),
        )

    def _headers(self, key: str) -> dict[str, str]:
        headers = {
            "Content-Type": CONTENT_TYPES[self._upstream.format],
            "Idempotency-Key": key,
            "User-Agent": f"edge-agent/{__version__}",
            # An answer is short; a compressed one could be a bomb.
            "Accept-Encoding": "identity",
        }
        if self._upstream.compression != "none":
            headers["Content-Encoding"] = self._upstream.compression
        token = read_token(self._upstream.token_file)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers


_NETWORK_ERRORS = (
    httpx2.HTTPError,
    httpx2.InvalidURL,
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
)


async def _read(response: httpx2.Response) -> Answer:
    pieces: list[bytes] = []
    size = 0
    try:
        # Raw: an answer that is compressed although we asked for none is not looked into.
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                # Not a break: httpx2's iterators have to come to an end by themselves, and
                # without the connection they do at once.
                await response.extensions["network_stream"].aclose()
            else:
                pieces.append(piece)
    except httpx2.HTTPError:
        if size <= ANSWER_BYTES_MAX:
            raise
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(
        response.status_code, headers, b"".join(pieces), complete=size <= ANSWER_BYTES_MAX
    )


def _reason(error: BaseException) -> str:
    """What the innermost cause says: httpx2 wraps errors twice and tells nothing of its own."""
    said = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        said = str(cause) or said
        cause = cause.__cause__ or cause.__context__
    return said
