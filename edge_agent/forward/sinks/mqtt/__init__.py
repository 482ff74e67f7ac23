"""The sink for MQTT brokers.

``outgoing.py`` and ``incoming.py`` are the codec, ``reasons.py`` what codes mean, ``settings.py``
what a profile makes of the configuration, ``rendering.py`` and ``discovery.py`` the messages,
``pace.py`` how fast they may go, ``shared_access.py`` azure's password: all pure. ``connection.py``
speaks over a byte stream, ``sink.py`` is the sink.
"""
