"""This module says what an error of PostgreSQL means for what is to be sent. Pure.

====================================== ========================================================
class of SQLSTATE                      what is done
====================================== ========================================================
22 data, 23 constraint, 44 view,       refused: the batch is halved until the record is found,
54 program limit, P0 raised by a       which goes to quarantine
function
23502 (a column that we do not fill),  slow: a person has to grant, create or correct something;
28 login, 3D, 3F, 42 names and rights, everything is kept
0A not supported
57014 (a statement took too long)      back off; a smaller batch where it repeats itself
all others: 08 connection, 40          back off and try again
serialisation, 53 resources, 55, 57,
58, XX; no SQLSTATE
====================================== ========================================================
"""

from __future__ import annotations

from typing import Final

from edge_agent.errors import SinkError, SinkRefused, SinkUnavailable
from edge_agent.output.printable import printable

_CONTENT: Final = frozenset(("22", "23", "44", "54", "P0"))
_FOR_A_PERSON: Final = frozenset(("28", "3D", "3F", "42", "0A"))
_NOT_NULL: Final = "23502"
_CANCELLED: Final = "57014"
_READ_ONLY: Final = "25006"
#: What libpq says of a login that failed has no SQLSTATE. These pass by themselves.
_PASSES: Final = (
    "starting up", "shutting down", "recovery", "too many", "remaining connection slots",
    "terminating", "refused", "timeout", "reset", "closed", "unreachable",
)  # fmt: skip


class PostgresError(Exception):
    """What the server, or libpq, says went wrong.

    Attributes:
        sqlstate: five characters; "" where there is none.
    """

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def has_no_answer(sqlstate: str) -> bool:
    """Whether a question about rows that are there has none, now or later: no right to read them,
    types that do not compare, a policy or cast that fails, or a look that takes too long.
    """
    return sqlstate == _CANCELLED or sqlstate[:2] in _CONTENT | _FOR_A_PERSON


def sink_error(message: str, sqlstate: str, *, log_in: bool = False) -> SinkError:
    """What to raise for it; ``log_in``: it came while the connection was made."""
    text = printable(message)[:500]
    if sqlstate:
        text = f"{text} (SQLSTATE {sqlstate})"
    if sqlstate == _READ_ONLY:
        # It speaks of the first statement that it met, which made our temporary table.
        text = f"it takes no writes now (a replica, or default_transaction_read_only): {text}"
    kind = sqlstate[:2]
    if sqlstate == _NOT_NULL or kind in _FOR_A_PERSON:
        return SinkUnavailable(text, slow=True, obstacle="there")
    if kind in _CONTENT:
        refusal = SinkRefused(text)
        refusal.obstacle = "there"
        return refusal
    if sqlstate:
        return SinkUnavailable(text, cut=sqlstate == _CANCELLED, obstacle="there")
    if not log_in:
        return SinkUnavailable(text, cut=True)
    if "server does not support SSL" in message:
        text += "; sslmode=disable in the URL does without TLS"
    answered = "FATAL" in message or "SSL" in message or "certificate" in message
    slow = answered and not any(word in message for word in _PASSES)
    return SinkUnavailable(text, slow=slow, obstacle="there" if answered else "between")
