"""Algorithms: parts, their compositions, and a name for each."""
