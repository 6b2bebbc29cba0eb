"""Rigid bodies in the plane: a solver of fixed topology, with environments along the last axis."""
