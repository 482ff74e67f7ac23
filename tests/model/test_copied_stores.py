"""Stores that are copied, set back and run side by side, in random histories of a sender and a hub.

Who a store is, what it says and what the hub answers are the product's own functions; the network
and the files are lists. In the end everybody who is alive is welcomed once more, and

- the hub has every record that a living store holds;
- it has each of them once, where no store was ever copied;
- a source's numbers stand for one history: what the hub dropped as known it had from that store.
"""

from __future__ import annotations

import random
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest

from edge_agent.forward.sink import LaneResume
from edge_agent.forward.sinks.agent.resume import (
    Greeting,
    greet,
    history_of,
    judge_welcome,
    source_name,
)
from edge_agent.session import Hello, resume_point
from edge_agent.store import Identity
from edge_agent.store.format.values import LogHeader, StoreHeader
from edge_agent.store.identity import Here, as_a_copy, identity, new_header, opened_header

HUB = "hubs-own"
STEPS = 40


@dataclass
class Card:
    """What is durable: ``floor`` may lag behind what the running store knows."""

    header: StoreHeader
    records: list[int] = field(default_factory=list)
    floor: int = 0
    state: bytes | None = None


@dataclass
class Source:
    """What the hub keeps of one."""

    next: int = 0
    opening: str = ""


@dataclass
class Hub:
    sources: dict[str, Source] = field(default_factory=dict)
    records: list[int] = field(default_factory=list)


class Store:
    """One running store, with what it knows beyond its card."""

    def __init__(self, card: Card, chance: random.Random) -> None:
        self.card, self.chance = card, chance
        logs = {"main": LogHeader(1, last=len(card.records))}
        card.header = opened_header(card.header, Here(), chance.randbytes, logs)
        self.logs, self.floor = logs, card.floor

    @property
    def identity(self) -> Identity:
        return identity(self.card.header, self.logs)

    def welcomed(self, hub: Hub, most: int, *, acks: bool) -> None:
        """One session: at most ``most`` records arrive, and their ack too, or not."""
        for _ in range(2):
            found = self._agree(hub)
            if found is not None:
                break
            # As `Engine.become_another`.
            copy = as_a_copy(self.card.header, 0, self.chance.randbytes, "forked")
            self.card.header = opened_header(copy, Here(), self.chance.randbytes)
        assert found is not None, "a store of its own is welcome"
        source, first = found
        for number in range(first, min(first + most, len(self.card.records) + 1)):
            # The opening goes with the first numbers, not with the welcome.
            source.opening = self.identity.opening
            hub.records.append(self.card.records[number - 1])
            source.next = number + 1
        if acks:
            self.floor = max(self.floor, min(source.next - 1, len(self.card.records)))

    def _agree(self, hub: Hub) -> tuple[Source, int] | None:
        who = self.identity
        source = hub.sources.setdefault(
            source_name(who.agent_id, "hub", "main", who.lane), Source()
        )
        resume = LaneResume(self.floor, 1, len(self.card.records), self.card.state)
        said = greet(resume, who.epoch, who.lane)
        history = history_of(who, "hub", "main", resume)
        assert history is not None
        copied = hub.sources.get(history.copied, Source())
        for _ in range(2):
            hello = Hello("x", said.epoch, said.first, history)
            point = resume_point(hello, HUB, source.next, source.opening, copied.next)
            if point.restart:
                source.next, source.opening = point.next, who.opening
            judged = judge_welcome(
                said, HUB, point.next, resume, who.epoch, lane=who.lane, forked=point.forked
            )
            if isinstance(judged, Greeting):
                said = judged
                continue
            if judged.forked:
                return None
            # A hub that went back takes the position along, durably, as does a new state.
            if judged.state is not None or judged.next - 1 < self.floor:
                self.card.floor = self.floor = judged.next - 1
                self.card.state = judged.state or self.card.state
            return source, judged.next
        raise AssertionError("two hellos are enough")


