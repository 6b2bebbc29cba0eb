"""``mamt evaluate``: plays greedy episodes of a run, and draws one if asked to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from mamt_jax.cli.flags import File, MaybeFile, MaybeWhole, Whole
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.files import user_path

if TYPE_CHECKING:
    from mamt_jax.training.result import Run


@dataclass(frozen=True)
class Evaluate:
    """Play greedy episodes with the policies of a run."""

    run_directory: Annotated[File, tyro.conf.arg(name="run"), tyro.conf.Positional]
    """Run directory; or policies that come with the package, see mamt list, or a file of some."""
    episodes: Whole = 10
    """Episodes per trained seed."""
    seed: Whole = 0
    """Seed of the evaluation's own randomness."""
    checkpoint: MaybeWhole = None
    """Whose policies: of the checkpoint after that many logging points; by default the newest."""
    gif: MaybeFile = None
    """Also play one more episode with the policies of one seed and write it as an animation."""
    gif_seed: MaybeWhole = None
    """Trained seed that plays it; by default the first that has not diverged."""
    gif_frames: str = ":"
    """Pictures FIRST:STOP of it, as a slice; picture 0 is the start, picture t follows step t."""

    def run(self) -> None:
        """Prints one line per seed and the summary over seeds."""
        import numpy as np

        from mamt_jax.analysis.seeds import diverged
        from mamt_jax.analysis.statistics import summarise
        from mamt_jax.reports.texts import sentence
        from mamt_jax.training.pretrained import opened

        pictures = self._check_gif()
        gif = None if self.gif is None else user_path(self.gif)  # before an environment may move us
        run = opened(self.run_directory, self.checkpoint)
        seeds = run.policies.seeds
        lost = diverged(run.metrics)
        if len(lost) == len(seeds):
            raise RunError(f"All seeds of {self.run_directory} diverged; nobody is left to play.")
        shown = next(seed for seed in seeds if seed not in lost)
        if self.gif_seed is not None:
            shown = self.gif_seed
            run.policies.check_seed(shown)
        if shown in lost:
            raise RunError(f"Seed {shown} diverged at update {lost[shown]:,}; show another seed.")
        write = None if gif is None else _animation(run, shown, self.seed, gif, pictures)
        returns = run.evaluate(self.episodes, self.seed).mean(axis=1)
        for seed, value in zip(seeds, returns, strict=True):
            played = f"{value:.2f}" if value == value else "its policies are NaN or infinite"
            print(f"seed {seed}:", f"diverged at update {lost[seed]:,}" if seed in lost else played)
        counts = np.isfinite(returns) & [seed not in lost for seed in seeds]
        if counts.any():
            which = "all" if counts.all() else "other"
            print(f"{which} seeds: {sentence(summarise(returns[counts]), int(counts.sum()))}")
        if write is not None:
            print(f"One episode of seed {shown}: {write()} pictures in {gif}")

    def _check_gif(self) -> slice:
        """Refuses what can be refused before a run is read; which pictures are asked for."""
        from mamt_jax.trajectories.gif import check_gif, parse_range

        if self.gif is not None:
            check_gif(user_path(self.gif))
        elif self.gif_seed is not None or self.gif_frames != Evaluate.gif_frames:
            raise ConfigError("--gif-seed and --gif-frames go with --gif FILE.")
        return parse_range(self.gif_frames)


def _animation(run: Run, trained: int, seed: int, path: Path, which: slice) -> Callable[[], int]:
    """Ready to play a greedy episode of a `trained` seed into `path`; returns how many pictures."""
    from mamt_jax.envs.drawing import milliseconds_per_frame
    from mamt_jax.training.seeds import evaluation_keys
    from mamt_jax.trajectories.frames import frames
    from mamt_jax.trajectories.gif import write_gif

    (key,) = evaluation_keys([trained], seed, point=1)  # the evaluation's own have point 0
    learner, spec = run.policies.learner_of(trained), run.stage.spec
    watched = run.stage.watch(run.policies.algorithm, learner, key)
    pictures = frames(watched, spec, trained, which)
    return partial(write_gif, pictures, path, milliseconds_per_frame(spec.episode_length))
