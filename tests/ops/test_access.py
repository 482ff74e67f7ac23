"""Who may look in: Host, Origin and tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from edge_agent.net.access import Readable, everything, nothing
from edge_agent.ops.access import (
    AccessRefusal,
    Request,
    Rules,
    admit,
    identity,
)


def only_greenhouse(stream: str) -> bool:
    return stream.startswith("greenhouse/")


def access(secret: str) -> Readable | None:
    return only_greenhouse if secret == "good" else None


LOOPBACK = Rules.of("127.0.0.1", (), (), access, insecure=False)
OPEN_AIR = Rules.of("0.0.0.0", (), (), access, insecure=False)
INSECURE = Rules.of("0.0.0.0", (), (), None, insecure=True)


def asked(**changes: Any) -> Request:
    usual: dict[str, Any] = {
        "method": "GET",
        "path": "/api/status",
        "scheme": "http",
        "host": "127.0.0.1:8766",
        "origin": None,
        "authorization": None,
        "fetch_site": None,
    }
    return Request(**{**usual, **changes})


def refused(answer: object) -> tuple[int, str]:
    assert isinstance(answer, AccessRefusal), answer
    return answer.status, answer.code


@pytest.mark.parametrize("host", ["127.0.0.1:8766", "localhost", "LOCALHOST:1", "[::1]:8766"])
def test_on_loopback_everybody_of_this_machine_may_look(host: str) -> None:
    assert admit(asked(host=host), LOOPBACK) is everything


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8766", "", None, "192.168.1.7:8766", "[::1"]
)
def test_a_foreign_name_on_loopback_is_dns_rebinding(host: str | None) -> None:
    if host == "[::1":
        pytest.importorskip("ipaddress")
    answer = admit(asked(host=host), LOOPBACK)
    if host == "[::1":
        assert answer is everything  # only punctuation is missing; it still says loopback
    else:
        assert refused(answer) == (403, "foreign_host")


def test_a_name_from_the_configuration_is_not_foreign() -> None:
    rules = Rules.of("127.0.0.1", ("Pi.lan",), (), None, insecure=False)
    assert admit(asked(host="pi.lan:8766"), rules) is everything


def test_a_page_from_elsewhere_may_not_ask() -> None:
    answer = admit(asked(origin="https://evil.example"), LOOPBACK)
    assert refused(answer) == (403, "foreign_origin")
    assert refused(admit(asked(origin="null"), LOOPBACK))[1] == "foreign_origin"
    # The same machine on another port is another page.
    assert refused(admit(asked(origin="http://127.0.0.1:9999"), LOOPBACK))[0] == 403


def test_the_agents_own_page_and_listed_origins_may_ask() -> None:
    assert admit(asked(origin="http://127.0.0.1:8766"), LOOPBACK) is everything
    rules = Rules.of("127.0.0.1", (), ("https://board.lan",), None, insecure=False)
    assert admit(asked(origin="https://board.lan"), rules) is everything


def test_an_image_tag_on_another_site_may_not_ask_but_a_link_may_lead_to_the_page() -> None:
    assert refused(admit(asked(fetch_site="cross-site"), LOOPBACK)) == (403, "foreign_origin")
    assert admit(asked(fetch_site="cross-site", path="/"), LOOPBACK) is everything
    assert admit(asked(fetch_site="same-origin"), LOOPBACK) is everything


def test_off_loopback_a_token_is_needed_and_the_name_does_not_matter() -> None:
    assert refused(admit(asked(host="pi.lan"), OPEN_AIR)) == (401, "token_needed")
    answer = admit(asked(host="pi.lan", authorization="Bearer good"), OPEN_AIR)
    assert answer is only_greenhouse


@pytest.mark.parametrize("authorization", ["Bearer bad", "Bearer ", "Basic good", "good"])
def test_a_wrong_token_is_refused_on_loopback_too(authorization: str) -> None:
    for rules in (LOOPBACK, OPEN_AIR):
        assert refused(admit(asked(authorization=authorization), rules)) == (401, "bad_token")


def test_a_good_token_narrows_what_may_be_read_on_loopback_too() -> None:
    assert admit(asked(authorization="bearer good"), LOOPBACK) is only_greenhouse


def test_the_empty_page_and_the_probe_need_no_token_and_may_read_nothing() -> None:
    for path in ("/", "/healthz"):
        assert admit(asked(path=path, host="pi.lan"), OPEN_AIR) is nothing


def test_insecure_without_tokens_serves_addresses_and_own_names_but_no_rebound_one() -> None:
    for host in ("192.168.1.7:8766", "127.0.0.1:8766", "localhost:8766"):
        assert admit(asked(host=host), INSECURE) is everything
    assert refused(admit(asked(host="evil.example"), INSECURE)) == (403, "foreign_host")


def test_insecure_with_tokens_still_asks_for_one() -> None:
    rules = Rules.of("0.0.0.0", (), (), access, insecure=True)
    assert refused(admit(asked(), rules)) == (401, "token_needed")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE"])
def test_this_port_only_answers_questions(method: str) -> None:
    assert refused(admit(asked(method=method), LOOPBACK)) == (405, "bad_method")


def ordered(rules: Rules, **changes: Any) -> object:
    usual = {"method": "POST", "path": "/api/consumers", "order": "yes"}
    return admit(asked(**{**usual, **changes}), rules)


ADMIN = Rules.of(
    "0.0.0.0", (), (), access, insecure=False, may_order=lambda secret: secret == "root"
)


def test_on_loopback_without_tokens_everybody_of_this_machine_may_give_orders() -> None:
    rules = Rules.of("127.0.0.1", (), (), None, insecure=False)
    assert ordered(rules) is everything


def test_no_page_of_another_origin_may_give_an_order_not_even_a_listed_one() -> None:
    rules = Rules.of("127.0.0.1", (), ("https://board.lan",), None, insecure=False)
    assert refused(ordered(rules, order=None)) == (403, "no_order")
    assert refused(ordered(rules, origin="https://board.lan")) == (403, "no_order")
    assert refused(ordered(rules, origin="https://evil.example")) == (403, "foreign_origin")
    assert refused(ordered(rules, host="evil.example")) == (403, "foreign_host")
    assert ordered(rules, origin="http://127.0.0.1:8766") is everything


def test_where_there_are_tokens_an_order_needs_one_that_may() -> None:
    assert refused(ordered(ADMIN)) == (401, "token_needed")
    assert refused(ordered(ADMIN, authorization="Bearer good")) == (401, "token_needed")
    assert ordered(ADMIN, authorization="Bearer root") is everything


def test_insecure_without_tokens_takes_no_orders_from_the_network() -> None:
    assert refused(ordered(INSECURE)) == (403, "no_tokens")


def test_only_paths_that_take_orders_take_a_post() -> None:
    assert refused(ordered(ADMIN, path="/api/status")) == (405, "bad_method")


def test_who_may_give_orders_may_see_what_they_are_about_and_nothing_else() -> None:
    token = {"authorization": "Bearer root"}
    assert admit(asked(path="/api/quarantine", **token), ADMIN) is everything
    assert refused(admit(asked(path="/api/status", **token), ADMIN)) == (401, "bad_token")


def test_a_session_stands_for_its_token_as_long_as_that_may_read() -> None:
    answer = admit(asked(session="good"), OPEN_AIR)
    assert answer is only_greenhouse
    assert identity(asked(session="good"), OPEN_AIR, only_greenhouse, "192.0.2.1") == "token good"
    assert refused(admit(asked(session="gone"), OPEN_AIR)) == (401, "token_needed")
    assert admit(asked(session="gone", path="/"), OPEN_AIR) is nothing
    # On loopback it narrows what may be seen, as any token does.
    assert admit(asked(session="good"), LOOPBACK) is only_greenhouse
    assert admit(asked(session="gone"), LOOPBACK) is everything


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_session_does_not_count_for_what_another_page_asks(site: str) -> None:
    answer = admit(asked(session="good", fetch_site=site, path="/"), OPEN_AIR)
    assert answer is nothing
    assert admit(asked(session="good", fetch_site="same-origin"), OPEN_AIR) is only_greenhouse
    assert admit(asked(session="good", fetch_site="none"), OPEN_AIR) is only_greenhouse


def test_a_session_gives_no_orders() -> None:
    assert refused(ordered(ADMIN, session="root")) == (401, "token_needed")


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_comes_from_our_own_page_and_lets_look_at_nothing(path: str) -> None:
    own = "http://127.0.0.1:8766"
    form = partial(asked, method="POST", path=path)
    assert admit(form(origin=own), OPEN_AIR) is nothing
    for origin in (None, "null", "https://evil.example"):
        assert refused(admit(form(origin=origin), OPEN_AIR)) == (403, "foreign_origin")
    assert refused(admit(form(origin=own, host="evil.example"), LOOPBACK)) == (403, "foreign_host")


@pytest.mark.parametrize("path", ["/stream/a/1", "/static/0/page.js"])
def test_the_pages_themselves_and_what_they_are_made_of_are_open(path: str) -> None:
    assert admit(asked(path=path), OPEN_AIR) is nothing
    assert admit(asked(path=path, fetch_site="cross-site"), OPEN_AIR) is nothing
