"""What samplers sample from: the density ``exp(-U)`` with the potential ``U = f + g``, and its score ``-grad U``."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, PyTree


class Posterior(eqx.Module):
    """The target ``exp(-f(x) - g(x))``: ``target(x)`` is the potential, ``target.score(x)`` minus its gradient.

    A term is any Module with ``.score(x)``, and ``term(x)`` where a sampler needs the potential (MALA, Underdamped, NUTS);
    ``prior=None`` leaves the likelihood alone. A term whose score iterates (``Moreau``) has a warm form, which samplers carry
    in their state: ``score_init(x) -> aux``, ``score_step(x, aux) -> (score, aux)`` and
    ``energy_step(x, aux) -> (potential, score, aux)``. A Posterior has it too, so that it can be a term itself.

    Raises ``ValueError`` for a term without ``score``.
    """

    likelihood: Any
    prior: Any = None

    def __check_init__(self):
        require_terms(self.likelihood, self.prior)

    @property
    def _terms(self) -> tuple[Any, ...]:
        return (self.likelihood,) if self.prior is None else (self.likelihood, self.prior)

    def __call__(self, x: Array) -> Array:
        """The potential ``f(x) + g(x)``, a real scalar."""
        return sum(term(x) for term in self._terms)

    def score(self, x: Array) -> Array:
        """``-grad (f + g)(x)``, the score of the target."""
        return sum(term.score(x) for term in self._terms)

    def score_init(self, x: Array) -> PyTree:
        """The auxiliary variables that warm-start the first score."""
        return tuple(term.score_init(x) if _is_warm(term) else () for term in self._terms)

    def score_step(self, x: Array, aux: PyTree) -> tuple[Array, PyTree]:
        """The score at ``x``, warm-started."""
        parts = [
            term.score_step(x, a) if _is_warm(term) else (term.score(x), a)
            for term, a in zip(self._terms, aux, strict=True)
        ]
        scores, aux = zip(*parts, strict=True)
        return sum(scores), aux

    def energy_step(self, x: Array, aux: PyTree) -> tuple[Array, Array, PyTree]:
        """The potential and the score at ``x``, warm-started."""
        parts = [
            term.energy_step(x, a) if _is_warm(term) else (term(x), term.score(x), a)
            for term, a in zip(self._terms, aux, strict=True)
        ]
        potentials, scores, aux = zip(*parts, strict=True)
        return sum(potentials), sum(scores), aux


def require_terms(likelihood: Any, prior: Any, *, potential: bool = False) -> None:
    """Raise ``ValueError`` when a term lacks ``score``, or its potential where the sampler needs it."""
    for name, term in {"likelihood": likelihood, "prior": prior}.items():
        if term is None and name == "prior":
            continue
        if not hasattr(term, "score"):
            raise ValueError(
                f"{name}: expected a Module with .score(x), got {type(term).__name__}; smooth a prior that has only a prox: "
                "Moreau(prior, smoothing)"
            )
        if potential and not callable(term):
            raise ValueError(f"{name}: expected a Module with a potential, {name}(x), got {type(term).__name__}")


def _is_warm(term: Any) -> bool:
    return hasattr(term, "score_step")