class World:
    def __init__(self, seed: int, *, copies: bool) -> None:
        self.chance = random.Random(seed)
        self.hub, self.number = Hub(), 0
        self.images: list[Card] = []
        header = new_header("", 0, self.chance.randbytes)
        self.stores = [Store(Card(header), self.chance)]
        steps = [self.append, self.append, self.deliver, self.deliver, self.note, self.restart]
        self.steps = steps + [self.copy, self.set_back, self.clone, self.noticed] * copies

    def run(self) -> None:
        for _ in range(STEPS):
            self.chance.choice(self.steps)(self.chance.choice(self.stores))
        for _ in range(2):
            for store in self.stores:
                store.welcomed(self.hub, 10**6, acks=True)

    def append(self, store: Store) -> None:
        for _ in range(self.chance.randrange(1, 8)):
            self.number += 1
            store.card.records.append(self.number)

    def deliver(self, store: Store) -> None:
        most = self.chance.choice((0, 1, 3, 10**6))
        store.welcomed(self.hub, most, acks=self.chance.random() < 0.7)

    def note(self, store: Store) -> None:
        """A position gets to the card with some later commit."""
        store.card.floor = store.floor

    def restart(self, store: Store) -> None:
        self.stores[self.stores.index(store)] = Store(store.card, self.chance)

    def copy(self, store: Store) -> None:
        self.images.append(deepcopy(store.card))

    def set_back(self, store: Store) -> None:
        if self.images:
            card = deepcopy(self.chance.choice(self.images))
            self.stores[self.stores.index(store)] = Store(card, self.chance)

    def clone(self, store: Store) -> None:
        if self.images and len(self.stores) < 4:
            self.stores.append(Store(deepcopy(self.chance.choice(self.images)), self.chance))

    def noticed(self, store: Store) -> None:
        """It starts where its file is another one."""
        card = store.card
        card.header = as_a_copy(card.header, 0, self.chance.randbytes, "moved")
        self.stores[self.stores.index(store)] = Store(card, self.chance)


def lacking(seed: int) -> set[int]:
    """Records of living stores that are not at the hub, with copies of all kinds."""
    world = World(seed, copies=True)
    world.run()
    held = {record for store in world.stores for record in store.card.records}
    return held - set(world.hub.records)


@pytest.mark.parametrize("share", range(4))
def test_every_record_of_every_living_store_is_at_the_hub(share: int) -> None:
    for seed in range(share * 500, share * 500 + 500):
        assert not lacking(seed), f"seed {seed}"


def test_a_hub_that_is_set_back_gets_again_what_it_lacks_also_from_copies() -> None:
    for seed in range(500):
        world = World(seed, copies=False)
        for step in range(STEPS):
            world.chance.choice(world.steps)(world.stores[0])
            if step == STEPS // 2:
                image = deepcopy(world.hub)
        world.hub = image
        for _ in range(seed % 3):
            world.noticed(world.stores[0])
        world.append(world.stores[0])
        world.stores[0].welcomed(world.hub, 10**6, acks=True)
        assert set(world.hub.records) == set(world.stores[0].card.records), f"seed {seed}"


def test_without_copies_each_record_is_there_once_and_no_epoch_is_new() -> None:
    for seed in range(500):
        world = World(seed, copies=False)
        world.run()
        (store,) = world.stores
        assert Counter(world.hub.records) == Counter(store.card.records), f"seed {seed}"
        assert store.card.header.copied is None


@pytest.mark.parametrize("mistake", ["has_forked", "opening"])
def test_a_planted_mistake_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mistake == "has_forked":
        monkeypatch.setattr("edge_agent.session.states.has_forked", lambda *said: False)
    else:
        # Two openings of one store that cannot be told apart.
        monkeypatch.setattr(Store, "identity", property(_without_openings))
    assert any(map(lacking, range(500)))


def _without_openings(store: Store) -> Identity:
    return replace(identity(store.card.header, store.logs), opening="the same", ends={})
