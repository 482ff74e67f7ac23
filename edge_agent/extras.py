"""Libraries that the package does not bring, and the line that installs one where this agent runs.

Each is an extra of pyproject.toml. The line names the library and not the extra, and the
environment that this process runs in: it works wherever that environment came from, a checkout, a
wheel, pipx or the Debian package, which has none of its own pip.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

#: Extra to what it brings.
LIBRARIES: Final = {
    "arrow": "pyarrow>=21.0",
    "cel": "cel-expr-python>=0.1.3",
    "kafka": "confluent-kafka>=2.10",
    "mqtt": "paho-mqtt>=2.1",
    "postgres": "psycopg[binary]>=3.2",
}
#: Where the Debian package puts its environment (systemd/deb).
DEB_PREFIX: Final = "/usr/lib/edge-agent"


def library_needed(extra: str, prefix: str = sys.prefix, *, has_pip: bool | None = None) -> str:
    """What an error says it expected: ``the library paho-mqtt (…)``, with the line that installs it
    into the environment at ``prefix``, which has a pip of its own or has none.
    """
    library, python = LIBRARIES[extra], Path(prefix, "bin/python")
    name = library.partition(">")[0]
    if find_spec("pip") is not None if has_pip is None else has_pip:
        return f'the library {name} ({python} -m pip install "{library}")'
    line = f'python3 -m pip --python {python} install "{library}"'
    if prefix == DEB_PREFIX:
        line = f"as root: apt-get install --yes python3-pip && {line}"
    return f"the library {name} ({line})"
