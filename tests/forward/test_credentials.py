from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from edge_agent.config import SecretFile
from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import CredentialFiles, client_context, read_token
from tests.forward.support import upstream


def test_no_file_is_no_token() -> None:
    assert read_token(None) is None


def test_a_token_may_end_with_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    assert read_token(str(file)) == "s3cret"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a b", b"a\nHost: evil", b"\xff\xfe", b"x" * 5000]
)
def test_what_is_no_token_is_a_slow_failure_that_does_not_repeat_it(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SinkUnavailable, match="token_file") as caught:
        read_token(str(file))
    assert caught.value.slow and "evil" not in str(caught.value)


def test_a_missing_token_file_is_a_slow_failure(tmp_path: Path) -> None:
    with pytest.raises(SinkUnavailable, match="token_file") as caught:
        read_token(str(tmp_path / "none"))
    assert caught.value.slow


def test_a_ca_file_is_trusted_alone(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    context = client_context(str(file))
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bad_ca_file_is_a_slow_failure(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SinkUnavailable, match="ca_file") as caught:
        client_context(str(file))
    assert caught.value.slow


# All of an upstream's, as its files are now.


def files(tmp_path: Path, **more: Any) -> CredentialFiles:
    return CredentialFiles(upstream("https://hub.example/in", **more))


def test_nothing_is_read_again_while_no_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, ca = tmp_path / "token", tmp_path / "ca.pem"
    token.write_text("one")
    trustme.CA().cert_pem.write_to_path(str(ca))
    for file in (token, ca):
        os.utime(file, (1, 1))
    monkeypatch.setattr("edge_agent.forward.credentials._SETTLED_NS", 0)
    known = files(tmp_path, token_file=str(token), ca_file=str(ca))
    first = known.read()
    assert known.read() is first
    token.write_text("two")
    second = known.read()
    assert ("Authorization", "Bearer two") in second.headers
    # The same trust, so that the connection that rests on it stays.
    assert second.tls is first.tls
    trustme.CA().cert_pem.write_to_path(str(ca))
    assert known.read().tls is not first.tls


def test_a_file_that_was_just_changed_is_read_each_time(tmp_path: Path) -> None:
    """Two changes within one tick of the file system's clock look like one."""
    token = tmp_path / "token"
    token.write_text("one")
    known = files(tmp_path, token_file=str(token))
    before = token.stat()
    assert ("Authorization", "Bearer one") in known.read().headers
    token.write_text("two")
    os.utime(token, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ("Authorization", "Bearer two") in known.read().headers


def test_a_file_that_was_replaced_or_came_back_is_read(tmp_path: Path) -> None:
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("one")
    known = files(tmp_path, token_file=str(token))
    known.read()
    token.unlink()
    with pytest.raises(SinkUnavailable, match="token_file") as caught:
        known.read()
    assert caught.value.slow
    other.write_text("two")
    other.rename(token)
    assert ("Authorization", "Bearer two") in known.read().headers


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff", b"x" * 5000])
def test_a_header_that_its_file_does_not_hold_is_a_slow_failure_without_it(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    known = files(tmp_path, headers={"X-Api-Key": SecretFile(str(file))})
    with pytest.raises(SinkUnavailable, match=r"headers\.X-Api-Key") as caught:
        known.read()
    assert caught.value.slow and "xxx" not in str(caught.value)


def test_half_a_renewed_pair_is_tried_again_soon(tmp_path: Path) -> None:
    ca = trustme.CA()
    one, two = ca.issue_cert("a.example"), ca.issue_cert("a.example")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    two.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    pair = {"tls_certificate": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    known = files(tmp_path, **pair)
    with pytest.raises(SinkUnavailable, match="tls_certificate") as caught:
        known.read()
    assert not caught.value.slow
    two.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    assert known.read().tls is not None


def test_user_and_password_become_a_header_and_are_secrets(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p@ss word\n")
    read = files(tmp_path, user="me", password_file=str(password)).read()
    assert read.headers == (("Authorization", "Basic bWU6cEBzcyB3b3Jk"),)
    assert set(read.secrets) == {"p@ss word", "bWU6cEBzcyB3b3Jk"}
    assert (read.password, read.token) == ("p@ss word", None)
