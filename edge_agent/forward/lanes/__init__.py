"""The lanes of an upstream: a lane sends one log, or a part of one, in order.

`lane` is the loop and `lane_phases` its table; `log_lanes` says which lanes a log has, `split`
divides it into a backlog and what is new, and `resend` sends a part of it once more.
"""
