"""The host's loop against a fake trainer: recording, resuming, stopping."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from mamt_jax import DivergedError, InterruptedRun, RunError
from mamt_jax.algorithms import registry
from mamt_jax.errors import ConfigError
from mamt_jax.files import quoted
from mamt_jax.training import run as run_module
from mamt_jax.training.game import check_unchanged
from mamt_jax.training.policies import Policies
from mamt_jax.training.progress import StopRequest
from mamt_jax.training.result import Run
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.stage.native import NativeStage
from tests.test_files import FEW
from tests.training import fakes


def start(path: Path, *, points: int = 7, nan_at: tuple[int, ...] = (), trainer: Any = None) -> Run:
    config = fakes.config()
    directory = RunDir(path)
    directory.create(config)
    trainer = trainer or fakes.trainer(points, nan_at)
    return run_trainer(trainer, fakes.algorithm(), config, directory)


def resume(path: Path, **options: Any) -> Run:
    return run_trainer(
        fakes.trainer(**options), fakes.algorithm(), fakes.config(), RunDir(path), resume=True
    )


def stopping(after: int, *, signals: int = 1, number: int = signal.SIGINT) -> fakes.FakeTrainer:
    """A trainer in whose epoch ``after`` the process gets a signal."""
    inner, calls = fakes.trainer(), [0]

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] == after:
            for _ in range(signals):
                os.kill(os.getpid(), number)
        return inner.epoch(state)

    return inner._replace(epoch=epoch)


def assert_same(one: Run, two: Run) -> None:
    assert set(one.metrics.variables) == set(two.metrics.variables)
    for name in one.metrics.variables:
        np.testing.assert_array_equal(one.metrics[name].values, two.metrics[name].values, name)
    jax.tree.map(np.testing.assert_array_equal, one.policies.learner, two.policies.learner)


def test_records_means_and_coordinates(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    metrics = run.metrics
    assert dict(metrics.sizes) == {"seed": 3, "update": 7, "agent": 2, "event": 21}
    # Updates begin in the second of three events: 4 updates in the first epoch, then 6 each.
    assert metrics["update"].values.tolist() == [4, 10, 16, 22, 28, 34, 40]
    assert metrics.episode_at_update.values[0].tolist() == [15, 30, 45, 60, 75, 90, 105]
    weight = metrics.return_sum.values.reshape(3, 7, 3) / 5
    np.testing.assert_allclose(metrics.return_mean, weight.mean(axis=2), rtol=1e-5)
    gap = metrics.critic_loss.values[:, :, 0] - metrics.critic_grad_norm.values
    np.testing.assert_allclose(gap, 0, atol=1e-5)  # rows of events without updates are left out
    assert metrics.critic_loss.attrs["units"] and metrics.critic_loss.attrs["long_name"]
    assert (tmp_path / "run/versions.json").exists()


def test_greedy_policies_are_evaluated_at_intervals_and_at_the_end(tmp_path: Path) -> None:
    greedy = start(tmp_path / "run").metrics.greedy_return
    assert np.isfinite(greedy.values).all(axis=0).tolist() == [False, False, True] * 2 + [True]
    assert len(np.unique(greedy.values[:, 2])) == 3  # every seed's own policies
    quiet = fakes.config(evaluation_interval=0)
    assert (
        "greedy_return" not in run_trainer(fakes.trainer(), fakes.algorithm(), quiet, None).metrics
    )


def test_in_memory_run_equals_recorded_run(tmp_path: Path) -> None:
    recorded = start(tmp_path / "run")
    memory = run_trainer(fakes.trainer(), fakes.algorithm(), fakes.config(), None)
    assert memory.path is None
    assert_same(recorded, memory)
    with xr.open_zarr(tmp_path / "run/metrics.zarr") as stored:
        np.testing.assert_array_equal(stored.critic_loss, memory.metrics.critic_loss)


SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
    if hasattr(signal, name)
]


@pytest.mark.parametrize("number", SIGNALS)
def test_interrupted_run_resumes_bit_identically(tmp_path: Path, number: int) -> None:
    whole = start(tmp_path / "whole")
    with pytest.raises(InterruptedRun, match="mamt train --resume --out") as stopped:
        start(tmp_path / "cut", trainer=stopping(3, number=number))
    assert stopped.value.exit_code == 130
    assert_same(whole, resume(tmp_path / "cut"))


def test_killed_run_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    inner, calls = fakes.trainer(), [0]

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise MemoryError("killed")
        return inner.epoch(state)

    with pytest.raises(MemoryError):
        start(tmp_path / "cut", trainer=inner._replace(epoch=epoch))
    assert RunDir(tmp_path / "cut").read_metrics().sizes["update"] == 4
    assert_same(whole, resume(tmp_path / "cut"))


def test_run_killed_before_its_first_checkpoint_starts_over(tmp_path: Path) -> None:
    RunDir(tmp_path / "cut").create(fakes.config())
    assert_same(start(tmp_path / "whole"), resume(tmp_path / "cut"))


def test_metrics_newer_than_the_checkpoint_are_cut_back(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        start(tmp_path / "cut", trainer=stopping(2))
    RunDir(tmp_path / "cut").write_metrics(whole.metrics)
    assert_same(whole, resume(tmp_path / "cut"))


def test_signal_between_saving_and_stopping_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks a second time hears of the signal; the run must not claim to be saved."""

    class Late(StopRequest):
        asked = 0

        @property
        def requested(self) -> bool:
            self.asked += 1
            return self.asked > 2

        @requested.setter
        def requested(self, value: bool) -> None: ...

    monkeypatch.setattr("mamt_jax.training.loop.StopRequest", Late)
    config = fakes.config(checkpoint_interval=100)
    RunDir(tmp_path / "run").create(config)
    with pytest.raises(InterruptedRun, match="after 2 of 7 logging points; saved"):
        run_trainer(fakes.trainer(), fakes.algorithm(), config, RunDir(tmp_path / "run"))
    assert RunDir(tmp_path / "run").read_metrics().sizes["update"] == 2


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_programs_are_compiled(
    sent: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained then, and the run can be begun from its directory."""
    config, trainer = fakes.config(), fakes.trainer()
    monkeypatch.setattr(run_module, "prepare_together", fakes.prepared(trainer))
    monkeypatch.setattr(run_module, "fitted", lambda made: (os.kill(os.getpid(), sent), made)[1])
    with pytest.raises(InterruptedRun, match="after 0 of 7 logging points; the settings are saved"):
        run_module.run_config(config, out=tmp_path / "run")
    monkeypatch.setattr(run_module, "fitted", lambda made: made)
    again = run_module.run_config(config, out=tmp_path / "run", resume=True)
    assert_same(start(tmp_path / "whole"), again)


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", trainer=stopping(3, signals=2))
    assert RunDir(tmp_path / "run").read_metrics().sizes["update"] == 2


def test_warnings_of_a_batch_system_may_repeat(tmp_path: Path) -> None:
    """A closed terminal sends SIGHUP more than once; SIGTERM follows SIGUSR1."""
    inner, calls = fakes.trainer(), [0]

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
                os.kill(os.getpid(), number)
        return inner.epoch(state)

    with pytest.raises(InterruptedRun, match="after 3 of 7 logging points; saved"):
        start(tmp_path / "run", trainer=inner._replace(epoch=epoch))
    assert RunDir(tmp_path / "run").read_metrics().sizes["update"] == 3


def test_signal_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    run_trainer(fakes.trainer(points=1), fakes.algorithm(), fakes.config(), None)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("name", FEW)
def test_nothing_depends_on_the_characters_of_a_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the environment changes the working directory after the run has begun."""
    monkeypatch.setattr(run_module, "fitted", lambda made: made)
    monkeypatch.setitem(registry.ALGORITHMS, "mamt", fakes.recipe(fakes.algorithm(), "mamt"))
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    inner = stopping(2)

    def epoch(state: Any) -> Any:
        os.chdir(tmp_path / "there")
        return inner.epoch(state)

    moving: Any = inner._replace(epoch=epoch)
    monkeypatch.setattr(run_module, "prepare_together", fakes.prepared(moving))
    name = f"./{name}" if name.startswith("~") else name
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InterruptedRun) as stopped:
        run_module.run_config(fakes.config(), out=name)
    assert str(stopped.value).endswith(f"--out {quoted(tmp_path / 'here' / name)}")
    monkeypatch.chdir(tmp_path / "here")
    run = run_module.run_config(fakes.config(), out=name, resume=True)
    monkeypatch.chdir(tmp_path / "here")
    assert_same(run, run_module.load(name))
    assert list((tmp_path / "there").iterdir()) == []
    assert [os.fsencode(path.name) for path in (tmp_path / "here").iterdir()] == [
        os.fsencode(os.path.basename(name))
    ]


