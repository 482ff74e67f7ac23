"""Cuts on the way to servers that are no agents: real sinks, servers in memory, simulated time.

``campaign`` is a part of ``make crash``. Of Kafka and PostgreSQL there is no such simulation: their
libraries dial by themselves and run threads of their own (`tests.crash.cut_servers` cuts the way to
real ones).
"""
