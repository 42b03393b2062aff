"""Diagnostics on autoregressions of known effective sample size, and R-hat against its definition in NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal, stats

from invjax import samplers

CHAINS, DRAWS, SHAPE = 4, 600, (6, 5, 1)


def autoregression(phi, seed=0):
    """Stationary unit-variance AR(1) chains: effective sample size (1 - phi) / (1 + phi) per draw."""
    r = np.random.default_rng(seed)
    noise = r.normal(size=(CHAINS, DRAWS, *SHAPE)) * np.sqrt(1 - phi**2)
    noise[:, 0] /= np.sqrt(1 - phi**2)
    return signal.lfilter([1], [1, -phi], noise, axis=1)


@pytest.mark.parametrize("phi", [0.0, 0.7, -0.4])
def test_ess_and_mcse_of_an_autoregression(phi):
    chains = autoregression(phi)
    exact = CHAINS * DRAWS * (1 - phi) / (1 + phi)
    sizes = samplers.ess(chains)
    assert sizes.shape == SHAPE
    # Between entries the estimator scatters by 5 to 10 %; finite halves of a chain lose about 1 %.
    assert abs(np.mean(sizes) / exact - 1) <= 3 * np.std(sizes) / exact / np.sqrt(sizes.size) + 0.03
    errors = chains.mean((0, 1)) / samplers.mcse(chains)  # standard normal
    assert 0.6 < np.mean(errors**2) < 1.6  # chi2 with 30 degrees of freedom over 30: 1 per cent on each side


def rhat_by_hand(x):
    """Vehtari et al. 2021, section 4, for one entry (chains, draws)."""
    x = np.concatenate(np.split(x, 2, axis=1))
    values = []
    for y in (x, abs(x - np.median(x))):
        z = stats.norm.ppf((stats.rankdata(y).reshape(y.shape) - 3 / 8) / (y.size + 1 / 4))
        n = z.shape[1]
        within, between = z.var(1, ddof=1).mean(), n * z.mean(1).var(ddof=1)
        values.append(np.sqrt(((n - 1) / n * within + between / n) / within))
    return max(values)


def test_rhat_is_its_definition_and_sees_bad_chains():
    chains = autoregression(0.5)
    chains[0, :, 0] += 2  # one chain elsewhere
    chains[1, :, 1] *= 4  # one chain too wide
    chains[:, :, 2] += np.linspace(0, 3, DRAWS)[:, None, None]  # all drift together
    values = samplers.rhat(chains)
    by_hand = np.vectorize(rhat_by_hand, signature="(c,n)->()")(np.moveaxis(chains, (0, 1), (-2, -1)))
    np.testing.assert_allclose(values, by_hand, rtol=1e-10)
    assert np.all(values[:3] > 1.1)
    assert np.all(values[3:] < 1.05)
    assert np.all(samplers.ess(chains)[jnp.array([0, 2])] < 40)
    assert np.all(samplers.rhat(chains[:1])[2] > 1.1)  # one chain is enough to see a drift


def test_blocks_change_memory_only():
    chains = autoregression(0.5)
    for statistic, size in ((samplers.ess, 7), (samplers.rhat, 10)):
        np.testing.assert_allclose(statistic(chains, block_size=size), statistic(chains), rtol=1e-12)


def test_blocks_bound_the_memory():
    def temporary(block_size):
        shape = jax.ShapeDtypeStruct((2, 64, 4096), jnp.float32)
        fn = jax.jit(lambda c: samplers.ess(c, block_size=block_size))
        return fn.lower(shape).compile().memory_analysis().temp_size_in_bytes

    data = 2 * 64 * 4096 * 4
    assert temporary(64) < 4 * data < temporary(4096)


def test_summary_and_degenerate_entries():
    chains = autoregression(0.5).astype(np.float32)
    s = samplers.summarise(chains)
    sizes = samplers.ess(chains)
    assert s.median_ess.dtype == jnp.float32
    np.testing.assert_allclose(s.median_ess, np.median(sizes), rtol=1e-6)
    np.testing.assert_allclose(s.rhat_95, np.quantile(samplers.rhat(chains), 0.95), rtol=1e-6)
    sd = chains.std((0, 1), ddof=1)
    np.testing.assert_allclose(s.mcse_over_sd_95, np.quantile(samplers.mcse(chains) / sd, 0.95), rtol=1e-5)
    chains[:, :, 0, 0] = 1.0
    assert np.all(samplers.ess(chains)[0, 0] == 0)
    assert np.isnan(samplers.summarise(chains).rhat_95)
    chains[0, 3, 1, 0] = np.nan
    assert np.isnan(samplers.summarise(chains).median_ess)
    assert np.isfinite(samplers.ess(chains)[2]).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((2, 3), float, "at least 4 draws"), ((20,), float, "got shape"), ((2, 8), complex, "expected real values")],
)
def test_wrong_chains_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        samplers.ess(jnp.ones(shape, dtype))


def test_chains_spread_over_devices_give_the_same(key):
    chains = jax.random.normal(key, (2, 50, 4))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("chains",))
    spread = jax.device_put(chains, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chains")))
    np.testing.assert_array_equal(samplers.ess(spread), samplers.ess(chains))
    np.testing.assert_array_equal(samplers.rhat(spread), samplers.rhat(chains))
