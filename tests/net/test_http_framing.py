from __future__ import annotations

import pytest

from edge_agent.net.http_framing import framing_fault, origin_form

LENGTH, CODING = (b"content-length", b"7"), (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize("headers", [[], [LENGTH], [CODING], [(b"host", b"a"), LENGTH]])
def test_one_way_to_say_the_end_is_sound(headers: list[tuple[bytes, bytes]]) -> None:
    assert framing_fault(headers, b"1.1") is None


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_two_ways_are_refused(version: bytes) -> None:
    assert framing_fault([LENGTH, CODING], version)
    assert framing_fault([CODING, LENGTH], version)


def test_an_old_version_has_no_coding() -> None:
    assert framing_fault([CODING], b"1.0")
    assert framing_fault([LENGTH], b"1.0") is None


def test_an_upgrade_has_no_body_and_may_say_so() -> None:
    assert framing_fault([LENGTH], b"1.1", may_have_body=False)
    assert framing_fault([CODING], b"1.1", may_have_body=False)
    assert framing_fault([(b"content-length", b"0")], b"1.1", may_have_body=False) is None


@pytest.mark.parametrize(
    "target, path",
    [
        (b"/a?b", b"/a?b"), (b"http://h:1/a?b", b"/a?b"), (b"HTTPS://h/a", b"/a"),
        (b"http://h", b"/"), (b"*", b"*"), (b"http://h?x=/ingest/a", b"/?x=/ingest/a"),
        (b"https://h#/a", b"/#/a"), (b"http://h/a?u=http://g/b", b"/a?u=http://g/b"),
    ],
)  # fmt: skip
def test_what_a_proxy_asks_for_is_the_path_behind_scheme_and_host(
    target: bytes, path: bytes
) -> None:
    assert origin_form(target) == path