def test_resuming_a_finished_run_says_so(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    files = sorted((tmp_path / "run").rglob("*"))
    with pytest.warns(UserWarning, match="is finished; nothing to do"):
        assert_same(run, resume(tmp_path / "run"))
    assert sorted((tmp_path / "run").rglob("*")) == files


def test_seconds_add_up_over_resumes(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRun):
        start(tmp_path / "cut", trainer=stopping(3))
    first = RunDir(tmp_path / "cut").read_metrics().attrs["wall_seconds"]
    assert resume(tmp_path / "cut").metrics.attrs["wall_seconds"] > first > 0


def test_a_run_ends_when_its_last_seed_is_lost(tmp_path: Path) -> None:
    says = (
        "^critic_loss of seed 1 is NaN or infinite at update 11, and no other seed is left; "
        "training stopped; metrics up to there are kept.$"
    )
    lost = (19, 11, 14)
    with pytest.raises(DivergedError, match=says) as stopped:
        start(tmp_path / "run", nan_at=lost)
    assert stopped.value.exit_code == 1
    metrics = RunDir(tmp_path / "run").read_metrics()
    assert metrics.sizes["update"] == 4
    assert metrics.diverged_at_update.values.tolist() == [19, 11, 14]
    assert np.isnan(metrics.critic_loss.values[0, 3]).any()
    assert np.isfinite(metrics.critic_loss.values[0, :3]).all()
    with pytest.raises(DivergedError, match="update 11,"):
        resume(tmp_path / "run", nan_at=lost)
    with pytest.raises(DivergedError, match="nothing is saved, because the run has no directory"):
        run_trainer(fakes.trainer(7, lost), fakes.algorithm(), fakes.config(), None)


def test_a_run_goes_on_without_the_seeds_it_loses(tmp_path: Path) -> None:
    """Seed 1 is lost at update 19. The others are what they are in a run that loses none."""
    says = (
        "^1 of 3 seeds diverged and is left out of all results: "
        "critic_loss of seed 1 is NaN or infinite at update 19.$"
    )
    with pytest.warns(UserWarning, match=says):
        run = start(tmp_path / "run", nan_at=(0, 19))
    metrics, whole = run.metrics, start(tmp_path / "whole").metrics
    np.testing.assert_array_equal(metrics.diverged_at_update, [np.nan, 19, np.nan])
    assert np.isnan(whole.diverged_at_update).all()
    for name in ("critic_loss", "return_mean", "return_sum", "greedy_return"):
        np.testing.assert_array_equal(metrics[name][[0, 2]], whole[name][[0, 2]], name)
    assert np.isfinite(metrics.critic_loss.values[1, :3]).all()
    assert np.isnan(metrics.critic_loss.values[1, 4:]).all()
    assert np.isnan(metrics.return_mean.values[1, 4:]).all()
    assert run_module.load_with(
        fakes.algorithm(), fakes.config(), RunDir(tmp_path / "run")
    ).metrics.equals(metrics)


@pytest.mark.filterwarnings("ignore:1 of 3 seeds diverged")
@pytest.mark.parametrize("after", [3, 5])
def test_a_lost_seed_stays_lost_over_a_resume(tmp_path: Path, after: int) -> None:
    """It is lost in the fourth logging point; the run is cut before or after that."""
    whole, inner, calls = start(tmp_path / "whole", nan_at=(0, 19)), stopping(after), [0]
    sick = fakes.trainer(nan_at=(0, 19))

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] == after:
            os.kill(os.getpid(), signal.SIGINT)
        return sick.epoch(state)

    with pytest.raises(InterruptedRun):
        start(tmp_path / "cut", trainer=inner._replace(epoch=epoch))
    again = resume(tmp_path / "cut", nan_at=(0, 19))
    assert_same(whole, again)
    assert again.metrics.attrs["divergence"] == whole.metrics.attrs["divergence"]


