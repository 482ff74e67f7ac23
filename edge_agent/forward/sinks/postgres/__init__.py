"""This package puts records into a table of PostgreSQL, each once: a transaction for each batch.

`sink` is the interface; `connection` drives psycopg by Trio's readiness, without a thread; `rows`
renders a batch for COPY, `table` makes or checks the table, `sqlstates` says what an error means.
"""
