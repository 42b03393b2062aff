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
# # Gradient flows on the line
#
# A gradient flow moves a probability law $\mu$ so that a functional falls as fast as it can, where distance is the Wasserstein
# distance $W_2$. Here the functional is the distance to a target law $\nu$ for the kernel $K(x, y) = -|x - y|$,
#
# $$F(\mu) = \mathbb{E}|X - Y| - \tfrac12 \mathbb{E}|X - X'| - \tfrac12 \mathbb{E}|Y - Y'| = \int (R_\mu - R_\nu)^2\,dx,$$
#
# with distribution functions $R$. On the line everything can be computed: a law is its quantile function $g(s)$, $W_2$ is the
# $L_2$ distance of quantile functions, and the flow is one equation for every level $s$ by itself,
#
# $$\frac{d}{dt} g_t(s) \in 2s - 2\,[R_\nu(g_t(s)-),\ R_\nu(g_t(s))].$$
#
# The paper: Duong, Stein, Beinert, Hertrich and Steidl, *Wasserstein Gradient Flows of MMD Functionals with Distance Kernel and
# Cauchy Problems on Quantile Functions*, arXiv 2408.07498.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from invjax import iterate, plots
from invjax.gradient_flows import (
    DiracTarget,
    DiscreteTarget,
    ExplicitQuantileFlow,
    ImplicitQuantileFlow,
    NormalMixtureTarget,
    UniformTarget,
    exact_quantile_flow,
    quantile_energy,
    quantile_levels,
    quantile_to_density,
)
from invjax.reducers import Every


def path(method, g, num_steps):
    """The quantile functions after 0, 1, ... steps, and the smallest difference of neighbouring quantiles of each step."""
    trace = Every(of=lambda state, info: (state.position, info.slack))
    _, (positions, slack), _ = iterate(method, g, num_steps, trace=trace)
    return jnp.concatenate([g[None], positions]), slack


def axes(columns, size, **labels):
    """A figure and its axes."""
    figure = plots.NotebookFigure(figsize=size, layout="constrained")
    found = figure.subplots(1, columns)
    for axis in np.ravel(found):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, found


n = 1000
s = quantile_levels(n)

# %% [markdown]
# ## A point becomes diffuse at once
#
# All mass sits at $-1$, and the target is all mass at $0$. A point mass has no density, so one might think that it travels as
# a whole. But every level has its own velocity, $2s$: the mass spreads at once to a uniform law, whose front reaches the target
# at $t = 1/2$ and stops there. So $g_t(s) = \min(-1 + 2st, 0)$. The scheme is implicit Euler: each step is the proximal map of
# $F$, solved level by level. For this pair of laws it makes no error, whatever the step size.

# %%
tau = 0.05
dirac, _ = path(ImplicitQuantileFlow(DiracTarget(0.0), tau), -jnp.ones(n), 80)
exact_dirac = jnp.minimum(2 * s * tau * jnp.arange(81)[:, None] - 1, 0)
dirac_error = jnp.max(jnp.abs(dirac - exact_dirac))
print(f"largest error over all times and levels: {dirac_error:.1e}")

times = [0.0, 0.1, 0.25, 0.5, 1.0, 4.0]
plots.quantiles({f"t = {t:g}": dirac[round(t / tau)] for t in times})

# %% [markdown]
# ## A Gaussian splits towards two far modes
#
# From $N(0, 1/4)$ to an equal mixture of $N(-10, 1)$ and $N(10, 1)$. Only the target's distribution function enters. No level is
# faster than 2, and between the modes level $s$ moves at the velocity $2s - 1$, so the gap empties slowly: the density there is
# $1/(2t)$, and $F$ falls a little faster than $1/t^2$ in the end.

# %%
target = NormalMixtureTarget([-10.0, 10.0], [1.0, 1.0])
start = NormalMixtureTarget(0.0, 0.5).quantile(s)
split, split_slack = path(ImplicitQuantileFlow(target, 0.05), start, 2000)
energies = jax.vmap(quantile_energy, (0, None))(split, target)

times = [0, 2, 5, 10, 20, 100]
plots.quantiles({f"t = {t}": split[20 * t] for t in times}, target=target.quantile(s), density_limit=0.3)

# %%
plots.energy_decay({"": energies}, step_size=0.05, log="xy", ylabel="F", title="the functional falls at every step")

# %% [markdown]
# ## Explicit Euler and atoms
#
# With a discrete target the velocity jumps at every atom. The exact flow is piecewise linear in time, and `exact_quantile_flow`
# adds up the crossing times. A particle stops at the atom that has its level, or crosses it at a lower speed.
#
# Explicit Euler steps over the atom and back, for ever. Implicit Euler stops at it.

# %%
atoms = DiscreteTarget([-1.5, -0.4, 0.5, 1.6], [0.2, 0.3, 0.3, 0.2])
few = 20
begin, coarse = jnp.linspace(-2.3, -0.9, few), 0.2
t_fine = jnp.linspace(0, 6, 601)
characteristics = jax.vmap(lambda t: exact_quantile_flow(t, begin, atoms))(t_fine)
schemes = {"explicit": ExplicitQuantileFlow(atoms, coarse), "implicit": ImplicitQuantileFlow(atoms, coarse)}
few_paths = {name: path(method, begin, 30)[0] for name, method in schemes.items()}

