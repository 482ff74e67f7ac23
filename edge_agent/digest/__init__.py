"""Digesting takes what is durable in the logs into history's file, and forgets what is old there.

`Digester` is the task, a consumer of every log. It drives a `HistoryWriter`, which never waits:
blocks go through `block` into the `Tail`, in memory, and a flush writes that to the `HistoryFile`
in one transaction. What the file holds, and what it promises, says `edge_agent.history`.
"""

from edge_agent.digest.digester import CONSUMER, FLUSH_EVERY_S, Digester, HistoryStatus
from edge_agent.digest.file import HistoryFile
from edge_agent.digest.history import HistoryWriter, Keep
from edge_agent.digest.owner import HistoryOwner
from edge_agent.digest.tail import segments_of
from edge_agent.digest.tools import (
    BACKUP,
    HistoryReport,
    back_up_history,
    check_history,
    restore_history,
    rewrite_history,
)

__all__ = [
    "BACKUP",
    "CONSUMER",
    "FLUSH_EVERY_S",
    "Digester",
    "HistoryFile",
    "HistoryOwner",
    "HistoryReport",
    "HistoryStatus",
    "HistoryWriter",
    "Keep",
    "back_up_history",
    "check_history",
    "restore_history",
    "rewrite_history",
    "segments_of",
]
