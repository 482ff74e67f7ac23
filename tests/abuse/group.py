"""Runs the cases of one group against one agent, beside a canary, and judges what is left."""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.abuse.cases import Case, Cases
from tests.abuse.loop_turns import FILE, delay_p99, pace, turns_in
from tests.abuse.place import Place
from tests.end_to_end.support import agents
from tests.fuzz.canary import STREAM
from tests.fuzz.real import UNHANDLED
from tests.fuzz.singing import is_slow, now, p99, singing
from tests.patience import PATIENCE_S

#: Before and after the cases the canary sings undisturbed: what that gives is its usual p99.
REST_S = 1.5
#: Its ack usually takes the commit interval, or more: it takes no more than twice as long where what
#: the agent itself does beside it is no more than that.
COMMIT_S = 0.02
TURNS = "turns"
#: What an agent may hold more of memory, once its peers have gone.
MEMORY_BYTES = 5_000_000
#: All slow cases of a group wait side by side, each at most so long.
CASE_S = 4 * PATIENCE_S


@dataclass
class Outcome:
    """What a group came to: by the name of the case what was wrong with it, and figures."""

    wrong: dict[str, str] = field(default_factory=dict)
    usual_p99: float = 0.0
    tried_p99: float = 0.0
    memory: int = 0
    #: What the agent's own work would have the canary wait for, at p99, in CPU.
    usual_delay: float = 0.0
    tried_delay: float = 0.0

    def __str__(self) -> str:
        """The figures, in a line."""
        ms = 1000
        return (
            f"the canary's p99: {self.tried_p99 * ms:.0f} ms, usually {self.usual_p99 * ms:.0f};"
            f" the loop's turns: {self.tried_delay * ms:.1f} ms of CPU, usually"
            f" {self.usual_delay * ms:.1f}; memory: {self.memory / 1e6:+.1f} MB"
        )


async def run(place: Place, cases: Cases) -> Outcome:
    """Start the agent, try all cases, look at what is left, stop it."""
    if cases.around is None:
        return await _run(place, cases)
    async with cases.around(place):
        return await _run(place, cases)


async def _run(place: Place, cases: Cases) -> Outcome:
    outcome = Outcome()
    agent = place.agent
    agent.module = ("tests.abuse.loop_turns",)
    agent.environment[FILE] = str(agent.folder / TURNS)
    async with agents(agent):
        async with singing(*_canary_of(place)) as song:
            await song.rest(REST_S)
            begun = now()
            if cases.first is not None:
                await cases.first(place)
            # Cases read metrics; the library for them is loaded once, by whoever asks first.
            await place.counted("edge_agent_records_total")
            before = place.memory()
            await _try_all(place, cases, outcome)
            ended = now()
            outcome.memory = await _memory_back(place, before)
            await song.rest(REST_S)
        # Upstreams go on to lie: only what came before is usual then.
        over = ended if cases.around is None else math.inf
        usual, tried = song.parted([(begun, over)])
        outcome.usual_p99, outcome.tried_p99 = p99(usual), p99(tried)
        if song.errors:
            outcome.wrong["the canary"] = "; ".join(song.errors)
        if is_slow(tried, usual):
            outcome.wrong["the canary waited"] = str(outcome)
        if outcome.memory > MEMORY_BYTES:
            outcome.wrong["memory"] = str(outcome)
        await _look(place, outcome, len(song.sung))
        code = await agent.stop()
        _judge_turns(agent.folder / TURNS, (begun, over), outcome)
        if code:
            outcome.wrong["the agent"] = f"it stopped with {code}"
    journal = (agent.folder / "stderr.txt").read_text(errors="replace")
    unhandled = [line for line in journal.splitlines() if UNHANDLED.search(line)]
    if unhandled:
        outcome.wrong["the journal"] = "\n".join(unhandled[:20])
    return outcome


async def _try_all(place: Place, cases: Cases, outcome: Outcome) -> None:
    async with trio.open_nursery() as slow:
        for case in cases.all:
            if case.is_slow:
                slow.start_soon(_try, place, case, outcome)
        for case in cases.all:
            if not case.is_slow:
                await _try(place, case, outcome)
    if cases.afterwards is not None:
        await _try(place, Case(cases.group, "afterwards", "", "", cases.afterwards), outcome)


async def _try(place: Place, case: Case, outcome: Outcome) -> None:
    try:
        with trio.fail_after(CASE_S):
            await case.run(place)
    except Exception as error:  # noqa: BLE001 - told by the name of the case; the others go on
        told = traceback.format_exception(error)
        outcome.wrong[case.name] = "".join(told[-4:])


async def _memory_back(place: Place, before: int) -> int:
    """What the agent holds more than before; waits until that is little."""
    more = place.memory() - before
    with trio.move_on_after(PATIENCE_S):
        while more > MEMORY_BYTES:
            await trio.sleep(0.2)
            more = place.memory() - before
    return more


def _judge_turns(path: Path, tried: tuple[float, float], outcome: Outcome) -> None:
    begun, over = tried
    outcome.tried_delay = delay_p99(turns_in(path, begun, over))
    outcome.usual_delay = delay_p99(turns_in(path, begun - REST_S, begun))
    if outcome.tried_delay > COMMIT_S * pace():
        outcome.wrong["the loop was held"] = str(outcome)


def _canary_of(place: Place) -> tuple[str, ...]:
    if place.keys is None:
        return (place.agent.url,)
    url = f"wss://localhost:{place.agent.port}"
    return (url, str(place.keys.ca), place.keys.secrets["canary"])


async def _look(place: Place, outcome: Outcome, sung: int) -> None:
    """What the agent says of itself, and whether all that the canary was acked is there once."""
    for metric in ("connection_faults_total", "own_mistakes_total"):
        if faults := await place.counted(metric):
            outcome.wrong[metric] = f"{faults:.0f}"
    if place.keys is None:
        told = [record["fields"]["n"] for record in await place.agent.records(STREAM)]
        if told[:sung] != list(range(sung)):
            outcome.wrong["what the canary sent"] = f"{sung} were acked, there are {told[:9]} …"
