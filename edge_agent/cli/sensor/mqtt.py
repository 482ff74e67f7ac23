"""``edge-agent sensor mqtt``: what an MQTT broker says, brought in through a session with acks.

A message of QoS 1 is acknowledged to the broker once the agent has synced its record. So it is in
the broker's session or in the agent's store at any moment, or in both: a kill in between stores it
twice. Messages of QoS 0 are kept as well as they can be. How a topic and a payload become a record
is in ``mqtt_messages.py``.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import click
import trio

from edge_agent.cli.agent_http import sensor_options
from edge_agent.cli.async_main import run
from edge_agent.cli.common import SOURCE_NAME, Failure
from edge_agent.cli.send.options import EX_NOPERM, Diary, host_name, ingest_url
from edge_agent.cli.sensor.broker import (
    BrokerMessage,
    BrokerOptions,
    BrokerSession,
    broker_url_problem,
    topic_problem,
)
from edge_agent.cli.sensor.mqtt_messages import as_text, fields_of, stream_of, template_problem
from edge_agent.client import Producer, Trouble, Unacked
from edge_agent.errors import ProtocolError
from edge_agent.output.printable import why
from edge_agent.system.files import read_secret_line

#: Taken from the broker and not durable yet; times the largest message, this is the memory.
MESSAGES_MAX = 1000
#: How often a topic that was refused is asked for again.
AGAIN_S = 60.0
#: Stream of the URL; every record names its own.
_STREAM = "mqtt"


class Bridge:
    """From a broker to an agent.

    Args:
        options: the broker's.
        template: of the stream.
        producer: makes the agent's end, given what is called for acks and for trouble.
        diary: where trouble is told, and whether a lasting one ends us.
    """

    def __init__(self, options: BrokerOptions, template: str, diary: Diary) -> None:
        self._template, self._diary = template, diary
        self._token: trio.lowlevel.TrioToken | None = None
        # Bounded by the session's places.
        self._give, self._taken = trio.open_memory_channel[BrokerMessage](MESSAGES_MAX)
        self._pending: deque[tuple[int, BrokerMessage]] = deque()
        self._session = BrokerSession(options, MESSAGES_MAX, self._arrived, self._heard)
        self.stored = self.refused = 0
        self._last: str | None = None
        self._tries_on, self._scope = diary.tries_on, trio.CancelScope()
        self._failure: Failure | None = None

    def acked(self, number: int) -> None:
        """For `Producer`: every record up to ``number`` is durable, or in quarantine."""
        while self._pending and self._pending[0][0] <= number:
            self._session.done(self._pending.popleft()[1])
            self.stored += 1

    def trouble(self, told: Trouble) -> None:
        """For `Producer`: what the agent refuses stays in its quarantine."""
        self.refused += self._diary.refused(told, "message")

    async def run(self, producer: Producer) -> None:
        """Bring messages in until cancelled.

        Raises:
            Failure: the broker refuses what only a person can change, and somebody waits for this
                at a terminal; a service tries on, as it may be mended on the other side.
        """
        self._token = trio.lowlevel.current_trio_token()
        self._session.start()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            nursery.start_soon(self._ask_again)
            async for message in self._taken:
                number = await self._send(producer, message)
                if number is None:
                    self._session.done(message)
                    continue
                self._pending.append((number, message))
                self.acked(producer.acked)
        if self._failure is not None:
            raise self._failure

    async def _ask_again(self) -> None:
        """For topics that the broker has refused: rights may be given while we are connected."""
        while True:
            await trio.sleep(AGAIN_S)
            if self._session.missing:
                self._session.subscribe(self._session.missing)

    async def stop(self) -> None:
        """Leave the broker; what is durable by now is acknowledged to it."""
        await trio.to_thread.run_sync(self._session.stop)

    async def _send(self, producer: Producer, message: BrokerMessage) -> int | None:
        stream = stream_of(self._template, message.topic)
        fields = fields_of(message.payload)
        for last in (False, True):
            try:
                return await producer.send(fields, stream=stream)
            except ProtocolError as error:
                if last or error.code == "too_big":
                    # Nothing that comes again could be stored either.
                    self.refused += 1
                    self._diary.say(f"left out a message of {message.topic}: {error}")
                    return None
            fields = as_text(message.payload)
        raise AssertionError("the second one returns")

    def _arrived(self, message: BrokerMessage) -> None:
        """In paho's thread."""
        if self._token is not None:
            self._token.run_sync_soon(self._give.send_nowait, message)

    def _heard(self, line: str, lasting: bool) -> None:
        """In paho's thread."""
        if self._token is not None:
            self._token.run_sync_soon(self._hear, line, lasting)

    def _hear(self, line: str, lasting: bool) -> None:
        """Each line once in a row. As with the agent (`Diary`): what no waiting mends ends a sensor
        that never had anything from its broker, for whoever has just started it.
        """
        if lasting and not self._tries_on:
            self._failure = self._failure or Failure(line, EX_NOPERM)
            self._scope.cancel()
        elif line != self._last:
            self._diary.say(f"{line}; trying again" if line else "connected to the broker")
        self._tries_on = self._tries_on or not line
        self._last = line


