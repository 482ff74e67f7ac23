"""Each order leaves one line that says who gave it, and every command is an order or none."""

from __future__ import annotations

import json
import logging
import os
import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import pytest
import trio
from click.testing import CliRunner
from starlette.routing import Route

from edge_agent import agent as agent_module
from edge_agent.cli import main
from edge_agent.config import Config, parse
from edge_agent.ops.access import FORM_PATHS, ORDER_PATHS, Rules
from edge_agent.ops.app import make_routes
from edge_agent.ops.orders.orders import ConsumerOrder, QuarantineOrder
from edge_agent.ops.orders.source_orders import SourceMove
from edge_agent.ops.sign_in import SignIn
from edge_agent.security import audit
from edge_agent.security.audit import IDENTIFIER, ORDERS, Actor, audited, local_user, note
from edge_agent.security.tokens import Tokens, add_token
from edge_agent.store import Entry, Quarantined
from tests.forward.support import until
from tests.journal import JournalSocket, journald
from tests.ops.orders.test_routes import config, post
from tests.ops.real import agent
from tests.patience import PATIENCE_S, limited

#: Commands that change nothing of what is kept, sent, or who may come. What they write is a file of
#: whoever calls them (backup, export, config init), or records, which come in as a sensor's do.
NO_ORDERS = """
run; demo; send; sensor host; sensor mqtt; sensor modbus; tail; query; status; top; export; import;
doctor; upstream list; upstream test; consumer list; quarantine list; quarantine show; backup;
check; config init; config check; config show; rules test; source list; token list; bench
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalSocket]:
    with journald(tmp_path) as made:
        yield made


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that does something, as it is typed."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*path, name))


def test_every_command_is_an_order_or_none() -> None:
    known = {one.strip() for one in NO_ORDERS.split(";")}
    assert set(commands(main)) == known | (set(ORDERS) - {"reload"}), (
        "a new command that changes something is put into audit.ORDERS, audited,"
        " and given below; another one into NO_ORDERS"
    )


async def test_every_route_that_takes_a_post_takes_orders_or_signs_in(tmp_path: Path) -> None:
    async with agent(tmp_path, serve=False) as running:
        rules = Rules.of("127.0.0.1", (), (), None, insecure=False)
        routes: list[Route] = make_routes(running.watch, SignIn(running.watch.sources, rules))
    assert {one.path for one in routes if "POST" in (one.methods or ())} == ORDER_PATHS | FORM_PATHS


def test_every_order_over_http_is_in_the_table() -> None:
    words = {"consumer": ConsumerOrder, "source": SourceMove, "quarantine": QuarantineOrder}
    for word, kind in words.items():
        given = {f"{word} {each}" for each in typing.get_args(typing.get_type_hints(kind)["order"])}
        assert given == {name for name in ORDERS if name.startswith(f"{word} ")}


def test_a_line_has_fields_and_cannot_be_made_to_be_two(journal: JournalSocket) -> None:
    note("token add", 'a\nEDGE_AGENT_WHO=root "', "done", Actor("token \x1b[2J", "192.0.2.7"))
    (line,) = journal.lines()
    assert line["SYSLOG_IDENTIFIER"] == IDENTIFIER and line["PRIORITY"] == "5"
    assert line["EDGE_AGENT_WHO"] == r"token \x1b[2J" and line["EDGE_AGENT_FROM"] == "192.0.2.7"
    assert line["EDGE_AGENT_WHAT"] == r"a\nEDGE_AGENT_WHO=root " + '"'
    begin = 'order="token add" who="token \\x1b[2J" from="192.0.2.7" what="a'
    assert line["MESSAGE"].startswith(begin)
    assert line["MESSAGE"].endswith("outcome=done")


def test_what_fails_is_noted_with_why(journal: JournalSocket) -> None:
    with pytest.raises(ValueError, match="no room"), audited("erase", "a/1"):
        raise ValueError("no room")
    assert journal.orders() == [("erase", local_user().name, "here", "a/1", "failed: no room")]


async def test_an_order_that_is_cut_off_is_noted_in_one_word(journal: JournalSocket) -> None:
    with trio.CancelScope() as scope:
        scope.cancel("the agent is stopping")
        with audited("reload", "files", Actor("SIGHUP")):
            await trio.lowlevel.checkpoint()
    assert journal.orders() == [("reload", "SIGHUP", "here", "files", "failed: Cancelled")]


def test_without_journald_it_goes_where_other_lines_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        note("reload", "files", "done", Actor("SIGHUP"))
    assert "audit: order=reload who=SIGHUP from=here what=files outcome=done" in caplog.text


JOURNALD = Path("/lib/systemd/systemd-journald")


@pytest.mark.needs("journalctl")
@pytest.mark.skipif(os.geteuid() != 0 or not JOURNALD.exists(), reason="takes root and journald")
async def test_journald_itself_takes_it_and_finds_it_by_its_fields() -> None:
    # A namespace is a journald of its own, beside the machine's, if that has one.
    name = f"edgetest{os.getpid()}"
    folder = Path(f"/run/systemd/journal.{name}")
    folder.mkdir(parents=True)
    try:
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, [str(JOURNALD), name], capture_stderr=True, check=False)
            journald_process = await nursery.start(run)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(audit, "JOURNAL", folder / "socket")
                await until(audit.JOURNAL.exists, seconds=PATIENCE_S)
                note("token add", "a\nb", "done", Actor("me", "192.0.2.7"))
                ask = ["journalctl", f"--namespace={name}", "-o", "json", "EDGE_AGENT_WHO=me"]
                with limited(PATIENCE_S):
                    while not (told := (await trio.run_process(ask, capture_stdout=True)).stdout):
                        await trio.sleep(0.1)
            journald_process.terminate()
        (line,) = [json.loads(one) for one in told.splitlines()]
        assert line["SYSLOG_IDENTIFIER"] == IDENTIFIER and line["_UID"] == "0"
        assert line["EDGE_AGENT_WHAT"] == r"a\nb" and line["EDGE_AGENT_FROM"] == "192.0.2.7"
    finally:
        shutil.rmtree(folder)
        for where in ("/run/log/journal", "/var/log/journal"):
            for kept in Path(where).glob(f"*.{name}"):
                shutil.rmtree(kept)


# Each order by its own way in; `CASES` has one for each of `ORDERS`.


def run(*words: str, code: int = 0) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output


def ready(folder: Path) -> str:
    """A configuration with a store that nobody runs on: two records, one entry in quarantine."""
    settings = config(folder / "data")

    async def fill() -> None:
        async with agent(folder / "data", config=settings, serve=False) as running:
            await running.keep("a/1", [1, 2], "oven")
            item = Quarantined("bad_time", "why", "a/1", "pi", 3, 10**18, b"5")
            await (await running.log.append(Entry(quarantine=(item,)))).wait()

    (folder / "data").mkdir(exist_ok=True)
    trio.run(fill)
    file = folder / "agent.toml"
    file.write_text(
        f'store = {{path = "{folder}/data", size = "16MiB"}}\n'
        '[[upstream]]\nname = "hub"\nurl = "ws://127.0.0.1:1/forward"\n'
    )
    return str(file)


def on_the_store(*words: str) -> Callable[[Path], None]:
    return lambda folder: run(*words, "--config", ready(folder))


def with_tokens(*words: str) -> Callable[[Path], None]:
    def give(folder: Path) -> None:
        add_token(folder / "tokens", "old", read=("**",))
        run(*words, "--file", str(folder / "tokens"))

    return give


def renewing(folder: Path) -> None:
    from tests.cli.test_tls import due

    with pytest.MonkeyPatch.context() as patch:
        due(folder / "tls", patch)
        run("tls", "renew", str(folder / "tls"))


def reloading(folder: Path) -> None:
    async def hang_up() -> None:
        send, receive = trio.open_memory_channel[None](1)
        stop = trio.Event()
        text = 'listen.address = "127.0.0.1:0"\nhttp.address = "off"\n'
        text += f'store = {{path = "{folder}/data", size = "16MiB"}}\n'
        reread = partial(parse, text, "given")
        async with trio.open_nursery() as nursery:
            running = partial(agent_module.run, reread(), stop=stop, hangups=receive, reread=reread)
            await nursery.start(running)
            await send.send(None)
            # Taken, obeyed, and waited for the next.
            await until(lambda: not receive.statistics().current_buffer_used)
            await until(lambda: bool(receive.statistics().tasks_waiting_receive))
            stop.set()

    trio.run(hang_up)


def restoring(folder: Path) -> None:
    file = ready(folder)
    run("backup", str(folder / "copy"), "--config", file)
    shutil.rmtree(folder / "data")
    run("restore", str(folder / "copy"), "--config", file)


def setting_up(folder: Path) -> None:
    (folder / "etc").mkdir()
    text = 'listen.address = "127.0.0.1:0"\nhttp.address = "127.0.0.1:0"\n'
    text += f'store = {{path = "{folder}/data", size = "16MiB"}}\n'
    (folder / "etc" / "agent.toml").write_text(text)
    run("setup", "--yes", "--no-restart", "--config", str(folder / "etc" / "agent.toml"))


CASES: dict[str, Callable[[Path], None]] = {
    "consumer pause": on_the_store("consumer", "pause", "hub"),
    "consumer resume": on_the_store("consumer", "resume", "hub"),
    "consumer rewind": lambda folder: run(
        "consumer", "rewind", "hub", "--to", "start", "--yes", "--config", ready(folder), code=1
    ),
    "consumer skip": on_the_store("consumer", "skip", "hub", "--to", "end", "--yes"),
    "consumer forget": lambda folder: run(
        "consumer", "forget", "hub", "--yes", "--config", ready(folder), code=1
    ),
    "upstream resend": on_the_store(
        "upstream", "resend", "hub", "--from", "start", "--stream", "**", "--yes"
    ),
    "source move": lambda folder: run(
        "source", "move", "none", "--to", "b", "--config", ready(folder), code=1
    ),
    "source forget": lambda folder: run(
        "source", "forget", "none", "--yes", "--config", ready(folder), code=1
    ),
    "quarantine replay": on_the_store("quarantine", "replay", "1"),
    "quarantine drop": on_the_store("quarantine", "drop", "1", "--yes"),
    "token add": with_tokens("token", "add", "new", "--read", "**"),
    "token rotate": with_tokens("token", "rotate", "old"),
    "token revoke": with_tokens("token", "revoke", "old"),
    "tls init": lambda folder: run("tls", "init", str(folder / "tls")),
    "tls renew": renewing,
    "setup": setting_up,
    "reload": reloading,
    "erase": on_the_store("erase", "a/1", "--yes"),
    "compact": on_the_store("compact"),
    "restore": restoring,
}


def test_each_order_has_a_case() -> None:
    assert list(CASES) == list(ORDERS)


@pytest.mark.parametrize("order", CASES)
def test_each_order_leaves_one_line(order: str, tmp_path: Path, journal: JournalSocket) -> None:
    CASES[order](tmp_path)
    (line,) = [one for one in journal.orders() if one[0] != "tls init" or order == "tls init"]
    who = "SIGHUP" if order == "reload" else local_user().name
    assert line[:3] == (order, who, "here") and line[3]
    assert line[4].startswith(("done", "failed: there is no", "failed: upstream/hub", "0 of 1"))


async def test_a_running_agent_notes_which_token_gave_an_order_from_where_and_what_came_of_it(
    tmp_path: Path, journal: JournalSocket
) -> None:
    tokens = tmp_path / "tokens"
    secret = add_token(tokens, "me", admin=True)

    def with_them(sources: typing.Any) -> typing.Any:
        return replace(sources, tokens=Tokens(tokens))

    settings: Config = config(tmp_path)
    bearer = f"Authorization: Bearer {secret}"
    async with agent(tmp_path, config=settings, change=with_them) as running:
        item = Quarantined("bad_time", "why", "a/1", "$forward/x", 3, 10**18, b"5")
        await (await running.log.append(Entry(quarantine=(item,)))).wait()
        orders = [
            ("/api/consumers", {"order": "pause", "consumer": "hub", "log": "main"}),
            ("/api/consumers", {"order": "rewind", "consumer": "hub"}),
            ("/api/sources", {"order": "forget", "source": "oven"}),
            ("/api/quarantine", {"order": "replay", "numbers": [1]}),
        ]
        for path, order in orders:
            await post(running, path, order, bearer)
        # Nobody gave an order here.
        await post(running, "/api/consumers", orders[0][1])
    here = ("token me", "127.0.0.1")
    lines = journal.orders()
    assert [one[:4] for one in lines] == [
        ("consumer pause", *here, "hub in log main"),
        ("consumer rewind", *here, "hub"),
        ("source forget", *here, "oven"),
        ("quarantine replay", *here, "entries 1"),
    ]
    done, lacks, unknown, kept = [one[4] for one in lines]
    assert (done, kept) == ("done", "0 of 1 done")
    assert lacks.startswith("failed: rewind needs to") and "no source oven" in unknown
    assert secret not in json.dumps(lines)
