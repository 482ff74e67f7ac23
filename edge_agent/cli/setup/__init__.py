"""``edge-agent setup``: from an agent on loopback to one that sensors on the network may use."""

from edge_agent.cli.setup.setup import command

__all__ = ["command"]
