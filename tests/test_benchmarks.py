"""Benchmarks measure what was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import __main__ as command
from benchmarks import figures, measure, multiply_adds, plans, tables, training, turns
from benchmarks.batches import SHAPES
from benchmarks.machine import Load, hardware
from mamt_jax import envs
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.registry import get
from mamt_jax.types import Game
from tests.training import fakes


def test_compile_time_starts_from_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "full")
    seen: list[dict[str, str]] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> SimpleNamespace:
        seen.append(env)
        return SimpleNamespace(stdout=b"1.5\n", returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    found = measure.compile_seconds("mamt", "spread")
    assert (found["cold"], found["cached"]) == (1.5, 1.5)
    assert all("JAX_COMPILATION_CACHE_DIR" not in env and env["MAMT_JAX_CACHE"] for env in seen)
    assert seen[0]["MAMT_JAX_CACHE"] == seen[1]["MAMT_JAX_CACHE"]


def test_options_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    agents: list[int] = []

    def make_trainer(config: Any, environment: Any, algorithm: Any) -> fakes.FakeTrainer:
        agents.append(environment.spec.num_agents)
        return fakes.trainer()

    monkeypatch.setattr(training, "make_trainer", make_trainer)
    training.logging_point("maac", "spread", seeds=2, env_options={"num_agents": 3})
    assert agents == [3]


def products(closed: Any) -> int:
    """Multiply-adds of all matrix products in a jaxpr, those of called ones included."""
    total = 0
    for equation in closed.eqns:
        for inner in jax.core.jaxprs_in_params(equation.params):
            total += products(inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            size = equation.outvars[0].aval.size
            for axis in contracted:
                size *= equation.invars[0].aval.shape[axis]
            total += size
    return total


def loss_of(read: Any) -> Any:
    """Something whose gradient needs the critic's values and the scores of its attention."""
    return lambda params: sum(jnp.sum(part**2) for part in read(params))


@pytest.mark.parametrize("agents", (2, 3))
def test_multiply_adds_are_those_of_the_program(agents: int) -> None:
    obs_sizes, actions, hidden, batch = (7,) * agents, 5, 16, 6
    own = get("mamt").settings.replace({"hidden_size": hidden})
    game = Game(obs_sizes, (actions,) * agents)
    critic, actors = attention_critic(game, own), build_actors(game, own)
    x = jnp.ones((agents, batch, 7))
    action = jnp.ones((agents, batch, actions))
    params = critic.init(jax.random.key(0))
    actor = actors.init(jax.random.key(0)).params

    def read(params: Any) -> tuple[jax.Array, ...]:
        trace = critic.apply(params, x, action, None)
        return trace.q, trace.logits

    def act(params: Any) -> tuple[jax.Array, ...]:
        return (actors.module.apply(params, x),)

    def count(function: Any, params: Any) -> tuple[int, int]:
        forward = products(jax.make_jaxpr(function)(params).jaxpr)
        gradient = jax.grad(loss_of(function))
        return forward, products(jax.make_jaxpr(gradient)(params).jaxpr) - forward

    counted = multiply_adds.critic(obs_sizes, actions, hidden)
    attention = 2 * agents * (agents - 1) * hidden  # no matrix products: sums of products
    forward, backward = count(read, params)
    assert forward == batch * (counted.forward - attention)
    assert backward == batch * (counted.backward - 2 * attention)
    counted = multiply_adds.actor(obs_sizes, actions, hidden)
    assert count(act, actor) == (batch * counted.forward, batch * counted.backward)


def test_an_update_of_maac_on_spread_by_hand() -> None:
    actor = 12 * 128 + 128 * 128 + 128 * 5
    critic = (12 + 5 + 12) * 128 + 5 * 128 * 128 + 128 * 5 + 2 * 128
    read = critic - 2 * 128 * 128 - 128  # scores of the only opponent are not needed
    gradients = actor + actor - 12 * 128 + critic + critic - (12 + 5 + 12) * 128
    needed = 2 * 1024 * (2 * read + critic + 2 * actor + gradients)
    assert multiply_adds.maac_update(*SHAPES["spread"]) == needed


CONTENDER = """
import json, sys
print(json.dumps({"first_call_seconds": 1.0, "warm_call_seconds": 0.5}), flush=True)
for turn, _ in enumerate(sys.stdin):
    print(json.dumps({"seconds": 0.001 * (turn + 1), "count": 2}), flush=True)
"""


