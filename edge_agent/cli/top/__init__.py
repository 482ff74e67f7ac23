"""``edge-agent top``: what an agent hears, keeps and sends on, in the terminal, anew each second.

`top` is the command and its loop, `picture` draws one moment as lines, `keys` listens to the
keyboard.
"""

from edge_agent.cli.top.top import command

__all__ = ["command"]
