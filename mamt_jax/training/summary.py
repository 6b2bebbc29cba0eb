"""A run in a few lines, for whoever looks at it in a shell or a notebook."""

from __future__ import annotations

from datetime import timedelta
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from mamt_jax.analysis.returns import last_by_seed, windows
from mamt_jax.analysis.seeds import diverged
from mamt_jax.config import TrainConfig
from mamt_jax.files import quoted

_MOST = 60  # characters shown of an option's value
_CELL = 'style="text-align: left; vertical-align: top"'


def as_text(config: TrainConfig, metrics: xr.Dataset, path: Path | None) -> str:
    """One line per fact."""
    facts = _facts(config, metrics, path)
    width = max(map(len, facts))
    return "\n".join(["<Run>", *(f"  {name:<{width}}  {value}" for name, value in facts.items())])


def as_html(config: TrainConfig, metrics: xr.Dataset, path: Path | None) -> str:
    """A table with one row per fact; it needs nothing from the page that shows it."""
    rows = (
        f"<tr><th {_CELL}>{escape(name)}</th><td {_CELL}>{escape(value)}</td></tr>"
        for name, value in _facts(config, metrics, path).items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _facts(config: TrainConfig, metrics: xr.Dataset, path: Path | None) -> dict[str, str]:
    """What there is to say, by name."""
    options = ", ".join(f"{name}={_cut(repr(v))}" for name, v in sorted(config.env_options.items()))
    lost, updates = diverged(metrics), metrics["update"].values
    end = config.seed + config.seeds - 1
    finished = float(metrics.episodes.sum("event").mean())
    facts = {
        "algorithm": config.algorithm,
        "environment": f"{config.env} ({options})" if options else config.env,
        "seeds": str(config.seed) if config.seeds == 1 else f"{config.seed} to {end}",
        "diverged": ", ".join(f"seed {seed} at update {at:,}" for seed, at in lost.items()),
        "episodes": f"{finished:,.0f} finished, {config.episodes:,} of full length planned",
        "updates": f"{updates[-1] if len(updates) else 0:,} per seed",
        "return": _last_return(metrics, list(lost)),
        "wall-clock": str(timedelta(seconds=round(metrics.attrs.get("wall_seconds", 0)))),
        "path": "in memory" if path is None else _shown(path),
    }
    return {name: value for name, value in facts.items() if value}


def _last_return(metrics: xr.Dataset, lost: list[int]) -> str:
    """Return of the last episodes, over the seeds that have not diverged."""
    kept = metrics.drop_sel(seed=lost)
    if not kept.sizes["seed"]:
        return "all seeds diverged"
    _, count = windows(kept)
    if not kept.episodes.sum("event").min():
        return "no episode has ended yet"
    each = last_by_seed(kept)
    last = f"of the last {count:,} episodes" if count > 1 else "of the last episode"
    if len(each) == 1:
        return f"{each[0]:.2f} ({last})"
    return f"{each.mean():.2f} ± {np.std(each, ddof=1):.2f} ({last}, mean ± std over seeds)"


def _shown(path: Path) -> str:
    """A path in one line that every stream and page can hold."""
    return str(path) if str(path).isprintable() else quoted(path)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
