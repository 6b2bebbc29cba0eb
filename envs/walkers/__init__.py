"""What Multi-Walker is made of: options, parts, rules, what is observed, pictures."""
