"""The training loop: it compiles the step, feeds it, logs, saves, and goes on where a run was stopped."""

from __future__ import annotations

import functools
import json
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import rich.progress
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .checkpoint import Checkpoints
from .step import Trainer, TrainInfo, TrainState


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
    progress: bool = False,
) -> TrainState:
    """Train until ``num_steps`` steps are done; with ``folder``, from its newest checkpoint if it has one.

    ``batches(step)`` is the batch of that step, a pytree of arrays whose leading axis is the batch. With ``mesh`` the batch is
    spread over the mesh's first axis and the weights are on every device: the only communication is one sum of gradients per
    step. The folder gets checkpoints (every ``save_every`` steps, at the end, and on Ctrl-C) and ``log.jsonl``: a line every
    ``log_every`` steps with the step, the mean loss since the last line, the norm of the gradient and steps per second.
    ``on_log(record, state)`` sees each line before it is written, and may add to it. A run that was stopped, killed even,
    repeats from its checkpoint what an uninterrupted one does, to the last bit, on the same devices and versions.

    Raises ``FloatingPointError``, without saving, when the loss is no longer finite.
    """
    state = jax.tree.map(lambda a: a.copy(), state)  # the step writes over its argument
    if mesh is not None:
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    checkpoints = None if folder is None else Checkpoints(folder)
    if checkpoints is not None and checkpoints.latest is not None:
        state = checkpoints.restore(state)
    log = _Log(folder, on_log)
    try:
        with rich.progress.Progress(disable=not progress) as bars:
            bar = bars.add_task("training", total=num_steps, completed=int(state.step))
            for done in range(int(state.step) + 1, num_steps + 1):
                state, info = one_step(trainer, state, batches(done - 1), mesh)
                log.add(info)
                if done % log_every == 0 or done == num_steps:
                    log.write(done, state, info)
                    bars.update(bar, completed=done)
                if checkpoints is not None and (done % save_every == 0 or done == num_steps):
                    _require_finite(done, float(info.loss))
                    checkpoints.save(state)
    except KeyboardInterrupt:
        # Inside a step the old arrays may be used up before the new ones are named: then the last checkpoint stands.
        if checkpoints is not None and not any(a.is_deleted() for a in jax.tree.leaves(state)):
            checkpoints.save(state)
        raise
    finally:
        if checkpoints is not None:
            checkpoints.close()
    return state


def one_step(trainer: Trainer, state: TrainState, batch: Any, mesh: Mesh | None = None) -> tuple[TrainState, TrainInfo]:
    """``trainer.step``, compiled once for all steps of a trainer. The arrays of ``state`` are used up."""
    if mesh is not None:
        batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))
    arrays, static = eqx.partition(trainer, eqx.is_array)
    out = _step(static, mesh, arrays, state, batch)
    if mesh is not None and mesh.devices.flat[0].platform == "cpu":
        # Devices of one process share threads there: the sums of two steps in flight could wait for each other.
        jax.block_until_ready(out)
    return out


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def _step(static: Any, mesh: Mesh | None, arrays: Any, state: TrainState, batch: Any) -> tuple[TrainState, TrainInfo]:
    out = eqx.combine(arrays, static).step(state, batch)
    if mesh is not None:
        out = jax.lax.with_sharding_constraint(out, NamedSharding(mesh, PartitionSpec()))
    return out


class _Log:
    """Collects losses and writes the lines of ``log.jsonl``."""

    def __init__(self, folder: str | os.PathLike | None, on_log: Callable[[dict[str, Any], TrainState], None]):
        self.path = None if folder is None else pathlib.Path(folder) / "log.jsonl"
        self.on_log, self.since = on_log, time.perf_counter()
        self.losses: list[Any] = []

    def add(self, info: TrainInfo) -> None:
        self.losses.append(info.loss)

    def write(self, step: int, state: TrainState, info: TrainInfo) -> None:
        loss = math.fsum(map(float, self.losses)) / len(self.losses)
        _require_finite(step, loss)
        rate = len(self.losses) / (time.perf_counter() - self.since)
        record = {
            "step": step,
            "loss": loss,
            "gradient_norm": float(info.gradient_norm),
            "steps_per_second": round(rate, 3),
        }
        self.on_log(record, state)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        self.losses, self.since = [], time.perf_counter()


def _require_finite(step: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"step {step}: the loss is {loss}; lower the learning rate or clip the gradient")
