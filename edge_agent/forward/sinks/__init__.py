"""Each package in here is a kind of upstream, with the interface of `edge_agent.forward.sink`."""
