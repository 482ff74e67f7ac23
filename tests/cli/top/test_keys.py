from __future__ import annotations

import os
import pty
import termios
import time

from edge_agent.cli.top.keys import Keys


def test_a_key_comes_as_it_is_pressed_and_the_terminal_is_as_before_in_the_end() -> None:
    outer, inner = pty.openpty()
    try:
        before = termios.tcgetattr(inner)
        with Keys(inner) as keys:
            assert keys.wait(0) == ""
            os.write(outer, b"sq\xc3")
            assert [keys.wait(5), keys.wait(5), keys.wait(5)] == ["s", "q", ""]
            assert not termios.tcgetattr(inner)[3] & (termios.ECHO | termios.ICANON)
        assert termios.tcgetattr(inner) == before
    finally:
        os.close(outer)
        os.close(inner)


def test_without_a_terminal_nothing_is_pressed_and_time_passes() -> None:
    with Keys() as keys:
        began_s = time.monotonic()
        assert keys.wait(0.01) == "" and time.monotonic() - began_s >= 0.01
