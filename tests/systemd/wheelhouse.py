"""What an installation without network needs: wheels of everything the agent depends on.

``make test`` calls this during its set-up, so that the tests themselves need no network. The
wheels are for Debian's own Python, which is what the README's commands meet.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: The only Python that is there when a container sees nothing but /usr.
PYTHON = "/usr/bin/python3"


def fill(folder: Path) -> None:
    """Download the wheels into ``folder``; what is there already is not fetched again."""
    script = 'import sys; print("{}.{}".format(*sys.version_info))'
    version = subprocess.check_output([PYTHON, "-c", script], text=True).strip()
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
        "--dest", str(folder), "--require-hashes", "--requirement", str(ROOT / "requirements.lock"),
        "--python-version", version, "--only-binary", ":all:",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
