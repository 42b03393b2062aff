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
# # From noise to Fashion-MNIST by a gradient flow
#
# A hundred particles start as noise images and move so that their law comes nearer to that of a thousand photographs of
# clothes. There is no network and nothing is trained: the particles go down the gradient of a distance of laws, the energy
# distance,
#
# $$F(\mu) = \mathbb{E}|X - Y| - \tfrac12 \mathbb{E}|X - X'| - \tfrac12 \mathbb{E}|Y - Y'|,$$
#
# half the squared maximum mean discrepancy for the kernel $K(x, y) = -|x - y|$. Every particle is drawn towards the images
# and pushed away by the other particles, with forces that do not fade with distance. Here a particle has 784 coordinates, its
# pixels.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from invjax import check, data, iterate, kernels, plots
from invjax import gradient_flows as gf
from invjax.reducers import Every

images, classes = data.fashion_mnist()
target = images.reshape(1000, 784)
noise = jax.random.uniform(jax.random.key(0), (100, 784))


def mosaic(x, rows=4, columns=10):
    """The first particles as one picture."""
    tiles = np.clip(np.asarray(x[: rows * columns]), 0, 1).reshape(rows, columns, 28, 28)
    return tiles.swapaxes(1, 2).reshape(rows * 28, columns * 28)


plots.panel({"40 of the 1000 images": mosaic(target), "40 of the 100 particles": mosaic(noise)})

# %% [markdown]
# ## The flow
#
# `MMDEnergy` holds the kernel and the target, and `ParticleFlow` is a method like any other: `iterate` runs it as one compiled
# program. With 100 particles and 1000 images all pairs are cheap, so the sums are exact. The time step is long, and momentum
# makes it longer: the kernel has a kink, not a curvature, so nothing blows up, but the particles end by circling around their
# places at a distance of the order of the step.

# %%
energy = gf.MMDEnergy(kernels.NegativeDistance(), target)
flow = gf.ParticleFlow(energy, 10.0, 0.9)
state, path, _ = check(iterate(flow, noise, 400, trace=Every(5)))
clothes = state.position

moments = {f"step {5 * i + 1}": path[i] for i in (0, 3, 12, 79)}
plots.panel({name: mosaic(x) for name, x in moments.items()}, columns=2)

# %%
energies = jax.lax.map(energy, jnp.concatenate([noise[None], path[5::5]]))
plots.energy_decay({"all pairs": energies}, every=25, xlabel="step", title="half the energy distance to the images")

# %% [markdown]
# First all particles come to look like the mean image, because from far away every image pulls the same way. Then they push
# each other apart, and each finds a garment of its own.
#
# How good is it? A hundred particles cannot have distance zero to a thousand images. A hundred of the images themselves,
# chosen at random, are the yardstick, and herding, which chooses them one after another, is a better one. The flow is not
# bound to choose among the images, and does better than both.

# %%
keys = jax.random.split(jax.random.key(1), 20)
draws = jax.vmap(lambda key: jax.random.choice(key, target, (100,), replace=False))(keys)
random_energies = jax.lax.map(energy, draws)
herded = gf.kernel_herding(kernels.NegativeDistance(), target, target, 100)
herded_energy = energy(target[herded])
print(f"100 images at random: {random_energies.mean():.4f} +- {random_energies.std():.4f}")
print(f"100 images by herding: {herded_energy:.4f}")
print(f"100 particles of the flow: {energy(clothes):.4f}, at the start {energy(noise):.4f}")

# %% [markdown]
# Are the particles copies of images? The energy has no reason to forbid it. Below, particles stand above the image that is
# nearest to them. Some are copies, some lie between images of one kind.

# %%
distance = jnp.sqrt(jnp.maximum(jnp.sum(clothes**2, 1)[:, None] + jnp.sum(target**2, 1) - 2 * clothes @ target.T, 0))
nearest = jnp.argmin(distance, axis=1)
pairs = jnp.stack([clothes[:20].reshape(2, 10, 784), target[nearest[:20]].reshape(2, 10, 784)], 1).reshape(40, 784)
print(f"distance to the nearest image: median {jnp.median(distance.min(1)):.2f}")
plots.panel({"particles above their nearest images": mosaic(pairs)})

# %% [markdown]
# ## Slices
#
# For many particles all pairs are too many. Slicing replaces the kernel in 784 dimensions by kernel sums on lines, $|x| =
# c_d\,\mathbb{E}|\langle \xi, x\rangle|$ with a random direction $\xi$, and a sum on a line takes linear time. The price is
# noise: in 784 dimensions one direction tells little. A few directions that are drawn anew in every step, and a short time
# step that averages over them, bring the flow towards the same place, slowly: after 900 steps the energy still falls.

# %%
shapes = ((1100, 784), (100, 784))
centre = target.mean(0)
plan = kernels.plan(
    kernels.NegativeDistance(),
    shapes,
    radius=14.0,
    key=jax.random.key(2),
    method="grid",
    directions="iid",
    num_slices=98,
    centre=centre,
)
sliced = gf.MMDEnergy(kernels.NegativeDistance(), target, plan=plan)
steps = {"step size 0.1": 0.1, "step size 0.3": 0.3}
fresh = {}
for name, step_size in steps.items():
    method = gf.StochasticParticleFlow(sliced, step_size, 0.9, 1000, redraw="iid")
    fresh[name] = check(iterate(method, noise, 900, key=jax.random.key(3), trace=Every(50)))[1]
after = {name: jax.lax.map(energy, path) for name, path in fresh.items()}
plots.energy_decay(after, every=50, xlabel="step", title="98 fresh directions a step")

# %%
plots.panel({f"sliced, {name}": mosaic(path[-1]) for name, path in fresh.items()})

# %% [markdown]
# The noise of the directions acts like a temperature: with the longer step the energy stops falling early, where noise and force
# balance.
#
# Which way is faster depends on the numbers. A plan made with `method="auto"` compares the costs: all pairs take $n (n + m)
# d$ operations, slices $P (2 n + m) d$. For 100 particles it takes all pairs; for a hundred times as many particles and
# images, where a matrix of pairs would have $10^{10}$ entries, it takes slices.

# %%
for n, m in ((100, 1000), (100_000, 100_000)):
    auto = kernels.plan(
        kernels.NegativeDistance(), ((n + m, 784), (n, 784)), 14.0, 0.01, jax.random.key(4), directions="iid"
    )
    print(f"{n:6d} particles, {m:6d} images: {auto.method}, {auto.num_slices} slices, error {auto.error:.3f}")

# %%
start, end = float(energy(noise)), float(energy(clothes))
assert end < 0.01 * start
assert end < random_energies.min()
assert jnp.median(distance.min(1)) < 0.4 * jnp.median(jnp.linalg.norm(target - centre, axis=1))
assert after["step size 0.1"][-1] < 0.1 * start
assert after["step size 0.1"][-1] < after["step size 0.3"][-1]
assert auto.method == "grid"
