"""TLS contexts and the small authority, against the standard library's own verification."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge_agent.config.shape import Listen
from edge_agent.errors import ConfigError
from edge_agent.security import tls
from edge_agent.security.certificate_life import certificate_end
from edge_agent.security.tls import CaFiles, make_ca, renew, server_context
from edge_agent.system.files import replace_file


def context(files: CaFiles, key: Path | None = None) -> ssl.SSLContext:
    listen = Listen(tls_certificate=str(files.certificate), tls_key=str(key or files.key))
    made = server_context(listen)
    assert made is not None
    return made


async def greet(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bytes:
    """What a client gets over TLS from a server called ``name``."""
    near, far = trio.testing.memory_stream_pair()
    received = b""

    async def serve() -> None:
        stream = trio.SSLStream(near, server, server_side=True, https_compatible=True)
        await stream.send_all(b"hello")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        stream = trio.SSLStream(far, client, server_hostname=name, https_compatible=True)
        received = bytes(await stream.receive_some(100))
        await stream.aclose()
    return received


@pytest.mark.parametrize("name", ["agent.local", "192.0.2.7", "2001:db8::1"])
async def test_a_client_that_trusts_the_authority_accepts_every_name(
    tmp_path: Path, name: str
) -> None:
    files = make_ca(tmp_path, ["agent.local", "192.0.2.7", "2001:db8::1"])
    server = context(files)
    client = ssl.create_default_context(cafile=files.ca)
    assert await greet(server, client, name) == b"hello"


async def test_a_client_refuses_another_name(tmp_path: Path) -> None:
    files = make_ca(tmp_path, ["agent.local"])
    server = context(files)
    client = ssl.create_default_context(cafile=files.ca)
    with pytest.raises(ExceptionGroup) as caught:
        await greet(server, client, "other.local")
    assert "other.local" in repr([each.__cause__ for each in caught.value.exceptions])


async def test_a_strict_verifier_accepts_the_chain(tmp_path: Path) -> None:
    files = make_ca(tmp_path, ["agent.local"])
    client = ssl.create_default_context(cafile=files.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert await greet(context(files), client, "agent.local") == b"hello"


def test_keys_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    files = make_ca(tmp_path, ["agent.local"])
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.ca_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("written", range(4))
def test_what_was_cut_off_while_it_was_made_goes_on_with_the_keys_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    left = written

    def cut_off(path: Path, data: bytes, *more: object, **others: object) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        replace_file(path, data)

    monkeypatch.setattr(tls, "replace_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        make_ca(tmp_path / "tls", ["pi.local"])
    monkeypatch.undo()
    before = {file: file.read_bytes() for file in (tmp_path / "tls").rglob("*.pem")}
    assert len(before) == written
    if tls.holds_authority(tmp_path / "tls"):
        renew(tmp_path / "tls", ["pi.local"])
    else:
        files = make_ca(tmp_path / "tls", ["pi.local"])
        assert server_context(
            Listen(tls_certificate=str(files.certificate), tls_key=str(files.key))
        )
    numbers = {file: load_numbers(data) for file, data in before.items() if "key" in file.name}
    assert numbers == {file: load_numbers(file.read_bytes()) for file in numbers}


def load_numbers(key: bytes) -> object:
    """What a key is, however it was written."""
    found = load_pem_private_key(key, None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found.private_numbers()


def test_a_board_in_the_past_makes_a_certificate_that_is_valid_today(tmp_path: Path) -> None:
    from cryptography import x509

    files = make_ca(tmp_path, ["pi"], now=dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert certificate.not_valid_before_utc.year == 2020
    assert certificate.not_valid_after_utc.year == 2022


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    make_ca(tmp_path, ["a"])
    before = (tmp_path / "ca.pem").read_bytes()
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        make_ca(tmp_path, ["a"])
    assert (tmp_path / "ca.pem").read_bytes() == before


@pytest.mark.parametrize("names", [[], ["a b"], ["-x"], ["https://host"]])
def test_names_that_are_none_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="names"):
        make_ca(tmp_path / "new", names)
    assert not (tmp_path / "new").exists()


def test_files_that_do_not_belong_together_are_an_error_with_the_key(tmp_path: Path) -> None:
    one = make_ca(tmp_path / "one", ["a"])
    two = make_ca(tmp_path / "two", ["a"])
    with pytest.raises(ConfigError, match=rf"listen\.tls_key: .*{two.key}: .*mismatch"):
        context(one, two.key)
    with pytest.raises(ConfigError, match=r"listen\.tls_key: .*none\.pem: No such file"):
        context(one, tmp_path / "none.pem")


def test_of_a_file_that_is_no_pem_the_right_one_is_named(tmp_path: Path) -> None:
    files = make_ca(tmp_path / "tls", ["a"])
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing\n")
    with pytest.raises(ConfigError, match=rf"listen\.tls_key: .*found {wrong}: "):
        context(files, wrong)
    files.certificate.write_text("nothing\n")
    with pytest.raises(
        ConfigError, match=rf"listen\.tls_certificate: .*found {files.certificate}: "
    ):
        context(files)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(Listen()) is None


def test_the_end_of_a_certificate_is_read_as_its_maker_meant_it(tmp_path: Path) -> None:
    from cryptography import x509

    for days in (0, 9000, 12_000):
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=days)
        # From 2050 on the date is written in another form.
        files = make_ca(tmp_path / str(days), ["a"], now=now)
        made = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        assert certificate_end(files.certificate) == made.not_valid_after_utc.timestamp()
    for text in ("", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"):
        (tmp_path / "junk").write_text(text)
        with pytest.raises(ValueError, match="certificate"):
            certificate_end(tmp_path / "junk")


def test_an_authority_that_has_ended_renews_nothing(tmp_path: Path) -> None:
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    files = make_ca(tmp_path, ["a"], now=begin)
    renewed, names = renew(tmp_path, ["b"], now=begin + dt.timedelta(days=3600))
    assert renewed == files and names == ["b", "a"]
    # Not beyond its authority.
    assert certificate_end(files.certificate) == certificate_end(files.ca)
    with pytest.raises(ConfigError, match="ended"):
        renew(tmp_path, ["b"], now=begin + dt.timedelta(days=3651))


def test_a_key_under_a_pass_phrase_is_told_and_nobody_is_asked(tmp_path: Path) -> None:
    files = make_ca(tmp_path / "tls", ["localhost"])
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    listen = Listen(tls_certificate=str(files.certificate), tls_key=str(locked))
    with pytest.raises(ConfigError, match="the key is encrypted"):
        server_context(listen)
