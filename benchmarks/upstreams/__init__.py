"""How fast a backlog drains into each kind of upstream, beside a peer that does the same job."""
