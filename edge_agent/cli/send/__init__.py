"""``edge-agent send``: the records of a file or of stdin to an agent, each acknowledged.

`send` is the command; `rows` reads JSON lines and CSV, `times` reads their times, `work` sends.
"""

from edge_agent.cli.send.send import command

__all__ = ["command"]
