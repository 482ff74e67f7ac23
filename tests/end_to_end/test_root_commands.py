"""Root looks after an agent that runs as another user: nothing becomes root's, no link is followed.

Real agents as that user, real commands as root.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_agent.store import Engine, StoreSettings
from edge_agent.system.clock import SystemClock
from tests.end_to_end.support import AgentProcess, agents, eventually, run_command
from tests.other_user import UID, as_other_user, give, open_folder

pytestmark = pytest.mark.needs("root", "unshare", "setpriv")

CONFIG = """\
[listen]
tokens = "{folder}/tokens"
[store]
path = "{folder}/agent/data"
size = "16MiB"
[log.main]
commit_interval = "20ms"
"""


class Place:
    """A folder of root's, in it an agent's data that belong to another user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        text = CONFIG.format(folder=folder)
        self.agent = AgentProcess(folder, "agent", text, wrapper=as_other_user())
        self.data = self.agent.store
        self.data.mkdir()
        give(self.data)
        self.config = self.agent.write_config()
        self.victim = folder / "victim"
        self.victim.write_text("root's own\n")
        self.victim.chmod(0o600)

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await run_command(*arguments, "--config", str(self.config))

    async def quickly(self, *arguments: str) -> Result:
        """As `run`, in this process, which is root too."""
        given = [*arguments, "--config", str(self.config)]
        return await trio.to_thread.run_sync(partial(CliRunner().invoke, main, given))

    def make_store(self) -> None:
        """As the agent's first start leaves one, by its user."""
        settings = StoreSettings(size=16 * 2**20)
        Engine.open(self.data, settings, clock=SystemClock(), entropy=os.urandom).close()
        give(self.data)

    async def starts(self) -> None:
        """The agent can still use all of it."""
        async with agents(self.agent):
            assert await self.agent.stop() == 0

    def owners(self) -> set[int]:
        return {each.lstat().st_uid for each in (self.data, *self.data.rglob("*"))}


@pytest.fixture
def place() -> Iterator[Place]:
    with open_folder() as folder:
        yield Place(folder)


async def test_tokens_that_root_adds_and_revokes_are_known_to_the_agent(place: Place) -> None:
    made = await place.run("token", "add", "me", "--read", "**")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    async with agents(place.agent):
        assert (await place.run("token", "add", "other", "--read", "**")).returncode == 0
        assert (await place.run("token", "revoke", "other")).returncode == 0
        status = await place.agent.get("/api/status")
        assert [one["code"] for one in status["health"]["reasons"]] == []
        (place.folder / "secret").write_text(secret)
        url = f"http://127.0.0.1:{place.agent.http_port}"
        asked = await run_command(
            "query", "--url", url, "--token-file", str(place.folder / "secret")
        )
        assert asked.returncode == 0, asked.stderr
        assert await place.agent.stop() == 0
        await place.agent.start()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
async def test_a_file_that_is_replaced_keeps_its_owner_and_mode(place: Place, mode: int) -> None:
    assert (await place.quickly("token", "add", "one", "--read", "**")).exit_code == 0
    os.chown(place.tokens, UID, UID)
    place.tokens.chmod(mode)
    for arguments in (("add", "two", "--admin"), ("revoke", "one")):
        assert (await place.quickly("token", *arguments)).exit_code == 0
        found = place.tokens.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (UID, UID, mode)


async def test_a_new_file_gets_the_owner_of_its_folder(place: Place) -> None:
    theirs = place.folder / "theirs"
    theirs.mkdir()
    give(theirs)
    tokens = theirs / "new" / "tokens"
    for arguments in (
        ("token", "add", "me", "--read", "**", "--file", str(tokens)),
        ("config", "init", str(theirs / "new.toml")),
        ("tls", "init", str(theirs / "tls")),
    ):
        done = await run_command(*arguments)
        assert done.returncode == 0, done.stderr
    assert {each.stat().st_uid for each in theirs.rglob("*")} == {UID}


async def test_a_running_agent_says_that_it_cannot_read_its_tokens_any_more(place: Place) -> None:
    secret = (await place.run("token", "add", "me", "--read", "**")).stdout.strip()
    async with agents(place.agent):
        os.chown(place.tokens, 0, 0)
        place.tokens.chmod(0o600)

        async def told() -> bool:
            health = (await place.agent.get("/api/status"))["health"]
            codes = [one["code"] for one in health["reasons"]]
            return health["status"] == "degraded" and "file_unusable" in codes

        await eventually(told)
        # What it knew it still knows.
        (place.folder / "secret").write_text(secret)
        url = f"http://127.0.0.1:{place.agent.http_port}"
        asked = await run_command(
            "query", "--url", url, "--token-file", str(place.folder / "secret")
        )
        assert asked.returncode == 0, asked.stderr
        checked = await run_command("config", "check", str(place.config), "--user", str(UID))
        assert checked.returncode == 78 and "tokens" in checked.stderr
        by_itself = await run_command("config", "check", str(place.config))
        assert by_itself.returncode == 78
        doctor = await place.run("doctor", "--offline", "--json")
        found = {one["name"]: one["verdict"] for one in json.loads(doctor.stdout)}
        assert doctor.returncode == 1 and found["start"] == "fail"


async def test_whatever_root_does_to_the_store_leaves_it_to_the_agents_user(place: Place) -> None:
    assert (await place.run("token", "add", "me", "--read", "**")).returncode == 0
    place.make_store()
    backup = place.folder / "backup.tar"
    for arguments in (
        ("consumer", "list"),
        ("quarantine", "list"),
        ("check", "--deep"),
        ("doctor", "--offline"),
        ("backup", str(backup)),
        ("compact",),
        ("erase", "a/b", "--yes"),
        ("restore", str(backup), "--replace", "--yes"),
    ):
        done = await place.quickly(*arguments)
        assert done.exit_code == 0, (arguments, done.output)
        assert place.owners() == {UID}, arguments
    assert (backup.stat().st_uid, stat.S_IMODE(backup.stat().st_mode)) == (0, 0o600)
    await place.starts()


