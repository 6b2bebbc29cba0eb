"""What a run takes is known before it begins, and refused where it does not fit."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mamt_jax.cli import main as cli
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError
from mamt_jax.training import memory
from mamt_jax.training.prepare import prepare

TINY = {"algorithm": "maac", "env": "toy_matching", "seeds": 3, "episodes": 40, "batch_size": 24}


def test_sizes_are_those_of_the_state() -> None:
    config = make_config(**TINY, hidden_size=8, attention_heads=2)
    trainer = prepare(config)[0]
    held = memory.memory_of(trainer)
    state = trainer.init(jnp.arange(3)).seeds
    arrays = jax.tree.leaves((state.store, state.learner, state.env))
    keys = jax.random.key_data(state.key)
    assert held.total == sum(leaf.nbytes for leaf in [*arrays, keys])
    assert held.learners == sum(leaf.nbytes for leaf in jax.tree.leaves(state.learner))
    assert held.replay == sum(leaf.nbytes for leaf in jax.tree.leaves(state.store))


def test_a_run_that_does_not_fit_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(algorithm="maac", env="spread", seeds=20_000, episodes=50_000)
    trainer = prepare(config)[0]
    with pytest.raises(memory.DoesNotFit, match=r"takes 4,1\d\d.*: 20000.* lower buffer") as found:
        memory.fitted(trainer)
    free, held = memory.free_bytes(), memory.memory_of(trainer).total
    assert found.value.rows == pytest.approx(free / held * 20_000, rel=0.1)
    line = "train --seeds 1 --episodes 40000000 --buffer-size 1000000000 --algorithm maac"
    assert cli.main(line.split()) == 1
    assert "lower buffer_size" in capsys.readouterr().err
    assert not Path("runs/maac-spread").exists()


def test_what_an_update_takes_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory that holds the state, but not an update beside it."""
    config = make_config(**TINY | {"seeds": 1}, hidden_size=8, attention_heads=2)
    trainer = prepare(config)[0]
    held, working = memory.memory_of(trainer).total, memory.working_bytes(trainer)
    assert working and working > 1000
    monkeypatch.setattr(memory, "free_bytes", lambda: held + working)
    assert memory.fitted(trainer) is trainer
    monkeypatch.setattr(memory, "free_bytes", lambda: held + working - 1)
    with pytest.raises(ConfigError, match=r"GB within an update\) and .* are free; lower"):
        memory.fitted(trainer)
    line = "train --algorithm maac --env toy_matching --seeds 1 --episodes 40 --batch-size 24"
    small = "--hidden-size 8 --attention-heads 2 --out"
    for more in ([], ["--dry-run"]):
        assert cli.main([*line.split(), *small.split(), str(tmp_path / "run"), *more]) == 1
        printed = capsys.readouterr()
        assert "within an update" in printed.err and "The run fits" not in printed.out
    assert not (tmp_path / "run").exists()


def test_dry_run_prints_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = "train --algorithm maac --env toy_matching --seeds 2 --episodes 40 --batch-size 24"
    small = "--hidden-size 8 --attention-heads 2 --dry-run --out"
    assert cli.main([*line.split(), *small.split(), str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "The run fits."
    lines = dict(
        line.rsplit(maxsplit=2)[0::2] if line.endswith("MB") else line.rsplit(maxsplit=1)
        for line in printed
        if line.startswith("  ")
    )
    assert {"  replay", "  learners", "  in an update", "  free"} <= set(lines)
    assert not (tmp_path / "run").exists()


def test_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    machine = memory.free_bytes()
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container_bytes() is None and machine
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.free_bytes() == 5000 - 3000 + 1000


def test_as_many_seeds_side_by_side_as_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five seeds at once do not; three and then two do."""
    sizes = {"seeds": 5, "batch_size": 300, "hidden_size": 8, "attention_heads": 2}
    config = make_config(**TINY | sizes, seed_batch=5)
    trainer = prepare(config)[0]
    held = memory.memory_of(trainer).total
    working = {batch: memory.working_bytes(trainer.with_batch(batch)) or 0 for batch in (3, 5)}
    assert working[3] < working[5]
    monkeypatch.setattr(memory, "free_bytes", lambda: held + working[3])
    assert memory.fitted(trainer).seed_batch == 3
    line = "train --algorithm maac --env toy_matching --seeds 5 --episodes 40 --batch-size 300"
    small = "--hidden-size 8 --attention-heads 2 --seed-batch 5 --dry-run"
    assert cli.main([*line.split(), *small.split()]) == 0
    assert "To fit, 3 are computed side by side." in capsys.readouterr().out
    monkeypatch.setattr(memory, "free_bytes", lambda: held - 1)
    assert cli.main([*line.split(), *small.split()]) == 0
    assert "All seeds together do not fit: groups" in capsys.readouterr().out
