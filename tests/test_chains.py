"""Many chains at once: equal to vmapped single chains, over a mesh, in chunks, resumed; refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from invjax import priors, sample, sample_chains, samplers
from invjax.reducers import Every, Moments, Quantiles

START = jnp.zeros(3)
SETTINGS = {"burn_in": 4, "thinning": 2, "collect": {"all": Every(1), "moments": Moments(), "median": Quantiles([0.5])}}


def standard_normal():
    return samplers.ULA(priors.Tikhonov(1.0), None, 0.1)


@pytest.fixture(scope="module")
def chains():
    keys = jax.random.split(jax.random.key(1), 4)
    return keys, sample_chains(keys, standard_normal(), START, 12, **SETTINGS)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    """Equal but for rounding: programs that are compiled for other batches may order sums and products differently."""
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-11), a, b)


def test_chains_are_vmapped_single_chains(chains):
    keys, together = chains
    one_by_one = jax.jit(jax.vmap(lambda k: sample(k, standard_normal(), START, 12, **SETTINGS)))(keys)
    assert_close(together, one_by_one)
    assert together.collected["all"].shape == (4, 12, 3)


def test_a_mesh_changes_nothing(chains):
    keys, together = chains
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("chains",))
    assert_close(together, sample_chains(keys, standard_normal(), START, 12, mesh=mesh, **SETTINGS))


def test_chunks_and_resuming_change_nothing(chains):
    keys, together = chains
    runs = []
    chunked = sample_chains(keys, standard_normal(), START, 12, num_chunks=3, on_chunk=runs.append, **SETTINGS)
    assert_equal(together, chunked)
    assert len(runs) >= 4
    for run in runs[:-1]:
        assert_equal(together, sample_chains(keys, standard_normal(), START, 12, resume=run, **SETTINGS))


def test_keys_are_checked(key):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("chains",))
    with pytest.raises(ValueError, match="keys: expected a batch of keys"):
        sample_chains(key, standard_normal(), START, 3)
    with pytest.raises(ValueError, match="keys: expected a multiple of the 2 devices"):
        sample_chains(jax.random.split(key, 3), standard_normal(), START, 3, mesh=mesh)
