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
# # Learn what to measure, and what has blurred the picture
#
# The parameters of an operator (a mask, angles, a kernel) are arrays like any other. A reconstruction is a pure function of
# them, so its error can be differentiated in what is measured: where to sample k-space, from which angles to look. And
# where the measurement is given but the operator is not fully known, its parameters can be found from the measurement alone.
# No part of this needs code that the package does not have.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

from invjax import InverseProblem, iterate, likelihoods, metrics, operators, plots, priors, solvers
from invjax.data import photograph


def total_variation(f, lam, start, num_steps):
    """A fixed number of split Bregman steps: a differentiable function of everything in ``f``, and of the weight."""
    prior = priors.TV(start.shape, lam, boundary="circular")
    return iterate(solvers.SplitBregman(f, prior, 20 * lam), start, num_steps)[0].position


def descend(loss, parameters, learning_rate, num_steps):
    """Adam; returns the parameters and the losses."""
    optimiser = optax.adam(learning_rate)

    def step(carry, _):
        parameters, state = carry
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(parameters, updates), state), value

    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), length=num_steps))
    (parameters, _), losses = run(parameters)
    return parameters, losses


# %% [markdown]
# ## Which lines of k-space to measure
#
# A magnetic resonance scanner measures one line of k-space after the other, and time allows a quarter of them. Here each line
# has a weight between 0 and 1, their sum is the budget, and the weights are learnt on five photographs through the whole
# reconstruction. In the end the lines with the largest weights are taken.

# %%
size, budget, sigma = 96, 24, 0.03
shape = (size, size, 1)
training = jnp.stack([photograph(n, size, grey=True) for n in ("chelsea", "coffee", "rocket", "motorcycle", "coins")])
held_out = jnp.stack([photograph(n, size, grey=True) for n in ("camera", "astronaut")])


def scan_and_restore(key, lines, lam, truth, num_steps):
    """Measure the lines of the truth with noise, and reconstruct."""
    mask = jnp.broadcast_to(lines[:, None, None], shape)
    A = operators.single_coil_mri(mask, shape) @ operators.as_complex(shape)
    problem = InverseProblem(A, likelihoods.Gaussian(sigma))
    y = problem.measure(key, truth)
    return total_variation(problem.likelihood(y), lam, A.H(y), num_steps)


def within_budget(logits):
    """Weights in [0, 1] whose sum is the budget."""
    weights, share = jax.nn.sigmoid(logits), budget / size
    mean = weights.mean()
    return jnp.where(mean >= share, weights * share / mean, 1 - (1 - weights) * (1 - share) / (1 - mean))


def error(parameters):
    keys = jax.random.split(jax.random.key(0), len(training))
    lines, lam = within_budget(parameters["logits"]), jnp.exp(parameters["log_weight"])
    restored = jax.vmap(scan_and_restore, (0, None, None, 0, None))(keys, lines, lam, training, 20)
    return jnp.mean((restored - training) ** 2)


start = {"logits": jnp.zeros(size), "log_weight": jnp.log(jnp.float32(10.0))}
learnt, losses = descend(error, start, 0.3, 40)
weights = within_budget(learnt["logits"])
chosen = jnp.zeros(size).at[jnp.argsort(-weights)[:budget]].set(1.0)
print(f"error on the training images: {-10 * np.log10(losses[0]):.2f} -> {-10 * np.log10(losses[-1]):.2f} dB")

# %% [markdown]
# Compared on photographs that were not trained on, with the same number of lines: the central ones alone, and lines drawn
# with a density that falls with the frequency (the mean of eight draws).

