"""What is read of a process from outside, and the slope through it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from benchmarks.watching import memory_samples, process_seconds, rss_anon_mb, slope


def test_a_slope_is_found_through_noise_and_does_not_depend_on_the_origin() -> None:
    dice = random.Random(1)
    points = [(1e6 + x, 40 + 0.5 * x + dice.uniform(-0.1, 0.1)) for x in range(100)]

    assert slope(points) == pytest.approx(0.5, abs=0.001)
    assert slope([(0, 7), (1, 7), (2, 7)]) == 0
    assert slope([(0, 3), (1, 1)]) == -2


def test_a_slope_through_one_place_is_refused() -> None:
    with pytest.raises(ValueError, match="two different places"):
        slope([(1, 1), (1, 2)])
    with pytest.raises(ValueError, match="two different places"):
        slope([])


def test_the_cpu_of_another_process_is_read_with_all_its_threads() -> None:
    script = (
        "import sys, threading, time\n"
        "def spin():\n"
        "    end = time.thread_time() + 0.1\n"
        "    while time.thread_time() < end: pass\n"
        "threads = [threading.Thread(target=spin) for _ in range(2)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(time.process_time(), flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        own = float(child.stdout.readline())
        seen = process_seconds(child.pid)
        child.communicate()

    assert own >= 0.2
    assert own <= seen < own + 0.05


def test_memory_of_ones_own_grows_with_what_is_written_to() -> None:
    before = rss_anon_mb(os.getpid())
    held = bytearray(os.urandom(1)) * 20_000_000
    after = rss_anon_mb(os.getpid())

    assert 18 < after - before < 25
    del held


def test_samples_are_taken_until_the_block_ends() -> None:
    with memory_samples(os.getpid(), 0.01) as samples:
        while len(samples) < 3:
            time.sleep(0.005)
    count = len(samples)

    assert [moment for moment, _ in samples] == sorted(moment for moment, _ in samples)
    assert all(size > 1 for _, size in samples)
    time.sleep(0.03)
    assert len(samples) == count
