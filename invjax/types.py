"""Protocols, the numeric converter and the argument checks that every other module uses."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree


def real(x: Any) -> Any:
    """Convert a numeric field of a Module into an array that ``jit`` and ``vmap`` can trace.

    Python and NumPy scalars become weakly typed floating arrays, so a float64 hyper-parameter never promotes
    a float32 state and ``ULA(f, g, 1)`` holds a float. Arrays keep their dtype. Whatever is not numeric (None,
    ``jax.ShapeDtypeStruct``, the sentinels that pytree code puts into Modules) passes through unchanged.
    """
    if isinstance(x, (numbers.Real, np.bool_)):
        return jnp.asarray(float(x))
    if isinstance(x, numbers.Complex):
        return jnp.asarray(complex(x))
    leaves = jax.tree.leaves(x) if isinstance(x, (list, tuple)) else ()
    if isinstance(x, np.ndarray) or (leaves and all(_is_number(leaf) for leaf in leaves)):
        return jnp.asarray(x)
    return x


def _is_number(x: Any) -> bool:
    return isinstance(x, (numbers.Number, np.generic, np.ndarray, jax.Array))


def require(
    x: Any,
    name: str,
    *,
    positive: bool = False,
    nonnegative: bool = False,
    below: float | None = None,
    at_least: float | None = None,
    shape: tuple[int, ...] | None = None,
    ndim: int | tuple[int, ...] | None = None,
) -> None:
    """Raise ``ValueError`` (name, expected, got) when ``x`` breaks a rule that can be decided now.

    Shapes are always known, so they are checked under tracing too; values are checked when they are concrete.
    Non-arrays (None, sentinels put in by pytree code) are left alone. ``below`` is strict, ``at_least`` is not.
    """
    if not isinstance(x, (jax.Array, np.ndarray, numbers.Number)):
        return
    x = x if isinstance(x, jax.Array) else np.asarray(x)
    if shape is not None and jnp.shape(x) != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, got {jnp.shape(x)}")
    if ndim is not None and jnp.ndim(x) not in np.atleast_1d(ndim):
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {jnp.shape(x)}")
    if isinstance(x, jax.core.Tracer) or not (positive or nonnegative or below is not None or at_least is not None):
        return
    value = np.asarray(x)
    if np.iscomplexobj(value):
        raise ValueError(f"{name}: expected real values, got {value.dtype}")
    rules = [
        (positive, value > 0, "positive"),
        (nonnegative, value >= 0, "non-negative"),
        (below is not None, value < (below if below is not None else 0), f"below {below}"),
        (at_least is not None, value >= (at_least if at_least is not None else 0), f"at least {at_least}"),
    ]
    for active, holds, text in rules:
        if active and not np.all(holds):  # a NaN fails every comparison, so it is refused here too
            raise ValueError(f"{name}: expected {text} values, got {_short(value)}")


def _short(value: np.ndarray) -> str:
    return str(value) if value.ndim == 0 else f"an array of shape {value.shape} with minimum {value.min()}"


class Fn(eqx.Module):
    """A user's function with its arrays: ``Fn(fn, *arrays)(*args) = fn(*args, *arrays)``.

    ``fn`` is static and the arrays are leaves, so a method that holds it compiles once for all array values. A bare
    lambda works in its place, but compiles once per function object and bakes what it closes over into the program.
    """

    fn: Callable = eqx.field(static=True)
    arrays: tuple

    def __init__(self, fn: Callable, *arrays: Any):
        self.fn = fn
        self.arrays = tuple(real(a) for a in arrays)

    def __call__(self, *args: Any) -> Any:
        return self.fn(*args, *self.arrays)


@runtime_checkable
class Method(Protocol):
    """A deterministic method. ``state`` has ``.position``; ``info`` holds diagnostics (``residual`` for ``solve``).

    ``fixed_point(u) -> u`` (optional) has the solutions as its fixed points and makes ``solve`` differentiable; ``u`` is
    ``state.position``, or ``unknowns(state)``, a tuple that starts with the position, where a method defines that.
    """

    def init(self, x: PyTree, key: PRNGKeyArray | None = None) -> Any: ...

    def step(self, state: Any) -> tuple[Any, Any]: ...


@runtime_checkable
class RandomMethod(Protocol):
    """A random method (sampler, stochastic solver): BlackJAX's ``init`` and ``step(key, state) -> (state, info)``."""

    def init(self, x: PyTree, key: PRNGKeyArray | None = None) -> Any: ...

    def step(self, key: PRNGKeyArray, state: Any) -> tuple[Any, Any]: ...


