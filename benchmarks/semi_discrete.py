"""Semi-discrete transport: error of the masses against steps where they are known exactly, and a start for Langevin sampling.

    python benchmarks/semi_discrete.py

First the uniform law to four sites on the line and to 100 random sites in the unit square: Newton's method on exact cells,
averaged stochastic ascent for some numbers of steps, of the default size and four times as long, and ott-jax's solver for as
many steps on as large samples (Adam, a constant rate with an averaged potential or a rate that decays as a cosine). The quality
is the L1 error of the masses of the cells, which are computed exactly, of everybody's potentials.

Then 25 normal laws of deviation 0.05 on a grid of spacing 2, their exact score, 60 noise levels from 10 to 0.05 and one Langevin
step x + r sigma^2 score + sqrt(2 r) sigma z a level, for all or for evenly chosen ones; a last denoising step for all. From noise
N(0, 100 I) by 60, 20, 10 and 5 levels, and by as many Euler steps of the probability flow, which needs no r; and from noise
that is transported to 500 data with noise of the tenth, or fifth, last level, by the steps from there on; so also from these
data, drawn at random, without transport. 4000 samples. The quality is the mixture: the share of samples farther than 6.4
deviations from every mean. ``weights_tv`` is the total variation of the weights of the 25 laws, ``data_tv`` that of the data,
``to_data`` the median distance to the nearest of the 500 data, over that of fresh data: small is memorised. The bars, at every
r: a mixture of at most 0.01 from transported noise, against at least 0.3 from noise, both by ten levels.
Source: Li, Li, Wang, Lei, Luo and Gu (2023), arXiv 2307.11308, scaled down.
"""

from __future__ import annotations

import functools
import itertools
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from harness import Peer, Stopwatch, against, emit, interleave, parser, record, without

from invjax import iterate, ot, priors
from invjax.samplers import ULA

LINE, LINE_MASSES = np.array([0.1, 0.3, 0.35, 0.8]), np.array([0.4, 0.1, 0.2, 0.3])
DEVIATION, SPACING, NOISE, LAST, NUM_LEVELS, NUM_DATA, RADIUS = 0.05, 2.0, 10.0, 0.05, 60, 500, 6.4
MEANS = SPACING * (np.stack(np.meshgrid(np.arange(5), np.arange(5), indexing="ij"), -1).reshape(-1, 2) - 2)
LEVELS = np.geomspace(NOISE, LAST, NUM_LEVELS)
BATCH, LONGER = 1024, (1.0, 4.0)
RATES = (0.1, 0.25, 0.5, 1.0)


def uniform(key: jax.Array, num: int, dim: int) -> jax.Array:
    """Points of the unit cube."""
    return jax.random.uniform(key, (num, dim))


def exact_error(sites: np.ndarray, b: np.ndarray, g: Any) -> float:
    """L1 error of the masses of the cells of potentials, in float64; sites of the line lie in the middle of the square."""
    if sites.shape[1] == 1:
        sites = np.concatenate([sites, np.full_like(sites, 0.5)], 1)
    with jax.enable_x64(True):
        return float(np.abs(np.asarray(areas(sites, np.asarray(g, np.float64))) - b).sum())


@jax.jit
def areas(sites: jax.Array, g: jax.Array) -> jax.Array:
    """Of the cells in the unit square."""
    square = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return ot.power_cells(sites, g, square).areas()


def newton(sites: np.ndarray, b: np.ndarray) -> tuple[Stopwatch, dict]:
    """The exact map in float64."""
    sites = sites if sites.shape[1] == 2 else np.concatenate([sites, np.full_like(sites, 0.5)], 1)
    with jax.enable_x64(True):
        watch = Stopwatch(lambda: ot.polygon_transport(sites, b))
        watch()
        return watch, {"steps": int(watch.result.num_steps), "residual": float(watch.result.residual)}


