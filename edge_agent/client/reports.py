"""A producer's reports: the arguments of its callbacks, and the errors that its methods raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge_agent.errors import EdgeAgentError
from edge_agent.output.printable import printable

TroubleKind = Literal["nack", "unreachable", "refused", "stop", "lost", "renumbered", "buffer"]
"""What went wrong:

- ``nack``: one record is refused for its content, for good; the agent keeps it in quarantine.
- ``unreachable``: no connection this time; tried again.
- ``refused``: the agent answered the upgrade with an HTTP error; ``status`` says which. 401, 403
  and 404 stay until a person changes something; tried again, slowly. Or the source is not this
  token's: then ``status`` is 0, ``code`` is ``forbidden_source``, and the message says whose it is.
- ``stop``: "not now" (``store_full``, ``too_many_sources``, ``rate``, ``closing``); tried again
  when it said.
- ``lost``: an open connection ended or broke a rule; what is unacked is sent again.
- ``renumbered``: the agent's store is another one than before, or what it has of this source is not
  what this producer sent (a copied buffer, a second producer); what is unacked goes there under
  numbers that continue.
- ``buffer``: the file of the buffer was damaged and set aside, or the disk refused.
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session is open.

    Attributes:
        epoch: of the agent's store.
        next: number of the oldest record that the agent does not have.
        resumed: whether the agent knew the epoch from an earlier session.
    """

    epoch: str
    next: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something went wrong; the producer goes on.

    Attributes:
        kind: see `TroubleKind`.
        message: one sentence, without anything that a terminal or a log would obey.
        code: the agent's word (``bad_time``, ``store_full`` …) or "".
        number: of the record that a nack is about, else 0.
        status: HTTP status of ``refused``, else 0.
        retry_in: seconds until the next attempt; None where none is needed.
        lasting: it stays until a person changes something: a token, a URL, whom one trusts. It is
            tried again all the same, slowly.
    """

    kind: TroubleKind
    message: str
    code: str = ""
    number: int = 0
    status: int = 0
    retry_in: float | None = None
    lasting: bool = False

    def __post_init__(self) -> None:
        # The agent's words, or whoever's that answers there.
        object.__setattr__(self, "message", printable(self.message))


def ignore(_report: object) -> None:
    """What stands where the owner gave no callback."""


@dataclass(slots=True)
class Callbacks:
    """Whom to tell; see `Producer`."""

    on_open: Callable[[Opened], None] = ignore
    on_ack: Callable[[int], None] = ignore
    on_error: Callable[[Trouble], None] = ignore
    on_close: Callable[[str], None] = ignore


class Unacked(EdgeAgentError):
    """The producer was closed before everything was acked, and nothing else keeps it.

    Each of the ``count`` records may or may not have arrived. With a buffer on disk this does not
    happen: they stay there.
    """

    def __init__(self, count: int, timeout: float, cause: str = "") -> None:
        why = f": {cause}" if cause else ""
        super().__init__(f"closed after {timeout:g} s with {count} records not acked{why}")
        self.count = count
