"""One PostgreSQL for all tests of a process, as making one takes seconds: each test gets a database
of its own. ``tests/conftest.py`` ends it.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count

from benchmarks.ports import free_port
from benchmarks.upstreams.servers import Postgres, postgresql

STACK = ExitStack()
_servers: list[Postgres] = []
_numbers = count(1)


def end_servers() -> None:
    """End it; the next database is of another one."""
    _servers.clear()
    STACK.pop_all().close()


def new_database() -> tuple[Postgres, str]:
    """The server, and the name of a new database of its user ``edge``."""
    if not _servers:
        _servers.append(STACK.enter_context(postgresql(free_port())))
    name = f"edge_{next(_numbers)}"
    _servers[0].as_root(f"CREATE DATABASE {name} OWNER edge STRATEGY file_copy")
    return _servers[0], name