@click.command()
@click.argument("broker", metavar="URL")
@partial(sensor_options, flag="--to")
@click.option(
    "--topic",
    "topics",
    metavar="FILTER",
    multiple=True,
    required=True,
    help="What to subscribe to, + and # allowed, such as 'tele/#'; repeat it.",
)
@click.option(
    "--stream",
    metavar="NAME",
    default="{topic}",
    show_default=True,
    help="Where records go; {topic} is the message's topic, {1} its first part.",
)
@click.option(
    "--source",
    metavar="NAME",
    type=SOURCE_NAME,
    help="Who sends them. [default: mqtt/HOSTNAME]",
)
@click.option(
    "--client-id",
    metavar="ID",
    help="Names the session at the broker; use it once. [default: edge-agent-HOSTNAME]",
)
@click.option("--user", metavar="NAME", help="Who we are at the broker.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that holds the password at the broker.",
)
@click.option(
    "--broker-ca-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Trust this certificate authority of the broker (mqtts). [the system's]",
)
@click.option(
    "--certificate",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Our certificate, for a broker that asks for one.",
)
@click.option(
    "--key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The key of --certificate.",
)
@click.option(
    "--version",
    type=click.Choice(["5", "3.1.1"]),
    default="5",
    show_default=True,
    help="Of MQTT; 3.1.1 for an old broker.",
)
def mqtt(
    broker: str,
    topics: tuple[str, ...],
    stream: str,
    source: str | None,
    client_id: str | None,
    user: str | None,
    password_file: Path | None,
    broker_ca_file: str | None,
    certificate: str | None,
    key: str | None,
    version: Literal["5", "3.1.1"],
    url: str,
    token: str | None,
    ca_file: str | None,
) -> None:
    """What an MQTT broker says: Tasmota, Shelly, ESPHome, Zigbee2MQTT.

    Subscribes at URL (mqtt:// or mqtts://) and stores each message as a record, until Ctrl-C. A
    message of QoS 1 is acknowledged to the broker once its record is on the agent's disk.
    """
    _check(broker, stream, topics)
    options = BrokerOptions(
        broker,
        topics,
        client_id or f"edge-agent-{host_name()}",
        version,
        user,
        _password(password_file),
        broker_ca_file,
        certificate,
        key,
    )
    diary = Diary()
    bridge = Bridge(options, stream, diary)
    producer = Producer(
        ingest_url(url, None if "/ingest/" in url else _STREAM),
        source=source or f"mqtt/{host_name()}",
        token=token,
        ca_file=ca_file,
        buffer_records=MESSAGES_MAX,
        on_open=lambda _: diary.opened(),
        on_ack=bridge.acked,
        on_error=bridge.trouble,
    )
    _bring_and_tell(bridge, producer, diary)


def _check(broker: str, stream: str, topics: Sequence[str]) -> None:
    if (problem := broker_url_problem(broker)) is not None:
        raise Failure(f"URL: expected {problem}", 2)
    if (problem := template_problem(stream)) is not None:
        raise Failure(f"--stream: expected {problem}, found {stream!r}", 2)
    for topic in topics:
        if (problem := topic_problem(topic)) is not None:
            raise Failure(f"--topic: expected {problem}, found {topic!r}", 2)


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_secret_line(path)
    except (OSError, ValueError) as error:
        raise Failure(f"--password-file {path}: {why(error)}", 2) from error


def _bring_and_tell(bridge: Bridge, producer: Producer, diary: Diary) -> None:
    try:
        run(partial(_bring, bridge, producer))
    except Unacked as error:
        # Of QoS 1 they come again; of QoS 0 nobody has them.
        diary.say(str(error))
    finally:
        diary.say(f"{bridge.stored} messages stored, {bridge.refused} refused")


async def _bring(bridge: Bridge, producer: Producer) -> None:
    """Until SIGTERM or Ctrl-C; then what was taken is stored and acknowledged."""
    try:
        async with producer, trio.open_nursery() as nursery:
            nursery.start_soon(bridge.run, producer)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    break
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await bridge.stop()
