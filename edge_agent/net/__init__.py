"""Connections before anything is said on them, at both ports and towards other machines.

- In: `kept_sockets` (ports stay open over a restart), `accepting` (a look at each newcomer),
  `connection_quota` (who may be connected), `refused_peers` (who was not), `access` (Host, Origin
  and tokens of a request), `http_framing` (where a request ends).
- Out: `dial` opens a connection, `backoff` says how long to wait before the next try,
  `mqtt_reasons` what a broker's refusal means.
"""
