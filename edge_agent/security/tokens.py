"""The tokens file: who may do what. Secrets are shown once and kept only as hashes.

The file is JSON, replaced as a whole, for the agent's user alone; whoever replaces it leaves its
owner and mode as they are (`edge_agent.system.files`)::

    {"version": 1, "tokens": [
        {"name": "greenhouse", "hash": "sha256:9f86…", "created": "2026-11-22T10:00:00Z",
         "write": ["greenhouse/**"], "sources": ["greenhouse-pi/**"], "read": [],
         "forward": false, "agents": [], "admin": false}]}

``write`` and ``read`` are stream patterns, ``sources`` patterns of the source names that the
token may use; an empty list allows nothing. ``agents`` are patterns of the ids of agents that it
may forward, itself or by others; an empty list allows all.

The name is the **identity**: to it belongs what the bearer was the first to use
(`edge_agent.server.source_owners`). It stays when the secret changes (`rotate_token`), and when a
token that was revoked is added again under its name. What ``sources`` and ``agents`` match is
*named* by the token, ``**`` excepted; and what stands there as it is, without a wildcard, nobody
else may be the first to use.

A secret has 256 random bits, so one unsalted SHA-256 is as hard to turn around as the secret is to
guess.

`Tokens` answers who a presented secret is, and follows the file: one task (`Tokens.watch`) looks
every second, in a thread, so that a slow card holds nobody up. Whoever was let in by a token that
was revoked, narrowed or given a new secret since is disconnected then (`Tokens.still_allows`).
`add_token`, `list_tokens` and `revoke_token` are what ``edge-agent token`` calls; a running agent
needs no restart.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import pwd
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import msgspec
import trio

from edge_agent.commit import RunBlocking
from edge_agent.errors import ConfigError, ProtocolError
from edge_agent.system.files import (
    SECRET,
    FileState,
    acting_as_owner,
    file_state,
    refuse_pipes,
    replace_file,
    why_unreadable,
)
from edge_agent.values.record import format_time
from edge_agent.values.stream_names import compile_patterns

logger = logging.getLogger(__name__)

SECRET_PREFIX = "ea1_"
#: What a target begins with that has a secret in it, before the target itself.
TOKEN_PATH = "/token/"
_HASH_PREFIX = "sha256:"
_VERSION = 1
_NAME_BYTES_MAX = 100
_NAME_EXPECTED = f"1 to {_NAME_BYTES_MAX} printable bytes"
#: How often the file is looked at; and how soon again where a secret is not known, because it may
#: have been made a moment ago.
RECHECK_S = 1.0
#: The pattern that stands for any name, and so spells out none.
EVERYTHING = "**"
REFRESH_S = 0.1
#: For so long a command waits for another one that changes the same file.
TURN_S = 10.0


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One entry of the file; see the module. ``name`` is for people and appears in status.
    ``in_url``: its secret may stand in a URL, for devices that can be told nothing else.
    """

    name: str
    hash: str
    created: str = ""
    write: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    forward: bool = False
    admin: bool = False
    agents: tuple[str, ...] = ()
    in_url: bool = False

    @cached_property
    def may_write(self) -> Callable[[str], bool]:
        """Whether it may write a stream."""
        return compile_patterns(self.write)

    @cached_property
    def may_be(self) -> Callable[[str], bool]:
        """Whether it may use the name of a source."""
        return compile_patterns(self.sources)

    def covers(self, older: Token) -> bool:
        """Whether this entry allows at least what ``older``, of the same name, did."""
        for key, value in msgspec.structs.asdict(self).items():
            before = getattr(older, key)
            if key in ("write", "sources", "read"):
                kept = set(before) <= set(value)
            elif key == "agents":
                # None of them spelt out allows all.
                kept = not value or bool(before and set(before) <= set(value))
            elif key in ("forward", "admin", "in_url"):
                kept = value or not before
            else:
                kept = value == before or key == "created"
            if not kept:
                return False
        return True

    @cached_property
    def may_bring(self) -> Callable[[str], bool]:
        """Whether it may forward an agent's records."""
        return compile_patterns(self.agents or (EVERYTHING,))

    @cached_property
    def names_source(self) -> Callable[[str], bool]:
        """Whether a source is named, see the module."""
        return compile_patterns(one for one in self.sources if one != EVERYTHING)

    @cached_property
    def names_agent(self) -> Callable[[str], bool]:
        """Whether an agent is named, see the module."""
        return compile_patterns(one for one in self.agents if one != EVERYTHING)

    @cached_property
    def may_read(self) -> Callable[[str], bool]:
        """Whether it may read a stream."""
        return compile_patterns(self.read)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[Token, ...]
    version: int = _VERSION