def exact_lines(case: str, sites: np.ndarray, b: np.ndarray, counts: tuple[int, ...], repeats: int) -> list[dict]:
    """Newton's method and the ascent by some numbers of steps, the last beside the peer's."""
    watch, facts = newton(sites, b)
    sizes = {"sites": len(sites), "d": sites.shape[1]}
    error = exact_error(sites, b, watch.result.map.g)
    lines = [record(f"{case}/Newton", sizes, watch.times(), error, "L1 error", dtype="float64", **facts)]
    source, start = functools.partial(uniform, dim=sites.shape[1]), jnp.zeros(len(sites))
    own = ot.SemiDiscrete(source, sites.astype(np.float32), b.astype(np.float32), batch_size=BATCH)

    def ascend(longer: float, steps: int) -> jax.Array:
        method = eqx.tree_at(lambda m: m.step_size, own, longer * own.step_size)
        return iterate(method, start, steps, key=jax.random.key(0))[0].position

    runs = {(longer, steps): functools.partial(ascend, longer, steps) for longer in LONGER for steps in counts}
    given = {"sites": sites.astype(np.float32), "b": b.astype(np.float32), "batch": BATCH, "steps": counts[-1]}
    peer = Peer("ott-jax", "ott_semi_discrete.py", sys.executable, given)
    ours = {key: Stopwatch(run) for key, run in runs.items()}
    interleave(ours, [peer], repeats)
    for (longer, steps), watch in ours.items():
        error = exact_error(sites, b, watch.result)
        mine = record(
            f"{case}/ascent, {longer:g} times the step size, {steps} steps", sizes | {"batch": BATCH, "steps": steps},
            watch.times(), error, "L1 error",
        )  # fmt: skip
        lines.append(mine)
        for variant, facts in peer.facts.items() if steps == counts[-1] else ():
            theirs = exact_error(sites, b, facts["g"])
            lines.append(against(mine, peer, variant, theirs, ours_is_as_good=error <= theirs))
    if peer.missing:
        lines.append(without(lines[-1], peer))
    peer.close()
    return lines


class Smoothed(eqx.Module):
    """The law with noise of one level, for a cloud of points."""

    prior: priors.GaussianMixture
    sigma: jax.Array

    def score(self, x: jax.Array) -> jax.Array:
        """The exact score of every point."""
        return jax.vmap(self.prior.score, (0, None))(x, self.sigma)


