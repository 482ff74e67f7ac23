"""The abuse suite: misbehaviours with names, each with the answer that it gets.

``make abuse`` runs it: some five minutes, most of them waiting for deadlines. Each group of cases (`GROUPS`) has
one running agent, a real process, and beside it a canary (`tests.fuzz.canary`), a sensor that goes
on all the time. Of a group it is asked (`tests.abuse.group`) that

- every case gets its answer: a close code, an HTTP status, what the metrics count;
- the canary loses nothing, meets no error, and its p99 is at most twice its usual one;
- the agent's memory is back within 5 MB of what it was;
- no connection's guard caught anything, no task failed on a mistake of ours, and the journal shows
  no traceback.

``docs/abuse.md`` lists the cases; ``python -m tests.abuse.page > docs/abuse.md`` writes it.

Beside it stand the public Autobahn cases (`test_autobahn`), and what one hostile message may cost
of memory (`test_memory`).
"""
