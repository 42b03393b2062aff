"""What every image transform is: ``T_g x`` for a parameter ``g`` that can be drawn, inverted, composed; and as an operator."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..eager import one_program
from ..operators import LinearOperator, Spectrum
from ..operators.spectrum import Pixel
from ..operators.structure import conform, structure


class Transform(eqx.Module):
    """Transforms ``x -> T_g x`` of images ``(H, W, C)``, indexed by ``g``: an array, or a pytree of arrays.

    A subclass defines ``sample`` and ``apply``; ``check`` where not every image fits; and, where they exist, ``inverse``,
    ``compose`` and ``elements``. ``T_g`` keeps shape, kind and precision of the image, and is linear in it (but for
    ``RandomNoise``). ``vmap`` over ``g``, and differentiate in it where it is real.
    """

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> PyTree:
        """A random ``g``."""

    @abc.abstractmethod
    def apply(self, g: PyTree, x: Array) -> Array:
        """``T_g x`` for a checked ``x``."""

    def check(self, g: PyTree, x: Array | jax.ShapeDtypeStruct) -> None:
        """Raise ``ValueError`` when ``g`` or an image like ``x`` does not fit."""
        if x.ndim < 2:
            raise ValueError(f"x: expected spatial axes and channels, got shape {x.shape}")

    def __call__(self, g: PyTree, x: Array) -> Array:
        """``T_g x``. Raises ``ValueError`` for an image that does not fit, or of integers."""
        g, x = as_arrays(g), jnp.asarray(x)
        self.check(g, x)
        return _apply(self, g, conform(x, structure(x.shape, jnp.iscomplexobj(x)), "x"))

    def inverse(self, g: PyTree) -> PyTree:
        """The ``g'`` with ``T_g' T_g = I``, up to interpolation where that cannot be exact. Raises ``ValueError`` without one."""
        raise ValueError(f"g: expected a transform with inverses, got {type(self).__name__}")

    def apply_inverse(self, g: PyTree, x: Array) -> Array:
        """``T_g^(-1) x``."""
        return self.apply(self.inverse(g), x)

    def compose(self, g: PyTree, h: PyTree) -> PyTree:
        """The ``k`` with ``T_k = T_g T_h`` (``h`` acts first). Raises ``ValueError`` without one."""
        raise ValueError(f"g: expected transforms that compose to one of the same kind, got {type(self).__name__}")

    def elements(self) -> PyTree:
        """Every ``g`` of a finite group, along a leading axis. Raises ``ValueError`` for other families."""
        raise ValueError(f"transform: expected a finite group, got {type(self).__name__}")

    @property
    def unitary(self) -> bool:
        """Whether ``T_g^H = T_g^(-1)``."""
        return False

    @property
    def permutation(self) -> bool:
        """Whether ``T_g`` permutes pixels: then it keeps operators that are diagonal in them."""
        return False

    def operator(self, g: PyTree, shape: tuple[int, ...], *, complex: bool = False) -> LinearOperator:
        """``T_g`` as a linear operator on images of ``shape``: ``A @ transform.operator(g, shape)`` is a virtual operator."""
        return TransformOperator(transform=self, g=as_arrays(g), in_structure=structure(shape, complex))

    def __matmul__(self, other: Transform) -> Transform:
        """The products ``T_g T_h`` with parameters ``(g, h)``."""
        return Product(self, other) if isinstance(other, Transform) else NotImplemented


@one_program
def _apply(transform: Transform, g: PyTree, x: Array) -> Array:
    return transform.apply(g, x)


def as_arrays(g: PyTree) -> PyTree:
    """Numbers and lists of numbers in ``g`` as arrays."""
    return jax.tree.map(jnp.asarray, g, is_leaf=lambda a: isinstance(a, list))


class TransformOperator(LinearOperator):
    """``T_g`` (or its adjoint, ``adjoined``, when it is unitary) as an operator; made by ``Transform.operator``."""

    transform: Transform
    g: PyTree
    in_structure: jax.ShapeDtypeStruct = eqx.field(static=True)
    adjoined: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        self.transform.check(self.g, self.in_structure)

    @property
    def out_structure(self):
        return self.in_structure

    def apply(self, x):
        return self.transform.apply_inverse(self.g, x) if self.adjoined else self.transform.apply(self.g, x)

    def adjoint(self, y):
        return self.H.apply(y) if self.transform.unitary else super().adjoint(y)

    @property
    def H(self):
        if not self.transform.unitary:
            return super().H
        return TransformOperator(
            transform=self.transform, g=self.g, in_structure=self.in_structure, adjoined=not self.adjoined
        )

    @property
    def gram_spectrum(self):
        return self.cogram_spectrum

    @property
    def cogram_spectrum(self):
        return Spectrum(jnp.ones(()), Pixel(), Pixel()) if self.transform.unitary else None

    def push_spectrum(self, inner: Spectrum) -> Spectrum | None:
        if self.transform.permutation and inner.values.size > 1 and inner.left == inner.right == Pixel():
            return Spectrum(self.apply(jnp.broadcast_to(inner.values, self.in_structure.shape)), Pixel(), Pixel())
        return super().push_spectrum(inner)


class Product(Transform):
    """``T_g T_h`` for ``(g, h)`` of two families (``h`` acts first); made by ``outer @ inner``.

    Its inverse ``T_h^(-1) T_g^(-1)`` has the other order, so there is ``apply_inverse`` but no ``inverse``.
    """

    outer: Transform
    inner: Transform

    def sample(self, key):
        keys = jax.random.split(key)
        return self.outer.sample(keys[0]), self.inner.sample(keys[1])

    def check(self, g, x):
        self.outer.check(g[0], x)
        self.inner.check(g[1], x)

    def apply(self, g, x):
        return self.outer.apply(g[0], self.inner.apply(g[1], x))

    def apply_inverse(self, g, x):
        return self.inner.apply_inverse(g[1], self.outer.apply_inverse(g[0], x))

    def elements(self):
        """All pairs."""
        outer, inner = self.outer.elements(), self.inner.elements()
        counts = [len(jax.tree.leaves(e)[0]) for e in (outer, inner)]
        return (
            jax.tree.map(lambda a: jnp.repeat(a, counts[1], axis=0), outer),
            jax.tree.map(lambda a: jnp.tile(a, (counts[0],) + (1,) * (a.ndim - 1)), inner),
        )

    @property
    def unitary(self):
        return self.outer.unitary and self.inner.unitary

    @property
    def permutation(self):
        return self.outer.permutation and self.inner.permutation
