"""How the documentation is built: what its pages take from code and records, and mkdocs' hooks.

make docs
"""
