"""One file per question, all honest by construction.

* The records come from a seeded generator: 100,000 different ones, four drifting fields and their
  own times, 71 bytes each, cycled.
* Load comes from another process and is encoded before the clock starts. What it can do by itself
  is measured too, so that it is never the bottleneck that a figure shows.
* A record counts when it is acked to the client; afterwards count and checksum are read back from
  the store and compared with what was acked.
* Latency is measured from the *intended* send time (open loop), so that a stall is not hidden.
* Shipped defaults, unless the row names the change. The file system under the store and its median
  ``fdatasync`` are printed; a tmpfs is refused, because it makes every sync free.
* Other people's software runs beside the agent in the same session: on the same records, on the
  same disk, in turn with it, with the settings that its own documentation recommends, and its best
  of 1, 4 and 50 connections counts (`benchmarks.peers`). What each acknowledgement promises is
  said in a sentence. A peer that is not installed is named as missing.
* Three figures stand beside every speed: transfer rate R = N/T, query performance Q = 1/T_q,
  processing efficiency E = W/T_w (records committed per CPU second of the server, all threads).
* What was to be reached is a table of its own (`benchmarks.goals`), with what falls short and by
  how much.

``python -m benchmarks`` runs all and writes ``benchmarks/RESULTS.md`` and its plot; ``--only
NAME`` runs one section and writes nothing; ``--tiny`` runs everything in seconds and writes
nothing, which is what the tests do, so that no benchmark rots.

A section is a module ``bench_NAME`` with ``section(folder, tiny) -> Section``.
"""
