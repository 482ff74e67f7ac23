"""The page at ``/``: one picture of the agent as plain HTML, without anything from elsewhere."""
