"""What stands around the page: one policy, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.ops.page.chart_page import render_chart
from edge_agent.ops.page.files import path_of
from edge_agent.ops.page.frame import CSP, HEADERS, section, table
from edge_agent.ops.page.page import render_locked, render_page
from tests.ops.page.test_page import NOW_NS, read
from tests.ops.pictures import STATUS


def pages() -> Iterator[bytes]:
    yield render_page(STATUS, [], NOW_NS, signed_in=True)
    yield render_locked("/")
    yield render_chart("greenhouse/1", {}, 1.0, signed_in=True)


def test_its_policy_allows_its_own_files_alone_and_nothing_in_place() -> None:
    assert "default-src 'none'" in CSP and "unsafe" not in CSP and "http" not in CSP
    assert "script-src 'self'" in CSP and "form-action 'self'" in CSP
    for page in pages():
        assert b"<style" not in page
        for tag, attributes in read(page).tags:
            assert tag != "script" or attributes["src"]


def test_nothing_comes_from_elsewhere_and_nothing_is_styled_in_place() -> None:
    for page in pages():
        for tag, attributes in read(page).tags:
            assert "style" not in attributes and not any(key.startswith("on") for key in attributes)
            for key in ("src", "href", "action"):
                value = attributes.get(key) or "/"
                assert value == "#main" or (value.startswith("/") and value[1:2] != "/"), (
                    tag,
                    value,
                )


def test_a_form_of_ours_is_sent_with_its_origin() -> None:
    # With no-referrer browsers send "Origin: null", which is nobody's.
    assert HEADERS["Referrer-Policy"] == "same-origin"


def test_nothing_is_loaded_anew_before_whoever_reads_it_wants_that() -> None:
    overview, locked, chart = pages()
    assert b"http-equiv" not in overview + locked + chart
    assert b'<noscript><a href="">Look again</a></noscript>' in overview


def test_each_page_has_landmarks_a_way_past_them_and_names_for_what_is_filled_in() -> None:
    for page in pages():
        tags = read(page).tags
        names = [tag for tag, _ in tags]
        assert [names.count(one) for one in ("h1", "header", "main", "footer")] == [1, 1, 1, 1]
        assert ("a", {"class": "skip", "href": "#main"}) in tags
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in tags:
            if tag == "section":
                assert "hidden" in attributes or attributes["aria-labelledby"] in ids


def test_a_section_is_named_by_its_heading_and_kept_fresh() -> None:
    html = section("store", "Store", "<p>full</p>", soft="1")
    assert html.startswith('<section id="store" data-fresh aria-labelledby="store-title">')
    assert '<h2 id="store-title">Store <span class=soft>1</span></h2><p>full</p>' in html


def test_a_table_has_heads_for_its_columns_and_can_be_moved_by_keyboard() -> None:
    html = table("store", ["A", "B"], [["1", "2"]], numbers={1})
    named = 'aria-labelledby="store-title"'
    assert f'<div class="wide" tabindex="0" role="group" {named}><table {named}>' in html
    assert '<th scope="col" class="n">B</th>' in html
    assert '<th scope="row">1</th><td class="n">2</td>' in html
    assert table("store", ["A"], [], numbers=set()) == "<p class=soft>None.</p>"


def test_a_column_of_texts_that_nobody_has_is_left_out() -> None:
    rows = [["hub", "", "0"], ["http", "", "1"]]
    html = table("upstreams", ["Name", "Error", "Refused"], rows, numbers={2}, texts={1})
    assert "Error" not in html and html.count('class="n"') == 3
    rows[0][1] = "refused"
    html = table("upstreams", ["Name", "Error", "Refused"], rows, numbers={2}, texts={1})
    assert "Error" in html and html.count('class="text"') == 3


def test_files_are_named_with_the_hash_of_what_they_are() -> None:
    assert f'href="{path_of("page.css")}"'.encode() in render_locked("/")
