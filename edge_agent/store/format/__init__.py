"""This package has the bytes of the store: keys, values, blocks, payloads, and their checksums.

Pure functions between bytes and values; nothing here opens a transaction. A block is header, origin
and payload under one checksum (`block`); what is in a payload is runs of records (`payload`), which
for a peer's block are stored as they came (`foreign`).
"""
