"""Sends exactly so many records for each commit, and waits for its acks before the next.

Run as ``python -m benchmarks.wear_load '{"host": …, "port": …, "sources": 50, …}'``; prints one
JSON object for each line that it reads, a number of rounds. In each round every source sends one
message with its share of the records, all at once, well within one commit interval; whether that
made one commit each is for the caller to check against the agent's count.
"""

from __future__ import annotations

import json
import select
import sys
import time

from benchmarks.load import frame
from benchmarks.records import DISTINCT, array_header, encoded_records
from benchmarks.sessions import STALLED_AFTER_S, Sensor, take_acks, welcome_all


class Rounds:
    """The sources, and how far each is in the generated records."""

    def __init__(self, address: tuple[str, int], sources: int, per_commit: int) -> None:
        if per_commit % sources:
            raise ValueError(f"{per_commit} records do not divide among {sources} sources")
        names = [f"wear/{index}" for index in range(sources)]
        self.sensors = welcome_all(address, names, names)
        self.share = per_commit // sources
        self.done = 0
        self._poller = select.epoll()
        self._by_descriptor = {sensor.socket.fileno(): sensor for sensor in self.sensors}
        for descriptor, sensor in self._by_descriptor.items():
            # A message may be larger than what the socket takes at once.
            sensor.socket.setblocking(True)
            self._poller.register(descriptor, select.EPOLLIN)

    def run(self, rounds: int) -> None:
        """So many commits' worth of records, each acked before the next is sent."""
        for _ in range(rounds):
            messages = [frame(self._message(index)) for index in range(len(self.sensors))]
            self.done += 1
            for sensor, message in zip(self.sensors, messages, strict=True):
                sensor.socket.sendall(message)
            self._wait()

    def _message(self, index: int) -> bytes:
        # Each source sends a stretch of its own, in order, as a sensor does.
        records = encoded_records()
        start = index * (DISTINCT // len(self.sensors)) + self.done * self.share
        chosen = [records[(start + at) % DISTINCT] for at in range(self.share)]
        return array_header(self.share) + b"".join(chosen)

    def _wait(self) -> None:
        goal = self.done * self.share
        left = len(self.sensors)
        deadline = time.perf_counter() + STALLED_AFTER_S
        while left:
            events = self._poller.poll(1.0)
            if not events and time.perf_counter() > deadline:
                raise TimeoutError(f"{left} of {len(self.sensors)} sources got no ack")
            for descriptor, _ in events:
                left -= self._take(self._by_descriptor[descriptor], goal)

    def _take(self, sensor: Sensor, goal: int) -> bool:
        before, sensor.acked = sensor.acked, take_acks(sensor)
        return before < goal <= sensor.acked


def main() -> None:
    """Open the sessions as the JSON argument says, then serve numbers of rounds."""
    options = json.loads(sys.argv[1])
    address = (options["host"], options["port"])
    rounds = Rounds(address, options["sources"], options["per_commit"])
    print("ready", flush=True)
    for line in sys.stdin:
        rounds.run(int(line))
        print(json.dumps({"rounds": rounds.done}), flush=True)


if __name__ == "__main__":
    main()
