"""Cuts on the way to servers that are no agents: real sinks, the same lives, the same judge.

Servers in memory are met in simulated time (`servers`, `wire`). The libraries for PostgreSQL and
Kafka dial by themselves, so those are real servers behind a relay (`relayed`), in real time and
with fewer cuts. ``campaign`` is a part of ``make crash``.
"""
