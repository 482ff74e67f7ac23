"""This package sends to another agent: a WebSocket session with its ``/forward``, exactly once.

`sink` is the interface; `connection` is one WebSocket; `resume` decides how a session begins again
after a break; `messages` packs stored blocks; `close_codes` turns ends into errors of forwarding.
"""
