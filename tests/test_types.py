"""The numeric converter, the checks and the small helpers that everything else uses."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from invjax import Fn
from invjax.types import all_finite, grad, inner, norm, real, require, select


@pytest.mark.parametrize("x", [1, 0.5, True, np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
def test_real_scalars_become_weak_floats(x):
    y = real(x)
    assert jnp.issubdtype(y.dtype, jnp.floating)
    assert y.weak_type
    assert float(y) == float(x)
    assert (y * jnp.ones(2, jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("x", [1j, np.complex128(1 + 2j), np.complex64(1j)])
def test_complex_scalars_become_weak_complex(x):
    y = real(x)
    assert y.weak_type
    assert complex(y) == complex(x)
    assert (y * jnp.ones(2, jnp.complex64)).dtype == jnp.complex64


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.complex64, bool])
def test_arrays_keep_their_dtype(dtype):
    for x in (np.ones(2, dtype), jnp.ones(2, dtype), np.ones((), dtype)[None]):
        y = real(x)
        assert isinstance(y, jax.Array)
        assert y.dtype == dtype
        assert not y.weak_type


def test_sequences_of_numbers_become_arrays():
    np.testing.assert_array_equal(real([0.1, 0.2]), [0.1, 0.2])
    np.testing.assert_array_equal(real((1.0, 2.0)), [1, 2])
    np.testing.assert_array_equal(real([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(real(((1, 2), (3, 4))), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "x", [None, jax.ShapeDtypeStruct((2,), jnp.float32), object(), "text", (), len, [None, None], [object()], (None,)]
)
def test_whatever_is_not_numeric_passes_through(x):
    assert real(x) is x


class Holder(eqx.Module):
    value: Array = eqx.field(converter=real)

    def __check_init__(self):
        require(self.value, "value", positive=True)


def test_fields_trace_under_jit_vmap_and_grad():
    assert jax.jit(lambda v: Holder(v).value * 2)(3.0) == 6
    np.testing.assert_array_equal(jax.vmap(lambda v: Holder(v).value * 2)(jnp.arange(1.0, 3)), [2, 4])
    assert jax.grad(lambda v: Holder(v).value ** 2)(3.0) == 6
    assert jax.grad(lambda h: h.value**2)(Holder(3)).value == 6
    traces = []

    @eqx.filter_jit
    def run(h):
        traces.append(1)
        return h.value

    for v in (1, 2.5, np.float64(3), jnp.asarray(4.0)):
        run(Holder(v))
    assert len(traces) == 1
    assert jax.tree.map(lambda _: None, Holder(1)).value is None  # pytree code may put anything there
    assert eqx.filter_eval_shape(Holder, 1.0).value.shape == ()


REFUSED = {
    "x: expected positive values, got 0": lambda: require(0, "x", positive=True),
    "x: expected positive values, got nan": lambda: require(float("nan"), "x", positive=True),
    "x: expected non-negative values, got -1.0": lambda: require(jnp.asarray(-1.0), "x", nonnegative=True),
    "x: expected below 1.0 values, got 1.0": lambda: require(1.0, "x", below=1.0),
    "x: expected at least 2 values, got 1": lambda: require(1, "x", at_least=2),
    "x: expected positive values, got an array of shape (2,) with minimum -3.0": lambda: require(
        np.array([1.0, -3.0]), "x", positive=True
    ),
    "x: expected shape (2,), got (3,)": lambda: require(np.ones(3), "x", shape=(2,)),
    "x: expected 2 dimensions, got shape (3,)": lambda: require(np.ones(3), "x", ndim=2),
    "x: expected (0, 1) dimensions, got shape (1, 1)": lambda: require(np.ones((1, 1)), "x", ndim=(0, 1)),
    "x: expected real values, got complex128": lambda: require(1j, "x", positive=True),
    "x: expected shape (2,), got (3,) ": lambda: jax.jit(lambda x: require(x, "x", shape=(2,)))(jnp.ones(3)),
    "value: expected positive values, got -1.0": lambda: Holder(-1),
}


@pytest.mark.parametrize("message", REFUSED)
def test_require_names_argument_expected_and_got(message):
    with pytest.raises(ValueError) as error:
        REFUSED[message]()
    assert message.strip() in str(error.value)


def test_require_leaves_the_undecidable_alone():
    require(None, "x", positive=True, shape=(2,))
    require(jax.ShapeDtypeStruct((3,), float), "x", positive=True)
    jax.jit(lambda x: require(x, "x", positive=True))(-1.0)
    require(np.ones(2), "x", positive=True, below=2, at_least=1, shape=(2,), ndim=1)


def test_fn_compiles_once_for_all_arrays_and_differentiates():
    traces = []

    def weighted(x, w):
        traces.append(1)
        return jnp.sum(w * x**2)

    run = eqx.filter_jit(lambda f, x: f(x))
    for w in (1, np.float64(2), jnp.asarray(3.0)):
        assert run(Fn(weighted, w), jnp.ones(2)) == 2 * float(w)
    assert len(traces) == 1
    assert eqx.filter_grad(lambda f: f(jnp.ones(2)))(Fn(weighted, 3.0)).arrays[0] == 2
    batch = Fn(weighted, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(jax.vmap(lambda f: f(jnp.ones(2)))(batch), [2, 4])
    assert Fn(weighted, None).arrays == (None,)
    leaves, tree = jax.tree.flatten(batch)
    assert tree.unflatten(leaves)(1.0) == 3


def test_inner_and_norm():
    a = {"x": jnp.array([1 + 2j, 3j]), "y": jnp.array([2.0])}
    b = {"x": jnp.array([2j, 1.0 + 0j]), "y": jnp.array([-1.0])}
    exact = np.sum(np.conj(np.asarray(a["x"])) * np.asarray(b["x"])).real - 2
    np.testing.assert_allclose(inner(a, b), exact)
    np.testing.assert_allclose(norm(a), np.sqrt(5 + 9 + 4))
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros(3)), 0)
    np.testing.assert_allclose(jax.grad(norm)(jnp.array([3.0, 4.0])), [0.6, 0.8])
    assert norm(jnp.zeros(2)) == 0
    assert jnp.isnan(norm(jnp.array([jnp.nan, 1])))  # not zero: a NaN must not look converged
    assert norm(jnp.array([jnp.inf, 1])) == jnp.inf


def test_all_finite_and_select():
    assert all_finite({"a": jnp.ones(2), "n": jnp.arange(3)})
    assert all_finite(())
    for bad in (jnp.nan, jnp.inf, complex(0, float("nan"))):
        assert not all_finite((jnp.ones(2), jnp.array([bad])))
    assert select(jnp.array(True), (1, jnp.zeros(2)), (2, jnp.ones(2)))[0] == 1


def test_grad_is_the_direction_of_steepest_ascent():
    z = jnp.array([1 + 2j, -1j])
    np.testing.assert_allclose(grad(lambda z: jnp.sum(jnp.abs(z) ** 2), z), 2 * z)
    np.testing.assert_allclose(grad(lambda x: jnp.sum(x**3), jnp.array([2.0])), [12])