shown = {"exact": characteristics} | {f"{name} Euler, step {coarse}": x for name, x in few_paths.items()}
intervals = {name: 6 / (len(x) - 1) for name, x in shown.items()}  # all of them end at time 6
plots.trajectories(shown, target=atoms.atoms, step_size=intervals, xlabel="t", ylabel="x")

# %% [markdown]
# In the middle panel particles change places near the atoms: what should be a quantile function is no longer in order. The
# smallest difference of neighbouring quantiles, `slack` in the diagnostics of a step, shows it. A scheme that is a proximal map
# stays in the cone of non-decreasing functions.

# %%
wide = jnp.linspace(-2.3, -0.9, n)
many_paths = {name: path(method, wide, 30) for name, method in schemes.items()}
slack = {name: result[1] for name, result in many_paths.items()}
figure, (left, right) = axes(2, (9, 3.4))
for name, colour in (("explicit", "C1"), ("implicit", "C0")):
    left.plot(coarse * jnp.arange(1, 31), slack[name], color=colour, label=name)
    right.plot(s, many_paths[name][0][10], color=colour, linewidth=1, label=name)
right.plot(s, exact_quantile_flow(10 * coarse, wide, atoms), color="k", linewidth=0.8, linestyle="--", label="exact")
left.set(xlabel="t", title="smallest difference of neighbours")
right.set(xlabel="level s", ylabel="g(s)", title=f"at t = {10 * coarse:g}")
left.legend(frameon=False)
right.legend(frameon=False)
figure

# %% [markdown]
# ## All step sizes in one program
#
# A step size is an array of the method, so `vmap` runs many of them at once. For the uniform target on $[0, 1]$ the flow is
# known, $g_t(s) = s + (g_0(s) - s) e^{-2t}$, and for a discrete one it is computed exactly. Both schemes have an error
# proportional to the step size $\tau$; for the discrete target it is at most $2\tau$, since each crossing of an atom of
# weight $w$ comes at most one step late or early. The proximal property holds for long steps too.

# %%
halvings = jnp.arange(6)
steps = 0.2 * 0.5**halvings
rows = 5 * 2**halvings  # time 1


def at_time_one(scheme, target, g):
    def one(step_size, row):
        positions, slack = path(scheme(target, step_size), g, 160)
        return positions[row], slack.min()

    return jax.jit(jax.vmap(one))(steps, rows)


uniform_start = jnp.full(n, 0.3)
problems = {
    "uniform": (UniformTarget(0.0, 1.0), uniform_start, s + (uniform_start - s) * jnp.exp(-2.0)),
    "discrete": (atoms, wide, exact_quantile_flow(1.0, wide, atoms)),
}
errors, worst, lowest = {}, {}, {}
for kind, (law, g, exact) in problems.items():
    for name, scheme in (("implicit", ImplicitQuantileFlow), ("explicit", ExplicitQuantileFlow)):
        ends, least = at_time_one(scheme, law, g)
        errors[kind, name] = jnp.sqrt(jnp.mean((ends - exact) ** 2, axis=1))
        worst[kind, name] = jnp.max(jnp.abs(ends - exact), axis=1)
        lowest[kind, name] = least.min()

figure, panels = axes(2, (9, 3.4))
for axis, kind in zip(panels, problems, strict=True):
    for name, marker, colour in (("implicit", "o", "C0"), ("explicit", "s", "C1")):
        axis.loglog(steps, errors[kind, name], marker=marker, color=colour, label=name)
    axis.loglog(steps, 0.5 * errors[kind, "implicit"][-1] * steps / steps[-1], "k--", linewidth=0.8, label="slope 1")
    axis.set(xlabel="step size", title=f"{kind} target")
    axis.minorticks_off()
panels[0].set_ylabel("L2 error at t = 1")
panels[0].legend(frameon=False)
figure

# %%
for (kind, name), values in errors.items():
    print(f"{kind:9s} {name}: errors {values[0]:.4f} to {values[-1]:.5f}, smallest difference {lowest[kind, name]:.1e}")

# %%
order = {key: float(jnp.log2(values[:-1] / values[1:]).mean()) for key, values in errors.items()}
assert dirac_error < 1e-5
assert jnp.all(jnp.diff(dirac, axis=1) >= 0)
assert split_slack.min() > 0
assert jnp.all(jnp.diff(energies) < 0)
assert abs(quantile_to_density(split[-1]).density[n // 2] * 2 * 100 - 1) < 0.01
assert 4 < energies[1000] / energies[2000] < 5
assert slack["explicit"].min() < -0.05
assert slack["implicit"].min() > -1e-6
assert all(0.8 < value < 1.2 for value in order.values()), order
assert all(jnp.all(worst["discrete", name] <= 2 * steps + 1e-5) for name in ("implicit", "explicit"))
assert lowest["discrete", "implicit"] > -1e-6 > lowest["discrete", "explicit"]
