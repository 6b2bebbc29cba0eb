"""``python -m benchmarks.wheels DIR``: packages for a machine without network.

A machine for machine learning often has JAX, flax, optax, chex, orbax, xarray, NumPy, PyTorch and
matplotlib, and lacks the others that mamt_jax imports. This fetches those as wheels for Python 3.12
on Linux, in the locked versions; ``--install SITE`` unpacks them there, with no network::

    python -m benchmarks.wheels .wheels                       # here
    python3 -m benchmarks.wheels .wheels --install build/site # there
    export PYTHONPATH=$PWD:build/site
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

NAMES = (
    *("jraph", "distrax", "tfp-nightly", "dm-tree", "gast", "decorator", "cloudpickle"),
    *("absl-py", "attrs", "wrapt", "tyro", "docstring_parser", "typeguard", "rich", "six"),
    *("zarr", "numcodecs", "donfig", "google-crc32c"),
    *("pettingzoo", "gymnasium", "Farama-Notifications"),
)
"""What mamt_jax imports and such a machine may lack, with what these import in their turn."""
LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")


def locked(text: str) -> list[str]:
    """``NAME==VERSION`` of each of :data:`NAMES`, as a lock file pins it; KeyError if not."""
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", text, re.MULTILINE))
    return [f"{name}=={pinned[name]}" for name in NAMES]


def fetch(folder: Path) -> None:
    """Downloads them; ends the process where the index does not have them."""
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    target = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
    target += ["--implementation", "cp", *platforms, "--dest", str(folder)]
    _pip("download", *target, *locked(LOCK.read_text()))


def install(folder: Path, site: Path) -> None:
    """Unpacks all wheels of a folder; what they need is there, or among them."""
    wheels = [str(path) for path in sorted(folder.glob("*.whl"))]
    if not wheels:
        raise SystemExit(f"{folder} holds no wheels; fetch them with: python -m benchmarks.wheels")
    quiet = "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade"
    _pip("install", *quiet, "--target", str(site), *wheels)


def _pip(command: str, *arguments: str) -> None:
    options = "--quiet", "--disable-pip-version-check"
    done = subprocess.run([sys.executable, "-m", "pip", command, *options, *arguments])
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """Fetches or installs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the wheels")
    parser.add_argument("--install", type=Path, metavar="SITE", help="folder to unpack them into")
    chosen = parser.parse_args()
    if chosen.install is None:
        fetch(chosen.folder)
    else:
        install(chosen.folder, chosen.install)


if __name__ == "__main__":
    main()
