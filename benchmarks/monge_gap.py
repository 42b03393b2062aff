"""Maps from N(0, I) to eight normal laws on a ring, trained with and without the Monge gap, for two costs; and a step's seconds.

    python benchmarks/monge_gap.py

The map is a perceptron with three hidden layers of 64 units and GELU, trained by 1000 steps of Adam at 1e-3 on batches of 128:
Sinkhorn divergence plus lambda times the entropic Monge gap, epsilon = 0.05, for lambda 0 and 1 and three seeds, all in one
program. The ring has radius 2, its laws deviation 0.2. On 512 fresh points, the same for all maps, in float64 and exactly
(assignments): the cost that is paid for T, the least W_c(x, T(x)), their difference, the gap, which is the quality, and the fit
W_c(T(x), y) beside its floor, the mean of W_c between two samples of the target over five pairs, and beside W_c(x, y), about
what an optimal map pays. The bars, seed by seed: a gap of at most a fiftieth of that of lambda = 0, and a fit at most 20 % above
its own. Then 100 steps with lambda = 1 from the same weights on the same batches, beside ott-jax's losses in an equal scan.
Source: Uscidda and Cuturi (2023), ICML, scaled down.
"""

from __future__ import annotations

import functools
import itertools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import Peer, Stopwatch, against, emit, interleave, parser, record, without

from invjax import grid_product, ot, sweep
from invjax.train import Trainer

EPSILON, BATCH, RATE, POINTS, WIDTHS = 0.05, 128, 1e-3, 512, (2, 64, 64, 64, 2)
RADIUS, DEVIATION, MODES = 2.0, 0.2, 8
TOLERANCE, MAX_ITERATIONS = 1e-3, 1000  # of every Sinkhorn, ours and the peer's
COSTS = {"|x - y|^2": ot.SquaredEuclidean(), "|x - y|^1.5": ot.Distance(1.5)}
ADAM = optax.adam(RATE)
NOTHING = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}

Weights = list[tuple[jax.Array, jax.Array]]


def weights(key: jax.Array) -> Weights:
    """Initial weights of variance 1 / inputs, and no biases."""
    sizes = list(itertools.pairwise(WIDTHS))
    keys = jax.random.split(key, len(sizes))
    draws = [jax.random.normal(k, size) / jnp.sqrt(size[0]) for k, size in zip(keys, sizes, strict=True)]
    return [(w, jnp.zeros(w.shape[1])) for w in draws]


def perceptron(params: Weights, x: jax.Array) -> jax.Array:
    """The map."""
    for w, b in params[:-1]:
        x = jax.nn.gelu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


def source(key: jax.Array, num: int) -> jax.Array:
    """Points of N(0, I)."""
    return jax.random.normal(key, (num, 2))


def target(key: jax.Array, num: int) -> jax.Array:
    """Points of the normal laws on the ring."""
    of_mode, of_noise = jax.random.split(key)
    angles = 2 * jnp.pi / MODES * jax.random.randint(of_mode, (num,), 0, MODES)
    centres = RADIUS * jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    return centres + DEVIATION * jax.random.normal(of_noise, (num, 2))


