"""``edge-agent upstream``: try one out and say what came back; show what each last said."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import structs

from edge_agent.cli.async_main import run
from edge_agent.cli.common import (
    STREAM_PATTERN,
    Failure,
    Family,
    config_options,
    json_option,
    yes_option,
)
from edge_agent.cli.output import print_columns
from edge_agent.cli.run import settings_of
from edge_agent.cli.store_access import Remote, agreed, reach, reach_options
from edge_agent.cli.user import agent_user, user_option
from edge_agent.config import Config, Upstream, parse_size, shown_url
from edge_agent.errors import EdgeAgentError
from edge_agent.ops.text import amount, percent, phase, resending, to_second
from edge_agent.output.printable import json_text, printable
from edge_agent.system.files import acting_as, acting_as_owner

if TYPE_CHECKING:
    from edge_agent.cli.doctor.network import UpstreamProbe
    from edge_agent.forward import ProbeStep
    from edge_agent.store import Identity

#: The steps of `ask`, in their order, and what is said of one that went well.
_STEPS = {
    "credentials": "the files with its secrets and certificates can be read",
    "name": "{host} has an address",
    "connection": "something listens at port {port}",
    "certificate": "its certificate is good",
}
_UNKNOWN_IDENTITY = ("00" * 16, "00" * 8, "00" * 6, 0)


@click.group(cls=Family)
def command() -> None:
    """Try upstreams out, show what each last said, send one records again."""


def _size(_: object, __: object, text: str) -> int:
    try:
        return int(parse_size(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@command.command()
@click.argument("name")
@click.option("--no-send", is_flag=True, help="Connect, and send nothing.")
@click.option(
    "--size",
    default="100B",
    show_default=True,
    metavar="SIZE",
    callback=_size,
    help="How large the record is that is sent, to find a size limit.",
)
@user_option
@json_option
@config_options
def test(
    name: str,
    config: Path | None,
    data: str | None,
    user: str | None,
    size: int,
    *,
    no_send: bool,
    as_json: bool,
) -> None:
    """Try the upstream NAME of the configuration out, and say step by step what came back.

    As the agent would, with its files and as its user: name, connection, certificate, token. Then
    one record of the stream edge-agent/probe is sent; a row in a database is rolled back, a file
    removed, and at NATS the stream is only looked at. No position is touched, and the agent may be
    running. Exit code 1 where a step failed.
    """
    settings = settings_of(config, data)
    upstream = _named(settings, name)
    with ExitStack() as acting:
        who = agent_user(settings, user)
        if who is not None and who.pw_uid != os.geteuid():
            if os.geteuid() != 0:
                raise Failure(f"only root can try it as {who.pw_name}: sudo edge-agent …", 2)
            acting.enter_context(acting_as(who.pw_uid, who.pw_gid))
        steps = _try(settings, upstream, size, send=not no_send)
    if as_json:
        click.echo(json_text([asdict(one) for one in steps], indent=2))
    else:
        for one in steps:
            click.echo(f"{'ok  ' if one.good else 'FAIL'}  {one.what}: {printable(one.told)}")
    bad = [one.what for one in steps if not one.good]
    if bad:
        raise Failure(f"{name} does not get what it should: {', '.join(bad)}")


@command.command("list")
@json_option
@reach_options
def list_(*, as_json: bool, **where: Any) -> None:
    """Show every upstream, how far behind it is and what it last said.

    Where the agent does not run, from its configuration and its store.
    """
    rows = _listed(where)
    if as_json:
        click.echo(json_text(rows, indent=2))
    elif rows:
        shown = [
            [one["name"], one["url"], one["phase"], amount(one["backlog"]), one["said"]]
            for one in rows
        ]
        heading = ("upstream", "url", "phase", "behind", "said")
        # What is to be done stands at the end of a sentence.
        print_columns(heading, shown, sys.stdout, most=400)
    else:
        click.echo("no upstreams", err=True)


@command.command()
@click.argument("name")
@click.option("--from", "since", metavar="TIME|AGE|start", help="When the first was measured.")
@click.option(
    "--to", "until", default="end", show_default=True, metavar="TIME|AGE|end", help="And the last."
)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    metavar="PATTERN",
    type=STREAM_PATTERN,
    help="Which; ** for all.",
)
@click.option("--log", metavar="LOG", help="Of this log alone. [all logs]")
@click.option("--cancel", is_flag=True, help="End what is under way.")
@yes_option
@json_option
@reach_options
def resend(
    name: str,
    since: str | None,
    until: str,
    streams: tuple[str, ...],
    log: str | None,
    *,
    cancel: bool,
    yes: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Send the upstream NAME once more what was measured within a time.

    For one that got means of them (send = "1m means"), or has lost some. What the log no longer has
    comes from history. They go beside what is new, behind it, marked as historical. Another agent
    leaves out what it has; a database knows each record by its key. Without --from: how far that
    is.
    """
    from edge_agent.ops.orders.resends import ResendGiven

    reached = reach(**where)
    if cancel:
        _show_resends(reached.resend(ResendGiven(name, log=log, cancel=True)), as_json=as_json)
        return
    if since is None and not streams:
        rows = [one for one in reached.resends() if one["upstream"] == name]
        if not rows and name not in (known := [one["name"] for one in _listed(where)]):
            raise _unknown(name, known)
        if not rows and not as_json:
            click.echo(f"no resend was ordered for {name}", err=True)
            return
        _show_resends(rows, as_json=as_json)
        return
    if since is None or not streams:
        raise Failure("say both from when on and which: --from TIME --stream PATTERN", 2)
    order = ResendGiven(name, streams, since, until, log, look=True)
    for one in reached.resend(order):
        click.echo(_looked_at(one, runs=isinstance(reached, Remote)), err=True)
    agreed(f"Send {name} what matches of these once more?", yes=yes)
    _show_resends(reached.resend(structs.replace(order, look=False)), as_json=as_json)


