"""One file per question, all honest by construction.

* The records come from a seeded generator: 100,000 different ones, four drifting fields and their
  own times, 71 bytes each, cycled.
* Load comes from another process and is encoded before the clock starts.
* A record counts when it is acked to the client; afterwards count and checksum are read back from
  the store and compared with what was acked.
* Latency is measured from the *intended* send time (open loop), so that a stall is not hidden.
* Shipped defaults, unless the row names the change. The file system under the store and its median
  ``fdatasync`` are printed; a tmpfs is refused, because it makes every sync free.
* A figure is a ratio against a baseline in the same run: the obvious design (`baseline`), one
  WebSocket message, one LMDB transaction.
* Three figures stand beside every speed: transfer rate R = N/T, query performance Q = 1/T_q,
  processing efficiency E = W/T_w (records committed per CPU second of the agent, all threads).

Not goals: absolute numbers of this machine, other people's software at its best (a later chapter).

``python -m benchmarks`` runs all and writes ``benchmarks/RESULTS.md``; ``--tiny`` runs everything
in seconds and writes nothing, which is what the tests do, so that no benchmark rots.
"""
