"""`edge-agent tls init`: what it makes is trusted by whoever trusts ca.pem."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from edge_agent.cli import tls
from edge_agent.cli.tls import command, own_addresses, own_names
from edge_agent.config import parse
from edge_agent.security.certificate_life import RENEW_S, certificate_end
from edge_agent.values.record import DAY_S, format_time
from tests.manual_clock import ManualClock


def test_a_client_that_trusts_the_authority_gets_through_by_the_given_name(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    done = CliRunner().invoke(command, ["init", str(folder), "--name", "hub.example"])
    assert done.exit_code == 0, done.output
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    for name in ("hub.example", "localhost", "127.0.0.1"):
        here, there = socket.socketpair()

        def answer(end: socket.socket = there) -> None:
            with server.wrap_socket(end, server_side=True) as wrapped:
                wrapped.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with client.wrap_socket(here, server_hostname=name) as wrapped:
            wrapped.send(b"x")
        thread.join()


def test_what_it_prints_can_be_pasted_into_a_configuration(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["init", str(tmp_path / "tls")])
    lines = [line[4:] for line in done.output.splitlines() if line.startswith("    ")]
    config = parse("\n".join(lines), "printed")
    assert config.listen.tls_certificate == str((tmp_path / "tls" / "server.pem").resolve())


def san(folder: Path) -> list[str]:
    found = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def test_again_it_renews_the_certificate_under_the_same_authority(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path), "--name", "old.example"])
    before = (tmp_path / "ca.pem").read_bytes()
    key = (tmp_path / "server-key.pem").read_bytes()
    done = CliRunner().invoke(
        command, ["init", str(tmp_path), "--name", "new.example", "--name", "192.0.2.77"]
    )
    assert done.exit_code == 0 and "renewed" in done.output, done.output
    assert (tmp_path / "ca.pem").read_bytes() == before
    # At no moment do certificate and key belong to two different pairs.
    assert (tmp_path / "server-key.pem").read_bytes() == key
    assert {"old.example", "new.example", "192.0.2.77", "localhost"} <= set(san(tmp_path))
    for name in ("old.example", "new.example"):
        assert name in done.output


def test_the_authority_of_an_earlier_version_still_renews(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path)])
    (tmp_path / "private" / "ca-key.pem").rename(tmp_path / "ca-key.pem")
    (tmp_path / "private").rmdir()
    done = CliRunner().invoke(command, ["init", str(tmp_path), "--name", "new.example"])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "ca-key.pem").exists() and "new.example" in san(tmp_path)


def test_without_the_authoritys_key_it_says_so_and_changes_nothing(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path)])
    (tmp_path / "private" / "ca-key.pem").unlink()
    before = {each: each.read_bytes() for each in tmp_path.glob("*.pem")}
    done = CliRunner().invoke(command, ["init", str(tmp_path)])
    assert done.exit_code != 0 and "ca-key.pem" in str(done.exception)
    assert {each: each.read_bytes() for each in tmp_path.glob("*.pem")} == before


def test_what_this_machine_is_called_on_its_network_is_in_it(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path)])
    own = {str(ipaddress.ip_address(one)) for one in own_addresses()}
    assert own <= set(san(tmp_path))
    assert not any(ipaddress.ip_address(one).is_loopback for one in own)
    host = socket.gethostname()
    assert {host, f"{host.partition('.')[0]}.local"} & set(own_names())


@pytest.mark.parametrize(
    "host, names",
    [
        ("pi", ["pi", "pi.local"]),
        ("my_pi", ["my_pi", "my_pi.local"]),
        ("büro-pi", ["xn--bro-pi-3ya", "xn--bro-pi-3ya.local"]),
        ("pi.example.org.", ["pi.example.org"]),
        # What no other machine can use as a name of this one.
        *[(other, []) for other in ("", "a b", "(none)", "-x", "a" * 64, "localhost", "\udcff")],
        ("localhost.localdomain", []),
    ],
)
def test_a_machines_name_is_told_as_certificates_have_it(
    monkeypatch: pytest.MonkeyPatch, host: str, names: list[str]
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(tls, "_search_domains", list)
    monkeypatch.setattr(tls, "own_addresses", lambda: iter(()))
    assert list(own_names()) == names


def test_the_authoritys_key_has_a_folder_of_its_own(tmp_path: Path) -> None:
    CliRunner().invoke(command, ["init", str(tmp_path / "tls")])
    private = tmp_path / "tls" / "private"
    assert [one.name for one in private.iterdir()] == ["ca-key.pem"]
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    files = [one for one in (tmp_path / "tls").glob("*") if one.is_file()]
    keys = [one for one in files if b"PRIVATE" in one.read_bytes()]
    assert [one.name for one in keys] == ["server-key.pem"]


def due(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what is to be renewed by the clock of this process."""
    clock = ManualClock()
    monkeypatch.setattr("edge_agent.cli.tls.SystemClock", lambda: clock)
    CliRunner().invoke(command, ["init", str(folder)])
    clock.step_wall(int((certificate_end(folder / "server.pem") - 100 * DAY_S) * 1e9))


def test_a_folder_that_is_not_there_is_told_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    clock.step_wall(clock.read().wall_ns, synced=False)
    monkeypatch.setattr("edge_agent.cli.tls.SystemClock", lambda: clock)
    done = CliRunner().invoke(command, ["renew", str(tmp_path / "none")])
    assert done.exit_code != 0 and "No such file" in str(done.output)


def test_renew_does_nothing_before_it_is_time_and_says_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    monkeypatch.setattr("edge_agent.cli.tls.SystemClock", lambda: clock)
    CliRunner().invoke(command, ["init", str(tmp_path)])
    life_ns = int(certificate_end(tmp_path / "server.pem") * 1e9) - clock.read().wall_ns
    before = (tmp_path / "server.pem").read_bytes()
    done = CliRunner().invoke(command, ["renew", str(tmp_path)])
    due_ns = int(certificate_end(tmp_path / "server.pem") - RENEW_S) * 1_000_000_000
    assert done.exit_code == 0 and "good until" in done.output
    assert f"and renewed from {format_time(due_ns)} on; " in done.output
    assert f"`edge-agent tls init {tmp_path}` makes a new one now" in done.output
    clock.step_wall(clock.read().wall_ns + life_ns * 3 // 4, synced=False)
    done = CliRunner().invoke(command, ["renew", str(tmp_path)])
    assert done.exit_code == 0 and "clock has not been set" in done.output
    assert (tmp_path / "server.pem").read_bytes() == before
    clock.step_wall(clock.read().wall_ns, synced=True)
    config = tmp_path / "agent.toml"
    config.write_text(f'listen = {{tls_certificate = "{tmp_path}/server.pem", tls_key = "k"}}')
    done = CliRunner().invoke(command, ["renew", "--config", str(config)])
    assert done.exit_code == 0 and "renewed, and good until" in done.output
    assert (tmp_path / "server.pem").read_bytes() != before


def test_renew_fails_where_it_is_time_and_cannot_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due(tmp_path, monkeypatch)
    (tmp_path / "private" / "ca-key.pem").unlink()
    done = CliRunner().invoke(command, ["renew", str(tmp_path)])
    assert done.exit_code == 1 and "is not there" in done.output
