"""Sweeps: one compiled program over a batch of points (hyper-parameters, images, keys), in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from .types import real


def sweep(fn: Callable, grid: PyTree, *args: Any, batch_size: int | None = None, mesh: Mesh | None = None) -> PyTree:
    """``fn(point, *args)`` for every point of ``grid``, a pytree whose leaves have equal leading axes; results are stacked.

    ``batch_size`` points run at once under ``vmap`` (all by default), the batches one after another, so memory is that of
    ``batch_size`` runs. Small batches are fastest on CPU, large ones on accelerators. With a ``mesh`` the points are spread
    over all its devices by ``shard_map``: each device stops by itself and no iteration communicates. Points that pad the
    last batch repeat the last one and are cut away. Pass arrays as ``args`` (not through the closure of ``fn``), and the
    same function object, to compile once for all values.

    Raises ``ValueError`` for an empty grid, unequal leading axes or a ``batch_size`` below 1.
    """
    grid = jax.tree.map(real, grid)
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(grid)}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            f"grid: expected leaves with one common, non-empty leading axis, got leading axes {sorted(sizes)}"
        )
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
    return _sweep(fn, grid, args, batch_size, mesh)


def grid_product(axes: Mapping[str, Any]) -> dict[str, Array]:
    """All combinations of the 1D arrays in ``axes``: a dict of arrays of length prod(lengths), last axis fastest."""
    arrays = {name: jnp.atleast_1d(real(values)) for name, values in axes.items()}
    for name, values in arrays.items():
        if values.ndim != 1:
            raise ValueError(f"axes[{name!r}]: expected a 1D array, got shape {values.shape}")
    mesh = jnp.meshgrid(*arrays.values(), indexing="ij")
    return {name: values.ravel() for name, values in zip(arrays, mesh, strict=True)}


@eqx.filter_jit
def _sweep(fn: Callable, grid: PyTree, args: tuple, batch_size: int | None, mesh: Mesh | None) -> PyTree:
    num = jax.tree.leaves(grid)[0].shape[0]
    devices = 1 if mesh is None else mesh.size
    per_device = -(-num // devices)
    batch = min(batch_size or per_device, per_device)
    total = devices * batch * -(-per_device // batch)
    rows = jnp.minimum(jnp.arange(total), num - 1)
    padded = jax.tree.map(lambda a: a[rows], grid)
    arrays, static = eqx.partition(args, eqx.is_array)

    def local(points: PyTree, arrays: PyTree) -> PyTree:
        def one(point: PyTree) -> PyTree:
            return fn(point, *eqx.combine(arrays, static))

        count = jax.tree.leaves(points)[0].shape[0] // batch
        chunks = jax.tree.map(lambda a: a.reshape(count, batch, *a.shape[1:]), points)
        single = batch == 1
        out = jax.lax.map(lambda c: one(jax.tree.map(lambda a: a[0], c)) if single else jax.vmap(one)(c), chunks)
        return out if single else jax.tree.map(lambda a: a.reshape(count * batch, *a.shape[2:]), out)

    if mesh is not None:
        spread, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        local = jax.shard_map(local, mesh=mesh, in_specs=(spread, whole), out_specs=spread, check_vma=False)
    return jax.tree.map(lambda a: a[:num], local(padded, arrays))
