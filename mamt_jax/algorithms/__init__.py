"""Learning rules, composed from parts. The registry lists them."""
