"""Who is closed for whom, and who always gets in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.net.connection_quota import YOUNG_S, Arrivals, Place, ProvedQuota, UnprovedQuota


def enter_unproved(quota: UnprovedQuota, closed: list[str], address: str, name: str) -> Place:
    return quota.enter(address, lambda: closed.append(name))


def enter(quota: ProvedQuota, closed: list[str], identity: str, name: str) -> Place | None:
    return quota.enter(identity, lambda: closed.append(name))


def test_the_longest_waiting_of_an_address_gives_way_to_its_next() -> None:
    closed: list[str] = []
    quota = UnprovedQuota(6, 3, Clock().now)
    for index in range(5):
        enter_unproved(quota, closed, "a", f"a{index}")
    assert closed == ["a0", "a1"]
    assert len(quota) == 3


def test_a_fleet_behind_one_address_has_half_of_all_places_for_a_moment() -> None:
    closed: list[str] = []
    clock = Clock()
    quota = UnprovedQuota(10, 3, clock.now)
    for index in range(5):
        enter_unproved(quota, closed, "a", f"a{index}")
    assert closed == []
    enter_unproved(quota, closed, "a", "a5")
    assert closed == ["a0"]
    enter_unproved(quota, closed, "b", "b0")
    clock.s = YOUNG_S
    for index in range(1, 6):
        enter_unproved(quota, closed, "b", f"b{index}")
    assert closed == ["a0", "b0"]


def test_where_all_places_are_taken_the_address_with_most_gives_way() -> None:
    closed: list[str] = []
    quota = UnprovedQuota(4, 3, Clock().now)
    for name in ("b0", "a0", "a1", "a2"):
        enter_unproved(quota, closed, name[0], name)
    enter_unproved(quota, closed, "c", "c0")
    assert closed == ["a0"]


def test_of_addresses_with_one_each_the_longest_waiting_gives_way() -> None:
    closed: list[str] = []
    quota = UnprovedQuota(3, 3, Clock().now)
    for name in "abcde":
        enter_unproved(quota, closed, name, name)
    assert closed == ["a", "b"]


def test_who_has_left_is_not_closed_and_makes_room() -> None:
    closed: list[str] = []
    quota = UnprovedQuota(2, 2, Clock().now)
    first = enter_unproved(quota, closed, "a", "a0")
    enter_unproved(quota, closed, "a", "a1")
    quota.leave(first)
    quota.leave(first)
    enter_unproved(quota, closed, "a", "a2")
    assert closed == [] and len(quota) == 2
    enter_unproved(quota, closed, "a", "a3")
    assert closed == ["a1"]


def test_a_newcomer_waits_where_it_would_displace_somebody_who_came_a_moment_ago() -> None:
    clock = Clock()
    quota = UnprovedQuota(2, 2, clock.now)
    first = enter_unproved(quota, [], "a", "a0")
    clock.s = 0.9
    assert quota.has_room()
    enter_unproved(quota, [], "b", "b0")
    assert not quota.has_room()
    clock.s = YOUNG_S
    assert quota.has_room()
    quota.leave(first)
    enter_unproved(quota, [], "c", "c0")
    assert not quota.has_room()


def test_an_identity_with_fewer_connections_always_gets_in() -> None:
    closed: list[str] = []
    quota = ProvedQuota(4)
    for index in range(4):
        assert enter(quota, closed, "greenhouse", f"g{index}")
    assert enter(quota, closed, "greenhouse", "g4") is None
    assert enter(quota, closed, "hub", "h0")
    assert closed == ["g3"]
    assert enter(quota, closed, "greenhouse", "g4") is None
    assert enter(quota, closed, "hub", "h1")
    # Two and two: nobody has more than another could have.
    assert enter(quota, closed, "hub", "h2") is None
    assert closed == ["g3", "g2"] and len(quota) == 4


def test_the_idle_one_that_has_waited_longest_is_closed_first() -> None:
    closed: list[str] = []
    quota = ProvedQuota(3)
    busy: set[str] = {"a0"}

    def arrive(name: str) -> Place | None:
        return quota.enter(name[0], lambda: closed.append(name), lambda: name not in busy)

    for name in ("a0", "a1", "a2"):
        assert arrive(name)
    assert arrive("a3") and closed == ["a1"]
    busy.update(("a2", "a3"))
    assert arrive("a4") is None
    assert arrive("b0") and closed == ["a1", "a3"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200))
def test_no_quota_is_ever_exceeded_and_everybody_is_closed_once(
    moves: list[tuple[str, bool]],
) -> None:
    closed: list[int] = []
    unproved, proved = UnprovedQuota(5, 3, Clock().now), ProvedQuota(5)
    inside: list[tuple[Place, Place | None]] = []
    for number, (key, leaves) in enumerate(moves):
        if leaves and inside:
            waiting, known = inside.pop(number % len(inside))
            unproved.leave(waiting)
            if known is not None:
                proved.leave(known)
            continue
        waiting = unproved.enter(key, lambda number=number: closed.append(number))  # type: ignore[misc]
        known = proved.enter(key, lambda number=-number - 1: closed.append(number))  # type: ignore[misc]
        inside.append((waiting, known))
        assert len(unproved) <= 5 and len(proved) <= 5
        assert max(unproved._held.values()) <= 3
        # Nobody is refused while another has two more.
        if known is None:
            held = proved._held
            assert max(held.values()) <= held[key] + 1
    assert len(closed) == len(set(closed))


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def now(self) -> float:
        return self.s


def test_of_one_address_so_many_are_heard_at_first_and_then_so_many_a_second() -> None:
    clock = Clock()
    arrivals = Arrivals(5, clock.now)
    assert sum(arrivals.hear("a") for _ in range(1000)) == 5 * Arrivals.BURST_S
    assert arrivals.hear("b")
    for _ in range(10):
        clock.s += 1
        assert sum(arrivals.hear("a") for _ in range(1000)) == 5
    clock.s += 100
    assert sum(arrivals.hear("a") for _ in range(1000)) == 5 * Arrivals.BURST_S


def test_who_has_proved_something_takes_nothing() -> None:
    arrivals = Arrivals(1, Clock().now)
    for _ in range(100):
        assert arrivals.hear("a")
        arrivals.give_back("a")
    assert len(arrivals) == 0
    for _ in range(Arrivals.BURST_S):
        assert arrivals.hear("a")
    arrivals.give_back("a")
    assert arrivals.hear("a") and not arrivals.hear("a")


def test_addresses_that_are_remembered_are_bounded_and_those_that_storm_are_kept() -> None:
    clock = Clock()
    arrivals = Arrivals(1, clock.now)
    assert sum(arrivals.hear("storm") for _ in range(100)) == Arrivals.BURST_S
    for number in range(3 * Arrivals.REMEMBERED_MAX):
        assert arrivals.hear(str(number))
        assert len(arrivals) <= Arrivals.REMEMBERED_MAX
    assert not arrivals.hear("storm")
