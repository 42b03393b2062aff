"""Routing tokens to experts of bounded capacity: token choice, Sinkhorn with a top-k, and sparsity-constrained transport.

    python benchmarks/expert_routing.py

256 tokens are the 8 x 8 patches of a photograph by their first 16 principal components, scaled to a mean square norm of one;
the 16 experts are normal vectors, and affinities the softmax of inner products. An expert takes at most 20 tokens. Token choice
sends every token to its best expert, which keeps the first 20 or the best 20 of them; of Sinkhorn's coupling every expert keeps
the 20 largest entries; of the sparse coupling the support is kept, as it is. The quality is the total affinity of the kept
pairs. A token may be kept by several experts, up to 320 pairs in all: ``affinity_once`` counts the best of each token alone,
next to ``best_once``, the most that any routing reaches with one expert a token. ``violations`` are experts above capacity.
The bars: no violations, at least the affinity of token choice, counted either way, and fewer dropped tokens.

Then the price of small k: with tokens as columns, each goes to at most k experts, which get equal mass. The quality is the
number of L-BFGS steps to an L1 norm of the gradient of 1e-6, at most 1000; the bar is that k = 2 takes more of them than k = 8.
Float64. Source: Liu, Puigcerver and Blondel (2023), ICLR, scaled down.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from harness import Stopwatch, emit, interleave, parser, record

from invjax import ot
from invjax.data import photograph
from invjax.drive import Status

EXPERTS, CAPACITY, COMPONENTS, PATCH = 16, 20, 16, 8
EPSILONS, GAMMAS, GAMMA = (1e-3, 1e-2), (1e-2, 1.0), 1.0
CAP = 1000


def affinities(name: str, seed: int) -> np.ndarray:
    """Softmax affinities (256, 16) of the patches of a photograph to random experts."""
    image = np.asarray(photograph(name, 16 * PATCH, grey=True), float)[..., 0]
    patches = image.reshape(16, PATCH, 16, PATCH).swapaxes(1, 2).reshape(256, -1)
    patches = patches - patches.mean(0)
    tokens = patches @ np.linalg.svd(patches, full_matrices=False)[2][:COMPONENTS].T
    tokens /= np.sqrt(np.mean(np.sum(tokens**2, 1)))
    logits = tokens @ np.random.default_rng(seed).normal(size=(EXPERTS, COMPONENTS)).T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


@functools.partial(jax.jit, static_argnames="best_first")
def token_choice(affinity: jax.Array, best_first: bool) -> jax.Array:
    """Every token to its best expert, which keeps ``CAPACITY`` of them: those first in line, or of largest affinity."""
    wanted = jax.nn.one_hot(jnp.argmax(affinity, 1), EXPERTS, dtype=bool)
    priority = affinity if best_first else -jnp.arange(len(affinity), dtype=affinity.dtype)[:, None]
    return wanted & _largest(jnp.where(wanted, priority, -jnp.inf))


@jax.jit
def entropic(affinity: jax.Array, epsilon: Any) -> tuple[jax.Array, Any]:
    """The largest entries of every column of Sinkhorn's coupling, and that coupling."""
    coupling = ot.sinkhorn(ot.Problem(-affinity), epsilon, atol=1e-6)
    return _largest(coupling.matrix), coupling


@functools.partial(jax.jit, static_argnames=("k", "max_steps"))
def sparse(affinity: jax.Array, gamma: Any, k: int = CAPACITY, max_steps: int = CAP) -> tuple[jax.Array, Any]:
    """The support of the sparse coupling, and the coupling."""
    coupling = ot.sparse_transport(ot.Problem(-affinity), gamma, k, atol=1e-6, max_steps=max_steps)
    return coupling.matrix > 0, coupling


def _largest(scores: jax.Array) -> jax.Array:
    """The ``CAPACITY`` largest entries of every column."""
    ranks = jnp.argsort(jnp.argsort(-scores, axis=0), axis=0)
    return ranks < CAPACITY