def _looked_at(one: dict[str, Any], *, runs: bool) -> str:
    """What an order would look through, of one log; an agent of an earlier version says less."""
    told = f"log {one['log']}: records {one['first']} to {one['last']} are looked through"
    since, found = one["held_since"], one.get("from_history", 0)
    if since and not runs:
        told += (
            f"; it holds none from before {since}. History may: who wants those orders it while the"
            " agent runs"
        )
    elif since and found:
        told += f"; it holds none from before {since}: {found} of them come from history"
    elif since and found is None:
        told += f"; it holds none from before {since}: what history has of them is sent, too"
    elif since:
        told += f"; it holds none from before {since}, those cannot be had any more"
    if one.get("coarse"):
        told += f"; {one['coarse']} records are only known as minutes or hours, and are not sent"
    if one.get("damaged_parts"):
        told += f"; {one['damaged_parts']} parts of history are damaged, and left out"
    if one.get("renamed"):
        told += (
            "; those from before the last restore or salvage have other ids since then: what was"
            " sent before it will be there twice"
        )
    return told


def _share(order: dict[str, Any]) -> float:
    """How much of an order for one log is done; of one that was cancelled, by its seqs."""
    if order["state"] == "done":
        return 1.0
    left = order["left"] or order["last"] - order["first"] + 1 - order["done"]
    return float(order["done"] / max(order["done"] + left, 1))


def _show_resends(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(rows, indent=2))
        return
    shown = [
        [
            one["log"], one["state"], percent(_share(one)),
            amount(one["left"]), amount(one["sent"]), amount(one["gone"]), one["ordered"],
        ]
        for one in rows
    ]  # fmt: skip
    heading = ("log", "resend", "done", "left", "sent", "gone", "ordered")
    print_columns(heading, shown, sys.stdout)


def _named(settings: Config, name: str) -> Upstream:
    for one in settings.upstream:
        if one.name == name:
            return one
    raise _unknown(name, [one.name for one in settings.upstream])


def _unknown(name: str, known: Sequence[str]) -> Failure:
    names = ", ".join(known) or "none"
    return Failure(f"there is no upstream {name!r} in the configuration; there are: {names}", 2)


