"""Checkpoints of a training run, written by orbax."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree


class Checkpoints:
    """The latest ``keep`` states of a run in a folder: ``save(state)``, ``restore(like)``, ``latest``.

    A checkpoint appears whole or not at all, so a kill at any moment leaves the ones before. Arrays are stored by their path
    in the state, keys as their data; ``restore`` puts them back with the shardings of ``like``.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        path = pathlib.Path(folder).absolute()
        self._manager = ocp.CheckpointManager(
            path,
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: Any) -> None:
        """Write ``state`` under its step, and wait for it; a step that is there already is left as it is."""
        step = int(state.step)
        if step != self.latest:
            self._manager.save(step, args=ocp.args.StandardSave(_named(state)))
            self._manager.wait_until_finished()  # the next step writes over these arrays

    def restore(self, like: PyTree) -> PyTree:
        """The newest state, in the structure of ``like``. Raises ``ValueError`` where there is none or the structure differs."""
        if self.latest is None:
            raise ValueError(f"folder: expected a checkpoint in {self._manager.directory}, got none")
        named = _named(like)
        stored = self._manager.item_metadata(self.latest)
        found = {name: tuple(leaf.shape) for name, leaf in stored.items()}
        wanted = {name: leaf.shape for name, leaf in named.items()}
        if found != wanted:
            differ = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            raise ValueError(
                f"like: expected the structure of the checkpoint in {self._manager.directory}, got another at {differ[:3]}"
            )
        abstract = {n: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for n, a in named.items()}
        arrays = self._manager.restore(self.latest, args=ocp.args.StandardRestore(abstract))
        restored = [_like(arrays[name], leaf) for name, leaf in zip(named, jax.tree.leaves(like), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(like), restored)

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _named(tree: PyTree) -> dict[str, jax.Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): _data(leaf) for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _like(array: jax.Array, leaf: Any) -> jax.Array:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array
