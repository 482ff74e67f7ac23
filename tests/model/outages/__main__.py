"""``python -m tests.model.outages --replay SEED``: one plan again, and what happens."""

from __future__ import annotations

import argparse
import sys

from tests.model.outages.campaign import shrink
from tests.model.outages.plan import draw
from tests.model.outages.world import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model.outages", description=__doc__)
    parser.add_argument("--replay", type=int, required=True, metavar="SEED")
    parser.add_argument("--thins", action="store_true", help="the plan whose small logs thin")
    parser.add_argument("--shrink", action="store_true", help="leave out what it does not take")
    arguments = parser.parse_args()
    plan = draw(arguments.replay, thins=arguments.thins)
    result = simulate(plan)
    if result.problems and arguments.shrink:
        plan = shrink(plan)
        result = simulate(plan)
    print(plan)
    print("the end of what happened:")
    print("\n".join(f"  {line}" for line in result.traced))
    print(f"{result.counts}, {result.seconds:.0f} s, trace {result.digest}")
    for problem in result.problems:
        print(f"FAILED {problem}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
