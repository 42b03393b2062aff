"""The training loop: it compiles the step, feeds it, logs, saves, and goes on where a run was stopped."""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .checkpoint import Checkpoints
from .step import Trainer, TrainState


def fit(
    trainer: Trainer,
    state: TrainState,
    batches: Callable[[int], Any],
    num_steps: int,
    *,
    folder: str | os.PathLike | None = None,
    save_every: int = 1000,
    log_every: int = 100,
    on_log: Callable[[dict[str, Any], TrainState], None] = lambda record, state: None,
    mesh: Mesh | None = None,
) -> TrainState:
    """Train until ``num_steps`` steps are done; with ``folder``, from its newest checkpoint if it has one.

    ``batches(step)`` is the batch of that step, a pytree of arrays whose leading axis is the batch. With ``mesh`` it is spread
    over the mesh's first axis and the weights are on every device: the only communication is one sum of gradients per step.
    The folder gets checkpoints (every ``save_every`` steps, at the end, and on Ctrl-C) and ``log.jsonl``: a line every
    ``log_every`` steps with step, mean loss, gradient norm and samples per second, which ``on_log(record, state)`` sees too and
    may add to. A resumed run repeats an uninterrupted one to the last bit.

    Raises ``FloatingPointError``, and saves nothing, when the loss is no longer finite.
    """
    checkpoints = None if folder is None else Checkpoints(folder)
    log = None if folder is None else pathlib.Path(folder) / "log.jsonl"
    step, place, put = _compiled(trainer, mesh)
    state = place(state)
    if checkpoints is not None and checkpoints.latest is not None:
        state = checkpoints.restore(state)
    done, losses, since, info = int(state.step), [], time.perf_counter(), None
    try:
        while done < num_steps:
            batch = put(batches(done))
            state, info = step(trainer, state, batch)
            losses.append(info.loss)
            done += 1
            if done % log_every == 0 or done == num_steps:
                now = time.perf_counter()
                rate = len(losses) * len(jax.tree.leaves(batch)[0]) / (now - since)
                record = _record(done, losses, info, rate)
                losses, since = [], now
                on_log(record, state)
                if log is not None:
                    with log.open("a") as file:
                        file.write(json.dumps(record) + "\n")
            if checkpoints is not None and (done % save_every == 0 or done == num_steps):
                _require_finite(done, float(info.loss))
                checkpoints.save(state)
    except KeyboardInterrupt:
        if checkpoints is not None:
            checkpoints.save(state)
        raise
    finally:
        if checkpoints is not None:
            checkpoints.close()
    return state


def _compiled(trainer: Trainer, mesh: Mesh | None) -> tuple[Callable, Callable, Callable]:
    """The step, what places a state, and what places a batch."""
    if mesh is None:
        step = eqx.filter_jit(lambda trainer, state, batch: trainer.step(state, batch))
        return step, lambda state: state, lambda batch: batch
    replicated = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    arrays, static = eqx.partition(trainer, eqx.is_array)
    compiled = jax.jit(
        lambda arrays, state, batch: eqx.combine(arrays, static).step(state, batch),
        donate_argnums=1,
        out_shardings=replicated,
    )
    return (
        _one_at_a_time(lambda _, state, batch: compiled(arrays, state, batch), mesh),
        lambda state: jax.device_put(state, replicated),
        lambda batch: jax.device_put(batch, rows),
    )


def _one_at_a_time(step: Callable, mesh: Mesh) -> Callable:
    """On CPU wait for each step: devices of one process share threads, and sums of two steps in flight can block each other."""
    if mesh.devices.flat[0].platform != "cpu":
        return step
    return lambda *args: jax.block_until_ready(step(*args))


def _record(step: int, losses: list, info: Any, rate: float) -> dict[str, Any]:
    values = [float(loss) for loss in losses]
    _require_finite(step, math.fsum(values))
    return {
        "step": step,
        "loss": math.fsum(values) / len(values),
        "gradient_norm": float(info.gradient_norm),
        "samples_per_second": round(rate, 1),
    }


def _require_finite(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"step {step}: the loss is {loss}; lower the learning rate or clip the gradient")
