"""Figures of couplings, maps, cells and barycentres: what is drawn is what was given."""

import jax.numpy as jnp
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver

from invjax import ot, plots


def clouds(n=6, m=5):
    r = np.random.default_rng(0)
    return r.normal(size=(n, 2)), r.normal(size=(m, 2)) + 2


def drawn(figure, kind):
    return [c for axis in figure.axes for c in axis.collections if isinstance(c, kind)]


def test_couplings_are_shown_whole():
    x, y = clouds()
    found = ot.sinkhorn(ot.between(x, y), 0.5).matrix
    other = np.zeros((3, 2))
    other[1, 1] = np.nan
    figure = plots.couplings({"entropic": found, "empty": other}, title="Couplings")
    (first,), (second,) = (axis.images for axis in figure.axes)
    np.testing.assert_allclose(first.get_array(), found)
    assert first.norm.vmax == pytest.approx(float(found.max()))
    assert second.get_array().mask.sum() == 1
    assert matplotlib.colors.to_rgb(second.cmap.get_bad()) == (1, 0, 0)
    assert [axis.get_title() for axis in figure.axes] == ["entropic", "empty"]
    assert plots.figure_png(figure)[:4] == b"\x89PNG"


def test_lines_join_what_mass_joins():
    """One line for each pair of the assignment, from source to target; of an entropic coupling those above the least share."""
    x, y = clouds(6, 6)
    found = ot.assignment(ot.between(x, y))
    soft = np.asarray(ot.sinkhorn(ot.between(x, y), 1.0).matrix)
    figure = plots.transport_lines(x, y, {"exact": found.matrix, "soft": soft}, least=0.1)
    exact, entropic = drawn(figure, LineCollection)
    segments = np.array(exact.get_segments())
    np.testing.assert_allclose(segments[:, 0], x)
    np.testing.assert_allclose(segments[:, 1], y[np.asarray(found.columns)])
    assert len(entropic.get_segments()) == np.sum(soft >= 0.1 * soft.max())
    shades = entropic.get_colors()[:, 3]
    assert shades.min() < 0.3 < 0.6 < shades.max()
    dots = drawn(figure, PathCollection)
    np.testing.assert_allclose(dots[0].get_offsets(), x)
    np.testing.assert_allclose(dots[1].get_offsets(), y)


def test_arrows_go_from_points_to_images():
    """Arrows start at x, end at T(x), have the colour of their point, and all that is drawn lies inside the axes."""
    x, y = clouds(6, 9)
    far = 3 * x - 7
    broken = x.copy()
    broken[2, 1] = np.nan
    colours = np.linspace(0, 1, 18).reshape(6, 3)
    figure = plots.maps(x, {"far": far, "broken": broken}, target=y, colours=colours)
    first, second = drawn(figure, Quiver)
    np.testing.assert_allclose(first.get_offsets(), x)
    np.testing.assert_allclose(np.stack([first.U, first.V], 1), far - x)
    np.testing.assert_allclose(first.get_facecolors()[:, :3], colours)
    assert (first.angles, first.scale_units, first.scale) == ("xy", "xy", 1)  # lengths in the units of the axes
    np.testing.assert_allclose(second.get_offsets(), np.delete(x, 2, 0))
    np.testing.assert_allclose(second.get_facecolors()[:, :3], np.delete(colours, 2, 0))
    assert [axis.get_title() for axis in figure.axes] == ["far", "broken\n1 of 6 not finite"]
    for axis in figure.axes:
        for points in (x, y, far):
            for bounds, values in zip((axis.get_xlim(), axis.get_ylim()), points.T, strict=True):
                assert bounds[0] < values.min() < values.max() < bounds[1]
    np.testing.assert_allclose(drawn(figure, PathCollection)[0].get_offsets(), y)
    assert plots.figure_png(plots.maps(x, {"plain": far}))[:4] == b"\x89PNG"


def test_cells_are_the_polygons():
    r = np.random.default_rng(1)
    sites = r.uniform(0.1, 0.9, size=(12, 2))
    found = ot.polygon_transport(sites)
    figure = plots.cells(found.cells, sites, values=found.cells.areas())
    (polygons,) = drawn(figure, PolyCollection)
    assert len(polygons.get_paths()) == 12
    np.testing.assert_allclose(polygons.get_array(), found.cells.areas())
    (lines,) = drawn(figure, LineCollection)
    np.testing.assert_allclose(np.array(lines.get_segments()), np.stack([found.cells.centroids(), sites], 1), atol=1e-9)
    (site_dots,) = drawn(figure, PathCollection)
    np.testing.assert_allclose(site_dots.get_offsets(), sites)
    assert plots.figure_png(plots.cells(found.cells, sites))[:4] == b"\x89PNG"


def halves():
    return ot.polygon_transport(np.array([[0.2, 0.5], [0.7, 0.5]])).cells


def test_barycenters_are_a_table_on_one_scale():
    images = np.random.default_rng(2).uniform(size=(3, 4, 5, 6))
    for pictures, given in ((images, None), (images[..., None], [(1, 2)]), (images, [])):
        figure = plots.barycenters(pictures, given=given, title="Between")
        assert len(figure.axes) == 12
        framed = []
        for k, axis in enumerate(figure.axes):
            (shown,) = axis.images
            np.testing.assert_allclose(shown.get_array(), images[k // 4, k % 4])
            assert (shown.norm.vmin, shown.norm.vmax) == (images.min(), images.max())
            framed += [divmod(k, 4) for patch in axis.patches if isinstance(patch, Rectangle)]
        assert framed == ([(0, 0), (0, 3), (2, 0), (2, 3)] if given is None else given)
        assert len(figure.legends) == (given != [])
    assert plots.figure_png(figure)[:4] == b"\x89PNG"
    (shown,) = plots.barycenters(images[:1, :1], limits=(0, 2)).axes[0].images
    assert (shown.norm.vmin, shown.norm.vmax) == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.couplings({}), "matrices: expected at least one"),
        (lambda: plots.couplings({"a": np.ones(3)}), "matrices 'a': expected a matrix"),
        (lambda: plots.couplings({"a": -np.ones((2, 2))}), "matrices 'a': expected entries >= 0"),
        (
            lambda: plots.transport_lines(np.ones((2, 3)), np.ones((2, 2)), {"a": np.eye(2)}),
            "x: expected finite points",
        ),
        (lambda: plots.transport_lines(*clouds(), {"a": np.eye(2)}), "matrices 'a': expected finite, shape"),
        (lambda: plots.cells(halves(), np.ones((3, 2))), "sites: expected one for each of 2 cells"),
        (lambda: plots.cells(halves(), np.ones((2, 2)), values=jnp.ones(3)), "values: expected shape"),
        (lambda: plots.barycenters(np.ones((2, 4, 2))), "images: expected shape"),
        (lambda: plots.barycenters(np.ones((2, 2, 4, 4, 2))), "images: expected an image"),
        (lambda: plots.barycenters(np.ones((2, 2, 4, 4)), given=[(0, 2)]), "given: expected pairs"),
        (lambda: plots.maps(clouds()[0], {}), "images: expected at least one"),
        (lambda: plots.maps(*clouds()[:1], {"a": np.ones((5, 2))}), "images 'a': expected shape"),
        (lambda: plots.maps(clouds()[0], {"a": clouds()[0]}, target=np.ones(3)), "target: expected finite points"),
        (lambda: plots.maps(clouds()[0], {"a": clouds()[0]}, colours=np.ones((2, 3))), "colours: expected a name"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