def test_updates_are_counted_without_metrics() -> None:
    inner = fakes.trainer()

    def epoch(state: Any) -> Any:
        state, output = inner.epoch(state)
        return state, output._replace(metrics={})

    trainer: Any = inner._replace(epoch=epoch)
    metrics = run_trainer(trainer, fakes.algorithm(), fakes.config(), None).metrics
    assert metrics["update"].values.tolist() == [4, 10, 16, 22, 28, 34, 40]


def test_second_writer_is_refused(tmp_path: Path) -> None:
    RunDir(tmp_path / "run").create(fakes.config())
    with (
        RunDir(tmp_path / "run").lock(),
        pytest.raises(RunError, match="is being written by another process"),
    ):
        resume(tmp_path / "run")


def test_unlisted_metric_is_refused() -> None:
    inner = fakes.trainer()

    def epoch(state: Any) -> Any:
        state, output = inner.epoch(state)
        return state, output._replace(metrics={"surprise": output.metrics["critic_loss"]})

    with pytest.raises(ConfigError, match="surprise"):
        run_trainer(inner._replace(epoch=epoch), fakes.algorithm(), fakes.config(), None)


def test_loaded_policies_act(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    loaded = run_module.load_with(fakes.algorithm(), fakes.config(), RunDir(tmp_path / "run"))
    obs = np.zeros((2, 12), np.float32)
    for seed in run.policies.seeds:
        action = loaded.policies.act(obs, seed)
        assert action.shape == (2,)
        np.testing.assert_array_equal(action, run.policies.act(obs, seed))
    assert loaded.policies.act(np.zeros((6, 2, 12))).shape == (6, 2)
    sampled = loaded.policies.act(obs, greedy=False, key=jax.random.key(0))
    assert sampled.dtype == np.int32
    with pytest.raises(ConfigError, match="needs a random key"):
        loaded.policies.act(obs, greedy=False)
    for key in (3, "x", jax.random.split(jax.random.key(0), 2), jnp.zeros(3)):
        with pytest.raises(ConfigError, match="key must be one random key of JAX"):
            loaded.policies.act(obs, greedy=False, key=key)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="No seed 9"):
        loaded.policies.act(obs, 9)
    with pytest.raises(ConfigError, match="obs must be"):
        loaded.policies.act(obs[0])


