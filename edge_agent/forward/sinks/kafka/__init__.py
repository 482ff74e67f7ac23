"""This package sends to Kafka through librdkafka: one message for each record, at least once.

`sink` is the interface; `reports` sorts what brokers say; `settings` says what librdkafka is told.
"""
