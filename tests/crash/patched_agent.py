"""The agent with one promise broken on purpose: ``python -m tests.crash.patched_agent HOW run …``.

HOW is one of `controls.CONTROLS`. Each breaks the chain from write to ack in one place, by
patching from outside; the product has no switch for any of it.
"""

from __future__ import annotations

import sys

from tests.crash.controls import CONTROLS

if __name__ == "__main__":
    CONTROLS[sys.argv.pop(1)]()
    from edge_agent.cli import main

    main()
