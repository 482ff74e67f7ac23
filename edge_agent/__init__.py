"""edge_agent: what it acknowledges is on the card, and what is on the card arrives upstream.

The data path, which the folders follow::

    sensor ── WebSocket ─▶ server/ ─▶ wire/ ─▶ log.append ─▶ commit ─▶ store/ ─▶ LMDB
      ◀───────────── ack, only after the sync ◀───────────────┘
                                               log.read / log.wait_past
                             ┌──────────────────────┼───────────────────────┐
                         live/ subscribe        live/ query            forward/ forwarder
                         live/ rules                                   ─▶ sink.send ─▶ upstream
                                                                       ─▶ log.acknowledge

Floors; imports only go down (``tests/test_architecture.py`` enforces it):

===== =============================== ========================================================
6     ``cli``, ``__main__``           the roof: commands
5     ``agent``, ``parts``, ``wiring``, ``startup``
                                      makes the parts, nests the nurseries, drains
5     ``renewal``, ``reload``         take up what was changed meanwhile
4     ``server``, ``ops``             the edges: sensors come in; people and Prometheus look in
3     ``live``, ``forward``           readers of the log
3     ``scrubber``                    reads everything, slowly, to find damage early
3     ``wear``                        what is written to the card, and a budget for it
3     ``tokens``                      who may do what: names, and secrets kept as hashes
2     ``commit``, ``log``             the waist: append, read, wait_past, acknowledge
2     ``client``                      what sensors import, also alone; knows nothing of the log
2     ``copied_sources``              sources that came back as copies of their stores
2     ``tls``                         the server's certificate, and an authority of one's own
1     ``wire``, ``session``, ``store``, ``config``
                                      pure stations
1     ``clock``, ``backoff``, ``dial``
                                      time, patience and sockets, for whoever needs them
1     ``supervise``                   tasks that fail alone and are run again
1     ``accepting``, ``connection_quota``, ``refused_peers``
                                      who is heard, who may be connected, and who was refused
0     ``errors``, ``record``, ``stream_names``, ``aggregates``, ``metrics``,
      ``clock_note``, ``time_format``, ``files``, ``printable``,
      ``access``, ``http_framing``, ``zstd``, ``block_device``
                                      values, and what reads and shows them
===== =============================== ========================================================

Start reading at ``log.py`` (the promise), then ``store/__init__.py`` (the format) and
``wire/__init__.py`` (the protocol); ``parts.py`` and ``agent.py`` show how the
parts are put together, and in which order they run.
"""

__version__ = "0.1.0"
