"""Outages, simulated: real sensors, agents and hubs in one process, and everything that goes wrong.

::

    sensors ──▶ agent ──(▶ middle)──▶ hub          real `client.Producer`, real `agent.run`
                  └──▶ an HTTP server               that knows Idempotency-Keys (``http_hub.py``)

What is simulated is the world around them: the clocks (Trio's mock clock, and each machine's own,
which is wrong now and then), the network (``wires.py``), what LMDB answers (``disk.py``), and when
somebody pulls the plug (``machine.py``). All chance follows from one seed. A **plan** (``plan.py``)
is drawn from it: which machines there are, and a list of faults, each of them one outage. It is
made of plain values and printed when a run fails, shrunk to the faults that it takes.

What has to hold (``invariants.py``), each time a store is opened again and at the end:

- every record that a sensor was acked is in its agent's store, or further on, or counted as
  discarded; once, in order, and nothing is there that was never sent;
- nothing that a store held is gone from it, but for what retention took;
- what an agent's position says was delivered is there;
- the HTTP server got the same bytes under the same key, and each record once;
- an independent reader (`edge_agent.store.tools.check`) finds nothing wrong with the files.

And, within `invariants.LIVENESS_S` after the last fault has ended: all that was sent is acked,
every backlog is zero, the hub and the HTTP server have everything that was sent, less what
counters say was discarded, refused, or never acked to a sensor that forgot it.

``python -m tests.model.outages --replay SEED`` runs one plan again and tells what happened.
"""
