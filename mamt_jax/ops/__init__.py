"""Maths on arrays: no parameters, no configuration."""