class Tokens:
    """The tokens of one file, as they are now.

    Args:
        path: the file. It must exist and be sound when this is made; later, while it cannot be
            read, the tokens known last stay valid, `trouble` says why, and the journal once.
        run_blocking: where the file is looked at.

    Raises:
        ConfigError: the file is missing or wrong.
    """

    def __init__(
        self, path: str | Path, *, run_blocking: RunBlocking = trio.to_thread.run_sync
    ) -> None:
        self._path = Path(path)
        self._run_blocking = run_blocking
        self._seen = _state(self._path)
        self._tokens = _load(self._path)
        self._checked = float("-inf")
        self._looking = trio.Lock()
        self._changed = trio.Event()
        self.trouble: str | None = None

    def find(self, secret: str) -> Token | None:
        """Whose secret this is; None where it is nobody's. Takes the same time for all."""
        digest = _hash(secret)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.hash, digest):
                found = token
        return found

    def all(self) -> tuple[Token, ...]:
        """Every token, as the file was when it was looked at last."""
        return self._tokens

    def still_allows(self, token: Token) -> bool:
        """Whether whoever was let in with ``token`` may go on."""
        return any(one.name == token.name and one.covers(token) for one in self._tokens)

    def readable(self, secret: str) -> Callable[[str], bool] | None:
        """Which streams the bearer of a secret may read; None where it is not known, or may read
        nothing.
        """
        token = self.find(secret)
        return token.may_read if token is not None and token.read else None

    def may_order(self, secret: str) -> bool:
        """Whether the bearer of a secret may give orders on the people's port."""
        token = self.find(secret)
        return token is not None and token.admin

    async def watch(self) -> None:
        """Look at the file every second, until cancelled. It may be called again after it has
        failed; meanwhile the tokens known last stay valid.
        """
        while True:
            await self._look()
            await trio.sleep(RECHECK_S)

    async def refresh(self) -> None:
        """Look at the file now; a look that begins after this was called will do."""
        called = trio.current_time()
        async with self._looking:
            if self._checked >= called:
                return
            await trio.sleep(max(0.0, self._checked + REFRESH_S - called))
            await self._look()

    async def names(self) -> Collection[str]:
        """Of all tokens, as the file is now."""
        await self.refresh()
        return [token.name for token in self._tokens]

    async def changed(self) -> None:
        """Wait until the tokens have changed."""
        await self._changed.wait()

    async def _look(self) -> None:
        self._checked = trio.current_time()
        try:
            seen, tokens = await self._run_blocking(self._read)
        except ConfigError as error:
            self._note(str(error))
            return
        self._note(None)
        if tokens is not None:
            # Entries that are as they were stay the same objects, and what they allow with them.
            before = {token: token for token in self._tokens}
            self._seen, self._tokens = seen, tuple(before.get(one, one) for one in tokens)
            self._changed.set()
            self._changed = trio.Event()

    def _note(self, trouble: str | None) -> None:
        if trouble is not None and self.trouble is None:
            logger.warning("the tokens known last stay valid: %s", trouble)
        elif trouble is None and self.trouble is not None:
            logger.info("the tokens file can be read again: %s", self._path)
        self.trouble = trouble

    def _read(self) -> tuple[FileState, tuple[Token, ...] | None]:
        """The file's state, and its tokens where that is another one than before."""
        seen = _state(self._path)
        return seen, None if seen == self._seen else _load(self._path)


def token_name_problem(name: str) -> str | None:
    """Why no token can be called ``name``; None where one can."""
    if name and len(name.encode(errors="replace")) <= _NAME_BYTES_MAX and name.isprintable():
        return None
    return f"{name!r}: expected {_NAME_EXPECTED}"


def add_token(
    path: str | Path,
    name: str,
    *,
    write: Sequence[str] = (),
    sources: Sequence[str] = (),
    read: Sequence[str] = (),
    forward: bool = False,
    agents: Sequence[str] = (),
    admin: bool = False,
    in_url: bool = False,
    created_ns: int = 0,
    reader: pwd.struct_passwd | None = None,
) -> str:
    """Add a token, making the file if there is none; answers the secret, which is kept nowhere.

    ``reader`` is the agent's user, who may read a new file that root makes in a folder of root's.

    Raises:
        ConfigError: the name is taken or empty, a pattern is wrong, or the file is.
    """
    if token_name_problem(name) is not None:
        raise ConfigError("token name", _NAME_EXPECTED, repr(name))
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    token = Token(
        name=name,
        hash=_hash(secret),
        created=format_time(created_ns) if created_ns else "",
        write=tuple(write),
        sources=tuple(sources),
        read=tuple(read),
        forward=forward,
        agents=tuple(agents),
        admin=admin,
        in_url=in_url,
    )
    _check((token,), str(path))
    with _alone(Path(path)):
        existing = list_tokens(path)
        if any(one.name == name for one in existing):
            raise ConfigError(
                f"{path}: {name}", "a name that is not in use", "a token of that name"
            )
        _replace(Path(path), _File((*existing, token)), reader)
    return secret


