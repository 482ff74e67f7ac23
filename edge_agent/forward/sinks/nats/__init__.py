"""This package sends to NATS JetStream: packed messages, exactly once, resumed from the stream.

`sink` is the interface; `connection` is one connection; `protocol` is the client's side of NATS'
own protocol, `jetstream` what is asked and answered over it, both pure; `packing` makes messages
of a batch.
"""
