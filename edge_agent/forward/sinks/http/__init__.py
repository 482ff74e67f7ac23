"""This package sends to an HTTP API: one POST for each batch, known by its ``Idempotency-Key``.

`sink` is the interface; `connection` is one HTTP/1.1 connection; `body` renders a batch; `answer`
judges the response, with `record_outcomes` for what it says of single records.
"""
