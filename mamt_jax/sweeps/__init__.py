"""Sweeps: grids of settings, trained together where they can be, judged, and kept in a study."""