@jax.jit
def langevin(key: jax.Array, x: jax.Array, levels: jax.Array, rate: jax.Array) -> jax.Array:
    """A step of Langevin's algorithm at every level, and a denoising step at the last."""
    prior = priors.GaussianMixture(None, MEANS.astype(np.float32), DEVIATION**2)

    def step(x: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        number, sigma = at
        method = ULA(Smoothed(prior, sigma), None, rate * sigma**2)
        return method.step(jax.random.fold_in(key, number), method.init(x))[0].position, None

    x, _ = jax.lax.scan(step, x, (jnp.arange(len(levels)), levels))
    return x + levels[-1] ** 2 * Smoothed(prior, levels[-1]).score(x)


@jax.jit
def flow(x: jax.Array, levels: jax.Array) -> jax.Array:
    """Euler steps of ``dx / dsigma = -sigma score``, the last of them to zero."""
    prior = priors.GaussianMixture(None, MEANS.astype(np.float32), DEVIATION**2)

    def step(x: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        sigma, following = at
        return x + sigma * (sigma - following) * Smoothed(prior, sigma).score(x), None

    return jax.lax.scan(step, x, (levels, jnp.append(levels[1:], 0)))[0]


def noise(key: jax.Array, num: int) -> jax.Array:
    """Points of N(0, 100 I)."""
    return NOISE * jax.random.normal(key, (num, 2))


def site_map(sites: np.ndarray, num_steps: int) -> ot.SiteMap:
    """The map of the noise to sites: the ascent from the potentials of an entropic problem on a sample."""
    sites = jnp.asarray(sites, jnp.float32)
    of_sample, of_steps = jax.random.split(jax.random.key(1))
    start = ot.sinkhorn(ot.between(noise(of_sample, 2048), sites), 1.0, atol=1e-2).g
    # The border between sites at distance d moves by dg / (2 d), and sweeps mass of the order of that over (width of the noise
    # times sqrt(m)): its inverse, times four. The default step size knows the sites alone, which lie much closer together.
    apart = jnp.linalg.norm(sites[:, None] - sites[None], axis=-1) + jnp.where(jnp.eye(len(sites)) > 0, jnp.inf, 0)
    step_size = 8 * NOISE * len(sites) ** 0.5 * jnp.mean(jnp.min(apart, 1))
    method = ot.SemiDiscrete(noise, sites, step_size=step_size, batch_size=BATCH)
    return method.map(iterate(method, start, num_steps, key=of_steps)[0].position)


def data(seed: int, num: int) -> np.ndarray:
    """Draws of the 25 laws."""
    r = np.random.default_rng(seed)
    return MEANS[r.integers(0, len(MEANS), num)] + DEVIATION * r.normal(size=(num, 2))


def facts(samples: Any, known: np.ndarray) -> dict[str, Any]:
    """Mixture, weights, and distance to the data, relative to that of fresh data."""
    samples = np.asarray(samples, float)

    def nearest(x: np.ndarray, to: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = np.sum((x[:, None] - to[None]) ** 2, -1)
        return np.sqrt(square.min(1)), square.argmin(1)

    distance, mode = nearest(samples, MEANS)
    weights = np.bincount(mode, minlength=len(MEANS)) / len(samples)
    fresh = np.median(nearest(data(12345, len(samples)), known)[0])
    return {
        "mixture": float(np.mean(distance > RADIUS * DEVIATION)),
        "weights_tv": float(np.abs(weights - 1 / len(MEANS)).sum() / 2),
        "to_data": float(np.median(nearest(samples, known)[0]) / fresh),
    }


def line_of(case: str, run: Any, known: np.ndarray, levels: jax.Array, bar: str | None = None, **further: Any) -> dict:
    """A line for samples; ``bar`` is one of the claims, for ten levels."""
    watch = Stopwatch(run)
    watch()
    found = facts(watch.result, known)
    if bar is not None and len(levels) == 10:
        limit = 0.3 if bar == "at least 0.3" else 0.01
        found["bars"] = {bar: (found["mixture"] >= limit) == (bar == "at least 0.3")}
    sizes = {"levels": len(levels), "samples": len(watch.result)}
    return record(f"25 laws, {case}", sizes, watch.times(), found.pop("mixture"), "mixture", **found, **further)


def from_noise(seed: int, num: int, counts: tuple[int, ...]) -> list[dict]:
    """Samples by levels that go down from the noise."""
    known, lines = data(seed, NUM_DATA), []
    of_start, of_chain = jax.random.split(jax.random.key(100 + seed))
    x = noise(of_start, num)
    for count in counts:
        levels = jnp.asarray(LEVELS[np.linspace(0, NUM_LEVELS - 1, count).round().astype(int)], jnp.float32)
        case = f"seed {seed}/flow from noise, {count} levels"
        lines.append(line_of(case, functools.partial(flow, x, levels), known, levels))
        for rate in RATES:
            run = functools.partial(langevin, of_chain, x, levels, jnp.float32(rate))
            case = f"seed {seed}/from noise, {count} levels, r = {rate}"
            lines.append(line_of(case, run, known, levels, "at least 0.3"))
    return lines


def from_data(seed: int, num: int, counts: tuple[int, ...], num_steps: int) -> list[dict]:
    """Samples by the last levels, from transported noise and, as a control, from noisy data drawn at random."""
    known, lines = data(seed, NUM_DATA), []
    of_start, of_chain = jax.random.split(jax.random.key(100 + seed))
    weights = {"data_tv": facts(known, known)["weights_tv"]}
    r = np.random.default_rng(1000 + seed)
    for count in counts:
        levels = jnp.asarray(LEVELS[-count:], jnp.float32)
        noisy = known + float(levels[0]) * r.normal(size=known.shape)
        transport = site_map(noisy, num_steps)
        shares = np.asarray(transport.shares(noise(jax.random.key(7), 100_000)))
        error = {"shares_error": float(np.abs(shares - 1 / NUM_DATA).sum())}
        drawn = jnp.asarray(noisy[r.integers(0, NUM_DATA, num)], jnp.float32)
        starts = {
            "transported": (transport(noise(of_start, num)), "at most 0.01", weights | error),
            "drawn": (drawn, None, weights),
        }
        for (name, (x, bar, further)), rate in itertools.product(starts.items(), RATES):
            run = functools.partial(langevin, of_chain, x, levels, jnp.float32(rate))
            case = f"seed {seed}/{name}, {count} levels, r = {rate}"
            lines.append(line_of(case, run, known, levels, bar, **further))
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    repeats, counts = (2, (10, 100)) if args.quick else (2, (100, 1000, 2000))
    lines = exact_lines("line", LINE[:, None], LINE_MASSES, counts, args.repeats or repeats)
    m = 20 if args.quick else 100
    sites = np.random.default_rng(0).uniform(size=(m, 2))
    lines += exact_lines(f"square, {m} sites", sites, np.full(m, 1 / m), counts, args.repeats or repeats)
    for seed in (0,) if args.quick else (0, 1, 2):
        num, num_steps = (500, 50) if args.quick else (4000, 600)
        lines += from_noise(seed, num, (20, 10) if args.quick else (60, 20, 10, 5))
        lines += from_data(seed, num, (10,) if args.quick else (10, 5), num_steps)
    emit(lines)


if __name__ == "__main__":
    main()