def list_tokens(path: str | Path) -> tuple[Token, ...]:
    """The tokens of the file; none where there is no file.

    Raises:
        ConfigError: the file is wrong.
    """
    return _load(Path(path)) if Path(path).exists() else ()


def revoke_token(path: str | Path, name: str) -> bool:
    """Remove the token of that name; False where there is none.

    A running agent closes the connections that it opened within a second or two.

    Raises:
        ConfigError: the file is wrong.
    """
    if not Path(path).exists():
        return False
    with _alone(Path(path)):
        existing = list_tokens(path)
        kept = tuple(token for token in existing if token.name != name)
        if len(kept) == len(existing):
            return False
        _replace(Path(path), _File(kept))
    return True


def rotate_token(path: str | Path, name: str) -> str | None:
    """Give the token of that name a new secret, which is answered; None where there is none.

    All else stays as it was, and so does what belongs to its name. The old secret lets nobody in.

    Raises:
        ConfigError: the file is wrong.
    """
    if not Path(path).exists():
        return None
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    with _alone(Path(path)):
        existing = list_tokens(path)
        if all(token.name != name for token in existing):
            return None
        changed = (
            msgspec.structs.replace(token, hash=_hash(secret)) if token.name == name else token
            for token in existing
        )
        _replace(Path(path), _File(tuple(changed)))
    return secret


def _hash(secret: str) -> str:
    return _HASH_PREFIX + hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _state(path: Path) -> FileState:
    try:
        return file_state(path)
    except OSError as error:
        why = why_unreadable(error, path)
        raise ConfigError(str(path), "a readable tokens file", why) from None


def _load(path: Path) -> tuple[Token, ...]:
    expected = "a tokens file as `edge-agent token add` writes it (restore it, or move it away)"
    try:
        refuse_pipes(path)
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise ConfigError(str(path), expected, why_unreadable(error, path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = str(error) if path.stat().st_size else "an empty file"
        raise ConfigError(str(path), expected, found) from None
    if file.version != _VERSION:
        raise ConfigError(f"{path}: version", str(_VERSION), str(file.version))
    _check(file.tokens, str(path))
    return file.tokens


def _check(tokens: Sequence[Token], where: str) -> None:
    if wrong := [error for token in tokens for error in _mistakes(token, where)]:
        raise ConfigError.of(wrong)


def _mistakes(token: Token, where: str) -> Iterator[ConfigError]:
    if not token.hash.startswith(_HASH_PREFIX) or not token.hash.isascii():
        yield ConfigError(f"{where}: {token.name}: hash", f"{_HASH_PREFIX}HEX", "something else")
    if token.in_url and (token.read or token.forward or token.admin or not token.write):
        # A URL is seen by more people than a header: it may let in to write, and no more.
        expected = "write alone beside in_url"
        yield ConfigError(f"{where}: {token.name}: in_url", expected, "more, or no write")
    for key in ("write", "sources", "read", "agents"):
        try:
            compile_patterns(getattr(token, key))
        except ProtocolError as error:
            expected = "patterns such as 'greenhouse/**'"
            yield ConfigError(f"{where}: {token.name}: {key}", expected, error.message)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While this lasts no other command changes the file, which is read and then replaced: of two
    at once one would be undone, and that may be the one that revoked a token.
    """
    with acting_as_owner(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _cannot_be_written(path, error) from error
    try:
        end = time.monotonic() + TURN_S
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    expected = "a tokens file that nobody else is changing"
                    raise ConfigError(str(path), expected, "another command at work") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(folder)


def _cannot_be_written(path: Path, error: OSError) -> ConfigError:
    text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    return ConfigError(str(path), "a tokens file that can be written", text)


def _replace(path: Path, file: _File, reader: pwd.struct_passwd | None = None) -> None:
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    try:
        replace_file(path, data, SECRET, reader=reader)
    except OSError as error:
        raise _cannot_be_written(path, error) from error
