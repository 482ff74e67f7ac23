"""What the peers' answers mean, wherever they are cut; and that none is ever left out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import bench_ingest
from benchmarks.bench_ingest import TINY, Singles
from benchmarks.ingest_runs import peer_run
from benchmarks.peers import PEERS, mosquitto, nats, redis
from benchmarks.pump import Flow
from benchmarks.table import Row
from tests.conftest import REQUIRE_ALL

REDIS = b"$15\r\n1732412345678-0\r\n"
NATS = b'MSG _INBOX.0 1 29\r\n{"stream":"BENCH", "seq":1234}\r\n'
PUBACK = b"\x40\x02\x12\x34"
COUNTERS: dict[str, tuple[Callable[[Flow, bytes], None], bytes]] = {
    "redis": (redis.count_replies, REDIS),
    "nats": (nats.count_acks, NATS),
    "mosquitto": (mosquitto.count_acks, PUBACK),
}


@pytest.mark.parametrize("name", COUNTERS)
@given(cuts=st.lists(st.integers(0, 400), max_size=8), count=st.integers(0, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # set anew in the test
def test_answers_are_counted_wherever_the_stream_was_cut(
    flow: Flow, name: str, cuts: list[int], count: int
) -> None:
    take, answer = COUNTERS[name]
    flow.acked, flow.rest = 0, b""
    stream = answer * count
    places = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]

    for start, end in pairwise(places):
        take(flow, stream[start:end])
        assert flow.acked == end // len(answer)

    assert flow.acked == count


@pytest.mark.parametrize(
    "name, answer",
    [
        ("redis", b"-OOM command not allowed\r\n"),
        ("redis", REDIS + b"-ERR unknown\r\n"),
        ("nats", b'MSG _INBOX.0 1 60\r\n{"error":{"code":429,"description":"too many"}}\r\n'),
        ("nats", b"-ERR 'Slow Consumer'\r\n"),
        ("mosquitto", b"\xe0\x00\x00\x00"),
    ],
)
def test_a_refusal_is_no_answer(flow: Flow, name: str, answer: bytes) -> None:
    with pytest.raises(ConnectionError, match=name):
        COUNTERS[name][0](flow, answer)


def test_pings_of_nats_are_answered_and_not_counted(flow: Flow) -> None:
    sent: list[bytes] = []
    flow.socket.close()
    flow.socket = type("Wire", (), {"send": lambda _, data: sent.append(data)})()

    nats.count_acks(flow, NATS + b"PING\r\n" + NATS)

    assert flow.acked == 2 and sent == [b"PONG\r\n"]


def test_a_redis_command_is_an_array_of_bulk_strings() -> None:
    assert redis.command(b"XADD", b"s", b"*") == b"*3\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n"


def test_mqtt_packets_have_lengths_in_sevens_of_bits_and_never_the_identifier_0() -> None:
    assert mosquitto.packet(0x30, bytes(127))[:2] == b"\x30\x7f"
    assert mosquitto.packet(0x30, bytes(321))[:3] == b"\x30\xc1\x02"
    identifiers = {mosquitto.publish(number, b"")[9:11] for number in range(65_535)}
    assert len(identifiers) == 65_535 and b"\0\0" not in identifiers


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_takes_records_and_holds_what_it_acked(tmp_path: Path, name: str) -> None:
    peer = PEERS[name]
    if missing := peer.missing():
        assert not REQUIRE_ALL, f"{name} is missing: {missing}"
        pytest.skip(f"needs {name}: {missing}")

    row = peer_run(tmp_path, name, peer, records=120, connections=3)

    assert row.records == 120 and row.seconds > 0


def test_a_peer_that_holds_less_than_it_acked_gets_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(PEERS["seed"]), "stored", lambda *_: 11)

    with pytest.raises(SystemExit, match="12 of 12 acked, 11 stored"):
        peer_run(tmp_path, "seed", PEERS["seed"], records=12, connections=1)


def test_a_peer_that_is_not_installed_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, peer in PEERS.items():
        monkeypatch.setattr(type(peer), "missing", lambda _, name=name: f"get {name}")
    monkeypatch.setattr(bench_ingest, "agent_run", lambda *_, **__: Row(1000, 1.0, 0.5))

    singles = Singles(tmp_path, TINY)
    singles.measure()

    table = singles.table()
    for peer in PEERS.values():
        (line,) = [line for line in table.splitlines() if f"| {peer.title} |" in line]
        assert f"not installed ({peer.missing()})" in line
        assert line.count("|") == table.splitlines()[0].count("|")
    assert singles.figures() == {"singles_4": 1000.0}
    assert [group.label for group in singles.bars()] == ["edge_agent"]
