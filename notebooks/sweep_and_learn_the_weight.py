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
# # Sixty-four weights at once, and a weight that is learnt
#
# A regularised reconstruction depends on one number that nobody knows: the weight of the prior. A method here is a pure
# function of its arrays, and the weight is one of them. So the weight can be swept, as one compiled program, and it can be
# learnt, by differentiating the reconstruction.

# %%
import time

import jax
import jax.numpy as jnp
import optax

from invjax import InverseProblem, check, iterate, likelihoods, metrics, operators, plots, priors, solve, solvers, sweep
from invjax.data import photograph

kernel, noise = operators.gaussian_kernel(1.6), likelihoods.Gaussian(0.02)


def measured(key, truth):
    """The likelihood of a blurred and noisy measurement of a photograph."""
    problem = InverseProblem(operators.Blur(kernel, truth.shape), noise)
    return problem.likelihood(problem.measure(key, truth))


truth = photograph("camera", 128)
first_key, second_key, sure_key, train_key = jax.random.split(jax.random.key(0), 4)
f = measured(first_key, truth)

# %% [markdown]
# ## The sweep
#
# For each weight: the reconstruction, its distance to the measurement (the discrepancy), Stein's unbiased estimate of its
# risk (SURE), and, only to judge the two, its PSNR. The first two need no truth. `sweep` runs `score` for all 64 weights in one
# program; `batch_size` of them at a time bound the memory. The list records each time that Python runs the function, which
# happens once per compilation.

# %%
weights = jnp.geomspace(0.5, 100.0, 64)
compilations = []


def reconstruct(y, lam, likelihood):
    likelihood = likelihoods.Likelihood(likelihood.operator, likelihood.noise, y)
    prior = priors.TV(y.shape, lam, boundary="circular")
    state, _, _ = iterate(solvers.SplitBregman(likelihood, prior, 20 * lam), y, 40)
    return state.position


def score(lam, key, likelihood, truth):
    compilations.append(lam)
    x = reconstruct(likelihood.y, lam, likelihood)
    risk = solvers.sure(key, lambda y: reconstruct(y, lam, likelihood), likelihood)
    return x, solvers.discrepancy(likelihood, x), risk, metrics.psnr(x, truth)


results = {}
for name, likelihood in {"first": f, "another": measured(second_key, truth)}.items():
    start = time.perf_counter()
    results[name] = jax.block_until_ready(sweep(score, weights, sure_key, likelihood, truth, batch_size=4))
    seconds = time.perf_counter() - start
    print(f"{name} measurement: 64 weights in {seconds:.1f} s, compiled {len(compilations)} time(s) so far")

# %%
images, discrepancy, risk, psnr = results["first"]
plots.panel(
    {f"weight {weights[i]:.1f}": images[i] for i in (0, 16, 28, 48, 63)} | {"truth": truth}, truth=truth, columns=6
)

# %% [markdown]
# ## Two choices that need no truth
#
# SURE takes the weight with the smallest estimated risk. The discrepancy principle takes the weight for which the residual is
# as large as the noise, $|Ax - y|^2 = m \sigma^2$.

# %%
chosen = {
    "SURE": int(jnp.argmin(risk)),
    "discrepancy": int(jnp.argmin(jnp.abs(discrepancy - 1))),
    "truth": int(jnp.argmax(psnr)),
}
for name, i in chosen.items():
    print(f"{name:12} weight {weights[i]:5.2f}, PSNR {psnr[i]:.2f} dB")

figure = plots.NotebookFigure(figsize=(9, 3), layout="constrained")
curves = {"SURE": risk, "discrepancy": discrepancy, "PSNR [dB]": psnr}
for axis, i, (name, values) in zip(figure.subplots(1, 3), chosen.values(), curves.items(), strict=True):
    axis.plot(weights, values)
    axis.axvline(weights[i], color="C1", linestyle="--")
    axis.set(xscale="log", xlabel="weight", title=name)
figure

# %% [markdown]
# ## Learning the weight: through the iterations
#
# A weight can also be learnt from a photograph whose truth is known, and used for others. The loss is the squared error of the
# reconstruction of a part of another photograph; `jax.grad` differentiates through all 40 iterations.

# %%
train_truth = photograph("astronaut", 128, grey=True)[32:96, 32:96]
f_train = measured(train_key, train_truth)


def unrolled_loss(log_lam):
    return jnp.mean((reconstruct(f_train.y, jnp.exp(log_lam), f_train) - train_truth) ** 2)


def learn(loss, num_steps, start=60.0):
    """Adam on the logarithm of the weight; returns the path of the weight."""
    slope_of, adam = jax.jit(jax.grad(loss)), optax.adam(0.5, b1=0.5)
    log_lam = jnp.log(start)
    state, path = adam.init(log_lam), [start]
    for _ in range(num_steps):
        update, state = adam.update(slope_of(log_lam), state)
        log_lam = optax.apply_updates(log_lam, update)
        path.append(float(jnp.exp(log_lam)))
    return path


path = learn(unrolled_loss, 20)
print("weight:", " ".join(f"{lam:.1f}" for lam in path))

# %% [markdown]
# ## Learning the weight: through the solution
#
# `solve` iterates to convergence, and its derivative comes from the implicit function theorem: one linear solve, whatever the
# number of iterations, and none of them in memory. The prior here is smoothed total variation, whose solution is a smooth
# function of the weight.

# %%
eps = 0.05


def smoothed(likelihood, lam):
    prior = priors.SmoothedTV(likelihood.y.shape, lam, eps, boundary="circular")
    method = solvers.GradientDescent(likelihood, prior, 1 / (likelihood.lipschitz + 8 * lam / eps))
    return solve(method, likelihood.y, rtol=1e-5, max_steps=2000)


def implicit_loss(log_lam):
    return jnp.mean((smoothed(f_train, jnp.exp(log_lam)).position - train_truth) ** 2)


by_theorem = jax.grad(implicit_loss)(3.0)
by_difference = (implicit_loss(3.05) - implicit_loss(2.95)) / 0.1
print(f"derivative in the logarithm of the weight: {by_theorem:.3e}, by finite differences {by_difference:.3e}")
implicit_path = learn(implicit_loss, 14)
print("weight:", " ".join(f"{lam:.1f}" for lam in implicit_path))

# %% [markdown]
# ## The learnt weights, on the photograph they have not seen

# %%
unrolled_x = reconstruct(f.y, jnp.float32(path[-1]), f)
implicit_x = check(smoothed(f, jnp.float32(implicit_path[-1]))).position
pictures = {
    "measurement": f.y,
    f"TV, learnt weight {path[-1]:.1f}": unrolled_x,
    f"smoothed TV, learnt weight {implicit_path[-1]:.1f}": implicit_x,
    "TV, best weight": images[chosen["truth"]],
}
plots.panel(pictures, truth=truth)

# %%
best = psnr[chosen["truth"]]
assert len(compilations) == 1
assert psnr[chosen["SURE"]] > best - 0.2
assert metrics.psnr(unrolled_x, truth) > best - 0.5
assert metrics.psnr(implicit_x, truth) > best - 0.7
assert abs(by_theorem / by_difference - 1) < 0.03
assert unrolled_loss(jnp.log(path[-1])) < 0.8 * unrolled_loss(jnp.log(path[0]))
assert implicit_loss(jnp.log(implicit_path[-1])) < 0.8 * implicit_loss(jnp.log(implicit_path[0]))
