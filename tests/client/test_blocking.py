"""Against a stub agent in a Trio thread of its own, over a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edge_agent.client import BlockingProducer, Trouble, Unacked
from edge_agent.errors import ProtocolError
from tests.client.stub import agent_on_a_port
from tests.patience import PATIENCE_S


def test_a_script_sends_flushes_and_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with agent_on_a_port() as (agent, url):
        with BlockingProducer(url, source="me", close_timeout=PATIENCE_S) as producer:
            assert producer.send({"n": 1}) == 1
            assert producer.send([{"n": 2}, {"n": 3}]) == 3
            producer.flush(PATIENCE_S)
            assert (producer.acked, producer.unacked) == (3, 0)
        assert agent.kept() == [1, 2, 3]
    assert threading.active_count() == before


def test_several_threads_may_send() -> None:
    with agent_on_a_port() as (agent, url):
        with BlockingProducer(url, source="me", close_timeout=PATIENCE_S) as producer:
            threads = [
                threading.Thread(target=producer.send, args=([{"n": n}, {"n": n}],))
                for n in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        kept = agent.kept()
        assert sorted(kept) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert kept[::2] == kept[1::2]  # lists stay together


def test_a_bad_record_is_an_error_where_it_is_sent() -> None:
    with (
        BlockingProducer("ws://127.0.0.1:1/ingest/s", source="me") as producer,
        pytest.raises(ProtocolError, match="65536 may be sent"),
    ):
        producer.send({"x": "y" * 100_000})


def test_deadlines_are_kept_while_nobody_answers() -> None:
    troubles: list[Trouble] = []
    told = threading.Event()

    def note(trouble: Trouble) -> None:
        troubles.append(trouble)
        told.set()

    begin = time.monotonic()
    with (  # noqa: PT012 - the scope is what raises
        pytest.raises(Unacked),
        BlockingProducer(
            "ws://127.0.0.1:1/ingest/s",
            source="me",
            buffer_records=1,
            close_timeout=0.1,
            on_error=note,
        ) as producer,
    ):
        producer.send({"n": 1})
        assert told.wait(PATIENCE_S)
        with pytest.raises(TimeoutError, match="buffer is full"):
            producer.send({"n": 2}, timeout=0.05)
        with pytest.raises(TimeoutError, match="not everything is acked"):
            producer.flush(timeout=0.05)
    assert time.monotonic() - begin < PATIENCE_S
    assert troubles[0].kind == "unreachable"


def test_a_callbacks_error_comes_out_of_the_next_call() -> None:
    def fail(number: int) -> None:
        raise KeyError(number)

    with agent_on_a_port() as (_, url):
        with (  # noqa: PT012 - which call meets it is not determined
            pytest.raises(KeyError),
            BlockingProducer(url, source="me", on_ack=fail) as producer,
        ):
            producer.send({"n": 1})
            producer.flush(PATIENCE_S)
        assert "producer" not in " ".join(thread.name for thread in threading.enumerate())


def test_the_bodys_error_wins_over_what_was_not_acked() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        BlockingProducer("ws://127.0.0.1:1/ingest/s", source="me", close_timeout=0.05) as producer,
    ):
        producer.send(1 // 0)


def test_outside_of_its_scope_it_says_how_it_is_used() -> None:
    producer = BlockingProducer("ws://127.0.0.1:1/ingest/s", source="me")
    with pytest.raises(RuntimeError, match="with BlockingProducer"):
        producer.send({"n": 1})
    with producer:
        pass
    for call in (lambda: producer.send({"n": 1}), producer.flush):
        with pytest.raises(RuntimeError, match="has ended"):
            call()
    with pytest.raises(RuntimeError, match="used once"), producer:
        pass


def test_a_callback_that_sends_is_told_that_it_cannot() -> None:
    told: list[str] = []
    answered = threading.Event()

    def answer(_trouble: Trouble) -> None:
        with pytest.raises(RuntimeError) as caught:
            producer.send({"n": 2})
        told.append(str(caught.value))
        answered.set()

    producer = BlockingProducer(
        "ws://127.0.0.1:1/ingest/s", source="me", close_timeout=0.05, on_error=answer
    )
    with pytest.raises(Unacked), producer:  # noqa: PT012 - the scope is what raises
        producer.send({"n": 1})
        assert answered.wait(PATIENCE_S)
    assert "a callback cannot wait" in told[0]


def test_ctrl_c_sends_what_was_handed_over_and_ends_the_process() -> None:
    with agent_on_a_port() as (agent, url):
        script = f"""
import time
from edge_agent.client import BlockingProducer
with BlockingProducer({url!r}, source="me", close_timeout={PATIENCE_S}) as producer:
    producer.send([{{"n": n}} for n in range(100)])
    print("sent", flush=True)
    time.sleep(60)
"""
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=2 * PATIENCE_S)
        assert b"KeyboardInterrupt" in errors
        assert agent.kept() == list(range(100))


def test_a_process_that_was_forked_off_is_told_to_make_its_own_and_the_producer_goes_on() -> None:
    with agent_on_a_port() as (agent, url):
        script = f"""
import os, signal
from edge_agent.client import BlockingProducer
with BlockingProducer({url!r}, source="me") as producer:
    producer.send({{"n": 1}})
    if (child := os.fork()) == 0:
        signal.alarm({PATIENCE_S:.0f})
        try:
            producer.send({{"n": 2}})
        except RuntimeError as error:
            os.write(1, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    producer.send({{"n": 3}})
    producer.flush({PATIENCE_S})
"""
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == (
            "a process that was forked off makes a producer of its own", ""
        )  # fmt: skip
        assert agent.kept() == [1, 3]
