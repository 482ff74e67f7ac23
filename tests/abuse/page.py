"""Writes docs/abuse.md: ``python -m tests.abuse.page > docs/abuse.md``."""

from __future__ import annotations

from tests.abuse.groups import GROUPS
from tests.abuse.test_autobahn import NOT_APPLICABLE

HEAD = """\
# What is tried against an agent

Nobody on the network, and no upstream, may take an agent down, hold up others, or fill its memory. `make abuse`
tries {count} misbehaviours by name, a running agent to each group, and beside it a canary: a sensor that goes on
all the time. Each case has the answer that stands here. Beyond that, of each group:

- the canary loses nothing, is told no error, and its p99 is at most twice its usual one of the same run (less than
  half a second is not held against anybody: the machine has other things to do too);
- what the agent itself does has a record wait for at most 20 ms of CPU at its p99, which is the commit interval of the
  suite's agents, so that its ack takes no more than twice as long. It is counted by turns of the event loop
  (`tests/abuse/loop_turns.py`): that does not depend on what else the machine does;
- the agent's memory (RssAnon) is back within 5 MB;
- no guard of a connection caught anything, no task failed on a mistake of ours, the journal shows no stack of calls.

The agents of the suite have short deadlines, `message_bytes = "256KiB"`, `record_bytes = "192KiB"` and `subscriptions = 5`; else what is usual.
[SECURITY.md](../SECURITY.md) says what is and what is not protected. `make fuzz` adds inputs that nobody thought of.

This page is written by `python -m tests.abuse.page`; a test compares them.
"""
AUTOBAHN = """
## The public Autobahn cases

RFC 6455 is also tried with the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite), whose cases
`kosoku` runs: all applicable ones, against the real listener with an echo behind it that only the tests have. Once
they go through the reader that plain sockets share, once as behind TLS. These are not applicable:

| Cases | Why |
|---|---|
"""
MEMORY = """
## What one message costs

`python -m tests.abuse.memory` measures the peak of an agent's memory while it gets one message: bombs, lies, and the
largest that are allowed. It is at most 6 MB.
"""


def page() -> str:
    """All of it."""
    count = sum(len(cases.all) for cases in GROUPS.values())
    parts = [HEAD.format(count=count)]
    for name, cases in GROUPS.items():
        parts.append(f"\n## {name}\n\n| Case | What is sent | The answer |\n|---|---|---|\n")
        parts += [
            f"| {_cell(case.name)} | {_cell(case.sent)} | {_cell(case.answer)} |\n"
            for case in cases.all
        ]
    parts.append(AUTOBAHN)
    parts += [f"| {cases} | {why} |\n" for cases, why in NOT_APPLICABLE.items()]
    parts.append(MEMORY)
    return "".join(parts)


def _cell(text: str) -> str:
    """Text as it is: nothing in it is markup, but for names in backquotes."""
    shown = text.replace("|", "\\|").replace("<", "&lt;")
    if "`" in shown:
        return shown
    return shown.replace("*", "\\*").replace("_", "\\_").replace("[", "\\[").replace("{", "\\{")


if __name__ == "__main__":
    print(page(), end="")
