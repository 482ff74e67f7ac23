from __future__ import annotations

from edge_agent.store.repair.log_ends import Ends, LogEnds


def seen(*headers: tuple[int, int, int]) -> LogEnds:
    ends = LogEnds()
    for header in headers:
        ends.see(*header)
    return ends


def test_what_the_newest_root_says_is_all_there_is_to_know() -> None:
    ends = seen((7, 1, 80), (6, 1, 70))
    ends.newest = (11, 80)
    assert ends.ends(7, {6, 7}) == Ends(11, 11, 80, 80)


def test_a_commit_behind_the_newest_root_may_have_been_cut_short_or_lost() -> None:
    ends = seen((7, 1, 80), (8, 1, 90))
    ends.newest = (1, 80)
    assert ends.ends(8, {6, 7}) == Ends(1, 1, 80, 90)


def test_the_last_commit_that_pages_tell_of_is_only_possible() -> None:
    assert seen((7, 1, 80), (8, 11, 90)).ends(8, {7}) == Ends(1, 11, 80, 90)


def test_a_commit_that_another_one_followed_was_made() -> None:
    assert seen((7, 1, 80), (8, 11, 90)).ends(9, {7}) == Ends(11, 11, 90, 90)


def test_headers_that_do_not_say_their_commit_count_as_made_but_for_what_they_trimmed() -> None:
    assert seen((0, 1, 80), (0, 11, 90), (0, 5, 85)).ends(0, ()) == Ends(5, 11, 90, 90)
    assert seen((0, 11, 90)).ends(0, ()) == Ends(11, 11, 90, 90)


def test_a_log_without_a_header_may_have_had_anything() -> None:
    assert LogEnds().ends(9, {9}) == Ends(1, 1, 0, 0)
