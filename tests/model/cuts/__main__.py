"""``python -m tests.model.cuts SERVER SEED``: one simulation, with the agent's journal."""

from __future__ import annotations

import logging
import sys

from tests.forward.sinks.postgres.server import end_servers
from tests.model.cuts.world import simulate

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        result = simulate(sys.argv[1], int(sys.argv[2]))
    finally:
        end_servers()
    print(result)
    sys.exit(bool(result.problems))
