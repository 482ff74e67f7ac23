"""Records by HTTP POST, for whatever has no WebSocket; `posts` takes them."""
