"""Files as an upstream: a disk that somebody carries, or a folder that something else reads.

`sink` is the sink, `names` what files are called, `lines` a record as a line, `forms` the other
formats, `folder` how a file appears whole. The way back in is `edge_agent.forward.carried`.
"""
