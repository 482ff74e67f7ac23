from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from edge_agent.errors import SinkUnavailable
from edge_agent.forward.credentials import client_context, read_token


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
