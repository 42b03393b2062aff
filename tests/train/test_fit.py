"""The train step and its loop: against optax by hand, resumed, killed, spread over a mesh."""

import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from invjax.train import Checkpoints, Trainer, fit
from invjax.train.loop import _step, one_step

OPTIMISER = optax.adam(optax.cosine_decay_schedule(0.05, 40))


class NoisyRegression(eqx.Module):
    """Mean of |w (x + noise) - y|^2: noise from the key."""

    noise: Any = 0.1

    def __call__(self, params, key, batch):
        x, y = batch
        x = x + jnp.asarray(self.noise, x.dtype) * jax.random.normal(key, x.shape, x.dtype)
        return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def batches(step):
    r = np.random.default_rng((3, step))
    x = r.normal(size=(8, 3)).astype(np.float32)
    return x, x @ np.array([[1.0], [-2.0], [0.5]], np.float32)


def trainer():
    return Trainer(NoisyRegression(), OPTIMISER, 0.9)


def initial(seed=0):
    params = {"w": jnp.zeros((3, 1), jnp.float32), "b": jnp.zeros(1, jnp.float32)}
    return trainer().init(params, jax.random.key(seed))


def bits(state):
    state = state._replace(key=jax.random.key_data(state.key))
    return jax.tree.map(lambda a: np.asarray(a).tobytes(), state)


@pytest.fixture(scope="module")
def whole():
    return fit(trainer(), initial(), batches, 30)


def test_steps_are_optax_steps(whole):
    """Written out: the gradient at the step's own key, Adam, and the average with its short start."""
    params, loss, key = initial().params, NoisyRegression(), jax.random.key(0)
    opt_state, average = OPTIMISER.init(params), params
    update = jax.jit(lambda p, o, k, b: OPTIMISER.update(jax.grad(loss)(p, k, b), o, p))
    for i in range(30):
        updates, opt_state = update(params, opt_state, jax.random.fold_in(key, i), batches(i))
        params = optax.apply_updates(params, updates)
        decay = min(0.9, (1 + i) / (10 + i))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), whole.params, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), whole.ema_params, average)
    assert int(whole.step) == 30
    assert float(loss(whole.params, key, batches(99))) < 0.5 * float(loss(initial().params, key, batches(99)))


def test_the_callers_state_is_not_used_up():
    state = initial()
    before = bits(state)
    fit(trainer(), state, batches, 2)
    assert bits(state) == before


def test_a_stopped_run_goes_on_to_the_same_bits(whole, tmp_path):
    """Stopped by Ctrl-C inside a step that is no saving point, and by reaching its end; lines of the log go on."""

    def interrupting(step):
        if step == 17:
            raise KeyboardInterrupt
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        fit(trainer(), initial(), interrupting, 30, folder=tmp_path, save_every=10, log_every=5)
    assert Checkpoints(tmp_path).latest == 17
    half = fit(
        trainer(), initial(1), batches, 24, folder=tmp_path, save_every=10, log_every=5
    )  # its own start is not used
    assert int(half.step) == 24
    seen = []
    end = fit(
        trainer(), initial(), batches, 30, folder=tmp_path, log_every=5, on_log=lambda r, s: seen.append(r["step"])
    )
    assert bits(end) == bits(whole)
    assert seen == [25, 30]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 24, 25, 30]
    assert all({"loss", "gradient_norm", "steps_per_second"} <= set(line) for line in lines)
    assert bits(fit(trainer(), initial(), batches, 30, folder=tmp_path)) == bits(whole)  # nothing is left to do


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from tests.train.test_fit import *
def slow(step):
    time.sleep(0.05)
    return batches(step)
fit(trainer(), initial(), slow, 1000, folder={folder!r}, save_every=4)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path):
    """SIGKILL at any moment, while a checkpoint is being written even: the newest whole one is used."""
    root = str(pathlib.Path(__file__).parents[2])
    script = "import tests.conftest\n" + KILLED.format(root=root, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not {"8", "12", "16", "20", "24"} & {p.name for p in tmp_path.iterdir()}:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    latest = Checkpoints(tmp_path).latest
    assert 8 <= latest <= 28
    assert bits(fit(trainer(), initial(), batches, 30, folder=tmp_path)) == bits(whole)


def mesh(count):
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])


def test_a_mesh_gives_the_same_weights_with_one_sum_of_gradients(whole):
    """Eight devices, one row each: equal but for the order of sums; the compiled step holds a single all-reduce."""
    spread = fit(trainer(), initial(), batches, 30, mesh=mesh(8))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), spread.params, whole.params)
    assert all(a.sharding.is_fully_replicated for a in jax.tree.leaves(spread.params))
    arrays, static = eqx.partition(trainer(), eqx.is_array)
    m = mesh(8)
    rows = jax.sharding.NamedSharding(m, jax.sharding.PartitionSpec("data"))
    replicated = jax.sharding.NamedSharding(m, jax.sharding.PartitionSpec())
    state, batch = jax.device_put(initial(), replicated), jax.device_put(batches(0), rows)
    text = _step.lower(static, m, arrays, state, batch).compile().as_text()
    assert text.count(" all-reduce(") == 1
    assert " all-gather(" not in text
    assert " all-to-all(" not in text


def test_one_program_for_all_steps_and_values():
    before = _step._cache_size()
    state = initial()
    for i in range(3):
        state, _ = one_step(trainer(), state, batches(i))
    again, _ = one_step(Trainer(NoisyRegression(0.3), OPTIMISER, 0.5), initial(2), batches(5))
    assert int(again.step) == 1
    assert _step._cache_size() - before <= 2  # NoisyRegression(0.3) holds another Python number


def test_step_lowers(float32):
    def step(state, batch):
        return trainer().step(state, batch)[1].loss

    exported = jax.export.export(jax.jit(step), platforms=("tpu", "cuda"))(initial(), batches(0))
    assert exported.platforms == ("tpu", "cuda")


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(tmp_path):
    def broken(step):
        x, y = batches(step)
        return (x, y * np.float32("nan")) if step == 7 else (x, y)

    with pytest.raises(FloatingPointError, match="step 8: the loss is nan"):
        fit(trainer(), initial(), broken, 30, folder=tmp_path, save_every=4, log_every=100)
    assert Checkpoints(tmp_path).latest == 4


def test_checkpoints_refuse_another_structure(tmp_path):
    fit(trainer(), initial(), batches, 1, folder=tmp_path)
    other = Trainer(NoisyRegression(), OPTIMISER).init({"w": jnp.zeros((2, 1))}, jax.random.key(0))
    with pytest.raises(ValueError, match="expected the structure of the checkpoint"):
        Checkpoints(tmp_path).restore(other)
    with pytest.raises(ValueError, match="got none"):
        Checkpoints(tmp_path / "empty").restore(other)
    with pytest.raises(ValueError, match="ema_decay"):
        Trainer(NoisyRegression(), OPTIMISER, 1.0)
