"""One agent put together; `edge_agent.agent` runs it.

`startup` asks whether this machine has what a start needs, `wiring` gives each part its settings,
`parts` makes the parts. `reload` takes up a changed configuration, `rule_reload` its rules, and
`next_start` names what has to wait for a restart.
"""
