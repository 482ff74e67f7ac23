"""The findings of `doctor` about the store and its agent, judged from facts."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.cli.agent_http import AgentAddress
from edge_agent.cli.common import Failure, holds_store
from edge_agent.cli.doctor.deliveries import delivery_findings
from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.errors import EdgeAgentError, StoreFailed, StoreLocked
from edge_agent.ops.text import amount, size
from edge_agent.output.printable import often
from edge_agent.store import LOCK, StoreLock, damaged_folders, loss_in_words, preflight
from edge_agent.store.tools import look_inside
from edge_agent.system.files import acting_as_owner
from edge_agent.values.record import DAY_S

#: The part of all places for sources from which on a person should look.
SOURCES_FULL = 0.9
_REFUSED_SHOWN = 3
#: Fewer are no measure of what one writes.
COMMITS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Folder:
    """The agent's folder. ``owner``: a name; ``mode``: permission bits; ``writable``: by us."""

    path: str
    there: bool = True
    is_folder: bool = True
    owner: str = ""
    mode: int = 0o700
    writable: bool = True


@dataclass(frozen=True, slots=True)
class HeldStore:
    """The store in it: ``holder`` is the pid of who has it, 0 for nobody; ``problem`` why it is not
    sound, "" where it is as far as a quick look goes; ``hidden`` where we may not look.
    """

    there: bool = True
    holder: int = 0
    problem: str = ""
    hidden: bool = False


def judge_folder(folder: Folder) -> Finding:
    """Whether the agent can work in its folder, and nobody else read it."""
    name = "folder"
    if not folder.there:
        return ok(name, f"{folder.path} is not there yet; the first start makes it")
    if not folder.is_folder:
        return fail(name, f"{folder.path} is no folder", "move it away, or set store.path")
    found = f"{folder.path} of {folder.owner}, mode {folder.mode:o}"
    if not folder.writable:
        return fail(
            name,
            f"{found} cannot be written to by this user",
            "run this as the agent's user (sudo -u edge-agent …), or chown the folder",
        )
    if folder.mode & 0o077:
        return warn(name, f"{found}: others may look into it", f"chmod 700 {folder.path}")
    return ok(name, found)


def judge_store(held: HeldStore) -> Finding:
    """The file, quickly: a few pages, no checksums of blocks."""
    name = "store"
    if held.holder:
        return ok(name, f"in use by process {held.holder}, which has looked at it")
    if not held.there:
        return ok(name, "none yet")
    if held.hidden:
        return fail(name, held.problem, "nothing can be said of the store until then")
    if held.problem:
        return fail(
            name,
            held.problem,
            "start the agent: it sets the file aside and saves what is sound; see"
            " docs/corrupt-card.md",
        )
    return ok(name, "sound at a first look; edge-agent check --deep reads all of it")


def judge_salvage(folders: Sequence[str], loss: str = "") -> Finding:
    """Stores that were set aside; ``loss``: what was not read back of the last, where that is known
    without the agent, which says so itself.
    """
    name = "salvage"
    if not folders:
        return ok(name, "no store was ever set aside here")
    return warn(
        name,
        f"{', '.join(folders)}: damaged stores that were set aside{loss and f'; {loss}'}",
        "find out why (docs/corrupt-card.md); then remove the folders",
    )


def judge_quarantine(entries: int | None) -> Finding:
    """What could not be used."""
    name = "quarantine"
    if entries is None:
        return ok(name, "nothing to look into")
    if entries:
        return warn(name, f"{amount(entries)} entries that could not be used",
                    "edge-agent quarantine list says why; replay or drop them")  # fmt: skip
    return ok(name, "empty")


def judge_sources(store: dict[str, Any] | None) -> Finding:
    """How many of the places for sources are taken, and who finds none."""
    name = "sources"
    if store is None or not store.get("sources_max"):
        return ok(name, "nothing to look into")
    most, found = int(store["sources_max"]), f"{amount(store['sources'])} of"
    found += f" {amount(most)} places taken"
    whose = [one or "nobody" for one in store.get("sources_lacking", {})]
    if whose or store["sources"] > SOURCES_FULL * most:
        why = f"{found}; too many sources of {', '.join(whose)}" if whose else found
        return warn(name, why, "edge-agent source list; forget what is not used, or raise"
                    " limits.sources")  # fmt: skip
    return ok(name, found)


def judge_commits(status: Mapping[str, Any]) -> Finding:
    """What a commit writes here, however little it holds: measured, as it depends on the pages."""
    name, stretch = "commits", status["wear"]["day"]
    commits, own, card = (stretch[key] for key in ("commits", "bytes_per_commit", "card_bytes"))
    if commits < COMMITS_TOLD or own is None:
        return ok(name, "too few yet to tell what one writes")
    found = f"{size(own, 1000)} each"
    if card is not None:
        found += f", {size(card / commits, 1000)} with all else that was written to the card"
    # An agent of an earlier version does not tell.
    if pages := status["store"].get("page_bytes", 0):
        found += f"; the store has pages of {size(pages)}"
    return ok(name, found)


