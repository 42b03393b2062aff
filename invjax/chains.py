"""Many chains at once: the sampling driver over a batch of keys, on one device or spread over a mesh."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import PRNGKeyArray, PyTree

from . import drive
from .drive import Run, Samples
from .reducers import Every


def sample_chains(
    keys: PRNGKeyArray,
    method: Any,
    x: PyTree,
    num_samples: int,
    *,
    burn_in: int = 0,
    thinning: int = 1,
    collect: PyTree = Every(1),
    mesh: Mesh | None = None,
    num_chunks: int = 1,
    on_chunk: Callable[[Run], None] | None = None,
    resume: Run | None = None,
) -> Samples:
    """``sample`` for every key of a batch ``keys`` (one leading axis), all from ``x``; results gain that leading axis.

    Chain ``i`` is bit for bit what ``jax.vmap(sample)`` gives for ``keys[i]``; in addition chunks, progress and resuming work
    (``on_chunk`` gets the runs of all chains), and a ``mesh`` spreads the chains over its devices without communication: their
    number must then be a multiple of the number of devices. Raises ``ValueError`` for that and as ``sample``.
    """
    if jnp.ndim(keys) != (1 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 2):
        raise ValueError(f"keys: expected a batch of keys with one leading axis, got shape {jnp.shape(keys)}")
    if mesh is not None and keys.shape[0] % mesh.size:
        raise ValueError(f"keys: expected a multiple of the {mesh.size} devices of the mesh, got {keys.shape[0]} keys")
    x = drive._as_arrays(x)
    run = drive.schedule(
        lambda: _lanes(_start, mesh, keys, None, (method, x, collect), (num_samples,)),
        lambda run, size: _lanes(_advance, mesh, keys, run, (method,), (size,)),
        lambda run, size: _lanes(_collect, mesh, keys, run, (method, collect, jnp.asarray(burn_in)), (size, thinning)),
        (num_samples, burn_in, thinning),
        num_chunks=num_chunks,
        on_chunk=on_chunk,
        resume=resume,
    )
    return Samples(_finalize(collect, run.trace), run.state, run.info, run.status)


@eqx.filter_jit
def _finalize(reducers: PyTree, acc: PyTree) -> PyTree:
    return jax.vmap(lambda a: drive._finalize(reducers, a))(acc)


def _start(key: Any, _: None, shared: tuple, counts: tuple) -> Run:
    method, x, collect = shared
    return drive._start(method, x, key, collect, *counts)


def _advance(key: Any, run: Run, shared: tuple, counts: tuple) -> Run:
    (method,), (size,) = shared, counts
    return drive._advance(method, run, key, None, size, None)


def _collect(key: Any, run: Run, shared: tuple, counts: tuple) -> Run:
    (method, collect, burn_in), (size, thinning) = shared, counts
    return drive._collect(method, run, key, collect, size, thinning, burn_in)


@eqx.filter_jit
def _lanes(part: Callable, mesh: Mesh | None, keys: Any, run: Run | None, shared: tuple, counts: tuple) -> Run:
    """``part`` for every chain: a vmap, inside a shard_map where there is a mesh."""
    arrays, static = eqx.partition(shared, eqx.is_array)

    def lanes(keys: Any, run: Run | None, arrays: PyTree) -> Run:
        return jax.vmap(lambda k, r: part(k, r, eqx.combine(arrays, static), counts))(keys, run)

    if mesh is not None:
        spread, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        lanes = jax.shard_map(lanes, mesh=mesh, in_specs=(spread, spread, whole), out_specs=spread, check_vma=False)
    return lanes(keys, run, arrays)
