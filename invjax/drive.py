"""The drivers: ``iterate``, ``solve`` and ``sample`` own every loop over iterations.

A method is a Module with pure ``init`` and ``step`` (see ``types.Method``). The compiled cores hold no host callback, so
they lower for every platform and can be used inside ``jit``, ``vmap``, ``grad`` and ``shard_map``. Progress bars, logs
and checkpoints live outside: ``num_chunks`` runs the same compiled program in equal chunks and calls ``on_chunk(run)``
between them, and ``resume=run`` continues from such a ``run``. With a key, step ``i`` uses ``fold_in(key, i)`` counted
from the start of the run: whole, chunked and resumed runs are bit-identical.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .implicit import implicit_solve
from .reducers import Every, Reducer
from .types import all_finite, norm, real, select


class Status(enum.IntEnum):
    """How a lane ended: the int32 in ``Solution.status``, ``Samples.status`` and the third result of ``iterate``."""

    CONVERGED = 0
    """``solve``: residual below tolerance. ``iterate``, ``sample``: all steps done, all finite."""
    MAX_STEPS = 1
    NON_FINITE = 2
    DIVERGED = 3


_RUNNING = -1
_INIT_KEY = 2**32 - 1  # the fold that init uses: no step index reaches it


class Run(NamedTuple):
    """Everything that a run carries from step to step: what ``on_chunk`` receives and ``resume`` takes."""

    step: Int[Array, ""]
    state: Any
    status: Int[Array, ""]
    info: Any
    trace: PyTree


class Solution(NamedTuple):
    """Result of ``solve``. ``position`` is differentiable (implicitly); the other fields are diagnostics."""

    position: PyTree
    state: Any
    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    residual: Float[Array, ""]
    trace: PyTree


class Samples(NamedTuple):
    """Result of ``sample``: what ``collect`` kept, the last state and info, and the status of the chain."""

    collected: PyTree
    state: Any
    info: Any
    status: Int[Array, ""]


def iterate(
    method: Any,
    x: PyTree,
    num_steps: int,
    *,
    key: PRNGKeyArray | None = None,
    trace: PyTree | None = None,
    checkpoint_every: int | None = None,
    num_chunks: int = 1,
    on_chunk: Callable[[Run], None] | None = None,
    resume: Run | None = None,
) -> tuple[Any, PyTree, Array]:
    """Run exactly ``num_steps`` steps of ``method`` from ``x``; returns ``(state, trace, status)``.

    Reverse-differentiable: the loop is a ``scan``, and ``checkpoint_every=k`` bounds the memory of the gradient to
    num_steps / k + k states at the price of one more forward pass. ``key=None`` selects the deterministic form
    ``step(state)``. ``trace`` is a reducer or a pytree of reducers. A lane whose position stops being finite freezes at
    its last finite state with status ``NON_FINITE``; ``check`` turns that into an exception.

    Raises ``ValueError`` when a count is not positive, or when a step changes the shape or dtype of the state.
    """
    _require_count(num_steps, "num_steps", 0)
    _require_count(checkpoint_every, "checkpoint_every", 1)
    run = _begin(lambda: _start(method, _as_arrays(x), key, trace, num_steps), resume)
    done = int(run.step) if resume is not None else 0
    for size in _chunks(num_steps - done, num_chunks):
        run = _advance(method, run, key, trace, size, checkpoint_every)
        if on_chunk is not None:
            on_chunk(run)
    return run.state, _finalize(trace, run.trace), run.status


def sample(
    key: PRNGKeyArray,
    method: Any,
    x: PyTree,
    num_samples: int,
    *,
    burn_in: int = 0,
    thinning: int = 1,
    collect: PyTree = Every(1),
    num_chunks: int = 1,
    on_chunk: Callable[[Run], None] | None = None,
    resume: Run | None = None,
) -> Samples:
    """Run one chain of ``burn_in + num_samples * thinning`` steps and reduce every ``thinning``-th state after burn-in.

    ``collect`` is a reducer or a pytree of them (all positions by default; ``Moments()`` keeps mean and variance only).
    Many chains are one ``vmap`` over keys. BlackJAX algorithms run here unchanged (they are closures: one compilation
    per object). A chain that stops being finite freezes, with status ``NON_FINITE``. Raises ``ValueError`` as ``iterate``.
    """
    run = schedule(
        lambda: _start(method, _as_arrays(x), key, collect, num_samples),
        lambda run, size: _advance(method, run, key, None, size, None),
        lambda run, size: _collect(method, run, key, collect, size, thinning, jnp.asarray(burn_in)),
        (num_samples, burn_in, thinning),
        num_chunks=num_chunks,
        on_chunk=on_chunk,
        resume=resume,
    )
    return Samples(_finalize(collect, run.trace), run.state, run.info, run.status)


def schedule(
    start: Callable[[], Run],
    advance: Callable[[Run, int], Run],
    collect: Callable[[Run, int], Run],
    counts: tuple[int, int, int],
    *,
    num_chunks: int,
    on_chunk: Callable[[Run], None] | None,
    resume: Run | None,
) -> Run:
    """The Python layer of sampling: burn-in and collection in equal chunks. ``counts`` is (num_samples, burn_in, thinning)."""
    num_samples, burn_in, thinning = counts
    _require_count(num_samples, "num_samples", 1)
    _require_count(burn_in, "burn_in", 0)
    _require_count(thinning, "thinning", 1)
    run = _begin(start, resume)
    done = int(run.step.ravel()[0]) if resume is not None else 0
    warm, kept = min(done, burn_in), max(done - burn_in, 0) // thinning
    # A chunk is num_samples / num_chunks samples; burn-in is cut to chunks of as many steps, so that progress is even.
    warm_chunks = max(1, round(num_chunks * burn_in / (num_samples * thinning))) if num_chunks > 1 else 1
    for part, sizes in (
        (advance, _chunks(burn_in - warm, warm_chunks)),
        (collect, _chunks(num_samples - kept, num_chunks)),
    ):
        for size in sizes:
            run = part(run, size)
            if on_chunk is not None:
                on_chunk(run)
    return run


def solve(
    method: Any,
    x: PyTree,
    *,
    key: PRNGKeyArray | None = None,
    rtol: Any = 1e-5,
    atol: Any = 1e-8,
    max_steps: int = 1000,
    trace: PyTree | None = None,
) -> Solution:
    """Step until ``info.residual <= atol + rtol |position|`` or ``max_steps``; differentiable by the implicit function theorem.

    A method with ``fixed_point`` (proximal gradient, primal-dual, ...) gives ``position`` the derivative of the exact
    solution in every array of the method: one linear solve (GMRES) with the fixed-point map, memory independent of the
    number of steps. The derivative is that of a converged solution: check ``status``. A method without ``fixed_point``
    raises when differentiated; ``iterate`` differentiates through its steps. If the linear solve fails (a fixed point that
    is not isolated), the derivative is NaN rather than wrong.

    Raises ``ValueError`` when ``method`` reports no ``residual``.
    """
    _require_count(max_steps, "max_steps", 1)
    return _solve(method, _as_arrays(x), key, real(rtol), real(atol), max_steps, trace)


class SolveError(RuntimeError):
    """Raised by ``check``: some lane of a result did not end well."""


_ADVICE = {
    Status.MAX_STEPS: "did not reach the tolerance: raise max_steps, loosen rtol, or use a faster method",
    Status.NON_FINITE: "became non-finite: check the measurement for NaN and reduce the step size",
    Status.DIVERGED: "diverged (residual above 1e6 times the first): reduce the step size below its stability bound",
}


def check(result: Any) -> Any:
    """Return ``result`` if every lane ended well, else raise ``SolveError`` with lanes, cause and advice. Outside jit only.

    ``result`` is a ``Solution``, ``Samples``, the triple of ``iterate``, or a status array.
    """
    status: Any = getattr(result, "status", result[2] if isinstance(result, tuple) and len(result) == 3 else result)
    if isinstance(status, jax.core.Tracer):
        raise ValueError("result: check needs concrete values; call it outside jit, vmap and grad")
    codes = np.atleast_1d(np.asarray(status))
    if codes.dtype.kind not in "iu":
        raise ValueError(f"result: expected a Solution, Samples, (state, trace, status) or status, got {type(result)}")
    lines = []
    for code, advice in _ADVICE.items():
        lanes = [tuple(int(i) for i in lane) for lane in np.argwhere(codes == code)]
        if lanes:
            names = ", ".join(str(lane[0] if len(lane) == 1 else lane) for lane in lanes[:10])
            where = (
                f"lanes {names}{' ...' if len(lanes) > 10 else ''} of {codes.size}" if np.ndim(status) else "the run"
            )
            lines.append(f"{where} {advice}")
    if lines:
        raise SolveError("; ".join(lines))
    return result


def _require_count(n: Any, name: str, least: int) -> None:
    if n is not None and (not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < least):
        raise ValueError(f"{name}: expected an integer >= {least}, got {n!r}")


def _as_arrays(x: PyTree) -> PyTree:
    return jax.tree.map(lambda a: a if isinstance(a, jax.Array) else jnp.asarray(a), x)


def _begin(start: Callable[[], Run], resume: Run | None) -> Run:
    """The first run, or the one to resume, which must have the shapes that this call would start with."""
    if resume is None:
        return start()
    expected = jax.tree_util.tree_leaves_with_path(jax.eval_shape(start))
    got = jax.tree_util.tree_leaves_with_path(resume)
    for (path, a), (other, b) in itertools.zip_longest(expected, got, fillvalue=((), jnp.zeros(()))):
        if path != other or jnp.shape(a) != jnp.shape(b):
            raise ValueError(
                f"resume: expected{jax.tree_util.keystr(path)} of shape {jnp.shape(a)}, got{jax.tree_util.keystr(other)} of "
                f"shape {jnp.shape(b)}; the method, x, num_steps or num_samples, and trace or collect must be those of the start"
            )
    return resume


def _chunks(total: int, num_chunks: int) -> list[int]:
    """Sizes of at most ``num_chunks`` chunks: equal where ``total`` allows it, since every other size compiles again."""
    _require_count(num_chunks, "num_chunks", 1)
    if total <= 0:
        return []
    equal = max(n for n in range(1, min(num_chunks, total) + 1) if total % n == 0)
    size = total // equal if 2 * equal >= num_chunks else -(-total // num_chunks)
    return [min(size, total - start) for start in range(0, total, size)]


def _is_reducer(x: Any) -> bool:
    return isinstance(x, Reducer) or all(callable(getattr(x, n, None)) for n in ("init", "update", "finalize"))


def _map_reducers(fn: Callable, reducers: PyTree, *rest: PyTree) -> PyTree:
    return jax.tree.map(fn, reducers, *rest, is_leaf=_is_reducer)


def _observe(reducers: PyTree, acc: PyTree, state: Any, info: Any, i: Array) -> PyTree:
    return _map_reducers(lambda r, a: r.update(a, r.of(state, info), i), reducers, acc)


@eqx.filter_jit
def _finalize(reducers: PyTree, acc: PyTree) -> PyTree:
    return _map_reducers(lambda r, a: r.finalize(a), reducers, acc)


def _step(method: Any, key: PRNGKeyArray | None, i: Array, state: Any) -> tuple[Any, Any]:
    return method.step(state) if key is None else method.step(jax.random.fold_in(key, i), state)


@eqx.filter_jit
def _start(method: Any, x: PyTree, key: PRNGKeyArray | None, reducers: PyTree, num: int) -> Run:
    """First ``Run``: initial state, empty accumulators, and a zero info of the right structure."""
    state = method.init(x) if key is None else method.init(x, jax.random.fold_in(key, jnp.uint32(_INIT_KEY)))
    new, info = jax.eval_shape(lambda s: _step(method, key, jnp.zeros((), jnp.int32), s), state)
    _require_same(state, new)
    # A step returns strongly typed arrays; starting from them too keeps the loop's carry the same type throughout.
    state = jax.tree.map(lambda a, b: jax.lax.convert_element_type(a, b.dtype), state, new)
    info = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), info)
    values = _map_reducers(lambda r: jax.eval_shape(r.of, state, info), reducers)
    acc = _map_reducers(lambda r, v: r.init(v, num), reducers, values)
    status = jnp.where(all_finite(state.position), Status.CONVERGED, Status.NON_FINITE).astype(jnp.int32)
    return Run(jnp.zeros((), jnp.int32), state, status, info, acc)


def _require_same(old: Any, new: Any) -> None:
    trees: tuple[Any, Any] = (jax.tree.structure(old), jax.tree.structure(new))
    if trees[0] != trees[1]:
        raise ValueError(f"step: expected a state of structure {trees[0]}, got {trees[1]}")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(old), jax.tree.leaves(new), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(
                f"step: state{jax.tree_util.keystr(path)} changed from {a.dtype}{list(a.shape)} to {b.dtype}{list(b.shape)}; "
                "a hyper-parameter array of higher precision promotes the state: give it the dtype of the position"
            )


def _guarded_step(method: Any, key: PRNGKeyArray | None, run: Run) -> Run:
    """One step; a lane that has failed, or fails now, keeps its last finite state."""
    state, info = _step(method, key, run.step, run.state)
    good = (run.status == Status.CONVERGED) & all_finite(state.position)
    status = jnp.where(good, run.status, Status.NON_FINITE).astype(jnp.int32)
    return Run(run.step + 1, select(good, state, run.state), status, info, run.trace)


@eqx.filter_jit
def _advance(method: Any, run: Run, key: Any, reducers: PyTree, num_steps: int, checkpoint_every: int | None) -> Run:
    def body(run: Run, _: None) -> tuple[Run, None]:
        new = _guarded_step(method, key, run)
        if reducers is not None:
            new = new._replace(trace=_observe(reducers, run.trace, new.state, new.info, run.step))
        return new, None

    def loop(run: Run, length: int) -> Run:
        return jax.lax.scan(body, run, None, length=length)[0]

    if checkpoint_every is None:
        return loop(run, num_steps)
    inner = jax.checkpoint(lambda run, _: (loop(run, checkpoint_every), None))
    run, _ = jax.lax.scan(inner, run, None, length=num_steps // checkpoint_every)
    return loop(run, num_steps % checkpoint_every)


@eqx.filter_jit
def _collect(method: Any, run: Run, key: Any, reducers: PyTree, num_samples: int, thinning: int, burn_in: Array) -> Run:
    def one_step(run: Run, _: None) -> tuple[Run, None]:
        return _guarded_step(method, key, run), None

    def one_sample(run: Run, _: None) -> tuple[Run, None]:
        i = (run.step - burn_in) // thinning
        run = jax.lax.scan(one_step, run, None, length=thinning)[0]
        return run._replace(trace=_observe(reducers, run.trace, run.state, run.info, i)), None

    return jax.lax.scan(one_sample, run, None, length=num_samples)[0]


class _Search(NamedTuple):
    run: Run
    residual: Array
    first: Array


@eqx.filter_jit
def _solve(method: Any, x: PyTree, key: Any, rtol: Array, atol: Array, max_steps: int, trace: PyTree) -> Solution:
    def search(method: Any, x: PyTree, key: Any, rtol: Array, atol: Array, trace: PyTree) -> tuple[Any, Solution]:
        run = _start(method, x, key, trace, max_steps)
        if not hasattr(run.info, "residual"):
            raise ValueError(f"method: {type(method).__name__} reports no residual to stop on; use iterate")
        run = run._replace(status=jnp.where(run.status == Status.CONVERGED, _RUNNING, run.status).astype(jnp.int32))
        empty = jnp.full((), jnp.inf, run.info.residual.dtype)

        def going(s: _Search) -> Array:
            return (s.run.status == _RUNNING) & (s.run.step < max_steps)

        def advance(s: _Search) -> _Search:
            return _advance_search(method, s, key, rtol, atol, trace)

        end = jax.lax.while_loop(going, advance, _Search(run, empty, empty))
        run = end.run
        status = jnp.where(run.status == _RUNNING, Status.MAX_STEPS, run.status).astype(jnp.int32)
        records = _finalize(trace, run.trace)
        u = method.unknowns(run.state) if hasattr(method, "unknowns") else run.state.position
        return u, Solution(None, run.state, status, run.step, end.residual, records)

    u, solution = implicit_solve(method, search, x, key, rtol, atol, trace)
    return solution._replace(position=u[0] if hasattr(method, "unknowns") else u)


def _advance_search(method: Any, s: _Search, key: Any, rtol: Array, atol: Array, trace: PyTree) -> _Search:
    state, info = _step(method, key, s.run.step, s.run.state)
    residual = info.residual
    good = all_finite(state.position) & jnp.isfinite(residual)
    first = jnp.where(s.run.step == 0, residual, s.first)
    scale = norm(state.position).astype(residual.dtype)
    status = jnp.where(
        residual <= atol.astype(scale.dtype) + rtol.astype(scale.dtype) * scale, Status.CONVERGED, _RUNNING
    )
    status = jnp.where(residual > 1e6 * jnp.maximum(first, atol.astype(scale.dtype)), Status.DIVERGED, status)
    status = jnp.where(good, status, Status.NON_FINITE).astype(jnp.int32)
    state = select(good, state, s.run.state)
    acc = s.run.trace if trace is None else _observe(trace, s.run.trace, state, info, s.run.step)
    return _Search(Run(s.run.step + 1, state, status, info, acc), residual, first)
