"""Measurements of what users run."""
