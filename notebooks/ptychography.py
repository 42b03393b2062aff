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
# # Ptychography from two photons
#
# A detector counts photons. It sees how bright a wave is and not where it is in its cycle, so half of what the wave carries is
# lost. Ptychography gets it back: a small beam visits overlapping places of the object, and only one object agrees with all
# the diffraction patterns. This notebook measures an object made of two photographs, finds it again with the classical engine
# and with half-quadratic splitting, and then asks what a denoiser adds when photons are few or the places hardly overlap.

# %%
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from invjax import InverseProblem, iterate, likelihoods, metrics, nn, operators, plots, priors, solvers, sweep
from invjax.data import photograph

# %% [markdown]
# ## The object and the beam
#
# The object is complex: its amplitude says how much light it lets through, its phase how much it delays it. Here the amplitude
# is one photograph, in $[0.3, 1]$, and the phase another, in $[0, \pi/2]$. The beam $p$ is a Gaussian with a gently curved
# phase, on 32 x 32 pixels.

# %%
size, window = 96, (32, 32)
amplitude, angle = (photograph(name, size, grey=True) for name in ("camera", "chelsea"))
truth = (0.3 + 0.7 * amplitude) * jnp.exp(0.5j * jnp.pi * angle)

axis = np.arange(32) - 16
square = np.float32(axis[:, None] ** 2 + axis**2)[..., None]
probe = np.where(square < 15**2, np.exp(-square / 10**2 + 1j * square / 60), 0).astype(np.complex64)


def phase(x):
    """The phase as a grey value: white is a quarter of a turn."""
    return jnp.angle(x) / (jnp.pi / 2)


plots.panel({"amplitude": jnp.abs(truth), "phase": phase(truth), "beam": jnp.abs(probe)})

# %% [markdown]
# ## What is measured
#
# At each place $j$ the beam cuts out a window of the object and the wave travels to the detector, a Fourier transform:
# $w_j = F(p \, S_j x)$. The detector counts photons with the mean $N |w_j|^2$. The places are 8 pixels apart, each moved by up
# to one pixel, because a perfect grid would print itself into the result. Three measurements: many photons, few photons, and
# few places.


# %%
class Measurement(NamedTuple):
    scan: operators.Ptychography
    photons: Array
    y: Array


def measure(key, step, photons):
    """Counts, divided by the number of photons per unit of intensity."""
    corners = operators.jitter(
        jax.random.key(1), operators.raster_scan(truth.shape, window, step), 1, truth.shape, window
    )
    scan = operators.Ptychography(probe, corners, truth.shape)
    problem = InverseProblem(operators.PhaseRetrieval(scan), likelihoods.Poisson(1 / photons))
    return Measurement(scan, jnp.float32(photons), problem.measure(key, truth))


cases = {
    "20 photons": measure(jax.random.key(0), 8, 20.0),
    "2 photons": measure(jax.random.key(0), 8, 2.0),
    "20 photons, few places": measure(jax.random.key(0), 16, 20.0),
}
for name, m in cases.items():
    counts = m.y * m.photons
    print(f"{name:24} {len(m.y)} places, {float((counts == 0).mean()):.0%} of the detector's pixels counted nothing")


def detector(y):
    """Square root of the intensities, the zero frequency in the middle."""
    return jnp.fft.fftshift(jnp.sqrt(y[..., 0]))[..., None] / 3


