"""edge_agent: what it acknowledges is on the card, and what is on the card arrives upstream.

The data path, which the folders follow::

    sensor ── WebSocket ─▶ server/ ─▶ wire/ ─▶ log.append ─▶ commit ─▶ store/ ─▶ LMDB
      ◀───────────── ack, only after the sync ◀───────────────┘
                                               log.read / log.wait_past
        ┌────────────────────────┬───────────────────┼────────────────────┐
    live/ subscribe          live/ query      digest/ digester      forward/ forwarder
    live/ windows, alarms                     ─▶ history/           ─▶ sink.send ─▶ upstream
                                              ◀─ questions/         ─▶ log.acknowledge

======================== ===========================================================================
``server``               the sensors' port: who comes in, messages, acks
``wire``, ``session``    the protocol without I/O: all of it, and what a sender needs of it
``rules``                what changes records before they are stored
``log``, ``commit``      the waist: append, read, wait_past, acknowledge; one sync for all that wait
``store``                the file on the disk, and its repair
``forward``              the way to the upstreams, with a folder of sinks for each kind
``live``                 questions of the log, live views, windows and alarms
``history``, ``digest``  what was measured, as columns by time; the consumer that writes it
``questions``            the process that answers about history, and how it is asked
``ops``                  the people's port: page, API, metrics, health, orders
``wear``                 what is written to the card, and a budget for it
``config``               what the configuration holds, and how it is read and checked
``client``               what sensors import, also alone; knows nothing of the rest
``cli``                  the commands
``assembly``             one agent's parts, made from its configuration, and what reloads it
``values``, ``output``   records, times, fields and filters; and how they are shown
``net``, ``security``    connections before anything is said on them; certificates and tokens
``system``               what the machine gives: files, disks, clocks, the journal
======================== ===========================================================================

Beside the folders, ``agent`` runs the parts, and a few small modules serve several of them. Each
part stands on a floor, and imports only go down: ``docs/architecture.md`` lists all floors, and
follows a record through the functions; ``tests/test_architecture.py`` enforces it.

Start reading at ``log.py`` (the promise), then ``store/__init__.py`` (the format) and
``wire/__init__.py`` (the protocol); ``assembly/parts.py`` and ``agent.py`` show how the
parts are put together, and in which order they run.
"""

__version__ = "0.1.0"