# %%
frequency = np.abs(np.arange(size) - size // 2) / (size // 2)


def drawn(key, centre=6):
    """A mask with the central lines, and others drawn with a density that falls with their frequency."""
    central = jnp.abs(jnp.arange(size) - (size - 1) / 2) < centre / 2
    density = jnp.where(central, 0.0, (1 - frequency) ** 4 + 1e-6)
    others = jax.random.choice(key, size, (budget - centre,), replace=False, p=density / density.sum())
    return central.astype(jnp.float32).at[others].set(1.0)


@jax.jit
def restore_held_out(lines):
    keys = jax.random.split(jax.random.key(1), len(held_out))
    return jax.vmap(scan_and_restore, (0, None, None, 0, None))(keys, lines, 10.0, held_out, 80)


masks = {
    "central lines": [(np.abs(np.arange(size) - (size - 1) / 2) < budget / 2).astype(np.float32)],
    "drawn": [drawn(k) for k in jax.random.split(jax.random.key(2), 8)],
    "learnt": [chosen],
}
quality = {name: np.mean([metrics.psnr(restore_held_out(m), held_out) for m in many]) for name, many in masks.items()}
for name, value in quality.items():
    print(f"{name:14s} {value:.2f} dB")
stripes = {f"{name}: lines": np.broadcast_to(np.asarray(many[0])[:, None, None], shape) for name, many in masks.items()}
pictures = {name: restore_held_out(many[0])[0] for name, many in masks.items()}
lines_of_psnr = {name: f"{metrics.psnr(picture, held_out[0]):.2f} dB" for name, picture in pictures.items()}
plots.panel({**pictures, **stripes}, columns=3, metrics=lines_of_psnr)

# %% [markdown]
# ## From which angles to look
#
# Seven X-ray views of parts that all lie nearly the same way: which angles show them best? The angles are an array of the
# operator, so they are learnt like the lines above, from six training parts, starting from equispaced ones.

# %%
num_pixels, num_views, xray_noise = 40, 7, likelihoods.Gaussian(0.005)
part_shape = (num_pixels, num_pixels, 1)


def part(key):
    """Four bars, turned by 25 degrees give or take three."""
    x = jnp.arange(num_pixels) - (num_pixels - 1) / 2

    def bar(key):
        turn_key, place_key, size_key = jax.random.split(key, 3)
        turn = jnp.deg2rad(25 + 3 * jax.random.normal(turn_key))
        centre = jax.random.uniform(place_key, (2,), minval=-10, maxval=10)
        half = jax.random.uniform(size_key, (2,), minval=jnp.array([2.0, 5.0]), maxval=jnp.array([4.0, 12.0]))
        right, up = x[None, :] - centre[0], -x[:, None] - centre[1]
        u, v = jnp.cos(turn) * right + jnp.sin(turn) * up, jnp.cos(turn) * up - jnp.sin(turn) * right
        return jax.nn.sigmoid(4 * (half[0] - jnp.abs(u))) * jax.nn.sigmoid(4 * (half[1] - jnp.abs(v)))

    return jnp.clip(0.5 * jax.vmap(bar)(jax.random.split(key, 4)).sum(0), 0, 1)[..., None]


def scan_part(key, angles, lam, truth, num_steps):
    """Measure a part from the given angles, and reconstruct it with total variation by FISTA."""
    A = operators.parallel_beam(angles, part_shape, 57, pixel_size=1 / num_pixels)
    problem = InverseProblem(A, xray_noise)
    step_size = xray_noise.sigma**2 / (1.3 * num_views / num_pixels)  # below 1 / L for any angles
    method = solvers.FISTA(problem.likelihood(problem.measure(key, truth)), priors.TV(part_shape, lam), step_size)
    return iterate(method, jnp.zeros(part_shape), num_steps)[0].position


training_parts = jax.vmap(part)(jax.random.split(jax.random.key(5), 6))
new_parts = jax.vmap(part)(jax.random.split(jax.random.key(6), 6))


def scan_error(parameters):
    keys = jax.random.split(jax.random.key(7), len(training_parts))
    angles, lam = parameters["angles"], jnp.exp(parameters["log_weight"])
    restored = jax.vmap(scan_part, (0, None, None, 0, None))(keys, angles, lam, training_parts, 40)
    return jnp.mean((restored - training_parts) ** 2)


equispaced = jnp.linspace(0, jnp.pi, num_views, endpoint=False)
start = {"angles": equispaced, "log_weight": jnp.log(jnp.float32(10.0))}
scan, scan_losses = descend(scan_error, start, 0.04, 30)
print("angles learnt, in degrees:", np.sort(np.rad2deg(scan["angles"]) % 180).round())


@jax.jit
def scan_new_parts(angles):
    keys = jax.random.split(jax.random.key(8), len(new_parts))
    return jax.vmap(scan_part, (0, None, None, 0, None))(keys, angles, jnp.exp(scan["log_weight"]), new_parts, 100)


views = [scan_new_parts(equispaced + t) for t in jnp.linspace(0, jnp.pi / num_views, 4)]
turned = [metrics.psnr(v, new_parts) for v in views]
learnt_views = scan_new_parts(scan["angles"])
learnt_psnr = metrics.psnr(learnt_views, new_parts)
print(f"new parts: equispaced angles {min(turned):.2f} to {max(turned):.2f} dB, learnt {learnt_psnr:.2f} dB")
plots.panel(
    {"a new part": new_parts[0], "equispaced": views[0][0], "learnt": learnt_views[0]},
    truth=new_parts[0],
)

# %% [markdown]
# ## A blur that is not known
#
# The picture below was blurred by a Gaussian of two unknown widths. Only the blurred picture and the noise level are given.
# Stein's unbiased estimate of the risk (SURE) judges a reconstruction without the truth: for the right operator and weight it is
# small. So both widths and the weight are found by descending it, through the total-variation solver and the operator.

# %%
truth = photograph("camera", 128)
true_widths, blur_noise = jnp.array([2.4, 1.2]), likelihoods.Gaussian(0.01)


def blur(widths):
    return operators.Blur(operators.gaussian_kernel(widths, size=25), truth.shape)


y = InverseProblem(blur(true_widths), blur_noise).measure(jax.random.key(3), truth)


def deblur(widths, lam, y, num_steps=20):
    f = InverseProblem(blur(widths), blur_noise).likelihood(y)
    return total_variation(f, lam, y, num_steps)


def risk(parameters):
    widths, lam = jnp.exp(parameters["log_widths"]), jnp.exp(parameters["log_weight"])
    f = InverseProblem(blur(widths), blur_noise).likelihood(y)
    return 1e4 * solvers.sure(jax.random.key(4), lambda y: deblur(widths, lam, y), f)


start = {"log_widths": jnp.log(jnp.array([1.2, 1.2])), "log_weight": jnp.log(jnp.float32(20.0))}
found, risks = descend(risk, start, 0.1, 60)
widths, lam = jnp.exp(found["log_widths"]), jnp.exp(found["log_weight"])
print(f"widths: first guess 1.20, 1.20; found {widths[0]:.2f}, {widths[1]:.2f}; true 2.40, 1.20")

# %%
restored = {
    "first guess": deblur(jnp.array([1.2, 1.2]), lam, y, 100),
    "found": deblur(widths, lam, y, 100),
    "true kernel": deblur(true_widths, lam, y, 100),
}
plots.panel({"truth": truth, "measurement": y, **restored}, truth=truth, columns=5)

# %%
assert quality["learnt"] > quality["drawn"] > quality["central lines"]
assert learnt_psnr > max(turned)
assert jnp.all(jnp.abs(widths / true_widths - 1) < 0.25)
assert metrics.psnr(restored["found"], truth) > metrics.psnr(restored["first guess"], truth) + 1