def best_once(affinity: np.ndarray) -> float:
    """The largest total affinity with one expert a token and at most ``CAPACITY`` tokens an expert: an exact assignment."""
    places = np.repeat(affinity, CAPACITY, axis=1)
    return float(places[scipy.optimize.linear_sum_assignment(places, maximize=True)].sum())


def facts(kept: np.ndarray, affinity: np.ndarray) -> dict[str, Any]:
    """What was kept, twice or not at all, and by how many experts too much."""
    return {
        "affinity": float(affinity[kept].sum()),
        "affinity_once": float(np.where(kept, affinity, 0).max(1).sum()),
        "pairs": int(kept.sum()),
        "dropped": int(np.sum(~kept.any(1))),
        "violations": int(np.sum(kept.sum(0) > CAPACITY)),
    }


def routing(name: str, seed: int, repeats: int) -> list[dict]:
    """All routers on one photograph; the bars are held against the better of the two ways of token choice."""
    affinity = affinities(name, seed)
    given = jnp.asarray(affinity)
    runs = {
        "token choice, first come": lambda: (token_choice(given, False), None),
        "token choice, best first": lambda: (token_choice(given, True), None),
        **{f"Sinkhorn, epsilon {e:g}, top {CAPACITY}": functools.partial(entropic, given, e) for e in EPSILONS},
        **{f"sparse, gamma {g:g}": functools.partial(sparse, given, g) for g in GAMMAS},
        f"sparse, gamma {GAMMA:g}, 10 steps": functools.partial(sparse, given, GAMMA, max_steps=10),
    }
    watches = {method: Stopwatch(run) for method, run in runs.items()}
    interleave(watches, (), repeats)
    found = {method: facts(np.asarray(watch.result[0]), affinity) for method, watch in watches.items()}
    choices = [f for method, f in found.items() if method.startswith("token choice")]
    most, fewest = max(f["affinity"] for f in choices), min(f["dropped"] for f in choices)
    lines = []
    for method, watch in watches.items():
        what, coupling = found[method], watch.result[1]
        if coupling is not None:
            what |= {"row_error": float(coupling.marginal_error), "steps": int(coupling.num_steps)}
            if method.startswith("sparse"):
                what["bars"] = {
                    "no violations": what["violations"] == 0,
                    "affinity": what["affinity"] >= most,
                    "affinity once a token": what["affinity_once"] >= most,
                    "fewer dropped": what["dropped"] < fewest,
                }
        sizes = {"tokens": 256, "experts": EXPERTS, "capacity": CAPACITY}
        case = f"routing/{name}, seed {seed}/{method}"
        quality = what.pop("affinity")
        lines.append(
            record(
                case, sizes, watch.times(), quality, "affinity", dtype="float64", best_once=best_once(affinity), **what
            )
        )
    return lines


def smoothness(name: str, seed: int, ks: tuple[int, ...]) -> list[dict]:
    """Steps to a small gradient for some k, tokens as columns."""
    given, lines, steps = jnp.asarray(affinities(name, seed)).T, [], {}
    for k in ks:
        watch = Stopwatch(functools.partial(sparse, given, GAMMA, k))
        watch()
        coupling = watch.result[1]
        steps[k] = int(coupling.num_steps)
        reached = int(coupling.status) == Status.CONVERGED
        what = {"reached": reached, "row_error": float(coupling.marginal_error)}
        sizes = {"experts": EXPERTS, "tokens": 256, "k": k}
        case = f"steps to 1e-6/{name}, seed {seed}/k = {k}"
        lines.append(record(case, sizes, watch.times(), steps[k], "steps", dtype="float64", **what))
    lines[0] |= {"bars": {"more than k = 8": steps[2] > steps[8]}}
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    jax.config.update("jax_enable_x64", True)
    names, seeds = (("camera",), (0,)) if args.quick else (("camera", "astronaut", "coffee"), (0, 1, 2))
    lines = []
    for name in names:
        for seed in seeds:
            lines += routing(name, seed, args.repeats or (2 if args.quick else 3))
            lines += smoothness(name, seed, (2, 8) if args.quick else (2, 4, 8, EXPERTS))
    emit(lines)


if __name__ == "__main__":
    main()
