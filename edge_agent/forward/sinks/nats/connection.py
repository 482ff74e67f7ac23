"""A connection to a NATS server: one that reads, and whoever asks.

`NatsConnection.run` reads for as long as the connection lasts: it answers pings, gives answers to
who waits for them, and raises what ends the connection, to them as well. Everything that is sent
passes one lock: a PONG within a message would break it.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from edge_agent.errors import ProtocolError, SinkUnavailable
from edge_agent.forward.credentials import Credentials
from edge_agent.forward.link.handshake import HANDSHAKE_S, handshake
from edge_agent.forward.sinks.nats.protocol import (
    PING,
    PONG,
    NatsInfo,
    NatsMessage,
    NatsParser,
    NatsPing,
    NatsPong,
    NatsRefusal,
    Said,
    connect,
    publish,
    subscribe,
)
from edge_agent.net.dial import Dial, secure
from edge_agent.output.printable import printable, why

_RECEIVE_BYTES: Final = 64 * 1024
#: What a server says when it does not take us as who we are.
_FOR_A_PERSON: Final = ("authorization", "authentication", "permissions violation", "account")
NETWORK_ERRORS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError)


class NatsConnection:
    """See the module. Made by `open_nats`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.info = NatsInfo()
        self._stream, self._parser = stream, NatsParser()
        self._lock = trio.Lock()
        self._name, self._asked = secrets.token_hex(11).encode(), 0
        self._inbox = b"_INBOX.%s." % self._name
        self._waiting: dict[bytes, _Waiting] = {}
        self._failure: SinkUnavailable | None = None
        self._closing = False

    async def run(self, patience: float) -> None:
        """Read until the connection ends; ``patience`` seconds of silence are asked about.

        Raises:
            SinkUnavailable: it ended, and not by `aclose`.
        """
        try:
            await self._read(patience)
        except SinkUnavailable as error:
            self._fail(error)
            if not self._closing:
                raise
        except NETWORK_ERRORS as error:
            failure = SinkUnavailable(f"the connection broke: {why(error) or 'it was reset'}")
            self._fail(failure)
            if not self._closing:
                raise failure from error
        finally:
            self._fail(SinkUnavailable("the connection is closed"))

    async def send(self, data: bytes) -> None:
        """Whole messages, in order.

        Raises:
            SinkUnavailable: the connection broke.
        """
        try:
            async with self._lock:
                await self._stream.send_all(data)
        except NETWORK_ERRORS as error:
            said = why(error) or "it was reset"
            raise self._failure or SinkUnavailable(f"the connection broke: {said}") from error

    def expect(
        self, is_final: Callable[[NatsMessage], bool] = lambda _: True
    ) -> tuple[bytes, Callable[[], Awaitable[NatsMessage]]]:
        """A subject for an answer, and what waits for the first that is final. Whoever calls sets
        the deadline. The subject ends with a name that no other connection gives; answers may come
        to subjects below it.

        Raises (the wait):
            SinkUnavailable: the connection broke, or nobody listens there.
        """
        self._asked += 1
        name = b"%s%d" % (self._name, self._asked)
        waiting = self._waiting[name] = _Waiting(is_final)

        async def answer() -> NatsMessage:
            try:
                if self._failure is None:
                    await waiting.event.wait()
            finally:
                self._waiting.pop(name, None)
            if waiting.message is None:
                raise self._failure or SinkUnavailable("the connection is closed")
            return waiting.message

        return self._inbox + name, answer

    async def ask(
        self, subject: bytes, payload: bytes = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> NatsMessage:
        """Publish, and wait for the one answer.

        Raises:
            SinkUnavailable: the connection broke.
        """
        reply, answer = self.expect()
        await self.send(publish(subject, payload, headers, reply))
        return await answer()

    async def aclose(self) -> None:
        """Close without a word: NATS has none."""
        self._closing = True
        await trio.aclose_forcefully(self._stream)

    async def introduce(self, host: str, credentials: Credentials, user: str | None) -> None:
        """Hear who the server is, say who we are, and wait until it has taken that.

        Raises:
            OSError: no TLS.
            SinkUnavailable: it is none for us, or does not take us.
        """
        with handshake(HANDSHAKE_S):
            await self._until(NatsInfo)
        if credentials.tls is not None:
            # The server waits for the handshake; nothing of it can have been read yet.
            self._stream = await secure(self._stream, host, credentials.tls)
            self._parser = NatsParser()
        elif self.info.tls_required:
            raise SinkUnavailable("the server wants TLS: nats+tls://", slow=True)
        if not self.info.headers:
            text = f"NATS {self.info.version} knows no headers; JetStream needs 2.2"
            raise SinkUnavailable(printable(text), slow=True, obstacle="there")
        facts = _facts(credentials, user)
        await self.send(connect(facts) + subscribe(self._inbox + b">", 1) + PING)
        await self._until(NatsPong)

    async def _until(self, kind: type[Said]) -> None:
        is_heard = False
        while not is_heard:
            said = self._parsed(await self._stream.receive_some(_RECEIVE_BYTES))
            for one in said:
                await self._hear(one)
                is_heard = is_heard or isinstance(one, kind)

    async def _read(self, patience: float) -> None:
        is_asked = False
        while True:
            data: bytes | bytearray | None = None
            with trio.move_on_after(patience):
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            if data is None:
                if is_asked:
                    raise SinkUnavailable(f"the server says nothing for {2 * patience:g} s")
                is_asked = True
                await self.send(PING)
                continue
            is_asked = False
            for one in self._parsed(data):
                await self._hear(one)

    def _parsed(self, data: bytes | bytearray) -> list[Said]:
        if not data:
            when = "" if self.info.version else " before its first word"
            raise SinkUnavailable(f"the server closed the connection{when}")
        try:
            return self._parser.feed(bytes(data))
        except ProtocolError as error:
            raise SinkUnavailable(printable(error.message), obstacle="there") from error

    async def _hear(self, one: Said) -> None:
        if isinstance(one, NatsMessage):
            name = one.subject[len(self._inbox) :].partition(b".")[0]
            waiting = self._waiting.get(name)
            if waiting is not None and waiting.message is None and waiting.is_final(one):
                waiting.message = one
                waiting.event.set()
        elif isinstance(one, NatsPing):
            await self.send(PONG)
        elif isinstance(one, NatsInfo):
            self.info = one
        elif isinstance(one, NatsRefusal):
            slow = any(word in one.reason.lower() for word in _FOR_A_PERSON)
            text = f"the server says: {printable(one.reason[:300])}"
            text += "; see user, password_file, token_file and its account there" * slow
            raise SinkUnavailable(text, slow=slow, obstacle="there")

    def _fail(self, error: SinkUnavailable) -> None:
        self._failure = self._failure or error
        for waiting in self._waiting.values():
            waiting.event.set()


class _Waiting:
    """For an answer."""

    def __init__(self, is_final: Callable[[NatsMessage], bool]) -> None:
        self.event, self.is_final = trio.Event(), is_final
        self.message: NatsMessage | None = None


async def open_nats(
    dial: Dial,
    server: tuple[str, int],
    credentials: Credentials,
    user: str | None,
    patience: float,
) -> NatsConnection:
    """A connection to ``server`` over which we are who we say.

    Raises:
        OSError: no connection, or no TLS.
        SinkUnavailable: what answers is no NATS server, or it does not take us.
        trio.TooSlowError: ``patience`` seconds were not enough.
    """
    host, port = server
    with trio.fail_after(patience):
        connection = NatsConnection(await dial(host, port, None))
        try:
            await connection.introduce(host, credentials, user)
        except BaseException:
            await connection.aclose()
            raise
    return connection


def _facts(credentials: Credentials, user: str | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "verbose": False, "pedantic": False, "headers": True, "no_responders": True,
        "lang": "edge-agent", "version": "1", "protocol": 1, "echo": False,
        "tls_required": credentials.tls is not None,
    }  # fmt: skip
    if credentials.token is not None:
        facts["auth_token"] = credentials.token
    if user is not None:
        facts["user"], facts["pass"] = user, credentials.password or ""
    return facts
