"""Files that a file upstream wrote (`edge_agent.forward.sinks.file`), on their way back in.

`reading` looks at a file as a whole and makes blocks of its lines, `bringing` sends them to an
agent. Only ``edge-agent import`` loads this.
"""

from edge_agent.forward.carried.bringing import Bringing, BroughtIn, Files
from edge_agent.forward.carried.reading import find_files

__all__ = ["Bringing", "BroughtIn", "Files", "find_files"]
