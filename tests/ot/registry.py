"""Every solver, map and distance of transport: one line each, as a function of arrays with a scalar that has a derivative."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from invjax import ot

N, M, DIM = 7, 5, 2


class Case(NamedTuple):
    """``run(**make(r))`` is a pytree of arrays; ``value`` of it is differentiated in the arrays named by ``along``."""

    make: Any
    run: Any
    value: Any = lambda out: out.value
    along: tuple = ("C", "a", "b", "epsilon")
    finite: bool = True  # a NaN in the first array is told by a status
    strict: bool = True  # nothing of optax or jax.scipy's solvers inside, which promote dtypes


def matrix(r):
    return {
        "C": r.uniform(size=(N, M)),
        "a": r.dirichlet(np.full(N, 3.0)),
        "b": r.dirichlet(np.full(M, 3.0)),
        "epsilon": r.uniform(0.05, 0.1),
    }


def points(r):
    return {
        "x": r.normal(size=(N, DIM)),
        "y": r.normal(size=(M, DIM)) + 1,
        "a": r.dirichlet(np.full(N, 3.0)),
        "b": r.dirichlet(np.full(M, 3.0)),
    }


def square(r):
    return {"C": r.uniform(size=(N, N))}


def clouds(r):
    return {"x": r.normal(size=(N, DIM)), "y": r.normal(size=(N, DIM)) + 1}


def grids(r):
    axes = {name: np.sort(r.uniform(size=size)) for name, size in (("x0", 3), ("x1", 2), ("y0", 2), ("y1", 4))}
    return axes | {"a": r.dirichlet(np.full(6, 3.0)), "b": r.dirichlet(np.full(8, 3.0))}


def measures(r, size, num=3):
    return {"measures": r.dirichlet(np.full(size, 3.0), num), "weights": r.dirichlet(np.full(num, 3.0))}


def laws(r):
    def covariance():
        root = r.normal(size=(DIM, DIM))
        return root @ root.T + 0.3 * np.eye(DIM)

    return {"m0": r.normal(size=DIM), "s0": covariance(), "m1": r.normal(size=DIM), "s1": covariance()}


def directions(r, num=4):
    d = r.normal(size=(num, DIM))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def tight(dtype):
    return 1e-11 if dtype == jnp.float64 else 1e-4


CASES = {
    "sinkhorn": Case(matrix, lambda C, a, b, epsilon: ot.sinkhorn(ot.Problem(C, a, b), epsilon, atol=tight(C.dtype))),
    "sinkhorn_points": Case(
        lambda r: points(r) | {"epsilon": r.uniform(0.5, 1)},
        lambda x, y, a, b, epsilon: ot.sinkhorn(ot.between(x, y, a, b), epsilon, atol=tight(x.dtype)),
        along=("x", "y", "a", "b", "epsilon"),
    ),
    "sinkhorn_distance": Case(
        lambda r: points(r) | {"power": r.uniform(1.2, 1.8)},
        lambda x, y, a, b, power: ot.sinkhorn(
            ot.between(x, y, a, b, cost_fn=ot.Distance(power)), 0.5, atol=tight(x.dtype)
        ),
        lambda out: out.transport_cost(),
        along=("x", "y", "a", "b", "power"),
    ),
    "sinkhorn_grid": Case(
        grids,
        lambda x0, x1, y0, y1, a, b: ot.sinkhorn(
            ot.Problem(ot.GridCost((x0, x1), (y0, y1)), a, b), 0.1, atol=tight(a.dtype)
        ),
        lambda out: out.value + out.transport_cost() + jnp.vdot(jnp.arange(6.0) ** 2, out.apply(jnp.arange(8.0))),
        along=("x0", "x1", "y0", "y1", "a", "b"),
    ),
    "entropic_barycenter": Case(
        lambda r: {"C": r.uniform(size=(N, M)), "epsilon": r.uniform(0.05, 0.1)} | measures(r, M),
        lambda C, epsilon, measures, weights: ot.entropic_barycenter(
            C, measures, epsilon, weights, atol=tight(C.dtype)
        ),
        lambda out: out.value + jnp.vdot(jnp.arange(float(N)) ** 2, out.masses) + jnp.sum(out.f**2) + jnp.sum(out.g**2),
        along=("C", "epsilon", "measures", "weights"),
    ),
    "debiased_barycenter": Case(
        lambda r: {"x": r.normal(size=(N, DIM)), "epsilon": r.uniform(0.2, 0.3)} | measures(r, N),
        lambda x, epsilon, measures, weights: ot.entropic_barycenter(
            ot.PointCost(x, x), measures, epsilon, weights, debiased=True, atol=tight(x.dtype)
        ),
        lambda out: out.value + jnp.vdot(jnp.arange(float(N)) ** 2, out.masses),
        along=("x", "epsilon", "measures", "weights"),
    ),
    "sliced_barycenter": Case(
        lambda r: (
            clouds(r) | {"z": r.normal(size=(M, DIM)), "directions": directions(r), "weights": r.dirichlet([3, 3, 3])}
        ),
        lambda x, y, z, directions, weights: ot.sliced_barycenter((x, y, z), directions, weights),
        lambda out: out.value + jnp.vdot(jnp.arange(float(N)) ** 2, out.positions[:, 0]),
        along=("x", "y", "z", "directions", "weights"),
    ),
    "sinkhorn_newton": Case(
        matrix,
        lambda C, a, b, epsilon: ot.sinkhorn_newton(
            ot.Problem(C, a, b), epsilon, num_kept=4, num_warm=2, atol=tight(C.dtype)
        ),
        lambda out: out.value + jnp.vdot(jnp.arange(N) ** 2.0, out.f) + jnp.sum(out.g),
        strict=False,
    ),
    "unbalanced": Case(
        lambda r: matrix(r) | {"relax_a": r.uniform(0.2, 1), "relax_b": r.uniform(0.2, 1, M)},
        lambda C, a, b, epsilon, relax_a, relax_b: ot.unbalanced(
            ot.Problem(C, a, 2 * b), epsilon, relax_a, relax_b, atol=tight(C.dtype)
        ),
        lambda out: out.value + out.transport_cost(),
        along=("C", "a", "b", "epsilon", "relax_a", "relax_b"),
    ),
    "semi_relaxed": Case(
        lambda r: matrix(r) | {"relax_b": r.uniform(0.2, 1)},
        lambda C, a, b, epsilon, relax_b: ot.unbalanced(
            ot.Problem(C, a, b), epsilon, None, relax_b, atol=tight(C.dtype)
        ),
        along=("C", "a", "b", "epsilon", "relax_b"),
    ),
    "partial": Case(
        lambda r: matrix(r) | {"mass": r.uniform(0.4, 0.7)},
        lambda C, a, b, epsilon, mass: ot.partial(ot.Problem(C, a, b), mass, epsilon, atol=tight(C.dtype)),
        lambda out: out.value + out.transport_cost(),
        along=("C", "a", "b", "epsilon", "mass"),
    ),
    "partial_points": Case(
        lambda r: points(r) | {"mass": r.uniform(0.4, 0.7)},
        lambda x, y, a, b, mass: ot.partial(ot.between(x, y, a, b), mass, 0.5, atol=tight(x.dtype)),
        along=("x", "y", "a", "b", "mass"),
    ),
    "progressive_partial": Case(
        lambda r: matrix(r) | {"mass": r.uniform(0.4, 0.7), "relax_b": r.uniform(0.5, 1)},
        lambda C, a, b, epsilon, mass, relax_b: ot.progressive_partial(
            ot.Problem(C, a, b), mass, relax_b, epsilon, atol=tight(C.dtype)
        ),
        lambda out: out.value + out.transport_cost(),
        along=("C", "a", "b", "epsilon", "mass", "relax_b"),
    ),
    "semantic_partial": Case(
        lambda r: matrix(r) | {"mass": r.uniform(0.4, 0.7), "lam": r.uniform(0.1, 0.3), "S": np.eye(N) + 0.3},
        lambda C, a, b, epsilon, mass, lam, S: ot.semantic_partial(
            ot.Problem(C, a, b), S, mass, lam, 1.0, epsilon, atol=tight(C.dtype), rtol=100 * tight(C.dtype)
        ),
        None,
    ),
    "sparse": Case(
        matrix,
        lambda C, a, b, epsilon: ot.sparse_transport(ot.Problem(C, a, b), epsilon, 6, atol=tight(C.dtype)),
        lambda out: out.value + out.transport_cost(),
        strict=False,
    ),
    "quadratic": Case(
        points,
        lambda x, y, a, b: ot.sparse_transport(ot.between(x, y, a, b), 5.0, atol=tight(x.dtype)),
        along=("x", "y", "a", "b"),
        strict=False,
    ),
    "assignment": Case(square, lambda C: ot.assignment(ot.Problem(C)), lambda out: out.transport_cost(), along=("C",)),
    "assignment_points": Case(
        clouds,
        lambda x, y: ot.assignment(ot.between(x, y)),
        lambda out: out.transport_cost(),
        along=("x", "y"),
    ),
    "low_rank": Case(
        lambda r: points(r) | {"epsilon": r.uniform(0.01, 0.1)},
        lambda x, y, a, b, epsilon: ot.low_rank(
            jax.random.key(0), ot.between(x, y, a, b), 3, epsilon=epsilon, atol=1e-3, max_steps=200
        ),
        None,
        strict=False,
    ),
    "line": Case(
        lambda r: {"x": r.normal(size=N), "y": r.normal(size=M), "a": r.dirichlet(np.full(N, 3.0)), "power": 1.7},
        lambda x, y, a, power: ot.line_wasserstein(x, y, a, power=power),
        lambda out: out,
        along=("x", "y", "a", "power"),
        finite=False,
    ),
    "sliced": Case(
        lambda r: clouds(r) | {"directions": directions(r), "power": 1.5},
        lambda x, y, directions, power: ot.sliced_wasserstein(x, y, directions, power=power),
        lambda out: out.cost + out.distance,
        along=("x", "y", "directions", "power"),
        finite=False,
    ),
    "sliced_weighted": Case(
        lambda r: points(r) | {"directions": directions(r, 3)},
        lambda x, y, a, b, directions: ot.sliced_wasserstein(x, y, directions, a, b, energy_based=True),
        lambda out: out.cost,
        along=("x", "y", "a", "b", "directions"),
        finite=False,
    ),
    "sliced_circular": Case(
        lambda r: clouds(r) | {"directions": directions(r), "radius": r.uniform(2, 3)},
        lambda x, y, directions, radius: ot.sliced_wasserstein(x, y, ot.CircularProjection(directions, radius)),
        lambda out: out.cost,
        along=("x", "y", "directions", "radius"),
        finite=False,
    ),
    "sliced_polynomial": Case(
        lambda r: clouds(r) | {"coefficients": r.normal(size=(3, 4))},
        lambda x, y, coefficients: ot.sliced_wasserstein(x, y, ot.PolynomialProjection(coefficients, 3)),
        lambda out: out.cost,
        along=("x", "y", "coefficients"),
        finite=False,
    ),
    "max_sliced": Case(
        lambda r: clouds(r) | {"directions": directions(r)},
        lambda x, y, directions: ot.max_sliced_wasserstein(x, y, directions, num_steps=60),
        lambda out: out[0],
        along=("x", "y"),
        finite=False,
    ),
    "bures": Case(
        laws,
        lambda m0, s0, m1, s1: (ot.bures2(m0, s0, m1, s1), ot.bures_map(m0, s0, m1, s1)),
        lambda out: out[0] + jnp.sum(out[1].matrix ** 2),
        along=("m0", "s0", "m1", "s1"),
        finite=False,
    ),
    "gaussian_barycenter": Case(
        laws,
        lambda m0, s0, m1, s1: ot.gaussian_barycenter(jnp.stack([m0, m1]), jnp.stack([s0, s1])),
        lambda out: jnp.sum(out.covariance**2) + jnp.sum(out.mean**2),
        along=("m0", "s0", "m1", "s1"),
        finite=False,
    ),
    "sinkhorn_divergence": Case(
        lambda r: points(r) | {"epsilon": r.uniform(0.5, 1)},
        lambda x, y, a, b, epsilon: ot.sinkhorn_divergence(x, y, epsilon, a, b, atol=tight(x.dtype)),
        lambda out: out,
        along=("x", "y", "a", "b", "epsilon"),
        finite=False,
    ),
    "monge_gap": Case(
        lambda r: clouds(r) | {"epsilon": r.uniform(0.5, 1)},
        lambda x, y, epsilon: tuple(
            ot.monge_gap(x, y, epsilon, kind=kind, atol=tight(x.dtype)) for kind in ("exact", "entropic", "primal")
        ),
        sum,
        along=("x", "y", "epsilon"),
        finite=False,
    ),
    "pairing": Case(
        lambda r: clouds(r) | {"seed": np.float64(r.integers(100))},
        lambda x, y, seed: (
            ot.ExactPairing()(jax.random.key(0), x, y),
            ot.EntropicPairing(0.5)(jax.random.key(seed.astype(jnp.int32)), x, y),
            ot.LowRankPairing(2, max_steps=20)(jax.random.key(seed.astype(jnp.int32)), x, y),
        ),
        None,
        finite=False,
        strict=False,
    ),
    "polygon": Case(
        lambda r: {"sites": r.uniform(0.1, 0.9, size=(N, 2)), "b": r.dirichlet(np.full(N, 8.0))},
        lambda sites, b: ot.polygon_transport(sites, b, atol=tight(sites.dtype)),
        lambda out: out.cost,
        along=("sites", "b"),
        strict=False,
    ),
}
