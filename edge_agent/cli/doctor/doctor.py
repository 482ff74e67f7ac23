"""The command ``edge-agent doctor``: which sides are looked at, and in which order.

Changes nothing but for two small files beside the store, which it writes, syncs and removes. What
each line means and what to do about it is in ``docs/reading-doctor.md``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from edge_agent.cli.common import Failure, config_options, local_token
from edge_agent.cli.doctor.disk import (
    judge_cache,
    judge_life,
    judge_mount,
    judge_reading_back,
    judge_space,
    judge_syncs,
    look_at_device,
    read_back,
    time_syncs,
)
from edge_agent.cli.doctor.machine import machine_findings
from edge_agent.cli.doctor.network import network_findings
from edge_agent.cli.doctor.store import store_findings
from edge_agent.cli.doctor.verdict import Finding, fail, ok, warn
from edge_agent.cli.progress import ProgressBar
from edge_agent.cli.run import settings_of
from edge_agent.cli.user import agent_user, look_at_start
from edge_agent.config import Config, authority_file, people_url
from edge_agent.errors import ConfigError
from edge_agent.output.printable import counted, json_text, printable
from edge_agent.system.block_device import look_at_mount
from edge_agent.system.files import acting_as_owner

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@config_options
@click.option("--offline", is_flag=True, help="Do not try to reach the upstreams.")
@click.option("--json", "as_json", is_flag=True, help="The findings, as JSON.")
def command(config: Path | None, data: str | None, *, offline: bool, as_json: bool) -> None:
    """Look for what may go wrong: configuration, disk, store, machine, network.

    Run it as the agent's user, or as root. Exit code 1 where a check fails, 0 with warnings.
    """
    with ProgressBar("looking", None) as bar:
        found = list(examine(config, data, offline=offline, tell=lambda what: bar.show(0, what)))
    if as_json:
        click.echo(json_text([asdict(one) for one in found], indent=2))
    else:
        _print(found)
    failed = [one.name for one in found if one.verdict == "fail"]
    if failed:
        raise Failure(f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}")


def examine(
    config: Path | None, data: str | None, *, offline: bool, tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Every check, one after the other; none keeps another from being made."""
    try:
        settings = settings_of(config, data)
        yield ok("configuration", f"{config or 'the defaults and the environment'} can be used")
    except ConfigError as error:
        yield fail("configuration", str(error), "edge-agent config init - shows every key")
        settings = Config()
        if data is not None:
            store = msgspec.structs.replace(settings.store, path=data)
            settings = msgspec.structs.replace(settings, store=store)
    path = Path(settings.store.path)
    tell("start")
    yield _start_finding(config, data, settings)
    tell("store")
    url = people_url(settings)
    token_file = local_token(config, url) if url is not None else None
    found, running = store_findings(path, url, authority_file(settings), token_file)
    yield from found
    yield from _disk_findings(path, settings, tell)
    tell("machine")
    yield from machine_findings()
    tell("network")
    yield from network_findings(settings, running=running, upstreams=not offline)


def _start_finding(config: Path | None, data: str | None, settings: Config) -> Finding:
    """Whether the agent could start now, as the user that runs it."""
    user = agent_user(settings)
    who = "" if user is None else f" as {user.pw_name}"
    refused, warnings = look_at_start(config, data, user)
    if refused:
        return fail(
            "start",
            f"refused{who}: {'; '.join(refused)}",
            "until then an agent that runs goes on with what it read last. A file that its user"
            " may not read: chgrp USER FILE; chmod g+r FILE",
        )
    if warnings:
        return warn("start", f"possible{who}. {'; '.join(warnings)}", "see edge-agent config check")
    return ok("start", f"possible{who}: certificate, tokens, folder and addresses can be used")


def _disk_findings(path: Path, settings: Config, tell: Callable[[str], None]) -> Iterator[Finding]:
    folder = _nearest(path)
    mount, device = look_at_mount(folder), look_at_device(folder)
    tell("disk")
    yield judge_mount(mount, device)
    yield judge_space(*_space(folder, path, int(settings.store.size)))
    yield judge_cache(device)
    if (life := judge_life(device)) is not None:
        yield life
    try:
        with acting_as_owner(folder):
            syncs = time_syncs(folder, lambda done, total: tell(f"sync {done} of {total}"))
            same = read_back(folder)
        yield judge_syncs(syncs, device)
        yield judge_reading_back(same)
    except OSError as error:
        yield fail(
            "sync latency",
            f"{folder} cannot be written to: {error.strerror}",
            "run this as the agent's user; look into dmesg",
        )


def _space(folder: Path, path: Path, wanted: int) -> tuple[int, int, int, int]:
    room = os.statvfs(folder)
    inodes = room.f_favail if room.f_files else -1
    try:
        reserved = (path / "store" / "data.mdb").stat().st_blocks * 512
    except OSError:
        reserved = 0
    return room.f_bavail * room.f_frsize, inodes, wanted, reserved


def _nearest(path: Path) -> Path:
    """``path``, or the folder in which it will be made."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _print(found: Sequence[Finding]) -> None:
    width = max(len(one.name) for one in found)
    columns = max(60, shutil.get_terminal_size((100, 24)).columns)
    for one in found:
        word = click.style(f"{one.verdict:<4}", fg=_COLOURS[one.verdict], bold=True)
        begin = f"{word}  {one.name:<{width}}  "
        indent = " " * (width + 8)
        lines = click.wrap_text(printable(one.found), columns - len(indent)).splitlines()
        click.echo(begin + f"\n{indent}".join(lines))
        if one.fix:
            fix = click.wrap_text(f"→ {printable(one.fix)}", columns - len(indent)).splitlines()
            click.echo(indent + f"\n{indent}".join(fix))
    counts = {word: sum(one.verdict == word for one in found) for word in _COLOURS}
    click.echo()
    click.echo(f"{counts['ok']} ok, {counted(counts['warn'], 'warning')}, {counts['fail']} failed")
