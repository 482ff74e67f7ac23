"""Before the upgrade: subprotocols, tokens, endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.session import JSON_SESSION, MSGPACK_SESSION, PLAIN
from edge_agent.wire.subprotocol import (
    HTTP_STATUS,
    Choice,
    choose_subprotocol,
    decode_token,
    encode_token,
    parse_target,
)


@pytest.mark.parametrize(
    "offered, expected",
    [
        ([], Choice(None, "plain")),
        ([PLAIN], Choice(PLAIN, "plain")),
        ([JSON_SESSION], Choice(JSON_SESSION, "json")),
        (["mqtt", MSGPACK_SESSION, JSON_SESSION], Choice(MSGPACK_SESSION, "msgpack")),
        ([encode_token("s3cret"), JSON_SESSION], Choice(JSON_SESSION, "json", "s3cret")),
        ([encode_token("s3cret")], Choice(None, "plain", "s3cret")),
    ],
)
def test_the_first_subprotocol_that_is_ours_is_chosen(offered: list[str], expected: Choice) -> None:
    assert choose_subprotocol(offered) == expected


@pytest.mark.parametrize("offered", [["arduino"], ["mqtt", "soap"], ["json", "edge-agentx"]])
def test_foreign_subprotocols_mean_plain_mode_and_none_is_chosen(offered: list[str]) -> None:
    assert choose_subprotocol(offered) == Choice(None, "plain")


def test_a_version_that_is_not_known_is_refused_with_a_list_of_those_that_are() -> None:
    for offered in (["edge-agent.v2+json"], ["arduino", "edge-agent.v1+cbor"]):
        with pytest.raises(ProtocolError, match=r"edge-agent\.v1\+json") as caught:
            choose_subprotocol(offered)
        assert HTTP_STATUS[caught.value.code] == 400
    assert choose_subprotocol(["edge-agent.v2+json", JSON_SESSION]).mode == "json"


def test_a_token_is_never_chosen_and_never_shown() -> None:
    choice = choose_subprotocol([PLAIN, encode_token("s3cret")])
    assert choice.subprotocol == PLAIN
    assert "s3cret" not in repr(choice)


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=100))
def test_any_token_survives_its_way_through_a_header(token: str) -> None:
    coded = encode_token(token)
    assert decode_token(coded) == token
    assert set(coded.removeprefix("edge-agent.token.")).isdisjoint(set('()<>@,;:\\"/[]?={} \t'))


@pytest.mark.parametrize("coded", ["", "!!!", "a", "_w", "a" * 5000])
def test_a_token_that_is_not_base64url_is_refused_without_repeating_it(coded: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_token(f"edge-agent.token.{coded}")
    assert HTTP_STATUS[caught.value.code] == 401
    assert caught.value.__cause__ is None
    assert not coded or coded not in caught.value.message.split()


def test_two_tokens_are_one_too_many() -> None:
    with pytest.raises(ProtocolError, match="more than one"):
        choose_subprotocol([encode_token("a"), encode_token("b")])


@pytest.mark.parametrize(
    "target, kind, name",
    [
        ("/ingest/greenhouse/bme280", "ingest", "greenhouse/bme280"),
        ("/ingest/greenhouse%2Fbme280", "ingest", "greenhouse/bme280"),
        ("/ingest/a?ack=0", "ingest", "a"),
        ("/forward", "forward", ""),
        ("/forward/", "forward", ""),
        ("/subscribe/**", "subscribe", "**"),
        ("/subscribe/%2A/a", "subscribe", "*/a"),
        ("/subscribe/$agents/**", "subscribe", "$agents/**"),
        ("/query", "query", ""),
        ("/query?", "query", ""),
    ],
)
def test_endpoints_are_told_apart(target: str, kind: str, name: str) -> None:
    parsed = parse_target(target)
    assert (parsed.kind, parsed.name, parsed.ack) == (kind, name, False)


def test_options_are_decoded_once() -> None:
    parsed = parse_target("/subscribe/a?from=main:5&filter=t%20%3E%2020+and+x%3D%3D%2525")
    assert (parsed.start, parsed.filter) == ("main:5", "t > 20 and x==%25")
    assert parse_target("/ingest/a?ack=1").ack is True
    plain = parse_target("/ingest/a")
    assert (plain.start, plain.filter, dict(plain.options)) == (None, None, {})


@pytest.mark.parametrize(
    "target, code",
    [
        ("", "unknown_path"),
        ("/", "unknown_path"),
        ("ingest/a", "unknown_path"),
        ("/nowhere", "unknown_path"),
        ("/Ingest/a", "unknown_path"),
        ("//ingest/a", "unknown_path"),
        ("/forward/a", "unknown_path"),
        ("/query/a", "unknown_path"),
        ("/ingest", "bad_stream"),
        ("/ingest/", "bad_stream"),
        ("/ingest/a//b", "bad_stream"),
        ("/ingest/a/", "bad_stream"),
        ("/ingest/../etc", "bad_stream"),
        ("/ingest/%2e%2e/etc", "bad_stream"),
        ("/ingest/a%252Fb", "bad_stream"),
        ("/ingest/a%00b", "bad_stream"),
        ("/ingest/a+b", "bad_stream"),
        ("/ingest/%FF", "bad_stream"),
        ("/ingest/$agents/x", "bad_stream"),
        ("/ingest/**", "bad_stream"),
        ("/ingest/" + "a" * 201, "bad_stream"),
        ("/subscribe/", "bad_pattern"),
        ("/subscribe/a*", "bad_pattern"),
        ("/ingest/a?ack=2", "bad_query"),
        ("/ingest/a?ack=", "bad_query"),
        ("/ingest/a?acks=1", "bad_query"),
        ("/ingest/a?ack=1&ack=1", "bad_query"),
        ("/ingest/a?ack", "bad_query"),
        ("/subscribe/a?filter=%FF", "bad_query"),
        ("/forward?ack=1", "bad_query"),
        ("/query?" + "&".join(f"a{i}=1" for i in range(20)), "bad_query"),
        ("/query?stream=" + "a" * 5000, "bad_query"),
    ],
)
def test_a_bad_target_has_a_sentence_and_an_http_status(target: str, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_target(target)
    assert caught.value.code == code
    assert HTTP_STATUS[code] in (400, 404)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_a_token_in_a_url_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ProtocolError, match="Authorization") as caught:
        parse_target(f"/ingest/a?{key}=s3cret")
    assert "s3cret" not in caught.value.message


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_no_target_raises_anything_else(text: str) -> None:
    for target in (text, "/ingest/" + text, "/subscribe/a?" + text):
        try:
            code: str = parse_target(target).kind
        except ProtocolError as error:
            code = error.code
        assert code in HTTP_STATUS or code in ("ingest", "forward", "subscribe", "query")
