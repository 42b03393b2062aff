"""Continuous piecewise-affine diffeomorphisms against affine warps and matrix exponentials; inverses, borders."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from invjax import transforms as tf
from invjax.transforms.cpab import piecewise_affine, runge_kutta

from .registry import IMAGE
from .test_mathematics import errors_and_order, rng, transformed


def corners_of(matrix, offset, cells=(3, 2)):
    return np.stack(np.meshgrid(*(np.arange(k + 1) for k in cells), indexing="ij"), -1) @ matrix.T + offset


FIELD = (np.array([[0.3, -0.5], [0.4, 0.2]]), np.array([0.3, -0.1]))


def test_piecewise_affine_velocities():
    r = rng()
    points = r.uniform(0, 1, size=(2, 50)) * np.array([[3], [2]])
    v = piecewise_affine(jnp.asarray(corners_of(*FIELD)), points)
    np.testing.assert_allclose(v, FIELD[0] @ points + FIELD[1][:, None], atol=1e-14)  # affine fields are in the space
    corners = r.normal(size=(4, 3, 2))
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"))
    np.testing.assert_allclose(piecewise_affine(jnp.asarray(corners), grid), np.moveaxis(corners, -1, 0), atol=1e-14)
    for start, end in (
        ([0, 0.1], [3, 1.9]),
        ([3, 0], [0.2, 2]),
    ):  # continuous: as steep as corners differ, across all edges
        line = np.linspace(start, end, 10001, axis=1)
        steepest = sum(np.abs(np.diff(corners, axis=k)).max() * np.abs(np.diff(line[k])).max() for k in (0, 1))
        assert np.abs(np.diff(piecewise_affine(jnp.asarray(corners), line))).max() <= steepest * (1 + 1e-9)
    middle = piecewise_affine(jnp.asarray(corners), np.array([[0.5], [0.5]]))[
        :, 0
    ]  # the diagonal joins corners (0,1), (1,0)
    np.testing.assert_allclose(middle, (corners[0, 1] + corners[1, 0]) / 2, atol=1e-14)


def test_flows_of_affine_fields_are_matrix_exponentials_to_order_four():
    generator = np.zeros((3, 3))
    generator[:2, :2], generator[:2, 2] = FIELD
    points = rng().uniform(2.5, 3.5, size=(2, 20))  # their paths stay inside
    exact = (scipy.linalg.expm(generator) @ np.concatenate([points, np.ones((1, 20))]))[:2]
    corners = jnp.asarray(corners_of(*FIELD, (6, 6)))

    def error(n):
        return np.abs(runge_kutta(lambda p: piecewise_affine(corners, p), jnp.asarray(points), n) - exact).max()

    errors, order = errors_and_order(error, (4, 8, 16))
    assert 3.8 < order < 4.2, (errors, order)


def test_a_diffeomorphism_of_an_affine_field_is_an_affine_warp():
    """Its matrix is the exponential of the field, here of zero velocity at the centre of the image."""
    cells, shape = (3, 2), (13, 13, 1)
    matrix = FIELD[0] / 2  # rows, columns per unit time, in pixels
    size = np.diag([12 / 3, 12 / 2])  # of a cell
    in_cells = np.linalg.inv(size) @ matrix @ size
    corners = corners_of(in_cells, -in_cells @ np.array([1.5, 1.0]), cells)
    flipped = scipy.linalg.expm(matrix)[::-1, ::-1]  # columns come first in a homography
    x = rng().normal(size=shape)
    y = transformed(tf.CPABDiffeomorphism(cells, num_steps=20), corners, x)
    exact = transformed(tf.Homography(), jnp.asarray(scipy.linalg.block_diag(flipped, 1)), x)
    pixels = np.stack(np.meshgrid(*2 * [np.arange(-6.0, 7.0)], indexing="ij"))
    paths = [np.einsum("ij,jhw->ihw", scipy.linalg.expm(-t * matrix), pixels) for t in np.linspace(0, 1, 21)]
    inside = np.all(np.abs(paths) <= 6, axis=(0, 1))
    assert inside.mean() > 0.7
    # Runge-Kutta: 20^(-4) = 6e-6 times |matrix|^5 / 120
    np.testing.assert_allclose(np.asarray(y)[inside], np.asarray(exact)[inside], atol=1e-6)


def test_random_diffeomorphisms_are_invertible_and_keep_the_border(key):
    T = tf.CPABDiffeomorphism((4, 4), 0.5, num_steps=40)
    g = T.sample(key)
    grid = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(0, 4, 41)], indexing="ij"))
    flow = jax.jit(lambda g: runge_kutta(lambda p: piecewise_affine(g, p), grid, 40))
    there = flow(g)
    back = jax.jit(lambda g, p: runge_kutta(lambda p: piecewise_affine(g, p), p, 40))(T.inverse(g), there)
    np.testing.assert_allclose(back, grid, atol=1e-3)  # order two across the edges of triangles: 40^(-2) = 6e-4
    assert jnp.max(jnp.abs(there - grid)) > 0.2
    for edge in (np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]):
        np.testing.assert_array_equal(there[edge], grid[edge])
    (rr, rc), (cr, cc) = ([jnp.diff(a, axis=0)[:, :-1], jnp.diff(a, axis=1)[:-1]] for a in there)
    assert jnp.all(rr * cc - rc * cr > 0)  # orientation is kept
    zero = tf.CPABDiffeomorphism()
    x = rng().normal(size=IMAGE)
    np.testing.assert_allclose(zero(jnp.zeros((4, 4, 2)), x), x, atol=1e-13)