middle = {name: len(m.y) // 2 for name, m in cases.items()}
exact = jnp.abs(cases["20 photons"].scan(truth)[middle["20 photons"]]) ** 2
plots.panel(
    {"no noise": detector(exact)}
    | {name: detector(cases[name].y[middle[name]]) for name in ("20 photons", "2 photons")}
)

# %% [markdown]
# ## Why the phase matters
#
# Suppose the detector's phases were known for one of the windows: a Fourier transform back gives the window. With the right
# amplitudes and the phases set to zero it gives a bright spot and nothing of the object. With the right phases and all
# amplitudes equal, edges are still there.

# %%
place = middle["20 photons"]
wave = cases["20 photons"].scan(truth)[place]
back = operators.FourierTransform((*window, 1)).H
pictures = {
    "amplitudes and phases": back(wave),
    "amplitudes only": jnp.fft.fftshift(back(jnp.abs(wave).astype(wave.dtype))),
    "phases only": back(wave / jnp.abs(wave)),
}
plots.panel({name: jnp.abs(v) / jnp.abs(v).max() for name, v in pictures.items()})

# %% [markdown]
# ## rPIE and half-quadratic splitting
#
# rPIE goes from place to place. At each one it replaces the amplitudes of $w_j$ by the measured ones, keeps the phases, and
# moves the object to agree. It trusts each pattern fully, also a noisy one.
#
# Half-quadratic splitting (HQS) gives each place a wave $u_j$ of its own, near to $w_j$ and near to the data, with a coupling
# $\rho$ that grows; then the object is the average of all the waves, weighted by the light. Both steps are closed form. Because
# the counts are Poisson, the data term is the likelihood of the counts. All start at an object of ones.

# %%


def likelihood(m, noise):
    return InverseProblem(operators.PhaseRetrieval(m.scan), noise).likelihood(m.y)


def coupling(method):
    return method.rho


ones = jnp.ones(truth.shape, jnp.complex64)


@eqx.filter_jit
def rpie(m, alpha=0.5):
    method = solvers.RPIE(likelihood(m, likelihoods.Amplitude(1.0)), alpha)
    return iterate(method, ones, 40, key=jax.random.key(2))[0].position


@eqx.filter_jit
def hqs(m, lam=0.0, denoiser=None):
    method = solvers.PtychographyHQS(likelihood(m, likelihoods.Poisson(1.0)), denoiser, lam)
    return iterate(solvers.Continuation(method, coupling, jnp.geomspace(0.3, 1.0, 60)), ones, 60)[0].position


def aligned(m, x):
    """The object where there is light, turned by the global phase that no measurement can tell."""
    light = m.scan.illumination
    lit = light > 0.2 * light.max()
    return metrics.align_phase(lit * x, lit * truth), lit


def quality(m, x):
    """PSNR of the complex object where there is light."""
    found, lit = aligned(m, x)
    return -10 * jnp.log10(jnp.sum(jnp.abs(found - lit * truth) ** 2) / jnp.sum(lit))


results = {name: {"rPIE": rpie(m), "HQS": hqs(m)} for name, m in cases.items()}
for name, found in results.items():
    print(f"{name:24}", ", ".join(f"{k} {quality(cases[name], x):.1f} dB" for k, x in found.items()))

# %% [markdown]
# ## A denoiser in the splitting
#
# The object step of HQS knows how noisy each of its pixels is: where more light $W$ fell, less. With a prior of weight
# $\lambda$ it becomes "denoise with the level $\sqrt{\lambda / (\rho W)}$", a level for each pixel. The network that comes with
# the package takes such a map. It was trained on real photographs in $[0, 1]$, not on waves, and neither of these two photographs
# was among them. So it sees the real and the imaginary part, rescaled from $[-1, 1]$. It also moves local means a little; the
# photons know these better, and over sixty steps it would add up: `MeanPreserving` puts the means over about six pixels back.
# The weight follows the photons, $\lambda = 0.014 / N$, the same rule for all three measurements.

# %%
network = priors.MeanPreserving(nn.shipped_denoiser("grey"), 6.0)
denoiser = priors.ComplexParts(priors.Rescaled(network, -1.0, 1.0))
for name, m in cases.items():
    results[name]["HQS + denoiser"] = hqs(m, 0.014 / m.photons, denoiser)
    print(f"{name:24}", ", ".join(f"{k} {quality(m, x):.1f} dB" for k, x in results[name].items()))


def compare(name):
    """Amplitudes in the first row, phases in the second."""
    m = cases[name]
    found = {k: aligned(m, x) for k, x in results[name].items()}
    lit = next(iter(found.values()))[1]
    images = {k: x for k, (x, _) in found.items()} | {"truth": lit * truth}
    metric = {k: f"{quality(m, x):.1f} dB" for k, x in results[name].items()}
    first = {k: jnp.abs(x) for k, x in images.items()}
    second = {f"phase: {k}": lit * phase(x) for k, x in images.items()}
    return plots.panel(first | second, metrics=metric, columns=4, title=name)


compare("2 photons")

# %%
compare("20 photons, few places")

# %% [markdown]
# The decibels judge the complex object, amplitude and phase together. With few places the splitting alone is no better than
# rPIE; with the denoiser it is ahead of both in all three measurements. The denoiser removes the grain and keeps edges; it also
# smooths fine texture, such as the fur, that the photons cannot support.

# %% [markdown]
# ## Many weights, one program
#
# Is $0.014 / N$ a good weight? A method is a function of its parameters, so the weight can be swept like any array: `sweep`
# runs the whole reconstruction under `vmap`, as one program compiled once. Only the truth, here at hand, can judge.

# %%
few = cases["2 photons"]
weights = jnp.geomspace(0.0035, 0.056, 5)


def reconstruct(weight, m, denoiser):
    x = hqs(m, weight / m.photons, denoiser)
    return x, quality(m, x)


start = time.perf_counter()
images, found = jax.block_until_ready(sweep(reconstruct, weights, few, denoiser, batch_size=5))
print(f"{len(weights)} reconstructions, one program: {time.perf_counter() - start:.0f} s")
for weight, value in zip(weights, found, strict=True):
    print(f"weight {weight:.4f} / N: {value:.1f} dB")

pictures = {f"{weights[i]:.4f} / N": jnp.abs(aligned(few, images[i])[0]) for i in (0, 2, 4)}
plots.panel(pictures, metrics={f"{weights[i]:.4f} / N": f"{found[i]:.1f} dB" for i in (0, 2, 4)})

# %%
for name, m in cases.items():
    value = {k: quality(m, x) for k, x in results[name].items()}
    assert value["HQS + denoiser"] > max(value["HQS"], value["rPIE"]), name
assert found[2] > found.max() - 1.0
