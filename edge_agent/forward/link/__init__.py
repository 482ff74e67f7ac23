"""What connections to upstreams have in common, whatever is said on them."""