def _try(settings: Config, upstream: Upstream, size: int, *, send: bool) -> list[ProbeStep]:
    # Imported here: the rest of this file is quick.
    import trio

    from edge_agent.cli.doctor.network import ask, judge_upstream
    from edge_agent.forward import ProbeStep, make_sink, probe_sink
    from edge_agent.system.clock import SystemClock

    about: dict[str, Any] = {
        "identity": _identity(settings),
        "clock": SystemClock(),
        "run_blocking": trio.to_thread.run_sync,
    }
    # A missing library, or a package that fails, is a mistake of the configuration.
    make_sink(upstream, "probe", **about)
    asked = ask(upstream)
    steps = [ProbeStep(*one) for one in _told(upstream, asked)]
    if asked.status:
        found = judge_upstream(upstream.name, asked)
        bad = found.verdict == "fail"
        steps.append(ProbeStep("token", not bad, found.found + (f"; {found.fix}" if bad else "")))
    if send and all(one.good for one in steps):
        steps += run(partial(probe_sink, upstream, size, **about))
    return steps


def _told(upstream: Upstream, asked: UpstreamProbe) -> list[tuple[str, bool, str]]:
    """The steps up to a connection, as far as they came."""
    from edge_agent.cli.doctor.network import FIXES, place_of

    place = place_of(upstream)
    if place is None:
        return []
    told: list[tuple[str, bool, str]] = []
    is_tls = asked.days is not None or asked.step == "certificate"
    for what, good in _STEPS.items():
        if what == asked.step:
            return [*told, (what, False, f"{asked.error}; {FIXES[what]}")]
        if what != "certificate" or is_tls:
            told.append((what, True, good.format(host=place[0], port=place[1])))
    if asked.days is not None:
        told[-1] = ("certificate", True, f"its certificate is good for {asked.days:.0f} days")
    return told


def _identity(settings: Config) -> Identity:
    """The agent's, for ids in what is sent; of nobody where there is no store yet."""
    from edge_agent.store import Identity
    from edge_agent.store.tools import look_inside

    path = Path(settings.store.path)
    try:
        with acting_as_owner(path):
            header = look_inside(path).header
    except (OSError, EdgeAgentError):
        return Identity(*_UNKNOWN_IDENTITY)
    return Identity(header.store_id, header.epoch, header.agent_id, header.created_ns)


def _listed(where: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        reached = reach(**where)
    except Failure:
        if where["url"] is not None:
            raise
        # There is no store yet: then there is a configuration.
        settings = settings_of(where["config"], where["data"])
        return [_row(one, "never ran", 0, "") for one in settings.upstream]
    if isinstance(reached, Remote):
        status = reached.address.json("/api/status", told="upstreams")
        return [_running(one) for one in status["upstreams"]]
    settings = settings_of(where["config"], where["data"])
    behind: dict[str, list[dict[str, Any]]] = {}
    for one in reached.consumers():
        behind.setdefault(one["consumer"], []).append(one)
    rows = []
    for upstream in settings.upstream:
        lanes = behind.get(upstream.consumer, [])
        paused = any(lane["paused"] for lane in lanes)
        backlog = sum(lane["backlog"] for lane in lanes)
        rows.append(_row(upstream, "not running, paused" if paused else "not running", backlog, ""))
    return rows


def _row(upstream: Upstream, phase_: str, backlog: int, said: str) -> dict[str, Any]:
    url = shown_url(upstream.url)
    return {
        "name": upstream.name, "url": url, "phase": phase_, "backlog": backlog, "said": said,
    }  # fmt: skip


def _running(one: dict[str, Any]) -> dict[str, Any]:
    """A row of a running agent's status: the error, or how the last batch went."""
    batches = [lane["last_batch"] for lane in one.get("lanes", ()) if lane.get("last_batch")]
    last = max(batches, key=lambda batch: str(batch["time"]), default=None)
    said = one["error"] or ""
    if not said and last is not None:
        code = f"HTTP {last['http_status']}, " if last["http_status"] else ""
        said = f"{code}{last['outcome']} {to_second(str(last['time']))}"
    # An agent of an earlier version does not say.
    for resend_ in one.get("resends", ()):
        said = f"{said}; {resending(resend_)}" if said else resending(resend_)
    told = phase(one["phase"], one["retry_in_s"], one.get("outlook"))
    return {
        "name": one["name"], "url": one["url"], "phase": told,
        "backlog": one["backlog_records"], "said": said,
    }  # fmt: skip
