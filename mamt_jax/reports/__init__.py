"""Records of runs, tables and figures."""
