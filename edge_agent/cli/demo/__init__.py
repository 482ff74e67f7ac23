"""``edge-agent demo``: a hub, an agent and sensors as real processes, and a cable that is cut.

`demo` is the command, from start to verdict; the other modules are its parts.
"""

from edge_agent.cli.demo.demo import command

__all__ = ["command"]
