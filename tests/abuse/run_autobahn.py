"""The public Autobahn cases against a URL, as a process of its own.

``python -m tests.abuse.run_autobahn '{"url": …, "only": […], "without": […]}'`` prints one JSON
object a case. `kosoku` runs the case files of the Autobahn test suite itself, whose own runner
needs Python 2; it changes the interpreter that it is loaded into, and so gets one for itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from kosoku import FailureError, run_fuzzingclient

#: Cases at one time.
AT_ONCE = 4


def main() -> None:
    """Run them, and say how each ended."""
    asked = json.loads(sys.argv[1])
    try:
        results = asyncio.run(
            run_fuzzingclient(asked["url"], asked["only"], asked["without"], concurrency=AT_ONCE)
        )
    except FailureError as failure:
        results = failure.results
    for result in results:
        told = {
            "case": result.case_id,
            "passed": result.passed,
            "behavior": result.behavior.value,
            "close": result.behavior_close.value,
            "code": result.remote_close_code,
            "why": f"{result.result} {result.result_close}",
        }
        print(json.dumps(told), flush=True)
    # Threads of kosoku's own runtime still ask for the interpreter while it is taken down, and
    # then abort the process: one run in sixteen beside others, after all results are told.
    os._exit(0)


if __name__ == "__main__":
    main()
