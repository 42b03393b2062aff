# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which transport solver when
#
# Optimal transport asks how to carry one distribution of mass to another at the lowest cost. There is no best algorithm for
# it: it depends on how many points there are, how exact the answer has to be, whether all mass has to move, whether one side is
# a density, and what the answer is for. All solvers here share one vocabulary: a problem is a cost and two marginals, and what
# comes back is a coupling. This notebook takes garments of Fashion-MNIST as laws of the plane and meets the solvers in turn.

# %%
import time

import jax
import jax.numpy as jnp
import numpy as np

from invjax import check, data, iterate, kernels, ot, plots
from invjax.reducers import Every

images, _ = data.fashion_mnist()
trousers, boot, shirt, bag = (np.asarray(images[i, ..., 0]) for i in (1, 9, 0, 8))
plots.panel({"trousers": trousers, "boot": boot, "shirt": shirt, "bag": bag}, columns=4)

# %% [markdown]
# ## A hundred points: the exact assignment, and what it can be relaxed to
#
# Draw fifty points from the brightness of two garments. With equally many points of equal mass the optimal coupling is a
# permutation, and `assignment` finds it, with potentials that prove that nothing is cheaper: the duality gap.


# %%
def draw(image, num, seed):
    """Points of the unit square with the brightness of an image as their density."""
    r = np.random.default_rng(seed)
    pixel = r.choice(784, num, p=image.ravel() / image.sum())
    rows, columns = (pixel // 28 + r.uniform(size=num)) / 28, (pixel % 28 + r.uniform(size=num)) / 28
    return np.stack([columns, 1 - rows], 1).astype(np.float32)


x, y = draw(trousers, 50, 0), draw(boot, 50, 1)
problem = ot.between(x, y)
exact = check(ot.assignment(problem))
print(f"cost {exact.transport_cost():.5f}, duality gap {exact.duality_gap:.1e}")

# %% [markdown]
# Everything else trades exactness for something. Entropy makes the coupling smooth, positive, unique and differentiable, at the
# price of a blur that grows with $\varepsilon$; a quadratic penalty keeps most entries exactly zero, and a bound of $k$ sources
# a target is kept by construction.

# %%
couplings = {
    "exact": exact.matrix,
    "entropic, ε = 0.002": check(ot.sinkhorn(problem, 0.002)).matrix,
    "entropic, ε = 0.05": check(ot.sinkhorn(problem, 0.05)).matrix,
    "at most 2 sources": ot.sparse_transport(problem, 0.5, 2).matrix,
}
for name, P in couplings.items():
    cost, entries = jnp.sum(P * problem.matrix), jnp.sum(P > 1e-6)
    print(f"{name:20s}: cost {cost:.5f}, {entries} entries above 1e-6")
plots.transport_lines(x, y, couplings, columns=4)

# %% [markdown]
# ## Small regularisation: Newton's method
#
# The smaller $\varepsilon$, the slower Sinkhorn's iteration. When the plan is nearly sparse, a Newton step needs only its largest
# entries, and converges quadratically. Both methods are run step by step, in double precision; a step of ours is ten
# of Sinkhorn's iterations.

# %%
with jax.enable_x64(True):
    fine = ot.between(np.asarray(x, np.float64), np.asarray(y, np.float64))
    sinkhorn = ot.Sinkhorn(fine, 0.0005)
    residual = Every(of=lambda state, info: info.residual)
    _, slow, _ = iterate(sinkhorn, jnp.zeros(50), 60, trace=residual)
    warm = iterate(sinkhorn, jnp.zeros(50), 12)[0].position
    newton = ot.SinkhornNewton(sinkhorn, 8)
    _, fast, _ = iterate(newton, warm, 10, trace=residual)
slow, fast = np.asarray(slow), np.asarray(fast)
plots.traces(
    {"Sinkhorn": slow, "12 steps of it, then sparse Newton": np.concatenate([slow[:12], fast])},
    log="y", xlabel="step", ylabel="error of the marginals", title="ε = 0.0005",
)  # fmt: skip

# %% [markdown]
# ## Not all mass has to move
#
# Real data have clutter. Here 15 stray points join the trousers. Balanced transport must carry them somewhere; partial transport
# moves just the share that is asked for, here the 50 parts of 65 that are cheapest to move, which need not be the trousers;
# unbalanced transport has a price for mass that appears or vanishes. The size of a dot is the mass that it gives or gets.

# %%
stray = np.random.default_rng(2).uniform([0, 0], [0.25, 1], size=(15, 2)).astype(np.float32)
cluttered = np.concatenate([x, stray])
uneven = ot.between(cluttered, y)
plots.transport_lines(
    cluttered,
    y,
    {
        "all mass": check(ot.sinkhorn(uneven, 0.002)).matrix,
        "50 parts of 65": check(ot.partial(uneven, 50 / 65, 0.002)).matrix,
        "unbalanced, ρ = 0.05": check(ot.unbalanced(uneven, 0.002, 0.05, 0.05)).matrix,
    },
    columns=3,
)

# %% [markdown]
# ## A sweep is one program
#
# `epsilon`, the masses, the points: all are arrays, so `vmap` sweeps them and `grad` differentiates through the solution
# by the implicit function theorem. The cost of the plan grows with $\varepsilon$. The Sinkhorn divergence is biased the other way
# and less, and tends to the squared distance of the means.

# %%
epsilons = jnp.geomspace(0.001, 1.0, 16)
entropic = jax.vmap(lambda e: ot.sinkhorn(problem, e, max_steps=3000).transport_cost())(epsilons)
debiased = jax.vmap(lambda e: ot.sinkhorn_divergence(x, y, e, max_steps=3000))(epsilons)
slope = jax.grad(lambda e: ot.sinkhorn(problem, e).transport_cost())(0.05)
print(f"  ε      entropic   divergence   (exact: {exact.transport_cost():.4f})")
for e, cost, divergence in zip(epsilons[::3], entropic[::3], debiased[::3], strict=True):
    print(f"{e:6.3f}   {cost:7.4f}    {divergence:7.4f}")
print(f"derivative of the entropic cost at ε = 0.05: {slope:.3f}")

# %% [markdown]
# ## Masses on a grid: barycentres of images
#
# Two images of 28 × 28 pixels are a problem of 784 × 784 costs, but a squared distance on a grid is a sum over the axes:
# `GridCost` works along one axis at a time, in the memory of an image. The mean of garments, not of their pixels but of their
# places, is a barycentre; 25 of them, between four corners, are one `vmap` over the weights.

# %%
corners = np.stack([im.ravel() / im.sum() for im in (trousers, boot, shirt, bag)]).astype(np.float32)
axis = jnp.arange(28) / 28
square = ot.GridCost((axis, axis))
s, t = np.meshgrid(np.linspace(0, 1, 5), np.linspace(0, 1, 5), indexing="ij")
weights = np.stack([(1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t], -1).reshape(25, 4).astype(np.float32)
between = jax.jit(jax.vmap(lambda w: ot.entropic_barycenter(square, corners, 0.002, w, debiased=True, atol=1e-2)))(
    weights
)
check(between)
pictures = np.asarray(between.masses).reshape(5, 5, 28, 28)
plots.barycenters(pictures / pictures.max((2, 3), keepdims=True), title="between four garments")

# %% [markdown]
# ## From a density to points: cells
#
# When one side is the uniform law on a polygon, the optimal map is piecewise constant: each site gets the points of one cell, a
# polygon. Newton's method on the exact cells finds them in a few steps; for other densities, which one can only draw from,
# `SemiDiscrete` climbs by stochastic gradients. The sites here are the points of the boot, each of which gets one fiftieth of the
# square.

# %%
found = check(ot.polygon_transport(y))
print(f"W₂² = {found.cost:.4f}, error of the masses {found.residual:.1e} after {found.num_steps} steps")
plots.cells(found.cells, y, values=jnp.sum((found.cells.centroids() - y) ** 2, 1))

# %% [markdown]
# ## Many points, many dimensions
#
# Exact assignment costs $O(n^3)$ at worst and Sinkhorn $O(n^2)$ a step (of more than $2^{24}$ pairs, in tiles: 50,000 points need
# megabytes). A coupling of low rank costs $O(nr)$ a step, and sliced distances cost a sort a direction. Take a thousand garments
# against a thousand others made by turning them upside down, in all 784 dimensions.

# %%
upright = np.asarray(images).reshape(1000, 784)
turned = np.asarray(images[:, ::-1]).reshape(1000, 784)
theta = kernels.directions(jax.random.key(0), "orthogonal", 784, 784)


def timed(name, solve):
    jax.block_until_ready(solve())  # compile
    start = time.perf_counter()
    value = float(jax.block_until_ready(solve()))
    print(f"{name:34s} {value:8.2f}   {time.perf_counter() - start:.3f} s")
    return value


big = ot.between(upright, turned)
best = timed("exact assignment, W₂²", lambda: ot.assignment(big).transport_cost())
smooth = timed("entropic, ε = 1, ⟨P, C⟩", lambda: check(ot.sinkhorn(big, 1.0)).transport_cost())
few = timed("rank 50, ⟨P, C⟩", lambda: ot.low_rank(jax.random.key(0), big, 50, max_steps=200).transport_cost())
sliced = timed("784 × sliced, SW₂²", lambda: 784 * ot.sliced_wasserstein(upright, turned, theta).cost)
moments = [(v.mean(0), np.cov(v.T)) for v in (upright, turned)]
gaussian = timed("between Gaussians, Bures", lambda: ot.bures2(*moments[0], *moments[1]))

# %% [markdown]
# The Gaussian value is a lower bound of the exact one (Gelbrich), low rank and entropy give upper bounds, and the sliced distance
# is another distance: it sees only the projections.
#
# ## In short
#
# | question | solver |
# |---|---|
# | up to about a thousand points, exact, with a proof | `assignment` |
# | on the line, exact, any number | `line_wasserstein`, `line_coupling` |
# | differentiable, smooth, part of a loss | `sinkhorn`; a distance: `sinkhorn_divergence` |
# | small $\varepsilon$ and high accuracy | `sinkhorn_newton` |
# | sparse plans; capacities | `sparse_transport` |
# | outliers, growing masses | `partial`, `unbalanced`, `progressive_partial` |
# | images on grids; means of them | `GridCost`; `entropic_barycenter` |
# | a density to points | `polygon_transport`, `SemiDiscrete` |
# | many points, high dimension, a number | `sliced_wasserstein` |
# | many points, a coupling | `low_rank`; a map to keep: `MapLoss` |
# | covariances only | `bures2`, `bures_map`, `gaussian_barycenter` |

# %%
assert abs(exact.duality_gap) < 1e-6
assert jnp.sum(couplings["exact"] > 1e-6) == 50
assert jnp.all(jnp.sum(couplings["at most 2 sources"] > 0, 0) <= 2)
assert fast[-1] < 1e-12 < 1e-5 < slow[-1]
assert jnp.all(jnp.diff(entropic) > 0)
assert jnp.all(debiased < exact.transport_cost())
assert found.residual < 1e-3
assert gaussian < best < smooth < few
assert sliced < best