def test_load_without_a_checkpoint(tmp_path: Path) -> None:
    RunDir(tmp_path / "run").create(fakes.config())
    with pytest.raises(RunError, match="holds no metrics yet"):
        run_module.load(tmp_path / "run")
    whole = run_trainer(fakes.trainer(), fakes.algorithm(), fakes.config(), None)
    RunDir(tmp_path / "run").write_metrics(whole.metrics)
    run = run_module.load_with(fakes.algorithm(), fakes.config(), RunDir(tmp_path / "run"))
    with pytest.raises(RunError, match="holds no checkpoint yet"):
        _ = run.policies


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run in an environment that this process does not have."""
    entry = fakes.recipe(fakes.algorithm())
    monkeypatch.setitem(registry.ALGORITHMS, "fake", entry)
    config = fakes.config(algorithm="fake", env="of_somebody_else")
    directory, trainer = RunDir(tmp_path / "run"), fakes.trainer()
    directory.create(config, trainer.game)
    run_trainer(trainer, fakes.algorithm(), config, directory)
    return directory.path


def test_a_run_is_read_without_its_environment(foreign: Path) -> None:
    run = run_module.load(foreign)
    assert run.metrics.agent.values.tolist() == ["left", "right"]
    assert run.policies.game == fakes.trainer().game
    assert run.policies.act(np.zeros((2, 12)), seed=1).shape == (2,)
    assert "of_somebody_else" in repr(run) and "seeds: 0, 1, 2" in repr(run.policies)
    with pytest.raises(ConfigError, match="No environment is called 'of_somebody_else'"):
        run.evaluate()
    for shape in ((3, 12), (2, 11), (4, 2, 13)):
        with pytest.raises(ConfigError, match=r"obs must be \[2, 12\] or \[E, 2, 12\]"):
            run.policies.act(np.zeros(shape))
    with pytest.raises(ConfigError, match="obs must be an array of numbers"):
        run.policies.act([[1, 2], [3]])


def test_metrics_are_read_whatever_became_of_the_policies(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, says in (
        ("{", "game.json is corrupt"),
        ('{"obs_sizes": [12], "action_counts": [5, 5], "agents": ["a", "b"]}', "game.json is corr"),
        ('{"sizes": 3}', "game.json is corrupt"),
        ("3", "game.json is corrupt"),
        (None, "has no game.json"),
    ):
        (foreign / "game.json").unlink()
        if content:
            (foreign / "game.json").write_text(content)
        run = run_module.load(foreign)
        assert run.metrics.sizes["update"] == 7
        with pytest.raises(RunError, match=says):
            _ = run.policies
    RunDir(foreign).path.joinpath("game.json").write_text(
        json.dumps(fakes.trainer().game._asdict())
    )
    for step in (foreign / "checkpoints").iterdir():
        (step / "meta.json").write_text("{")
    with pytest.raises(RunError, match="is corrupt"):
        _ = run_module.load(foreign).policies
    monkeypatch.delitem(registry.ALGORITHMS, "fake")
    with pytest.raises(ConfigError, match="Unknown algorithm 'fake'"):
        _ = run_module.load(foreign).policies
    assert "fake" in run_module.load(foreign)._repr_html_()


def test_a_run_can_be_copied_and_sent_elsewhere(foreign: Path) -> None:
    run = run_module.load(foreign)
    expected = run.policies.act(np.ones((2, 12)))
    for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert other.metrics.identical(run.metrics)
        np.testing.assert_array_equal(other.policies.act(np.ones((2, 12))), expected)


def test_seeds_act_by_one_program_that_is_compiled_once() -> None:
    traced = []

    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        traced.append(obs.shape)
        return jnp.full(obs.shape[:2], state["w"])

    rule = fakes.algorithm()._replace(greedy=greedy)
    policies = Policies(rule, {"w": jnp.array([4, 2, 3])}, (7, 8, 9))
    for seed, action in ((7, 4), (8, 2), (9, 3), (7, 4)):
        assert policies.act(np.zeros((2, 12)), seed).tolist() == [action, action]
    assert traced == [(1, 2, 12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.tree, "map", lambda *_: pytest.fail("a call walks through the learner"))
        policies.act(np.zeros((2, 12)), 9)


def test_an_evaluation_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def evaluator(self: Any, rule: Any, episodes: int) -> Any:
        made.append(episodes)
        return lambda learners, keys: np.full(
            (len(keys), episodes), jax.random.key_data(keys)[0, 0]
        )

    monkeypatch.setattr(NativeStage, "evaluator", evaluator)
    run = run_trainer(fakes.trainer(points=1), fakes.algorithm(), fakes.config(), None)
    first, other, longer = run.evaluate(2), run.evaluate(2, seed=1), run.evaluate(3)
    assert (first != other).all() and longer.shape == (3, 3)
    np.testing.assert_array_equal(first, run.evaluate(2))
    assert made == [2, 3]
    for wrong in ({"episodes": 0}, {"episodes": 2.5}, {"episodes": "3"}, {"seed": -1}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be an integer in"):
            run.evaluate(**wrong)  # type: ignore[arg-type]


def test_an_environment_that_has_changed_is_refused() -> None:
    trainer = fakes.trainer(points=1)
    trainer = trainer._replace(game=trainer.game._replace(obs_sizes=(12, 11)))
    run = run_trainer(trainer, fakes.algorithm(), fakes.config(), None)
    with pytest.raises(ConfigError, match=r"spread has changed since the run: .*\(12, 11\)"):
        run.evaluate(2)


def test_agents_in_another_order_are_refused() -> None:
    """Policies would act for others than they learned for; another name alone is no reason."""
    game = fakes.trainer().game
    check_unchanged("it", game, game._replace(agents=("first", "second")))
    with pytest.raises(ConfigError, match="it has changed since the run: agents are"):
        check_unchanged("it", game, game._replace(agents=game.agents[::-1]))
