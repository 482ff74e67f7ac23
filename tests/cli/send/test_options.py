from __future__ import annotations

import pytest

from edge_agent.cli.common import Failure
from edge_agent.cli.send.options import EX_NOPERM, Diary, hint, ingest_url, told_counts
from edge_agent.client import Trouble


@pytest.mark.parametrize(
    "url, stream, expected",
    [
        ("ws://h:1", "a/b", "ws://h:1/ingest/a/b"),
        ("ws://h:1/", "a", "ws://h:1/ingest/a"),
        ("ws://h:1/ingest/a/b", None, "ws://h:1/ingest/a/b"),
        ("ws://h:1/ingest/a", "", "ws://h:1/ingest/a"),
        ("ws://h:1/ingest/a", "a", "ws://h:1/ingest/a"),
    ],
)
def test_url_and_stream_become_one(url: str, stream: str | None, expected: str) -> None:
    assert ingest_url(url, stream) == expected


@pytest.mark.parametrize(
    "url, stream",
    [
        ("ws://h:1", None),
        ("ws://h:1", ""),
        ("ws://h:1/ingest/a", "b"),
        ("ws://h:1/forward", "a"),
        ("ws://[::1", "a"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(url: str, stream: str | None) -> None:
    with pytest.raises(Failure) as caught:
        ingest_url(url, stream)
    assert caught.value.exit_code == 2


def test_a_long_outage_is_one_line_and_its_end_another(capsys: pytest.CaptureFixture[str]) -> None:
    diary = Diary()
    diary.opened()
    for _ in range(5):
        diary.trouble(Trouble("unreachable", "h:1: Connection refused"))
    diary.opened()
    diary.opened()
    assert capsys.readouterr().err.splitlines() == [
        "edge-agent: h:1: Connection refused (is the agent running there?); trying again",
        "edge-agent: connected",
    ]


@pytest.mark.parametrize(
    "trouble, option",
    [
        (Trouble("refused", "not known here", status=401), "--token-file"),
        (Trouble("unreachable", "TLS: certificate verify failed: self-signed"), "--ca-file"),
        (Trouble("unreachable", "TLS: certificate verify failed: has expired"), "tls renew"),
        (Trouble("unreachable", "TLS: certificate verify failed: not yet valid"), "clock"),
        (Trouble("unreachable", "TLS: certificate verify failed: Hostname mismatch"), "the URL"),
    ],
)
def test_a_hint_names_the_option_that_helps(trouble: Trouble, option: str) -> None:
    assert option in hint(trouble)


def test_a_fault_that_stays_ends_a_sensor_that_somebody_has_just_started() -> None:
    wrong = Trouble("refused", "HTTP 401: no", status=401, lasting=True)
    with pytest.raises(Failure, match=r"HTTP 401: no \(try .*--token-file") as caught:
        Diary(tries_on=False).trouble(wrong)
    assert caught.value.exit_code == EX_NOPERM
    Diary(quiet=True, tries_on=False).trouble(Trouble("unreachable", "h:1: refused"))


def test_a_service_and_a_sensor_that_was_connected_wait_until_it_is_mended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = Trouble("refused", "HTTP 401: no", status=401, lasting=True)
    Diary(tries_on=True).trouble(wrong)
    connected = Diary(tries_on=False)
    connected.opened()
    connected.trouble(wrong)
    assert capsys.readouterr().err.count("trying again") == 2


def test_only_what_a_file_keeps_is_called_kept() -> None:
    assert told_counts(0, 5, kept=False) == "0 records acked, 5 lost (--buffer FILE keeps them)"
    assert told_counts(0, 5, kept=True) == "0 records acked, 5 kept"
    assert told_counts(5, 0, kept=False) == "5 records acked, 0 kept"


def test_a_quiet_diary_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Diary(quiet=True).trouble(Trouble("lost", "gone"))
    assert capsys.readouterr().err == ""
