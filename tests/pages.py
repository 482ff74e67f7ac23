"""Processes for which a page of memory has 16 KiB, as on a Raspberry Pi 5, on any machine.

A few lines of C, loaded before everything else, answer for the kernel. What LMDB, Python and the
agent make of that is what they make of it there; only the kernel's own mapping stays as it is.

``python -m tests.pages COMMAND ...`` runs a command that way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

LARGE = 16_384
SOURCE = f"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

long sysconf(int name) {{
    static long (*real)(int);
    if (name == _SC_PAGESIZE) return {LARGE};
    if (!real) real = (long (*)(int)) dlsym(RTLD_NEXT, "sysconf");
    return real(name);
}}

int getpagesize(void) {{ return {LARGE}; }}
"""


def large_pages(folder: Path) -> dict[str, str]:
    """What a process's environment needs, built in ``folder`` by gcc."""
    made, source = folder / "large-pages.so", folder / "large-pages.c"
    if not made.exists():
        source.write_text(SOURCE)
        command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(made), str(source), "-ldl"]
        subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(made)}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **large_pages(Path(folder))}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
