"""Convergence diagnostics of chains of images: effective sample size, R-hat and Monte Carlo error of every pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from blackjax import diagnostics as bj
from jaxtyping import Array, Float


def ess(chains: Float[Array, "chains draws *n"], *, block_size: int = 1024) -> Float[Array, "*n"]:
    """Effective sample size of the mean of every entry, summed over chains; each chain is split in half.

    Geyer's initial monotone sequence by BlackJAX; splitting makes a drifting chain show. 0 for an entry that never moves,
    NaN for one with a NaN. ``block_size`` entries are worked on at a time: memory of a few times
    ``block_size * chains * draws`` numbers.

    Raises ``ValueError`` for complex chains or fewer than 4 draws. Reference: Vehtari et al. 2021, Bayesian Anal. 16(2).
    """
    return _per_entry(_split_ess, _gathered(chains), block_size)


def rhat(chains: Float[Array, "chains draws *n"], *, block_size: int = 1024) -> Float[Array, "*n"]:
    """Rank-normalised split R-hat of every entry, the larger of bulk and folded; below 1.01 is good. Works on one chain too.

    NaN for an entry that never moves or holds a NaN. Raises and reference as ``ess``; computed by BlackJAX.
    """
    return _per_entry(bj.rhat, _gathered(chains), block_size)


def mcse(chains: Float[Array, "chains draws *n"], *, block_size: int = 1024) -> Float[Array, "*n"]:
    """Monte Carlo standard error of the mean of every entry, ``sd / sqrt(ess)``. Raises as ``ess``."""
    return jnp.std(chains, axis=(0, 1), ddof=1) / jnp.sqrt(ess(chains, block_size=block_size))


class Summary(NamedTuple):
    """Median ESS over the entries, 95th percentiles of R-hat and of ``mcse / sd = 1 / sqrt(ess)``."""

    median_ess: Float[Array, ""]
    rhat_95: Float[Array, ""]
    mcse_over_sd_95: Float[Array, ""]


def summarise(chains: Float[Array, "chains draws *n"], *, block_size: int = 1024) -> Summary:
    """Three numbers for a whole image. An entry that never moves makes R-hat NaN, one with a NaN all three. Raises as ``ess``."""
    size = ess(chains, block_size=block_size)
    return Summary(
        median_ess=jnp.median(size),
        rhat_95=jnp.quantile(rhat(chains, block_size=block_size), 0.95),
        mcse_over_sd_95=jnp.quantile(1 / jnp.sqrt(size), 0.95),
    )


def _gathered(chains: Array) -> Array:
    """``chains`` on one device: XLA's CPU FFT refuses the layouts that come from chains spread over a mesh."""
    if isinstance(chains, jax.core.Tracer) or not isinstance(chains, jax.Array):
        return chains
    spread = len(chains.sharding.device_set) > 1 and chains.is_fully_addressable
    return jax.device_put(chains, jax.devices()[0]) if spread else chains


def _split_ess(x: Array) -> Array:
    return bj.effective_sample_size(_split(x))


def _split(x: Array) -> Array:
    """Halves of every chain as chains of their own; the last of an odd number of draws is dropped."""
    half = x.shape[1] // 2
    return jnp.concatenate([x[:, :half], x[:, half : 2 * half]])


@eqx.filter_jit
def _per_entry(statistic: Callable[[Array], Array], chains: Array, block_size: int) -> Array:
    """``statistic(chains x draws)`` of every entry, ``block_size`` entries at a time."""
    if jnp.iscomplexobj(chains):
        raise ValueError(f"chains: expected real values (stack real and imaginary parts), got dtype {chains.dtype}")
    if chains.ndim < 2 or chains.shape[1] < 4:
        raise ValueError(f"chains: expected (chains, draws, ...) with at least 4 draws, got shape {chains.shape}")
    entries = jnp.moveaxis(chains.reshape(*chains.shape[:2], -1), 2, 0)
    values = jax.lax.map(statistic, entries, batch_size=block_size)
    return values.reshape(chains.shape[2:]).astype(chains.dtype)  # BlackJAX computes some in float64 when it may
