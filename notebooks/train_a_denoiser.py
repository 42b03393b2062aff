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
# # Train your own denoiser
#
# A denoiser that has seen pictures of your kind is a prior for every inverse problem with such pictures. Here: a small network
# for stained tissue under the microscope, trained from one slide in a minute, stopped and resumed, saved, and used to
# restore a part of the slide that it has never seen.

# %%
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from invjax import (
    InverseProblem,
    iterate,
    likelihoods,
    metrics,
    nn,
    operators,
    plots,
    priors,
    solvers,
    sweep,
)
from invjax.data import photograph
from invjax.train import DenoisingLoss, Patches, Trainer, fit

slide = photograph("immunohistochemistry")
seen, truth = slide[:, :352], slide[192:288, 384:480]
print(f"trained on {seen.shape[0]} x {seen.shape[1]} pixels, tested on {truth.shape[0]} x {truth.shape[1]} others")
plots.panel({"trained on": seen[::4, ::4], "tested on": truth[::4, ::4]})

# %% [markdown]
# ## The network and its loss
#
# $D(x, \sigma)$ is a DRUNet, which is told the noise level, here with few channels. The loss adds noise of a random level to
# clean patches and asks for the patches back; its minimiser is the mean of all clean images that could be behind a noisy one.
#
# `nnx.split` separates the structure of the network from its weights. What is trained is the weights, by a pure function of
# weights, key and batch: `Trainer.step`.

# %%
net = nn.DRUNet(3, (32, 64), 1, residual=True, patch=2, rngs=nnx.Rngs(0))
graph, params = nnx.split(net)
print(f"{sum(w.size for w in jax.tree.leaves(params))} weights")

STEPS = 700
schedule = optax.warmup_cosine_decay_schedule(0.0, 4e-3, 50, STEPS)
optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
trainer = Trainer(DenoisingLoss(graph, sigma_max=0.3), optimiser, ema_decay=0.98)
patches = Patches([np.asarray(seen)], size=48, batch_size=8, seed=1)
state = trainer.init(params, jax.random.key(0))

# %% [markdown]
# ## Training, and stopping in between
#
# `fit` compiles the step once, writes a line of JSON now and then, and keeps checkpoints: weights, optimiser, averaged weights,
# key and step. Everything random is a function of the seed and the number of the step, so a run that was stopped goes on as
# if it had not been.

# %%
folder = pathlib.Path(tempfile.mkdtemp())
losses = []
half = fit(
    trainer, state, patches, STEPS // 2, folder=folder, log_every=50, on_log=lambda r, s: losses.append(r["loss"])
)
print(f"stopped after {int(half.step)} steps")
trained = fit(trainer, state, patches, STEPS, folder=folder, log_every=50, on_log=lambda r, s: losses.append(r["loss"]))
print(
    f"resumed, and done after {int(trained.step)}; the log has {len((folder / 'log.jsonl').read_text().splitlines())} lines"
)
plots.traces({"loss": np.array(losses)}, log="y", xlabel="fifty steps", ylabel="mean loss")

# %% [markdown]
# ## What has it learnt?
#
# The averaged weights go into the network, and `frozen` makes it a Module of arrays: a pure function that solvers can
# hold. It is compared with total variation, whose weight is the best of twelve, chosen with the truth at hand.

# %%
nnx.update(net, trained.ema_params)
D = nn.frozen(net)
SIGMA = 25 / 255
noisy = truth + SIGMA * jax.random.normal(jax.random.key(1), truth.shape)
tv = priors.TV(truth.shape)
by_weight = jax.jit(jax.vmap(tv.prox, in_axes=(None, 0)))(noisy, SIGMA * jnp.geomspace(0.2, 2.0, 12))
best = by_weight[jnp.argmax(jax.vmap(metrics.psnr, in_axes=(0, None))(by_weight, truth))]
denoised = {"noisy": noisy, "total variation, best weight": best, "ours": D(noisy, SIGMA)}
for name, x in denoised.items():
    print(f"{name:29} PSNR {metrics.psnr(x, truth):.2f} dB")
plots.panel(denoised, truth=truth)

# %% [markdown]
# ## Keep it
#
# One file, which knows its architecture: whoever loads it need not know how it was made.

# %%
nn.save(D, folder / "tissue.safetensors", dtype="float16")
D = nn.frozen(nn.load(folder / "tissue.safetensors"))
print(f"{(folder / 'tissue.safetensors').stat().st_size / 1000:.0f} kB")

# %% [markdown]
# ## Use it: a problem that it was not trained for
#
# The slide out of focus: a Gaussian blur of 1.6 pixels, and noise. Plug-and-play half-quadratic splitting (DPIR) alternates
# between the data and the denoiser, from coarse noise levels to fine ones. Its weight and that of total variation are swept, each
# as one program; both get their best.

# %%
A = operators.Blur(operators.gaussian_kernel(1.6), truth.shape)
problem = InverseProblem(A, likelihoods.Gaussian(0.02))
y = problem.measure(jax.random.key(3), truth)
f = problem.likelihood(y)
levels = solvers.dpir_sigmas(0.02, 12, 0.3)


def with_denoiser(lam, f, D):
    return iterate(solvers.DPIR(f, D, levels, lam), f.y, 12)[0].position


def with_tv(lam, f):
    g = priors.TV(truth.shape, lam, boundary="circular")
    return iterate(solvers.SplitBregman(f, g, 20 * lam), f.y, 100)[0].position


restored = sweep(with_denoiser, jnp.geomspace(0.1, 1.0, 5), f, D, batch_size=1)
restored_tv = sweep(with_tv, jnp.geomspace(1.0, 20.0, 10), f, batch_size=1)
pictures = {"measured": y}
for name, images in {"total variation, deblurred": restored_tv, "ours, deblurred": restored}.items():
    quality = jax.vmap(metrics.psnr, in_axes=(0, None))(images, truth)
    pictures[name] = images[jnp.argmax(quality)]
    print(f"{name:27} PSNR {jnp.max(quality):.2f} dB")
plots.panel(pictures, truth=truth)

# %% [markdown]
# A larger network, more pictures and more steps make it better; nothing else changes. `benchmarks/shipped_denoiser.py` trained
# the denoisers that come with the package in the same way, over a mesh of devices: `fit(..., mesh=mesh)`.

# %%
psnr = {name: float(metrics.psnr(x, truth)) for name, x in (denoised | pictures).items()}
assert int(trained.step) == STEPS
assert losses[-1] < 0.7 * losses[0]
assert psnr["ours"] > psnr["total variation, best weight"] + 0.3
assert psnr["ours, deblurred"] > psnr["total variation, deblurred"] + 0.2
