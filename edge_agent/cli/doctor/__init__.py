"""``edge-agent doctor``: everything that has to be right, one line each, with what to do.

`doctor` is the command; the other modules each look at one side: disk, machine, network, store,
deliveries. `verdict` is one line of the answer.
"""

from edge_agent.cli.doctor.doctor import command

__all__ = ["command"]
