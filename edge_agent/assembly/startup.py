"""Checks before a start: files, a folder with room, addresses.

`agent.run` asks `require` before it opens anything. ``edge-agent config check`` and ``doctor`` ask
for `refusals` as the user that runs the agent, so that nobody finds out at the start: the same
files are read by the same functions, and what a start would make is only looked at.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter

import trio

from edge_agent.assembly.wiring import file_size, store_keys
from edge_agent.config import Config, Upstream, parse_address
from edge_agent.errors import ConfigError, SinkUnavailable, StoreError
from edge_agent.forward import CredentialFiles, client_context, make_sink, read_token
from edge_agent.metrics import Metrics
from edge_agent.net.accepting import cannot_listen
from edge_agent.ops import FilesFact
from edge_agent.output.printable import why
from edge_agent.rules import compile_rules
from edge_agent.security.certificate_life import certificate_life
from edge_agent.security.tls import server_context
from edge_agent.security.tokens import Tokens
from edge_agent.store import DATA, LOCK, STORE, Identity, is_held, refuse_newer, refuse_sealed
from edge_agent.system.clock import Clock, SystemClock
from edge_agent.values.record import NANOSECONDS

MIB = 1024 * 1024
#: Where docs/install.md and the package put the unit, and the folder that systemd makes for it
#: (StateDirectory=). Nothing else can be written to within the unit (ProtectSystem=strict).
UNITS = (
    Path("/etc/systemd/system/edge-agent.service"),
    Path("/usr/lib/systemd/system/edge-agent.service"),
)
STATE = Path("/var/lib/edge-agent")


Wrong = Callable[[str], bool]
"""Whether a key of the configuration is wrong already, so that nothing is looked at by it."""


def _nothing(key: str) -> bool:
    return False


def require(config: Config) -> None:
    """Raises ConfigError where a file that the configuration names cannot be used; all at once."""
    if found := unusable_files(config):
        raise ConfigError.of(found)


def unusable_files(config: Config, is_wrong: Wrong = _nothing) -> list[ConfigError]:
    """What a start would say of what it reads once: tokens, certificate, keys, what rules name, and
    what upstreams need: a library, or a package of somebody else's.
    """
    tries: list[Callable[[], object]] = []
    if config.listen.tokens is not None and not is_wrong("listen.tokens"):
        tokens = config.listen.tokens
        tries.append(lambda: Tokens(Path(tokens)))
    if not (is_wrong("listen.tls_certificate") or is_wrong("listen.tls_key")):
        tries.append(lambda: server_context(config.listen))
    if not is_wrong("store"):
        tries.append(lambda: store_keys(config))
    if not is_wrong("rule"):
        rules, limits = config.rule, config.limits
        tries.append(lambda: compile_rules(rules, Metrics(), limits=limits, timer=perf_counter))
    ways = [one for one in config.upstream if not is_wrong(f"upstream.{one.name}")]
    tries += [partial(_make, one) for one in ways]
    return [error for one in tries if (error := _refusal(one)) is not None]


def look_at_files(config: Config, clock: Clock) -> FilesFact:
    """What health is told of the files that the configuration names."""
    unusable = tuple(str(error) for error in unusable_files(config))
    certificate = config.listen.tls_certificate
    if certificate is None or unusable:
        return FilesFact(unusable)
    now_s = clock.read().wall_ns / NANOSECONDS
    try:
        return FilesFact((), certificate_life(Path(certificate), now_s))
    except (OSError, ValueError) as error:
        return FilesFact((f"listen.tls_certificate: {why(error)}",))


def _make(upstream: Upstream) -> None:
    nobody = Identity("0" * 32, "0" * 16, "0" * 12, 0)
    run_blocking = trio.to_thread.run_sync
    make_sink(upstream, "main", identity=nobody, clock=SystemClock(), run_blocking=run_blocking)


def refusals(config: Config, is_wrong: Wrong = _nothing) -> list[str]:
    """Why an agent could not start now with ``config``, by whoever we are; empty where it could."""
    found = list(map(str, unusable_files(config, is_wrong)))
    if not is_wrong("store"):
        found += _folder_refusals(config)
    addresses = {"listen.address": config.listen.address, "http.address": config.http.address}
    found += _address_refusals(
        config, {key: address for key, address in addresses.items() if not is_wrong(key)}
    )
    return found


def shortcomings(config: Config, is_wrong: Wrong = _nothing) -> list[str]:
    """What keeps no agent from starting, and something of it from working."""
    found = _upstream_shortcomings(config, is_wrong)
    if not is_wrong("store"):
        found += _store_shortcomings(config)
    return found


def _upstream_shortcomings(config: Config, is_wrong: Wrong) -> list[str]:
    found: list[str] = []
    for one in config.upstream:
        if is_wrong(f"upstream.{one.name}"):
            continue
        before = len(found)
        for key, read in (("token_file", read_token), ("ca_file", client_context)):
            try:
                read(getattr(one, key))
            except SinkUnavailable as error:
                text = str(error).removeprefix(f"{key} ")
                found.append(f"upstream.{one.name}.{key}: {text}")
        if len(found) == before:
            # Secrets of headers, a proxy's, and a certificate of our own.
            try:
                CredentialFiles(one).read()
            except SinkUnavailable as error:
                found.append(f"upstream.{one.name}.{error}")
    return found


def _store_shortcomings(config: Config) -> list[str]:
    found: list[str] = []
    path = Path(config.store.path)
    if _has_unit() and STATE not in (path, *path.parents):
        found.append(
            f"store.path: the unit edge-agent may write below {STATE} only: `systemctl edit"
            f" edge-agent` and set ReadWritePaths={path}; where it is a disk of its own, see"
            " docs/systemd.md"
        )
    if config.store.key_file is not None and _is_beside(Path(config.store.key_file), path):
        found.append(
            f"store.key_file: {config.store.key_file} lies on the same file system as the store:"
            " whoever takes that card has both (docs/encryption.md)"
        )
    data = path / STORE / DATA
    size = file_size(config)
    try:
        held = data.stat()
    except OSError:
        return found
    missing = max(size, held.st_size) - held.st_blocks * 512
    if missing > shutil.disk_usage(data.parent).free:
        found.append(
            f"store.size: {missing // MIB} MiB more cannot be reserved; the store goes on with what"
            " it has"
        )
    if held.st_size > size:
        found.append(
            f"store.size: the store has {held.st_size // MIB} MiB and keeps them; logs get their"
            f" share of {size // MIB} MiB"
        )
    return found


def _is_beside(key_file: Path, path: Path) -> bool:
    try:
        return key_file.stat().st_dev == path.stat().st_dev
    except OSError:
        return False


def _has_unit() -> bool:
    return any(unit.exists() for unit in UNITS)


def _refusal(what: Callable[[], object]) -> ConfigError | None:
    try:
        what()
    except ConfigError as error:
        return error
    return None


def _folder_refusals(config: Config) -> Iterator[str]:
    path = Path(config.store.path)
    try:
        nearest = next(one for one in (path, *path.absolute().parents) if _is_there(one))
        there = nearest == path
        if not nearest.is_dir():
            yield f"store.path: {nearest} is no folder"
        elif not _may(nearest, os.W_OK | os.X_OK) and (there or path != STATE or not _has_unit()):
            what = "be written to" if there else f"be made in {nearest}"
            yield f"store.path: {path} cannot {what} by {_who()}"
        elif (path / STORE).exists():
            refuse_newer(path / STORE)
            refuse_sealed(path / STORE, store_keys(config))
        else:
            yield from _lacking_room(nearest, file_size(config))
        for file in (path / LOCK, path / STORE / DATA):
            if os.path.lexists(file) and not _may(file, os.R_OK | os.W_OK):
                yield f"store.path: {file} cannot be read and written by {_who()}"
    except ConfigError:
        return  # The key's file: it has been told.
    except (OSError, StoreError) as error:
        yield f"store.path: {error}"


def _is_there(path: Path) -> bool:
    """Whether it is there; with a name that is too long it is not."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _lacking_room(folder: Path, size: int) -> Iterator[str]:
    free = shutil.disk_usage(folder).free
    if size > free:
        # A tenth stays for others, as when a store is made.
        fits = int(free * 0.9) // MIB
        yield (
            f"store.size: {size // MIB} MiB cannot be reserved in {folder}; {fits} MiB would fit:"
            f' set store.size = "{fits}MiB" or free space'
        )


def _address_refusals(config: Config, addresses: Mapping[str, str]) -> Iterator[str]:
    if is_held(Path(config.store.path) / LOCK):
        # The agent that runs there has these ports, most likely; its successor gets them.
        return
    for key, address in addresses.items():
        if address != "off" and (problem := _cannot_bind(address)):
            yield f"{key}: {address}: {problem}"


def _cannot_bind(address: str) -> str | None:
    host, port = parse_address(address)
    try:
        for family, kind, number, _, name in socket.getaddrinfo(
            host.encode() or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, number) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(name)
                probe.listen()
    except OSError as error:
        return cannot_listen(error)
    return None


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=True)


def _who() -> str:
    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user {os.geteuid()}"
