"""How fast a backlog reaches each kind of upstream, beside a peer in the same run."""