class HasPotential(Protocol):
    """A term of an objective: ``f(x)`` is a real scalar and ``f.score(x)`` is minus its gradient."""

    def __call__(self, x: Array) -> Array: ...

    def score(self, x: Array) -> Array: ...


class HasProx(Protocol):
    """``prox(x, step_size) = argmin_z step_size f(z) + |z - x|^2 / 2``."""

    def prox(self, x: Array, step_size: Array) -> Array: ...


class Denoiser(Protocol):
    """``D(x, sigma) = E[clean | clean + sigma n = x]``, one sample, ``sigma`` a scalar."""

    def __call__(self, x: Array, sigma: Array) -> Array: ...


class Velocity(Protocol):
    """``v(t, x)`` with ``t`` in [0, 1], 0 the source (noise) and 1 the data; diffrax's argument order."""

    def __call__(self, t: Array, x: Array) -> Array: ...


class Density(Protocol):
    """A normalised density that can be evaluated and sampled."""

    def log_prob(self, x: Array) -> Array: ...

    def sample(self, key: PRNGKeyArray) -> Array: ...


def inner(a: PyTree, b: PyTree) -> Array:
    """Real inner product ``Re sum conj(a) b`` over all leaves of two equal pytrees."""
    products: list[Array] = jax.tree.leaves(jax.tree.map(lambda u, v: jnp.vdot(u, v).real, a, b))
    return sum(products[1:], products[0])


def squared(x: Array) -> Array:
    """``|x|^2`` elementwise, real; unlike that of ``abs(x)**2``, its second derivative is right at zero too."""
    return x.real**2 + x.imag**2 if jnp.iscomplexobj(x) else x**2


def norm(a: PyTree) -> Array:
    """Euclidean norm over all leaves. Its gradient at zero is zero (not NaN)."""
    square = inner(a, a)
    zero = square == 0  # false for NaN, whose norm is NaN
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def num_reals(a: PyTree) -> int:
    """How many real numbers the leaves hold: two for a complex entry."""
    return sum(x.size * (1 + jnp.iscomplexobj(x)) for x in jax.tree.leaves(a))


def all_finite(a: PyTree) -> Array:
    """True when no floating or complex leaf holds a NaN or an infinity."""
    leaves = [x for x in jax.tree.leaves(a) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    # |x| < inf is false for NaN too, and on CPU several times faster than isfinite.
    return jnp.stack([jnp.all(jnp.abs(x) < jnp.inf) for x in leaves]).all() if leaves else jnp.array(True)


def select(condition: Array, if_true: PyTree, if_false: PyTree) -> PyTree:
    """``if_true`` where the scalar ``condition`` holds, else ``if_false``, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def grad(potential_fn: Callable[[Any], Array], x: PyTree) -> PyTree:
    """Gradient of a real function: the direction of steepest ascent, also for complex ``x`` (JAX returns its conjugate)."""
    return jax.tree.map(jnp.conj, jax.grad(potential_fn)(x))


def standard_normal(key: PRNGKeyArray, x: Array) -> Array:
    """N(0, I) noise in the shape and dtype of ``x``. Real and imaginary parts of complex noise are N(0, 1) each.

    So ``x + h score + sqrt(2 h) noise`` samples ``exp(-U)`` as a density of the real and imaginary parts, as
    ``likelihoods.Gaussian`` defines it.
    """
    noise = jax.random.normal(key, x.shape, x.dtype)
    return math.sqrt(2) * noise if jnp.iscomplexobj(x) else noise
