"""``make crash``: every way we know to lose an acked record, tried. `__main__` runs the parts.

============ ======================================================================================
states       every image that a power cut may leave. ``workload`` runs the real agent under strace
             (``sensor``, ``hub``), ``recording`` and ``conversations`` read the log, ``history``
             cuts it into moments, ``disk``, ``inodes`` and ``images`` say what a disk may hold at
             each, ``choices`` which of it is tried; ``explorer`` and ``bench`` start children on
             them (``attempts``), ``verdict`` judges a store, ``survivor`` a whole agent, ``again``
             cuts the recovery too; ``controls`` and ``patched_agent`` break ten promises on
             purpose, ``replay`` shows one image again
faults       every call on the store's files fails once, in every way: ``intercept`` makes calls
             fail, ``faulty`` is one run, ``shadow`` knows what was durable
flips        flipped bits: ``full_store`` makes the victim, ``flipped`` knows what lies where
outages      `tests.model.outages`: a simulated world, seeded
kills        ``kill -9`` of the agent and of its hub
============ ======================================================================================

``world`` is shared by faults and kills, ``proof`` by all. ``syscalls`` is the
older, simpler witness that no ack leaves before its sync.
"""
