"""Questions about history, answered by a process of its own.

`asking` is the agent's side: it starts that process, asks and ends it; `answering` is the process;
`recall` gives records back to an upstream that is sent them once more.
"""