def trainer_of(lam: Any, cost_fn: Any) -> Trainer:
    """A trainer for a weight of the gap; a step of our Sinkhorn is ten iterations."""
    loss = ot.MapLoss(perceptron, lam, EPSILON, cost_fn, atol=TOLERANCE, max_steps=MAX_ITERATIONS // 10)
    return Trainer(loss, ADAM)


def trained(point: dict[str, jax.Array], steps: jax.Array, cost_fn: Any) -> Weights:
    """Weights after as many steps as ``steps`` has entries, for one lambda and seed; batches depend on the seed alone."""
    trainer = trainer_of(point["lam"], cost_fn)
    of_start, of_batches = jax.random.split(jax.random.key(point["seed"].astype(jnp.int32)))

    def step(state: Any, number: jax.Array) -> tuple[Any, None]:
        of_x, of_y = jax.random.split(jax.random.fold_in(of_batches, number))
        return trainer.step(state, (source(of_x, BATCH), target(of_y, BATCH)))[0], None

    return jax.lax.scan(step, trainer.init(weights(of_start), of_start), steps)[0].params


def judged(params: Weights, cost_fn: Any, num: int) -> dict[str, float]:
    """Costs of a map on fresh points, in float64."""
    of_x, of_y = jax.random.split(jax.random.key(100))
    x, y = source(of_x, num), target(of_y, num)
    z = perceptron(params, x)
    with jax.enable_x64(True):
        x, y, z = (jnp.asarray(np.asarray(v, np.float64)) for v in (x, y, z))
        paid, gap = float(jnp.mean(jax.vmap(cost_fn)(x, z))), float(ot.monge_gap(x, z, cost_fn=cost_fn))
        fit = least_cost(z, y, cost_fn)
    return {"gap": gap, "paid": paid, "least": paid - gap, "fit": fit}


def least_cost(x: jax.Array, y: jax.Array, cost_fn: Any) -> float:
    """``W_c`` of two samples of equal size."""
    return float(ot.assignment(ot.between(x, y, cost_fn=cost_fn)).transport_cost())


def references(cost_fn: Any, num: int) -> dict[str, float]:
    """The floor of the fit, and what it costs to move the source to the target."""
    keys = jax.random.split(jax.random.key(200), (5, 3))
    floors = [least_cost(target(k[0], num), target(k[1], num), cost_fn) for k in keys]
    moves = [least_cost(source(k[2], num), target(k[0], num), cost_fn) for k in keys]
    return {"floor": float(np.mean(floors)), "floor_deviation": float(np.std(floors, ddof=1)), "move": np.mean(moves)}


def maps(name: str, num_steps: int, num: int) -> list[dict]:
    """A line for every lambda and seed."""
    cost_fn = COSTS[name]
    grid = grid_product({"lam": [0.0, 1.0], "seed": [0.0, 1.0, 2.0]})
    found = sweep(trained, grid, jnp.arange(num_steps), cost_fn, batch_size=1)
    known, quality = references(cost_fn, num), {}
    for lane, (lam, seed) in enumerate(zip(grid["lam"], grid["seed"], strict=True)):
        quality[int(lam), int(seed)] = judged(jax.tree.map(lambda a, i=lane: a[i], found), cost_fn, num)
    lines, sizes = [], {"steps": num_steps, "batch": BATCH, "points": num}
    for (lam, seed), facts in quality.items():
        case, facts = f"Monge gap/{name}, seed {seed}/lambda = {lam}", dict(facts)
        if lam:
            without_gap = quality[0, seed]
            facts["over_without"] = facts["gap"] / without_gap["gap"]
            facts["bars"] = {
                "gap": facts["gap"] <= without_gap["gap"] / 50,
                "fit": facts["fit"] <= 1.2 * without_gap["fit"],
            }
        lines.append(record(case, sizes, NOTHING, facts.pop("gap"), "gap", **facts, **known))
    return lines


@functools.partial(jax.jit, static_argnames="name")
def steps_on(params: Weights, batches: tuple[jax.Array, jax.Array], name: str) -> tuple[Weights, jax.Array]:
    """Weights after a step on each batch with lambda = 1, and the losses."""
    trainer = trainer_of(1.0, COSTS[name])
    state, info = jax.lax.scan(lambda *at: trainer.step(*at), trainer.init(params, jax.random.key(0)), batches)
    return state.params, info.loss


def seconds(args: Any, name: str, num_steps: int) -> list[dict]:
    """Equal steps, ours and the peer's; the quality is the mean loss of the last ten."""
    of_start, of_x, of_y = jax.random.split(jax.random.key(0), 3)
    params = weights(of_start)
    batches = tuple(
        jax.vmap(draw, (0, None))(jax.random.split(key, num_steps), BATCH)
        for draw, key in ((source, of_x), (target, of_y))
    )
    watch = Stopwatch(lambda: steps_on(params, batches, name))
    flat = {f"{kind}{i}": np.asarray(v) for i, layer in enumerate(params) for kind, v in zip("wb", layer, strict=True)}
    given = {
        **flat,
        **{"x": np.asarray(batches[0]), "y": np.asarray(batches[1]), "rate": RATE, "epsilon": EPSILON},
        **{"power": 2.0 if name.endswith("^2") else 1.5, "tolerance": TOLERANCE, "max_iterations": MAX_ITERATIONS},
    }
    peer = Peer("ott-jax", "ott_monge_gap.py", sys.executable, given)
    interleave({"ours": watch}, [peer], args.repeats or (2 if args.quick else 3))
    loss = float(np.mean(watch.result[1][-10:]))
    sizes = {"steps": num_steps, "batch": BATCH}
    mine = record(f"Monge gap/{num_steps} steps/{name}", sizes, watch.times(), loss, "loss")
    lines = [without(mine, peer)] if peer.missing else []
    for variant, facts in peer.facts.items():
        # The same steps but for what the tolerance leaves: the losses agree within a few per cent.
        as_good = loss <= 1.02 * facts["loss"]
        lines.append(against(mine, peer, variant, facts["loss"], ours_is_as_good=as_good))
    peer.close()
    return lines


def main() -> None:
    args = parser(__doc__.splitlines()[0]).parse_args()
    num_steps, num = (100, 128) if args.quick else (1000, POINTS)
    lines = []
    for name in list(COSTS)[: 1 if args.quick else None]:
        lines += maps(name, num_steps, num)
        lines += seconds(args, name, 20 if args.quick else 100)
    emit(lines)


if __name__ == "__main__":
    main()
