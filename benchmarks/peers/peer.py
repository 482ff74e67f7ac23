"""What every peer says of itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from benchmarks.load import Task, session_flow
from benchmarks.pump import Flow

#: Makes a message durable under its number.
Put = Callable[[int, bytes], None]


class Peer(ABC):
    """A server of another make, run with the settings that its own documentation recommends."""

    #: As the table calls it.
    title: ClassVar[str]
    #: One sentence: what an acknowledgement of it promises.
    promise: ClassVar[str]
    #: Whether that is what the agent's acknowledgement promises: synced.
    synced: ClassVar[bool] = True
    #: Messages of a short run, by which the length of the others is judged.
    messages: ClassVar[int]

    def missing(self) -> str:
        """How to get it, where this machine lacks it; empty where it is here."""
        return ""

    @abstractmethod
    def command(self, folder: Path, port: int) -> list[str]:
        """What starts it on ``port`` with its data in ``folder``, which exists and is empty."""

    def prepare(self, port: int) -> None:  # noqa: B027 most peers need nothing here
        """Called once it listens."""

    def connect(self, task: Task, index: int) -> Flow:
        """One connection of the load, with all that it will send; by itself: our own protocol."""
        return session_flow(task, index)

    @abstractmethod
    def stored(self, folder: Path, port: int) -> int:
        """Messages that it holds, asked of it while it runs."""

    @abstractmethod
    def version(self) -> str:
        """For the list of versions."""


def program(name: str) -> str:
    """Where the program is, or nothing: beside this Python, on the path, or in /usr/sbin."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders)) or ""


def version_of(*command: str) -> str:
    """The first number with dots that a program prints."""
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+[.\d]*", answer.stdout + answer.stderr)
    return found[0] if found else "unknown"
