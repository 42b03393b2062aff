"""Clustering of long-tailed digits by pseudo-labels from balanced, semi-relaxed, progressive and semantic transport.

    python benchmarks/imbalanced_clustering.py

Scikit-learn's digits, 170 to 17 a class (690 in all; which class is how large differs by seed), features the pixels scaled to
norm one. A cosine classifier of temperature 0.1 starts at the centres of k-means and takes 300 full-batch steps of Adam at 1e-2
on the cross-entropy with labels from transport, cost minus its log-probabilities, epsilon = 0.1: balanced over the clusters,
relaxed (weight 1), progressive partial (PPOT: of the mass rho_0 + (1 - rho_0) exp(-5 (1 - t / T)^2), rho_0 = 0.1), and with
similarity (SP2OT: Gaussian weights of 20 neighbours, weight 135 (1 - rho), the source's 1000 at its 5120 rows for 690 rows;
three rounds a step from the last coupling). All seeds are one program. The quality is the accuracy, mean over seeds, under the
best matching of clusters to classes (``ot.assignment``); ``balanced`` is the mean over classes. The bars: PPOT and SP2OT at
least 0.05 above balanced transport in both.

Then labels of the untrained classifier whose logits, in 30 % of rows drawn at random, are those of other rows drawn at random:
the quality is the accuracy of the largest entry of every row, labelled or hardly, ``mass_accuracy`` the share of the mass with
the right label, ``corrupted_mass`` that on wrong rows. The bar is SP2OT at least 0.02 above PPOT, in rows and in mass, at every
rho. Needs scikit-learn. Source: Zhang, Ren and He (2024), arXiv 2404.03446.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import Stopwatch, emit, parser, record

from invjax import ot, sweep

CLUSTERS, LARGEST, RATIO, NEIGHBOURS = 10, 170, 10.0, 20
TEMPERATURE, RATE, EPSILON, RELAX, SIMILARITY, ROUNDS = 0.1, 1e-2, 0.1, 1.0, 135.0, 3
FIRST_MASS, CORRUPTED, MASSES, TOLERANCE = 0.1, 0.3, (0.1, 0.3, 0.5, 0.7, 0.9), 1e-4
ADAM = optax.adam(RATE)
NOTHING = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}


def problem(seed: int) -> dict[str, np.ndarray]:
    """Features (n, 64) of norm one, classes, centres of k-means, and similarities (n, n)."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise SystemExit("imbalanced_clustering.py: expected scikit-learn: pip install scikit-learn") from missing
    pixels, classes = load_digits(return_X_y=True)
    r = np.random.default_rng(seed)
    sizes = (LARGEST * RATIO ** (-np.arange(CLUSTERS) / (CLUSTERS - 1))).astype(int)
    parts = [
        r.permutation(np.flatnonzero(classes == c))[:s] for c, s in zip(r.permutation(CLUSTERS), sizes, strict=True)
    ]
    pixels, classes = pixels[np.concatenate(parts)] / 16, classes[np.concatenate(parts)]
    found = KMeans(CLUSTERS, n_init=10, random_state=seed).fit(pixels)
    features, centres = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (pixels, found.cluster_centers_))
    result = {"features": features, "centres": centres, "similarity": neighbours(pixels), "k_means": found.labels_}
    return {name: v.astype(np.float32) for name, v in result.items()} | {"classes": classes}


def neighbours(x: np.ndarray) -> np.ndarray:
    """``exp(-|x_i - x_j|^2 / (2 2^2 d))`` for the nearest others j of i, zero else."""
    square = np.sum((x[:, None] - x[None]) ** 2, -1)
    np.fill_diagonal(square, np.inf)
    ranks = np.argsort(np.argsort(square, 1), 1)
    return np.where(ranks < NEIGHBOURS, np.exp(-square / (8 * x.shape[1])), 0)


def logits_of(weights: jax.Array, features: jax.Array) -> jax.Array:
    """The cosine classifier."""
    return features @ (weights / jnp.linalg.norm(weights, axis=1, keepdims=True)).T / TEMPERATURE


def mass_at(share: jax.Array) -> jax.Array:
    """The mass that is labelled after a share of the training."""
    return FIRST_MASS + (1 - FIRST_MASS) * jnp.exp(-5 * (1 - share) ** 2)


