"""This module decides to which identity a source or an agent belongs.

An *identity* is a token's name. Without a tokens file nobody has proved a name: everybody may be
everything, and nothing belongs to anybody.

What belongs to somebody are sources, as ``/ingest`` says hello with them, and agents by their ids:
the one that says hello on ``/forward``, with all its lanes, and each whose records it brings. Whose
they are is kept in the store (`edge_agent.store.commit.sources`), bound before the welcome by an
entry that also takes the place among the sources, so that the first record is not refused for want
of one. An agent's own lies under ``$agent/ID``.

==================================== =========================================================
it belongs to                        an identity that asks for it
==================================== =========================================================
nobody, no token spells it           gets it: stores of before and new names alike
nobody, tokens spell it              gets it if its token is one of them
this identity                        has it
another one                          gets it if its token names it and the other's does not
==================================== =========================================================

A token *spells* a name that stands in it as it is, and *names* also what a pattern of it matches,
``**`` alone excepted; a spelt name is more than a matched one. A pattern is a bound for its own
token, and does not keep others out before it is used: ``--source 'pi/**'`` on one token would
otherwise lock out all tokens without ``--source`` that send as ``pi/1`` today.

Everybody else is refused before anything changes: no connection is taken over, no number told. What
changes hands in the last case begins anew where the newcomer says, for the numbers that somebody
else used up are not its own; rather twice than lost.

An agent's id says nothing by itself. A Pi whose records came through a site is the site's, until
``edge-agent source move agent:ID --to NAME`` gives it to the Pi's own token, and the other way
round. Until then whoever comes the new way keeps what it has. A token made with ``--agent`` may
bring those ids alone, so that no liar behind a site can stop what comes through it.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Sequence

from edge_agent.errors import ProtocolError
from edge_agent.security.tokens import Token, Tokens
from edge_agent.server.admission import Grant
from edge_agent.session import CLOSE_FORBIDDEN
from edge_agent.store import AGENT_PREFIX, share_of

logger = logging.getLogger(__name__)

#: Refusals that were told in the journal; each once, until there are so many.
TOLD_MAX = 1000
_AGENT = re.compile(r"[A-Za-z0-9._-]{1,64}")


def shown(source: str) -> str:
    """A source as people say it: an agent is ``agent:ID``."""
    if source.startswith(AGENT_PREFIX):
        return "agent:" + source.removeprefix(AGENT_PREFIX)
    return source


def judge(
    source: str,
    identity: str,
    owner: str | None,
    namers: Sequence[str] = (),
    spellers: Sequence[str] = (),
) -> str | None:
    """Whether ``identity`` may use ``source``, which belongs to ``owner``, which the tokens
    ``namers`` name and ``spellers`` spell; the owner that has to give way, None for none.

    Raises:
        ProtocolError: ``forbidden_source``, with whom it belongs to and what an owner does.
    """
    if owner == identity or (owner is None and (identity in spellers or not spellers)):
        return None
    for those in (spellers, namers):
        if owner is not None and identity in those and owner not in those:
            return owner
        if owner in those:
            break
    name = shown(source)
    if owner is None:
        text = (
            f"{name} belongs to {spellers[0]!r}, whose token names it, not to {identity!r};"
            " an owner of this agent gives it away by letting the other token name it, too"
            " (edge-agent token)"
        )
    else:
        order = f"edge-agent source move {shlex.quote(name)} --to {shlex.quote(identity)}"
        text = (
            f"{name} belongs to {owner!r}, not to {identity!r}; an owner of this agent moves it:"
            f" {order}"
        )
    raise ProtocolError("forbidden_source", text, CLOSE_FORBIDDEN)


class Owners:
    """Judges by the tokens as they are now.

    Args:
        tokens: None where no tokens are asked for.
        places: how many sources there may be.
    """

    def __init__(self, tokens: Tokens | None, places: int) -> None:
        self._tokens, self._places = tokens, places
        self._told: set[tuple[str, str]] = set()

    @property
    def share(self) -> int:
        """How many sources an identity may have."""
        if self._tokens is None:
            return self._places
        senders = [one for one in self._tokens.all() if one.write or one.forward]
        return share_of(self._places, len(senders))

    def judge_source(self, grant: Grant, source: str, owner: str | None) -> str | None:
        """As `judge`, for a sensor."""
        if not grant.identity:
            return None
        names = [one.name for one in self._all() if one.names_source(source)]
        return self._judge(
            grant, source, owner, names, [one.name for one in self._all() if source in one.sources]
        )

    def judge_agent(self, grant: Grant, agent: str, owner: str | None) -> str | None:
        """As `judge`, for an agent that forwards, or whose records are forwarded."""
        if not grant.identity:
            return None
        if grant.may_bring is not None and not grant.may_bring(agent):
            raise ProtocolError(
                "forbidden_source",
                f"the token {grant.identity!r} does not allow the agent {agent!r} (--agent)",
                CLOSE_FORBIDDEN,
            )
        if _AGENT.fullmatch(agent) is None:
            raise ProtocolError(
                "forbidden_source", f"{agent[:64]!r} is no agent's id", CLOSE_FORBIDDEN
            )
        name = AGENT_PREFIX + agent
        names = [one.name for one in self._all() if one.names_agent(agent)]
        return self._judge(
            grant, name, owner, names, [one.name for one in self._all() if agent in one.agents]
        )

    def _all(self) -> Sequence[Token]:
        assert self._tokens is not None, "an identity is a token's"
        return self._tokens.all()

    def _judge(
        self,
        grant: Grant,
        source: str,
        owner: str | None,
        namers: Sequence[str],
        spellers: Sequence[str],
    ) -> str | None:
        try:
            over = judge(source, grant.identity, owner, namers, spellers)
        except ProtocolError as error:
            self._tell((source, grant.identity), f"refused: {error.message}")
            raise
        if over is not None:
            text = f"{shown(source)} goes from {over!r} to {grant.identity!r}, whose token names it"
            self._tell((source, grant.identity), text)
        return over

    def _tell(self, what: tuple[str, str], text: str) -> None:
        if what not in self._told:
            if len(self._told) >= TOLD_MAX:
                self._told.clear()
            self._told.add(what)
            logger.warning("%s", text)
