"""Benchmarks of upstreams of each kind: a backlog drained by a real agent into a real server."""