class Balanced:
    """Labels that serve all clusters alike; ``state`` warms the next solve."""

    def start(self, p: ot.Problem, similarity: jax.Array) -> Any:
        """Zero potentials."""
        return jnp.zeros_like(p.a), jnp.zeros_like(p.b)

    def labels(self, p: ot.Problem, mass: jax.Array, similarity: jax.Array, state: Any) -> tuple[Any, Any]:
        """The coupling, and the state after it."""
        coupling = self.coupling(p, mass, state)
        return coupling, (coupling.f, coupling.g)

    def coupling(self, p: ot.Problem, mass: jax.Array, state: Any) -> ot.EntropicCoupling:
        return ot.sinkhorn(p, EPSILON, init=state[1], atol=TOLERANCE)


class SemiRelaxed(Balanced):
    """Columns are held by a weight."""

    def coupling(self, p: ot.Problem, mass: jax.Array, state: Any) -> ot.EntropicCoupling:
        return ot.unbalanced(p, EPSILON, None, RELAX, init=state[1], atol=TOLERANCE)


class Progressive(Balanced):
    """PPOT."""

    def coupling(self, p: ot.Problem, mass: jax.Array, state: Any) -> ot.EntropicCoupling:
        return ot.progressive_partial(p, mass, RELAX, EPSILON, init=state, atol=TOLERANCE)


class Semantic(Balanced):
    """SP2OT: some rounds from the last coupling, which is linearised at."""

    def start(self, p: ot.Problem, similarity: jax.Array) -> Any:
        mass = mass_at(jnp.zeros(()))
        return method_of(p, mass, similarity).init(mass * p.a[:, None] * p.b[None])

    def labels(self, p: ot.Problem, mass: jax.Array, similarity: jax.Array, state: Any) -> tuple[Any, Any]:
        method = method_of(p, mass, similarity)
        state = jax.lax.fori_loop(0, ROUNDS, lambda _, state: method.step(state)[0], state)
        return state.coupling, state


def method_of(p: ot.Problem, mass: jax.Array, similarity: jax.Array) -> ot.SemanticPartial:
    """SP2OT's rounds for a mass."""
    numbers = (jnp.asarray(v, p.dtype) for v in (SIMILARITY * (1 - mass), RELAX, EPSILON, TOLERANCE))
    return ot.SemanticPartial(p, similarity, mass, *numbers, 1000)


METHODS = {
    "balanced": Balanced(),
    "semi-relaxed": SemiRelaxed(),
    "PPOT": Progressive(),
    "SP2OT": Semantic(),
}