FAILS = """
import jax
def fail(x):
    raise ValueError("no such game")
jax.jit(fail)(1.0)
"""


SPEC = {"kind": "jax_update", "algorithm": "maac", "env": "spread", "seeds": 8}


def with_command(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    start = subprocess.Popen

    def popen(_: Any, **options: Any) -> Any:
        return start([sys.executable, "-c", program], **options)

    monkeypatch.setattr(turns.subprocess, "Popen", popen)


def test_contenders_take_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_command(monkeypatch, CONTENDER)
    theirs = SPEC | {"kind": "torch_update", "idiom": "modules", "threads": 1}
    rows = turns.in_turns([SPEC, theirs, theirs], 3, together=(1, 2))
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[-1] for line in said[:2]] == [
        " mamt_jax, maac on spread, 8 seeds",
        " PyTorch modules, maac on spread, 1 thread",
    ]
    assert said[3] == "  3 turns of all: about 3.0 s"  # 0.5 s alone, 0.5 s together, thrice
    assert [line.split(":")[0] for line in said[4:]] == [f"  turn {i} of 3" for i in (1, 2, 3)]
    assert [row["ms"] for row in rows] == [{"median": 1.0, "min": 0.5, "max": 1.5}] * 3
    assert rows[0]["per_second"] == pytest.approx(1000.0)


def test_a_contender_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, FAILS)
    words = "^mamt_jax, maac on spread, 8 seeds ended: ValueError: no such game$"
    with pytest.raises(turns.ContenderError, match=words):
        turns.in_turns([SPEC], 1)


def test_a_contender_that_is_killed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(
        turns.ContenderError, match="maac on spread, 8 seeds ended: killed by SIGKILL"
    ):
        turns.in_turns([SPEC], 1)


def fake_turns(monkeypatch: pytest.MonkeyPatch, speeds: tuple[float, ...]) -> list[dict[str, Any]]:
    """Measurements that find mamt_jax at these speeds, others at a quarter; lists contenders."""
    speed, seen = iter(speeds), []

    def turn(specs: list[Any], repetitions: int, together: Any = ()) -> list[dict[str, Any]]:
        ours = next(speed)
        seen.extend(specs)
        rates = [ours, *(ours / 4 for _ in specs[1:])]
        return [
            {
                "spec": spec,
                "per_second": rate,
                "ms": {"median": 1e3 / rate, "min": 1e3 / rate, "max": 1e3 / rate},
                "ms_of_turns": [1e3 / rate],
                "first_call_seconds": 1,
            }
            for spec, rate in zip(specs, rates, strict=True)
        ]

    monkeypatch.setattr(measure, "in_turns", turn)
    monkeypatch.setattr(measure, "cores", lambda: [0, 1])
    return seen


def test_speedups_are_of_the_same_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_turns(monkeypatch, (100.0, 80.0))  # the machine is slower in the second round of turns
    found = measure.training("maac", 8, ["modules"], 1)
    assert found["speedup"] == {
        "modules, one after another": pytest.approx(4.0),
        "modules, side by side": pytest.approx(2.0),
    }
    assert found["steps_per_second"]["mamt_jax"] == 100.0


def test_training_on_policy_is_timed_in_rollouts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fake_turns(monkeypatch, (100.0, 100.0))
    found = measure.training("mappo", 8, measure.IDIOMS, 1)
    kinds = {(spec["kind"], spec.get("idiom"), spec["warm_up"]) for spec in seen}
    assert kinds == {("jax_training", None, 2), ("torch_rollouts", "batched", 2)}
    assert list(found["speedup"]) == ["batched, one after another", "batched, side by side"]
    assert found["left_out"] == ["modules"]
    tables.show({"hardware": hardware(Load(None, None)), "training": [found]})
    row = next(line for line in capsys.readouterr().out.splitlines() if "PyTorch modules" in line)
    assert "not written" in row


