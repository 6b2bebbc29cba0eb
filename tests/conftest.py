"""Settings of every test: CPU, quick compilation, compiled programs kept between runs.

Most programs here run once, and what they cost is compilation: half as long without LLVM's
optimisations. ``XLA_FLAGS= pytest`` runs them as users do.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
_CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
