"""``mamt record``: plays episodes with the policies of a run and keeps all that is to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from mamt_jax.cli.flags import File, MaybeWhole, Whole
from mamt_jax.errors import RunError
from mamt_jax.files import quoted, user_path


@dataclass(frozen=True)
class Record:
    """Play episodes with the policies of a run and write them to a file."""

    run_directory: Annotated[File, tyro.conf.arg(name="run"), tyro.conf.Positional]
    """Run directory; or policies that come with the package, see mamt list, or a file of some."""
    out: File
    """Where the recording goes: a NetCDF file (.nc) or a zarr folder (.zarr)."""
    overwrite: bool = False
    """Replace a recording that is there."""
    episodes: Whole = 8
    """Number of episodes."""
    seed: MaybeWhole = None
    """Trained seed that plays; by default the first that has not diverged."""
    checkpoint: MaybeWhole = None
    """Whose policies: of the checkpoint after that many logging points; by default the newest."""
    sampled: bool = False
    """Draw actions as in training; otherwise the most probable ones are taken."""
    key: Whole = 0
    """Seed of the episodes' own randomness: with the same, all policies start alike."""
    env_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Option of the environment that is other than in training, as KEY=VALUE."""

    def run(self) -> None:
        """Prints what was written."""
        from mamt_jax.analysis.seeds import diverged
        from mamt_jax.env_options import read_options
        from mamt_jax.training.pretrained import opened
        from mamt_jax.trajectories.recording import check_writable, write_recording

        path = user_path(self.out)  # before an environment may move us
        check_writable(path, self.overwrite)
        run = opened(self.run_directory, self.checkpoint)
        seed, lost = self.seed, diverged(run.metrics)
        if seed is None:
            left = [each for each in run.policies.seeds if each not in lost]
            if not left:
                raise RunError(f"All seeds of {self.run_directory} diverged; nobody is left.")
            seed = left[0]
        options = read_options(run.config.env, self.env_option)
        recording = run.episodes(
            self.episodes, seed, greedy=not self.sampled, key=self.key, env_options=options
        )
        write_recording(recording, path, self.overwrite)
        points, returns = recording.attrs["checkpoint"], recording.returns.values
        print(
            f"Recorded in {quoted(path)}: episodes of seed {seed} after {points} logging points, "
            f"return {returns.mean():.2f} in the mean of {len(returns)}"
        )
