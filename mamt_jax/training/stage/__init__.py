"""Where episodes take place: in JAX, or on the host."""