def test_what_pytorch_does_not_have_is_measured_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fake_turns(monkeypatch, (100.0, 100.0, 100.0))
    found = measure.training("maddpg", 8, measure.IDIOMS, 1)
    assert [spec["kind"] for spec in seen] == ["jax_training"]
    assert found["left_out"] == ["modules", "batched"]
    assert found["steps_per_second"] == {"mamt_jax": 100.0}
    rows = [measure.updates("spread", name, [8], ["modules"], 1) for name in ("maddpg", "maac")]
    assert [spec["kind"] for spec in seen[1:]] == ["jax_update"] * 2 + ["torch_update"] * 2
    assert [row["left_out"] for row in rows] == [["modules"], []]
    tables.show({"hardware": hardware(Load(None, None)), "updates": rows})
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "maddpg" in line).count("not written") == 1
    assert "40.0 (40.0 to 40.0), 1 thread" in next(line for line in lines if "maac" in line)


def test_side_by_side_is_the_sum_of_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"ms_of_turns": [1.0, 2.0, 4.0]}, {"ms_of_turns": [1.0, 2.0, 8.0]}]
    together = measure._together(rows)
    assert together == {"median": 1.0, "min": 0.5, "max": pytest.approx(8 / 3)}


def test_teams_are_those_of_the_environment() -> None:
    for name in SHAPES:
        spec = envs.make(name).spec
        assert training.game_of(name)[:3] == (spec.obs_sizes, spec.action_counts, spec.teams)


def test_memory_without_a_replay_is_measured_once(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = command._parser().parse_args(["memory", "--algorithms", "mappo", "--seeds", "1", "2"])
    names = [name for name, _ in plans.memory(chosen).tasks]
    assert names == [f"memory of mappo on spread, seeds: {i}, no replay" for i in (1, 2)]
    row = {"algorithm": "mappo", "env": "spread", "seeds": 1, "buffer_size": None, "peak_mib": 9.0}
    tables.show({"hardware": hardware(Load(None, None)), "memory": [row]})
    line = next(line for line in capsys.readouterr().out.splitlines() if "mappo" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["–", "1", "9"]


def test_a_failed_measurement_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "environments", "nowhere", "--out", str(out)])
    assert command.main() == 1
    assert not out.exists()


def test_the_best_number_of_threads_counts() -> None:
    def row(idiom: str, threads: int, median: float) -> dict[str, Any]:
        ms = {"median": median, "min": median, "max": median}
        return {"spec": {"idiom": idiom, "threads": threads}, "ms": ms}

    best = measure._best([row("modules", 1, 3.0), row("modules", 2, 2.0), row("batched", 1, 4.0)])
    assert best["modules"]["threads"] == 2
    assert best["batched"]["median"] == 4.0


def test_an_update_is_measured_shown_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "update.json"
    small = ["--envs", "spread", "--algorithms", "maac", "--seeds", "1", "2"]
    size = ["--batch-size", "8", "--repetitions", "2", "--against", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "update", *small, *size])
    monkeypatch.setattr(measure, "matrix_peak", lambda: 1e11)
    assert command.main() == 0
    found = json.loads(out.read_text())
    assert list(found["updates"][0]["mamt_jax"]) == ["1", "2"]
    assert found["share_of_peak"][0]["peak_multiply_adds_per_second"] == 1e11
    assert found["share_of_peak"][0]["multiple"] > 0
    assert "maac" in capsys.readouterr().out
    figures.draw([out], tmp_path)
    assert (tmp_path / "updates.png").stat().st_size > 1000


def test_every_measurement_has_a_table_and_a_figure() -> None:
    assert tables.TABLES.keys() == figures.FIGURES.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    (
        (["update", "--seeds", "0"], "seeds must be greater than 0"),
        (["training", "--repetitions", "0"], "repetitions must be greater than 0"),
        (["update", "--algorithms", "maac", "mappo"], "mappo learns from rollouts"),
        (["memory", "--buffer-sizes", "0"], "buffer_sizes must be greater than 0"),
        (["memory", "--buffer-sizes", "100"], "at most buffer_size (100)"),
        (["update", "--algorithms", "lola_dqn", "--envs", "pursuit"], "lola_dqn is for two agents"),
        (["update", "--algorithms", "mamd_op", "--envs", "pursuit"], "spread3_sep"),
        (["update", "--seeds", "8", "--seed-batch", "3"], "a multiple of seed_batch (3)"),
        (["environments", "--out", "."], ". cannot be written: Is a directory"),
        (["environments", "nowhere"], "nowhere"),
        (["plot", "nothing.json"], "nothing.json is no file of measurements"),
    ),
)
def test_bad_input_is_one_sentence(
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
    assert command.main() == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
