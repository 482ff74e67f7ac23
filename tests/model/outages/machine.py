"""A machine of a simulation: an agent, who starts it again, its clock, and who pulls the plug.

`Machine.run` is what systemd is: it starts the agent, and starts it again when it has ended. A kill
is the cancellation of everything at one checkpoint, with all connections reset or silent first, so
that nothing of what a dying task still does gets out. **Fuses** say at which one: at once, at the
n-th step that any task takes, before or after the n-th call of the store, within it before or after
the n-th transaction is written, or at the n-th event that the agent tells. Killed after a call
means that it was done and nobody learned of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import trio

from edge_agent import agent
from edge_agent.config import parse
from edge_agent.errors import StoreFailed
from edge_agent.store import Engine, nowhere
from edge_agent.system.clock import Reading
from tests.model.determinism import EPOCH_NS
from tests.model.outages.disk import Disk, Fuse, PulledPlug
from tests.model.outages.wires import Network

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: From the end of an agent to its next start, at least.
RESTART_S = 1.0
Tell = Callable[[str, str, Mapping[str, object]], None]


class MachineClock:
    """Wall and boot clock of one machine; ``offset_s`` is how wrong the wall clock is."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.synced = True
        self._boot = 1
        self._booted_at = 0.0

    def read(self) -> Reading:
        """All clocks now."""
        now = trio.current_time()
        return Reading(
            EPOCH_NS + round((now + self.offset_s) * 1e9),
            round((now - self._booted_at + 1.0) * 1e9),
            self._boot.to_bytes(16, "big"),
            self.synced,
        )

    def reboot(self, *, synced: bool) -> None:
        """The boot clock begins anew, and the wall clock in 1970 unless it is ``synced``."""
        self._boot += 1
        self._booted_at = trio.current_time()
        self.synced = synced
        self.offset_s = 0.0 if synced else -EPOCH_NS / 1e9 - self._booted_at

    def sync(self) -> None:
        """The time arrives from somewhere."""
        self.synced = True
        self.offset_s = 0.0


class Machine:
    """See the module.

    Args:
        name: on the network.
        text: the agent's configuration.
        folder: its store's.
        opened: called with the engine whenever a store was opened, before anything else happens.
        tell: called with what the agent traces.
    """

    def __init__(
        self,
        name: str,
        text: str,
        folder: Path,
        network: Network,
        seed: int,
        *,
        opened: Callable[[Machine], None],
        tell: Tell,
    ) -> None:
        self.name, self.folder = name, folder
        self.clock, self.disk = MachineClock(), Disk()
        self.engine: Engine | None = None
        #: Seconds that each call of the store takes; the sum of the faults at present.
        self.call_s = 0.0
        self.restarts = self.kills = 0
        #: Called while the machine is down, once.
        self.while_down: Callable[[], None] | None = None
        self._config = parse(text, name)
        self._network = network
        self._chance = random.Random(f"{name} {seed}")
        self._opened, self._tell = opened, tell
        self._stop = trio.Event()
        self._life = trio.CancelScope()
        self._down_s = RESTART_S
        self._over = self._dying = False
        self._fuse: tuple[str, int] | None = None
        self._burn: Callable[[], None] = self.kill

    async def run(self) -> None:
        """Until `finish`."""
        while not self._over:
            self._down_s, self._dying = RESTART_S, False
            self._stop = trio.Event()
            with trio.CancelScope() as self._life:
                await self._agent()
            self.engine = None
            self.defuse()
            self._network.unplug(self.name, silently=self.name in self._network.dark)
            self._do_while_down()
            if not self._over:
                self.restarts += 1
                await trio.sleep(self._down_s)
                # Where it was down already when somebody asked for it.
                self._do_while_down()
            self._network.dark.discard(self.name)

    def _do_while_down(self) -> None:
        if self.while_down is not None:
            self.while_down()
            self.while_down = None

    async def _agent(self) -> None:
        try:
            await agent.run(
                self._config,
                stop=self._stop,
                clock=self.clock,
                random=self._chance,
                entropy=self._chance.randbytes,
                run_blocking=self._call,
                listen=self._network.listen,
                dial=self._network.dialer(self.name),
                trace=self._trace,
                medium=nowhere,
            )
        except StoreFailed as error:
            # It could not be opened; whoever started the agent tries again.
            self._tell(self.name, "could not start", {"error": str(error)})
        except PulledPlug:
            return
        except BaseExceptionGroup as group:
            others = group.split(PulledPlug)[1]
            if others is not None and others.split(trio.Cancelled)[1] is not None:
                raise

    # What happens to it.

    def stop(self, down_s: float) -> None:
        """A clean stop, and a new start ``down_s`` seconds after its end."""
        self._down_s = max(down_s, RESTART_S)
        self._stop.set()

    def finish(self) -> None:
        """A clean stop for good."""
        self._over = True
        self._stop.set()

    def kill(self, down_s: float = RESTART_S, *, silently: bool = False) -> None:
        """Everything ends at the checkpoint where it stands."""
        if self._dying or self._over:
            return
        self._dying = True
        self.kills += 1
        self._down_s = max(down_s, RESTART_S)
        if silently:
            self._network.dark.add(self.name)
        self._network.unplug(self.name, silently=silently)
        self._life.cancel()

    def fuse(self, kind: str, count: int, down_s: float) -> None:
        """Kill it when ``count`` things of a ``kind`` have happened: step, before-call,
        after-call, event; or, within a call, before-write, after-write: a transaction's.
        """
        self.defuse()
        self._burn = partial(self.kill, down_s)
        if kind in ("before-write", "after-write"):
            self.disk.fuses.append(Fuse(count, kind == "after-write", self._burn))
            return
        self._fuse = (kind, max(count, 1))
        if kind == "step":
            trio.lowlevel.add_instrument(self._steps)

    def burn(self) -> None:
        """A fuse that has not burnt until now burns."""
        if self._fuse is not None:
            self.defuse()
            self._burn()

    def defuse(self) -> None:
        """No fuse burns any more."""
        if self._fuse is not None and self._fuse[0] == "step":
            trio.lowlevel.remove_instrument(self._steps)
        self._fuse = None

    @property
    def _steps(self) -> trio.abc.Instrument:
        if not hasattr(self, "_instrument"):
            self._instrument = _Steps(partial(self._burns, "step"))
        return self._instrument

    def _burns(self, kind: str) -> None:
        if self._fuse is not None and self._fuse[0] == kind:
            left = self._fuse[1] - 1
            if left:
                self._fuse = (kind, left)
            else:
                self.burn()

    # What the agent is given.

    async def _call(self, function: Callable[[*Ts], T], /, *arguments: *Ts) -> T:
        await trio.sleep(self.call_s)
        self._burns("before-call")
        if self._dying:
            await trio.lowlevel.checkpoint()
        result = function(*arguments)
        self._burns("after-call")
        if isinstance(result, Engine):
            if self._dying:
                result.close()
            else:
                self.engine = result
                self._opened(self)
        if self._dying:
            await trio.lowlevel.checkpoint()
        return result

    def _trace(self, event: str, facts: Mapping[str, Any]) -> None:
        self._tell(self.name, event, facts)
        self._burns("event")


class _Steps(trio.abc.Instrument):
    """Counts what all tasks of the simulation do, which is a random place in this machine's."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio calls this."""
        self._step()
