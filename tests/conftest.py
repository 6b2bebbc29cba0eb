"""Settings of every test: CPU, quick compilation, compiled programs kept between runs.

Most programs here run once, and what they cost is compilation: half as long without LLVM's
optimisations, and half of that again without fusion emitters (which jaxlib 0.11 always uses) and
with one module for LLVM instead of up to 32. ``XLA_FLAGS= pytest`` runs them as users do. All
programs are kept, which by default are only those that took a second to compile: thousands are
single operations, and to read one takes a tenth of compiling it. Tracing allocates much that lives
on: rubbish is collected seldom.
"""

from __future__ import annotations

import gc
import os
from importlib.metadata import version
from pathlib import Path

_FLAGS = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if version("jaxlib").startswith("0.10."):  # others end the process over a flag they do not know
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))
_CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
gc.set_threshold(50_000, 20, 20)
