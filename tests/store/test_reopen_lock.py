from __future__ import annotations

import threading

from edge_agent.store.reopen_lock import Gate
from tests.patience import PATIENCE_S


def test_readers_are_inside_together() -> None:
    gate = Gate()
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def read() -> None:
        with gate.shared():
            both.wait()

    other = threading.Thread(target=read)
    other.start()
    read()
    other.join(5)
    assert not both.broken


def test_alone_waits_for_readers_and_lets_none_in() -> None:
    gate = Gate()
    order: list[str] = []
    inside = threading.Event()

    def reopen() -> None:
        inside.set()
        with gate.alone():
            order.append("alone")

    def late() -> None:
        with gate.shared():
            order.append("late")

    with gate.shared():
        first = threading.Thread(target=reopen)
        first.start()
        assert inside.wait(PATIENCE_S)
        while not gate._closing:  # Until it waits for this very reader.
            assert first.is_alive()
        second = threading.Thread(target=late)
        second.start()
        order.append("reader")
    first.join(5)
    second.join(5)
    assert order == ["reader", "alone", "late"]


def test_an_error_inside_opens_the_gate_again() -> None:
    gate = Gate()
    for way in (gate.shared, gate.alone):
        try:
            with way():
                raise KeyError
        except KeyError:
            pass
    with gate.alone():
        pass
