"""Fuzzing: what no client means, drawn from a seed, against the pure cores and real processes.

``python -m tests.fuzz --pure 200000 --real 10000 --seed 1`` draws inputs of six kinds (handshakes,
frames, messages, segments of ``/forward``, HTTP requests, answers of upstreams), each made of a
sound one that was spoilt, or of noise. An input that nobody foresaw must end in one of the errors
that are foreseen for it:

- pure (`pure`): each core is called with it; any other exception is a find, told with its seed.
- real (`real`): a real agent with upstreams gets it through real sockets, while a canary, another
  process, goes on sending. A find is: the process ends, a connection's guard catches something
  (``connection_faults_total``), the journal shows a traceback, the canary meets an error, or loses
  a record. Its p99 is compared with what it is while nobody fuzzes, in turns of the same run.

`make test` runs a part of it, `make fuzz` a million. A find is replayed by its seed and number.
"""
