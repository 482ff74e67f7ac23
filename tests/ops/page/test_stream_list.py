"""The list of streams: groups, search, last values and sparklines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_agent.ops.page.stream_list import (
    ROWS_MAX,
    SPARK_POINTS,
    StreamRow,
    groups,
    rows_of,
    search,
    spark_path,
    spark_words,
    stream_list,
)
from tests.ops.page.test_page import NOW_NS, read, row, seen
from tests.ops.real import agent
from tests.patience import eventually


def words(*rows: StreamRow, wanted: str = "") -> str:
    return " ".join(read(stream_list(rows, wanted, NOW_NS).encode()).words)


def test_streams_stand_in_groups_by_the_beginnings_of_their_names() -> None:
    names = ["barn/1", "barn/2", "house/attic/1", "house/attic/2", "x/1", "x/2"]
    assert groups(names)["house/attic/1"] == "house/attic"
    # Where each would be alone, the first part has to do; and where that does not, there is none.
    assert groups(["a/1/t", "a/2/t", "b/1/t", "b/2/t"])["a/2/t"] == "a"
    assert set(groups(["a/t", "b/t", "c/t"]).values()) == {""}
    assert set(groups(["a", "b", "c"]).values()) == {""}


def test_a_group_has_one_heading_and_its_streams_the_rest_of_their_names() -> None:
    html = stream_list([row("barn/1"), row("barn/2"), row("shed/1"), row("shed/2")], "", NOW_NS)
    assert html.count('scope="rowgroup">barn</th>') == 1 and html.count("rowgroup") == 2
    assert '<a href="/stream/barn/2" aria-label="barn/2, chart">2</a>' in html


def test_numbers_in_names_are_in_their_order() -> None:
    names = ["a/10/t", "a/2/t", "b", "a/2/h", "a/010/t", "a/-/t", "a/" + "9" * 30]
    html = stream_list([row(name) for name in names], "", NOW_NS)
    places = [html.index(f'aria-label="{name},') for name in ("b", "a/2/h", "a/2/t", "a/10/t")]
    assert places == sorted(places)  # What belongs to no group stands before the groups.


def test_a_search_takes_all_its_words_in_any_case() -> None:
    rows = [row("Green/house/1"), row("green/2"), row("barn")]
    assert [one.name for one in search("green HOUSE", rows)] == ["Green/house/1"]
    assert search("", rows) == rows
    assert "2 of 3" in words(*rows, wanted="green")


def test_of_many_streams_those_heard_of_lately_are_listed_and_all_are_counted() -> None:
    lately, long_ago = NOW_NS - 60 * 10**9, NOW_NS - 2 * 3600 * 10**9
    many = [StreamRow(f"s/{index}", seen(lately)) for index in range(ROWS_MAX - 10)]
    many += [StreamRow(f"old/{index}", seen(long_ago)) for index in range(60)]
    html = stream_list(many, "", NOW_NS)
    assert html.count("s/") and f"s/{ROWS_MAX - 11}," in html
    assert "old/9," in html and "old/10," not in html and str(ROWS_MAX + 50) in html
    # Who was heard of a moment ago changes with each look; the list does not.
    many[3] = replace(many[3], seen=seen(NOW_NS))
    assert _names(stream_list(many, "", NOW_NS)) == _names(html)


def _names(html: str) -> list[str]:
    return [a["aria-label"] or "" for tag, a in read(html.encode()).tags if tag == "a"]


def test_last_values_have_their_units_and_columns_that_nobody_has_are_left_out() -> None:
    values = {"temp_c": 21.54321, "power.x": 3.0, "rh": 40.0, "t": 1.0, "u": 2.0}
    told = words(replace(row("a"), values=values, spark=[1.0, 2.0], rate=0.5), row("b"))
    for expected in ("temp", "21.5432", "°C", "power.x", "and 2 more", "Lately", "0.5"):
        assert expected in told, expected
    dated = replace(seen(), time_key="time")
    told = words(StreamRow("a", dated), StreamRow("b", dated))
    for absent in ("Last values", "Lately", "Per second", "Time"):
        assert absent not in told, absent


def test_a_sparkline_goes_through_the_last_values_from_low_to_high() -> None:
    assert spark_path([1.0, 3.0, 2.0]) == f"M{SPARK_POINTS - 3} 19l1 -18l1 9"
    assert spark_path([5.0, 5.0]).endswith(" 10l1 0")
    assert spark_path([1.0]) == "" and spark_path([1.0, float("nan")]) == ""
    assert spark_path([0.0] * 1000).count("l1") == SPARK_POINTS - 1


def test_a_sparkline_is_told_to_those_who_do_not_see_it() -> None:
    assert spark_words([2.0, 21.5, 18.25]) == "from 2, to 18.25, least 2, greatest 21.5"
    assert spark_words([float("nan")]) == ""
    html = stream_list([replace(row("a"), spark=[1.0, 2.0])], "", NOW_NS)
    (spark,) = [a for tag, a in read(html.encode()).tags if tag == "svg"]
    assert (spark["role"], spark["aria-label"]) == ("img", "from 1, to 2, least 1, greatest 2")


def test_an_empty_list_says_how_to_begin() -> None:
    assert "edge-agent send" in words() and "No stream has such a name" in words(
        row("a"), wanted="b"
    )


def test_words_are_shown_beside_numbers_escaped_and_cut_off_with_all_of_it_as_title() -> None:
    told = {"POWER": "ON", "note": "<b>" + "x" * 40, "third": "c", "fourth": "d"}
    html = stream_list([replace(row("a"), words=told)], "", NOW_NS)
    assert "POWER <b>ON</b>" in html and "and 1 more" in html and "Last values" in html
    assert f"<b>&lt;b&gt;{'x' * 27}…</b>" in html and f'title="&lt;b&gt;{"x" * 40}"' in html
    # However many numbers there are, a word has a place.
    numbers = dict.fromkeys("tuvw", 1.0)
    html = stream_list([replace(row("a"), values=numbers, words=told)], "", NOW_NS)
    assert html.count("<b>1</b>") == 3 and "<b>ON</b>" in html and "and 4 more" in html


async def test_what_is_listed_is_what_was_said_last(tmp_path: Path) -> None:
    async with agent(tmp_path) as running:
        await running.keep("a/1", [1, 2])
        await running.keep("b/1", [3])
        directory = running.watch.directory
        await eventually(lambda: len(directory) == 2, "both streams were looked at")
        (one,) = rows_of(directory, lambda name: name == "a/1")
        assert (one.name, one.values, list(one.spark)) == ("a/1", {"t": 2.0}, [2.0])
        assert one.rate is not None and one.rate > 0
        page = (await running.get("/"))[2]
        assert b"<b>3</b>" in page and b"Per second" in page


def test_a_field_with_a_long_name_leaves_room_for_the_others() -> None:
    told = words(replace(row("a"), values={"x" * 200: 1.0, "t": 2.0}))
    assert "x" * 40 + "…" in told and "x" * 41 not in told