def trained(given: dict[str, jax.Array], labeller: Any, shares: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The clusters of all rows after a step at every share of the training, and the largest error of a coupling."""
    features, similarity, weights = given["features"], given["similarity"], given["centres"]

    def loss(weights: jax.Array, labels: jax.Array) -> jax.Array:
        return -jnp.sum(labels * jax.nn.log_softmax(logits_of(weights, features))) / jnp.sum(labels)

    def step(carry: tuple, share: jax.Array) -> tuple[tuple, jax.Array]:
        weights, memory, state = carry
        p = ot.Problem(-jax.nn.log_softmax(logits_of(weights, features)))
        coupling, state = labeller.labels(p, mass_at(share), similarity, state)
        updates, memory = ADAM.update(jax.grad(loss)(weights, coupling.matrix), memory)
        return (optax.apply_updates(weights, updates), memory, state), coupling.marginal_error

    start = labeller.start(ot.Problem(-jax.nn.log_softmax(logits_of(weights, features))), similarity)
    (weights, _, _), errors = jax.lax.scan(step, (weights, ADAM.init(weights), start), shares)
    return jnp.argmax(logits_of(weights, features), 1), jnp.max(errors)


def accuracies(labels: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Accuracy, and its mean over classes, with clusters matched to classes so that the first is largest.

    Labels are weights (n, clusters), or the cluster of every row.
    """
    weights = np.eye(CLUSTERS)[np.asarray(labels, int)] if np.ndim(labels) == 1 else labels
    counts = (weights.T @ np.eye(CLUSTERS)[classes]).astype(np.float32)
    columns = np.asarray(ot.assignment(ot.Problem(-counts)).columns)
    right = counts[np.arange(CLUSTERS), columns]
    return float(right.sum() / counts.sum()), float(np.mean(right / counts.sum(0)[columns]))


def clustering(problems: list[dict], num_steps: int) -> list[dict]:
    """A line for k-means and every kind of labels."""
    names = ("features", "similarity", "centres")
    grid = {name: jnp.stack([p[name] for p in problems]) for name in names}
    shares = jnp.arange(num_steps) / num_steps
    found: dict[str, Any] = {"k-means": ([p["k_means"] for p in problems], NOTHING, {})}
    for name, labeller in METHODS.items():
        watch = Stopwatch(lambda labeller=labeller: sweep(trained, grid, labeller, shares, batch_size=1))
        watch()
        found[name] = (watch.result[0], watch.times(), {"largest_error": float(jnp.max(watch.result[1]))})
    scores = {k: [accuracies(c, p["classes"]) for c, p in zip(v[0], problems, strict=True)] for k, v in found.items()}
    lines, sizes = [], {"rows": len(problems[0]["classes"]), "seeds": len(problems), "steps": num_steps}
    for name, (_, times, facts) in found.items():
        accuracy, balanced = np.mean(scores[name], 0)
        over = np.asarray(scores[name]) - np.asarray(scores["balanced"])
        facts |= {"balanced": balanced, "seeds": scores[name], "over_balanced": over.mean(0).tolist()}
        if len(problems) > 1:
            facts["standard_error"] = (over.std(0, ddof=1) / np.sqrt(len(problems))).tolist()
        if name in ("PPOT", "SP2OT"):
            better = over.mean(0) >= 0.05
            facts["bars"] = {"accuracy": bool(better[0]), "balanced accuracy": bool(better[1])}
        lines.append(record(f"clusters/{name}", sizes, times, float(accuracy), "accuracy", **facts))
    return lines


@jax.jit
def corrected(logits: jax.Array, similarity: jax.Array, mass: jax.Array) -> dict[str, ot.EntropicCoupling]:
    """Labels of PPOT and of SP2OT run to its end."""
    p = ot.Problem(-jax.nn.log_softmax(logits))
    weight = SIMILARITY * (1 - mass)
    return {
        "PPOT": ot.progressive_partial(p, mass, RELAX, EPSILON),
        "SP2OT": ot.semantic_partial(p, similarity, mass, weight, RELAX, EPSILON, rounds=200, rtol=1e-5),
    }


def correction(problems: list[dict], masses: tuple[float, ...]) -> list[dict]:
    """Accuracies of labels from corrupted logits, for some masses."""
    scores: dict[tuple, list] = {}
    for seed, p in enumerate(problems):
        logits, r = np.asarray(logits_of(p["centres"], p["features"])).copy(), np.random.default_rng(1000 + seed)
        n = len(logits)
        wrong = r.choice(n, int(CORRUPTED * n), replace=False)
        logits[wrong] = logits[r.permutation(n)[: len(wrong)]]
        for mass in masses:
            for name, found in corrected(jnp.asarray(logits), p["similarity"], jnp.float32(mass)).items():
                q = np.asarray(found.matrix, float)
                of_mass, of_rows = accuracies(q, p["classes"])[0], accuracies(q.argmax(1), p["classes"])
                share, steps = q[wrong].sum() / q.sum(), int(found.num_steps)
                scores.setdefault((mass, name), []).append((*of_rows, of_mass, share, steps))
    lines, sizes = [], {"rows": len(problems[0]["classes"]), "seeds": len(problems)}
    for (mass, name), values in scores.items():
        accuracy, *rest = np.mean(values, 0)
        facts: dict[str, Any] = dict(zip(("balanced", "mass_accuracy", "corrupted_mass", "steps"), rest, strict=True))
        if name == "SP2OT":
            over = np.mean(values, 0) - np.mean(scores[mass, "PPOT"], 0)
            facts |= {"rows_over_ppot": float(over[0]), "mass_over_ppot": float(over[2])}
            facts["bars"] = {"rows": bool(over[0] >= 0.02), "mass": bool(over[2] >= 0.02)}
        case = f"labels, 30 % of logits wrong/rho = {mass}/{name}"
        lines.append(record(case, sizes, NOTHING, float(accuracy), "accuracy", **facts))
    return lines


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=3)
    args = options.parse_args()
    problems = [problem(seed) for seed in range(1 if args.quick else args.seeds)]
    emit(clustering(problems, 30 if args.quick else 300) + correction(problems, (0.5,) if args.quick else MASSES))


if __name__ == "__main__":
    main()
