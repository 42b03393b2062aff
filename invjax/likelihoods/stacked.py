"""One fidelity per part of a stacked measurement."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..operators import block_diagonal
from .base import Fidelity, NoiseModel


class Stacked(NoiseModel):
    """``potential(u, y) = sum_i part_i.potential(u_i, y_i)`` for measurements that are tuples, as of ``operators.stack``.

    The parts are independent given the image; ``sample`` gives each its own key. Parts without a law (``Huber``, ``Ball``)
    work in everything but ``sample`` and ``log_prob``, which raise ``ValueError``; so does an empty tuple.
    """

    parts: tuple[Fidelity, ...]

    def __check_init__(self):
        if not isinstance(self.parts, tuple) or not self.parts:
            raise ValueError(f"parts: expected a tuple of at least one fidelity, got {self.parts!r}")

    def _laws(self) -> tuple[NoiseModel, ...]:
        for part in self.parts:
            if not isinstance(part, NoiseModel):
                raise ValueError(
                    f"parts: expected noise models, got {type(part).__name__}, which has no law to draw from"
                )
        return self.parts  # type: ignore[return-value]

    def sample(self, key, clean):
        keys = jax.random.split(key, len(self.parts))
        return tuple(p.sample(k, u) for p, k, u in zip(self._laws(), keys, clean, strict=True))

    def potential(self, u, y):
        values = [p.potential(a, b) for p, a, b in zip(self.parts, u, y, strict=True)]
        return sum(values[1:], values[0])

    def log_prob(self, u, y):
        values = [p.log_prob(a, b) for p, a, b in zip(self._laws(), u, y, strict=True)]
        return sum(values[1:], values[0])

    def grad(self, u, y):
        return tuple(p.grad(a, b) for p, a, b in zip(self.parts, u, y, strict=True))

    def prox(self, u: PyTree, y: PyTree, step_size: Any) -> PyTree:
        return tuple(p.prox(a, b, step_size) for p, a, b in zip(self.parts, u, y, strict=True))

    def whitener(self, y):
        """That of each part, when all have one."""
        parts = [p.whitener(b) for p, b in zip(self.parts, y, strict=True)]
        return None if any(w is None for w in parts) else block_diagonal(parts)

    def lipschitz(self, y):
        """The largest of the parts: those of a block-diagonal Hessian."""
        values = [p.lipschitz(b) for p, b in zip(self.parts, y, strict=True)]
        return jnp.max(jnp.stack(values))
