"""The kinds of upstream: one package for each, with the interface of `edge_agent.forward.sink`."""
