"""Local files that are not what they were: the store, the configuration, tokens, keys.

What is spoilt is read by an agent of the case's own, which has to say in a sentence what is wrong;
tokens are spoilt under the running agent, which keeps what it knew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from tests.abuse.cases import Cases
from tests.abuse.place import Place, upgrade
from tests.end_to_end.support import run_command

CASES = Cases("Local files")
STORE = '[store]\nsize = "16MiB"\n[history]\nenabled = false\n'


def refused(name: str, sent: str, spoil: Callable[[Path], object], *codes: int) -> None:
    """A start that is refused with one of these exit codes and a sentence."""

    async def run(place: Place) -> None:
        folder = place.agent.folder.parent / "".join(one if one.isalnum() else "-" for one in name)
        folder.mkdir()
        config = folder / "edge-agent.toml"
        config.write_text(STORE)
        spoil(folder)
        with trio.fail_after(60):
            ended = await run_command(
                "run", "--config", str(config), "--data", str(folder / "data"),
                "--listen", "127.0.0.1:0", "--http", "off",
            )  # fmt: skip
        assert ended.returncode in codes, ended
        assert "Traceback" not in ended.stderr, ended.stderr
        assert str(folder) in ended.stderr or "edge-agent.toml" in ended.stderr, ended.stderr

    shown = " or ".join(map(str, codes))
    CASES.add(name, sent, f"exit code {shown}, a sentence that names the file", run)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _folder_for(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


refused("a store that is a file", "a file where the folder should be",
        lambda folder: (folder / "data").write_text("x"), 1, 73, 74, 78)  # fmt: skip
refused(
    "a store that is a loop of links",
    "data -> data",
    lambda folder: _loop(folder / "data"),
    1,
    73,
    74,
    78,
)
refused(
    "a store in a device",
    "data -> /dev/null",
    lambda folder: (folder / "data").symlink_to("/dev/null"),
    1,
    73,
    74,
    78,
)
refused("a folder as the configuration", "a folder of that name",
        lambda folder: _folder_for(folder / "edge-agent.toml"), 2)  # fmt: skip
refused("a configuration of noise", "1,000 random bytes",
        lambda folder: (folder / "edge-agent.toml").write_bytes(os.urandom(1000)), 78)  # fmt: skip
refused("a configuration nested 5,000 deep", "a = [[[[…",
        lambda folder: (folder / "edge-agent.toml").write_text("a = " + "[" * 5000), 78)  # fmt: skip
refused("a configuration with an endless number", "a = 999…, 5,000 digits",
        lambda folder: (folder / "edge-agent.toml").write_text("a = " + "9" * 5000), 78)  # fmt: skip
refused("a configuration with the character 0", 'an origin of "\\u0000"',
        lambda folder: (folder / "edge-agent.toml").write_text(
            f'[listen]\norigins = ["\\u0000"]\n{STORE}'), 78)  # fmt: skip
refused("a configuration of no numbers", "a rule with scale = nan",
        lambda folder: (folder / "edge-agent.toml").write_text(
            f'{STORE}[[rule]]\nname = "r"\nstreams = ["**"]\nconvert = {{ t = {{ scale = nan }} }}\n'),
        78)  # fmt: skip
refused("a configuration that is a loop of links", "edge-agent.toml -> itself",
        lambda folder: _instead(folder / "edge-agent.toml", _loop), 66, 78)  # fmt: skip
refused("an endless configuration", "edge-agent.toml -> /dev/zero",
        lambda folder: _instead(folder / "edge-agent.toml", lambda path: path.symlink_to("/dev/zero")),
        66, 78)  # fmt: skip
refused("tokens that are a folder", "listen.tokens names a folder", lambda folder: (
    (folder / "edge-agent.toml").write_text(f'[listen]\ntokens = "{folder}"\n{STORE}'),
), 78)  # fmt: skip
refused("a key that is no key", "listen.tls_key with noise in it", lambda folder: (
    (folder / "pem").write_bytes(os.urandom(500)),
    (folder / "edge-agent.toml").write_text(
        f'[listen]\ntls_certificate = "{folder / "pem"}"\ntls_key = "{folder / "pem"}"\n{STORE}'),
), 78)  # fmt: skip


def _spoilt_store(name: str, sent: str, spoil: Callable[[Path], object]) -> None:
    """A store that was sound: the agent starts, or says what to do; it never hangs."""

    async def run(place: Place) -> None:
        from tests.end_to_end.support import AgentProcess, agents, eventually

        folder = place.agent.folder.parent / "".join(one if one.isalnum() else "-" for one in name)
        other = AgentProcess(folder, "agent", STORE)
        async with agents(other):
            assert await other.stop() == 0
        spoil(other.store)
        await other.start(wait=False)
        process = other.process
        assert process is not None

        async def started_or_ended() -> bool:
            with suppress(AssertionError):  # No 200 yet.
                return process.poll() is not None or bool(await other.get("/healthz"))
            return False

        try:
            await eventually(started_or_ended, describe=f"with {name} the agent starts, or ends")
        finally:
            await other.kill()
        said = other.output()
        assert "Traceback" not in said, said

    CASES.add(name, sent, "it starts on what is left, or says what to do; no traceback", run)


def _noise_at_the_front(store: Path) -> None:
    with _store_file(store).open("r+b") as file:
        file.write(os.urandom(65536))


def _store_file(store: Path) -> Path:
    return max(
        (path for path in store.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


_spoilt_store(
    "a store cut in half",
    "its file is truncated",
    lambda store: os.truncate(_store_file(store), 100_000),
)
_spoilt_store("a store cut within its first page", "its file is cut to 582 bytes",
              lambda store: os.truncate(_store_file(store), 582))  # fmt: skip
_spoilt_store(
    "a store of no bytes", "its file is empty", lambda store: os.truncate(_store_file(store), 0)
)
_spoilt_store("a store of noise", "its first 64 KiB are random",
              _noise_at_the_front)  # fmt: skip
_spoilt_store("a store's file that is a folder", "its file is replaced by a folder",
              lambda store: _folder_for(_store_file(store)))  # fmt: skip
_spoilt_store("a store without its folder", "the folder is gone", shutil.rmtree)


def _tokens_spoilt(name: str, sent: str, spoil: Callable[[Path], object]) -> None:
    """What happens to the tokens file of the running agent; who was known still is."""

    async def run(place: Place) -> None:
        assert place.keys is not None
        tokens, secret = place.keys.tokens, place.keys.secrets["writer"]
        sound = tokens.read_bytes()
        try:
            spoil(tokens)
            for _ in range(3):
                with trio.fail_after(20):
                    wrong = await place.ask(upgrade("/ingest/abuse", "Authorization: Bearer x"))
                assert wrong.status == 401
                async with place.socket("/ingest/abuse/x", token=secret):
                    await trio.sleep(0.2)
        finally:
            if tokens.is_dir() and not tokens.is_symlink():
                tokens.rmdir()
            tokens.unlink(missing_ok=True)
            tokens.write_bytes(sound)
            tokens.chmod(0o600)

    CASES.add(name, sent, "who was known still is, nobody else is let in", run)


_tokens_spoilt(
    "tokens of noise",
    "random bytes in the tokens file",
    lambda path: path.write_bytes(os.urandom(500)),
)
_tokens_spoilt("tokens nested 100,000 deep", "[[[[… in the tokens file",
               lambda path: path.write_bytes(b'{"version":1,"x":' + b"[" * 100_000))  # fmt: skip
_tokens_spoilt("tokens that are gone", "the file is removed", lambda path: path.unlink())
_tokens_spoilt(
    "tokens that became a folder", "a folder in its place", lambda path: _instead(path, Path.mkdir)
)
_tokens_spoilt("tokens that became a pipe", "a FIFO in its place, to which nobody writes",
               lambda path: _instead(path, os.mkfifo))  # fmt: skip
_tokens_spoilt("tokens without end", "a link to /dev/zero in its place",
               lambda path: _instead(path, lambda made: made.symlink_to("/dev/zero")))  # fmt: skip