COMMANDS = [
    ("consumer", "list"),
    ("quarantine", "list"),
    ("check",),
    ("doctor", "--offline"),
    ("backup", "{folder}/new-backup"),
    ("compact",),
    ("erase", "a/b", "--yes"),
    ("restore", "{folder}/backup", "--replace", "--yes"),
]


@pytest.mark.parametrize("planted", ["lock", "hard lock", "lock.mdb", "data.mdb", "folder", "made"])
async def test_root_follows_nothing_that_the_agents_user_has_planted(
    place: Place, planted: str
) -> None:
    place.make_store()
    assert (await place.quickly("backup", str(place.folder / "backup"))).exit_code == 0
    for arguments in COMMANDS:
        _plant(place, planted)
        before = _state(place.victim)
        given = [one.format(folder=place.folder) for one in arguments]
        await place.quickly(*given)
        assert os.geteuid() == 0
        assert place.victim.read_text() == "root's own\n", arguments
        assert _state(place.victim) == before, arguments


async def test_a_pipe_in_place_of_the_lock_holds_nobody_up(place: Place) -> None:
    assert (await place.run("token", "add", "me", "--read", "**")).returncode == 0
    place.make_store()
    (place.data / "lock").unlink()
    os.mkfifo(place.data / "lock")
    give(place.data)
    done = await place.quickly("compact")
    assert done.exit_code == 1 and "no plain file" in done.output


async def test_what_is_written_in_a_folder_of_anothers_follows_no_link(place: Place) -> None:
    theirs = place.folder / "theirs"
    theirs.mkdir()
    (theirs / "here.toml").symlink_to(place.victim)
    for name in ("out.tar.part", "tokens", "new.toml", ".tokens.1"):
        (theirs / name).symlink_to(place.victim)
    give(theirs)
    assert (await place.run("token", "add", "me", "--read", "**")).returncode == 0
    place.make_store()
    for arguments in (
        ("backup", str(theirs / "out.tar"), "--config", str(place.config)),
        ("token", "add", "me", "--read", "**", "--file", str(theirs / "tokens")),
        ("config", "init", str(theirs / "new.toml"), "--force"),
    ):
        await run_command(*arguments)
        assert place.victim.read_text() == "root's own\n", arguments
        assert place.victim.stat().st_uid == 0, arguments


def _plant(place: Place, what: str) -> None:
    store = place.data / "store"
    target = place.data / "lock" if what == "lock" or "hard" in what else store / what
    if what == "folder":
        # A step that a power cut interrupted, it seems.
        target = place.data / "store.rebuilding"
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
        elsewhere = place.folder / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        victim = elsewhere / "data.mdb"
        if not victim.exists():
            os.link(place.victim, victim)
        target.unlink(missing_ok=True)
        target.symlink_to(elsewhere)
    elif what == "made":
        target = store / "planted"
        target.unlink(missing_ok=True)
        target.symlink_to(place.victim)
    else:
        target.unlink(missing_ok=True)
        if "hard" in what:
            os.link(place.victim, target)
        else:
            target.symlink_to(place.victim)
    if "hard" not in what:
        os.chown(target, UID, UID, follow_symlinks=False)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode), found.st_size


async def test_the_authoritys_key_is_not_for_the_agent(place: Place) -> None:
    folder = place.folder / "tls"
    assert (await place.run("tls", "init", str(folder))).returncode == 0
    readable = subprocess.run(
        [*as_other_user(), "find", str(folder), "-type", "f", "-readable"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    assert sorted(Path(one).name for one in readable) == ["ca.pem", "server-key.pem", "server.pem"]


async def test_the_key_that_an_earlier_version_gave_away_is_taken_back(place: Place) -> None:
    folder = place.folder / "tls"
    assert (await place.run("tls", "init", str(folder))).returncode == 0
    # As README once said: chown -R edge-agent: /etc/edge-agent/tls.
    (folder / "private" / "ca-key.pem").rename(folder / "ca-key.pem")
    (folder / "private").rmdir()
    give(folder)
    before = (folder / "ca.pem").read_bytes()
    done = await place.run("tls", "init", str(folder), "--name", "new.example")
    assert done.returncode == 0, done.stderr
    assert (folder / "ca.pem").read_bytes() == before
    assert not (folder / "ca-key.pem").exists()
    key = (folder / "private" / "ca-key.pem").stat()
    assert (key.st_uid, stat.S_IMODE(key.st_mode)) == (0, 0o600)
    assert (folder / "server-key.pem").stat().st_uid == UID


async def test_a_restore_that_is_ended_leaves_nothing_behind(place: Place) -> None:
    assert (await place.run("token", "add", "me", "--read", "**")).returncode == 0
    place.make_store()
    backup = place.folder / "backup.tar"
    assert (await place.run("backup", str(backup))).returncode == 0
    before = sorted(one.name for one in place.data.iterdir())
    # A question stands open while the backup lies unpacked.
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "restore", str(backup), "--replace",
         "--keep-agent-id", "--config", str(place.config)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip

    async def unpacked() -> bool:
        return any(place.data.glob(".edge-agent-restore-*/data.mdb"))

    await eventually(unpacked)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert sorted(one.name for one in place.data.iterdir()) == before