def judge_agent(status: dict[str, Any] | None, problem: str, *, running: bool) -> Finding:
    """What the running agent says of itself."""
    name = "agent"
    if status is None:
        if running:
            return warn(
                name,
                f"it holds the store, but does not answer: {problem}",
                "is http.address another one, or off? journalctl -u edge-agent says more",
            )
        return ok(name, "not running")
    health = status["health"]
    reasons = [one["message"] for one in (*health["reasons"], *health["warnings"])]
    word = health["status"]
    if word == "failed":
        return fail(name, " ".join(reasons), "edge-agent status shows all")
    if word == "degraded" or reasons:
        return warn(name, f"{word}. {' '.join(reasons)}", "edge-agent status shows all")
    return ok(name, f"{word}, agent {status['agent']['id']}")


def judge_refused(refused: Sequence[dict[str, Any]]) -> Finding:
    """Peers that the running agent refused before they were let in, in the last day."""
    name = "refused peers"
    lately = [one for one in refused if one["last_s"] < DAY_S]
    if not lately:
        return ok(name, "none in the last day")
    told = [
        f"{one['address'] or 'a peer'} at {one['port']}, {often(one['count'])}:"
        f" {one['sentence'].removesuffix('.')}"
        for one in lately[:_REFUSED_SHOWN]
    ]
    more = len(lately) - len(told)
    return warn(
        name,
        "; ".join([*told, f"and {more} more"] if more else told),
        "if it is one of yours, mend it there; edge-agent status --json shows all",
    )


def look_at_folder(path: Path) -> Folder:
    """Owner, mode, and whether we may write."""
    try:
        found = path.stat()
    except OSError as error:
        return Folder(str(path), there=not isinstance(error, FileNotFoundError), writable=False)
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    writable = os.access(path, os.W_OK | os.X_OK)
    is_folder = stat.S_ISDIR(found.st_mode)
    return Folder(str(path), True, is_folder, owner, stat.S_IMODE(found.st_mode), writable)


def look_at_store(path: Path) -> HeldStore:
    """Who holds the store, or a first look at it where nobody does."""
    try:
        if not holds_store(path):
            return HeldStore(there=False)
        lock = StoreLock(path / LOCK)
    except StoreLocked as error:
        return HeldStore(holder=error.pid or -1)
    except Failure as error:
        return HeldStore(problem=str(error), hidden=True)
    except StoreFailed as error:
        return HeldStore(problem=str(error))
    try:
        # The size that it has: a look at it changes nothing.
        preflight(path / "store", (path / "store" / "data.mdb").stat().st_size)
    except (EdgeAgentError, OSError) as error:
        return HeldStore(problem=str(error))
    finally:
        lock.release()
    return HeldStore()


def store_findings(
    path: Path, url: str | None, ca_file: str | None = None, token_file: Path | None = None
) -> tuple[list[Finding], bool]:
    """All of it, and whether an agent holds the store; ``url`` is its people's port, None where it
    is off.
    """
    with acting_as_owner(path):
        held = look_at_store(path)
    if held.hidden:
        # What we cannot see would be told as if it were not there.
        return [judge_folder(look_at_folder(path)), judge_store(held)], False
    status, problem = None, ""
    if held.holder and url is None:
        problem = "its people's port is off"
    elif held.holder and url is not None:
        try:
            status = AgentAddress(url, token_file, ca_file).json("/api/status", told="store")
        except Failure as error:
            problem = error.message
    entries: int | None = None
    loss = ""
    if status is not None:
        entries = int(status["store"]["quarantine_entries"])
    elif held.there and not held.problem:
        try:
            with acting_as_owner(path):
                inside = look_inside(path)
            entries = inside.entries
            if (note := inside.salvaged) is not None:
                loss = loss_in_words(note.missing, note.possible, all_known=note.all_known)
        except EdgeAgentError:
            entries = None
    found = [
        judge_folder(look_at_folder(path)),
        judge_store(held),
        judge_salvage([folder.name for folder in damaged_folders(path)], loss),
        judge_quarantine(entries),
        judge_sources(None if status is None else status["store"]),
        judge_agent(status, problem, running=bool(held.holder)),
    ]
    if status is not None:
        found.append(judge_commits(status))
        found += delivery_findings(status)
        # An agent of an earlier version tells of none.
        found.append(judge_refused(status.get("refused", [])))
    return found, bool(held.holder)
