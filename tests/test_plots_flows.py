"""Figures of flows: what is drawn is what was given, where it belongs."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color, to_rgba
from matplotlib.patches import StepPatch

from invjax import plots
from invjax.gradient_flows import quantile_to_density

RNG = np.random.default_rng(0)
CLOUD = RNG.normal(size=(30, 2))
PATHS = RNG.normal(size=(6, 12, 2)).cumsum(0)
LEVELS = (np.arange(200) + 0.5) / 200


def dots(axis):
    """Label and particles of every set of dots."""
    return {
        c.get_label(): np.ma.filled(c.get_offsets(), np.nan) for c in axis.collections if isinstance(c, PathCollection)
    }


def segments(axis, of=0):
    lines = [c for c in axis.collections if isinstance(c, LineCollection)][of]
    return np.stack([np.array(path.vertices) for path in lines.get_paths()]), lines


def legend(figure):
    return [t.get_text() for entry in figure.legends for t in entry.get_texts()]


def test_particles_in_the_plane():
    target = np.array([[5.0, 0.0], [-5.0, 1.0]])
    figure = plots.particles({"a": CLOUD, "b": jnp.asarray(CLOUD[:4] + 1)}, target=target, times=[0, 0.25])
    for axis, particles in zip(figure.axes, (CLOUD, CLOUD[:4] + 1), strict=True):
        drawn = dots(axis)
        np.testing.assert_array_equal(drawn["particles"], particles)
        np.testing.assert_array_equal(drawn["target"], target)
        assert [c.get_label() for c in axis.collections] == ["target", "particles"]  # the target is behind
        assert axis.get_aspect() == 1
        assert axis.get_xlim() == pytest.approx((-5.5, 5.5))  # five per cent of the larger side
        assert axis.get_ylim() == pytest.approx((CLOUD[:, 1].min() - 0.5, (CLOUD[:4, 1] + 1).max() + 0.5), abs=0.5)
    assert [axis.get_title() for axis in figure.axes] == ["a\nt = 0", "b\nt = 0.25"]
    assert legend(figure) == ["target", "particles"]
    figure = plots.particles({"": CLOUD}, limits=[(-1, 2), (0, 4)])
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((-1, 2), (0, 4))
    assert not figure.legends


def test_particles_on_the_line():
    figure = plots.particles(
        {"a": [0.1, 0.1, 0.9, np.inf], "b": np.array([[0.5]])}, target=[0.0, 1.2], limits=(0.0, 1.2)
    )
    for axis, particles in zip(figure.axes, ([0.1, 0.1, 0.9], [0.5]), strict=True):
        behind, above = (p.get_data() for p in axis.patches if isinstance(p, StepPatch))
        np.testing.assert_allclose(above.edges, np.linspace(0, 1.2, 13))
        expected = np.histogram(particles, above.edges)[0] / len(particles)
        np.testing.assert_allclose(above.values * np.diff(above.edges), expected)  # areas are masses
        np.testing.assert_allclose(behind.values[[0, -1]], 5)
        ticks, _ = segments(axis)
        np.testing.assert_array_equal(ticks[np.isfinite(ticks[:, 0, 0]), 0, 0], particles)
        assert axis.get_ylim() == figure.axes[0].get_ylim()
        assert axis.get_ylim()[1] > above.values.max()
    assert [axis.get_title() for axis in figure.axes] == ["a\n1 of 4 not finite", "b"]
    outside = plots.particles({"a": [0.0, 5.0]}, limits=(-1, 1)).axes[0].patches[0].get_data()
    np.testing.assert_allclose(outside.values.sum() * 2 / 12, 0.5)  # half of the mass is outside
    assert plots.particles({"a": [5.0]}, limits=(-1, 1)).axes[0].get_ylim()[1] == 1  # and here all of it


def test_rows_of_particles():
    figure = plots.particles({str(i): CLOUD[:3] for i in range(5)})
    places = [(a.get_subplotspec().rowspan.start, a.get_subplotspec().colspan.start) for a in figure.axes if a.axison]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    figure = plots.particles({str(i): CLOUD[:3] for i in range(3)}, columns=1, xlabel="x")
    assert [a.get_subplotspec().rowspan.start for a in figure.axes] == [0, 1, 2]
    assert [a.get_xlabel() for a in figure.axes] == ["", "", "x"]


def test_one_particle_has_room():
    for x in (np.zeros((1, 2)), np.full((3, 1), 50.0)):
        box = plots.particles({"": x}).axes[0].get_xlim()
        assert box[0] < x[0, 0] - 0.1 < x[0, 0] + 0.1 < box[1]


def test_trajectories_in_the_plane():
    broken = PATHS.copy()
    broken[3, 2, 0], broken[:, 3] = np.inf, np.nan
    figure = plots.trajectories({"a": PATHS, "b": broken}, target=CLOUD)
    for axis, paths in zip(figure.axes, (PATHS, broken), strict=True):
        paths = np.where(np.isfinite(paths).all(-1, keepdims=True), paths, np.nan)
        np.testing.assert_array_equal(segments(axis)[0], paths.swapaxes(0, 1))
        drawn = dots(axis)
        np.testing.assert_array_equal(drawn["start"], paths[0])
        np.testing.assert_array_equal(drawn["end"], paths[-1])
        np.testing.assert_array_equal(drawn["target"], CLOUD)
        start, end = (c for c in axis.collections if c.get_label() in ("start", "end"))
        assert same_color(start.get_facecolor()[0], "white")
        assert not same_color(end.get_facecolor()[0], "white")
        assert axis.get_aspect() == 1
    assert [axis.get_title() for axis in figure.axes] == ["a", "b\n2 of 12 not finite"]
    assert legend(figure) == ["target", "start", "end"]


def test_trajectories_on_the_line():
    x = PATHS[..., 0]
    named = {"a": x, "b": x[:3, :1]}
    figure = plots.trajectories(named, target=[-1.0, 2.0], step_size={"a": 0.5, "b": 2.0}, every=2)
    for axis, positions, step in zip(figure.axes, named.values(), (1.0, 4.0), strict=True):
        across, _ = segments(axis, 0)
        np.testing.assert_array_equal(across[:, 0, 1], [-1, 2])
        lines, collection = segments(axis, 1)
        np.testing.assert_array_equal(lines[..., 1], positions.T)
        np.testing.assert_allclose(lines[:, :, 0], np.broadcast_to(step * np.arange(len(positions)), positions.T.shape))
        brightness = collection.get_colors()[:, 1]  # the green of viridis increases
        np.testing.assert_array_equal(np.argsort(brightness), np.argsort(positions[0]))
        assert axis.get_xlim() == pytest.approx((-0.24, 8.24))
        assert axis.get_xlabel() == "time"
    assert legend(figure) == ["target"]
    single = plots.trajectories(x[..., None])
    np.testing.assert_array_equal(segments(single.axes[0])[0][..., 1], x.T)
    assert not single.legends


def law(figure):
    """Left lines, right lines, and stems of the second axis if there is one, as (x, y) pairs."""
    return [[line.get_xydata().T for line in axis.lines] for axis in figure.axes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantiles_show_the_law(dtype):
    """A uniform law that piles up at 0, against the rule of the flows; the whole law is there."""
    g = np.minimum(2 * LEVELS - 1.25, 0).astype(dtype)
    figure = plots.quantiles({"": g})
    ((left,), (right,), (stem,)) = law(figure)
    np.testing.assert_array_equal(left, [LEVELS, g])
    rule, count = quantile_to_density(jnp.asarray(g)), np.sum(g == 0)
    expected = np.array(rule.density)
    assert expected[-count] > 0.9  # the gap that the atom cuts in half
    expected[-count] = expected[-count - 1]
    tolerance = {"rtol": 300 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
    np.testing.assert_allclose(right[:, 1:-1], [rule.x, expected], **tolerance)
    np.testing.assert_array_equal(right[:, [0, -1]], [g[[0, -1]], [0, 0]])
    np.testing.assert_allclose(stem, [[0, 0], [0, count / g.size]], rtol=1e-12)
    area = np.sum(right[1, 1:-1] * np.diff(g.astype(np.float64)))
    np.testing.assert_allclose(
        area + stem[1, 1], 1 - 0.5 / g.size, rtol=300 * np.finfo(dtype).eps
    )  # below the first level
    assert figure.axes[2].get_ylabel() == "mass of an atom (dots)"
    assert not figure.legends


def test_quantiles_in_order_of_time():
    functions = {"t = 0": LEVELS, "t = 1": 2 * LEVELS, "t = 2": 4 * LEVELS}
    figure = plots.quantiles(functions, target=np.array([0.0, 1.0]), title="a flow")
    left, right = figure.axes
    assert len(left.lines) == len(right.lines) == 4  # no atoms: no second axis
    colours = [line.get_color() for line in left.lines]
    assert all(same_color(a, b.get_color()) for a, b in zip(colours, right.lines, strict=True))
    assert np.all(np.diff([to_rgba(c)[1] for c in colours[:3]]) > 0.2)
    assert [line.get_linestyle() for line in left.lines] == ["-", "-", "-", "--"]
    np.testing.assert_array_equal(left.lines[3].get_xydata(), [[0.25, 0], [0.75, 1]])
    np.testing.assert_allclose(right.lines[1].get_ydata()[1:-1], 0.5)
    assert right.get_ylim() == pytest.approx((0, 1.1))
    assert plots.quantiles(functions, density_limit=0.3).axes[1].get_ylim() == (0, 0.3)
    assert legend(figure) == ["t = 0", "t = 1", "t = 2", "target"]


def test_quantiles_out_of_order_and_not_finite():
    g = np.array([3.0, 1.0, np.nan, 2.0])
    (left,), (right,) = law(plots.quantiles({"": g}))
    np.testing.assert_array_equal(left, [[0.125, 0.375, 0.625, 0.875], g])
    np.testing.assert_allclose(right, [[1, 1.5, 2.5, 3], [0, 0.25, 0.5, 0]])  # levels 1/8, 3/8 and 7/8 are left


def test_quantiles_at_given_levels_and_width():
    levels = [0.1, 0.2, 0.4, 0.6, 0.8]
    (left,), (right,), stems = law(plots.quantiles({"": [0, 1, 1.8, 5, 5.25]}, levels=levels, width=0.3))
    np.testing.assert_array_equal(left[0], levels)
    np.testing.assert_allclose(right, [[0, 0.5, 1.4, 3.4, 5.125, 5.25], [0, 0.1, 0.25, 0.0625, 0, 0]])
    np.testing.assert_allclose(stems, [[[5.125, 5.125], [0, 0.5]]])  # from the middle of 0.4 and 0.6 to 1
    _, _, (atom,) = law(plots.quantiles({"": [2]}))
    np.testing.assert_array_equal(atom, [[2, 2], [0, 1]])
    _, _, two = law(plots.quantiles({"": [-1, -1, 4, 4, 4]}))
    np.testing.assert_allclose(two, [[[-1, -1], [0, 0.4]], [[4, 4], [0, 0.6]]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_quantiles_join_what_rounding_cannot_part(dtype):
    eps = float(jnp.finfo(dtype).eps)
    g = jnp.array([1, 1 + eps, 1 + 4 * eps, 2], dtype)
    _, (right,), (stem,) = law(plots.quantiles({"": g}))
    np.testing.assert_allclose(stem, [[1 + eps / 2] * 2, [0, 0.5]])
    np.testing.assert_array_equal(right[1] > 0, [False, False, True, True, False])


def test_axis_of_densities_keeps_the_shape_of_the_law():
    short = np.sort(np.append(LEVELS, LEVELS[100] + 1e-6))
    top = plots.quantiles({"": short}).axes[1].get_ylim()[1]
    assert top == pytest.approx(1.1 * 200 / 201, rel=1e-2)  # not 5000, the density of the short gap
    steps = np.concatenate([0.1 * LEVELS[:100], LEVELS[100:]])
    assert plots.quantiles({"": steps}).axes[1].get_ylim()[1] == pytest.approx(11)  # half of the mass is in a tenth


def test_energy_decay():
    series = {"a": [4.0, 0.5, 0.0], "b": np.ones((2, 3))}
    (axis,) = plots.energy_decay(series, step_size={"a": 0.1, "b": 1.0}, every=5).axes
    assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0, 4], [0.5, 0.5], [1, np.nan]])
    np.testing.assert_array_equal(axis.lines[2].get_xdata(), [0, 5, 10])
    assert axis.lines[1].get_color() == axis.lines[2].get_color() != axis.lines[0].get_color()
    figure = plots.energy_decay({"": [4.0, 0.5, -1e-9, np.nan]}, floor=1e-3, log="xy")
    floor, line = figure.axes[0].lines
    np.testing.assert_array_equal(floor.get_ydata(), 1e-3)
    np.testing.assert_array_equal(line.get_ydata(), [4, 0.5, 1e-3, np.nan])
    np.testing.assert_array_equal(line.get_xdata(), [np.nan, 1, 2, 3])  # time 0 has no logarithm
    assert figure.axes[0].get_xscale() == "log"


SNAPSHOTS, ONE = {"a": CLOUD}, {"a": LEVELS}
BAD = {
    "snapshots: expected at least one": lambda: plots.particles({}),
    "snapshots 'a': expected shape": lambda: plots.particles({"a": np.zeros((3, 3))}),
    "snapshots 'b': expected shape": lambda: plots.particles(SNAPSHOTS | {"b": np.zeros((0, 2))}),
    "snapshots 'a': expected finite": lambda: plots.particles({"a": np.full((3, 2), np.nan)}),
    "snapshots 'b': expected dimension 2, got 1": lambda: plots.particles(SNAPSHOTS | {"b": [1.0]}),
    "target: expected dimension 2, got 1": lambda: plots.particles(SNAPSHOTS, target=[1.0]),
    "target: expected shape": lambda: plots.particles(SNAPSHOTS, target=1.0),
    "times: expected one for each of 1": lambda: plots.particles(SNAPSHOTS, times=[1, 2]),
    r"limits: .*, got \(1, 0\)": lambda: plots.particles(SNAPSHOTS, limits=(1, 0)),
    r"limits: .*each of 1": lambda: plots.particles({"a": [1.0]}, limits=[(0, 1), (0, 1)]),
    "paths: expected at least one": lambda: plots.trajectories({}),
    "paths '': expected shape .* at least 2, got": lambda: plots.trajectories(np.zeros((1, 3, 2))),
    "paths 'a': expected shape": lambda: plots.trajectories({"a": np.zeros(3)}),
    "step_size: expected a value for 'a'": lambda: plots.trajectories({"a": PATHS}, step_size={"b": 1.0}),
    "step_size: expected a positive number, got 0": lambda: plots.trajectories(PATHS, step_size=0),
    "every: expected a positive integer": lambda: plots.trajectories(PATHS, every=0),
    "functions: expected at least one": lambda: plots.quantiles({}),
    r"functions 'a': expected shape \(n,\)": lambda: plots.quantiles({"a": CLOUD}),
    "functions 'a': expected finite": lambda: plots.quantiles({"a": [np.inf, np.nan]}),
    "target: expected finite": lambda: plots.quantiles(ONE, target=[np.nan]),
    r"levels: expected shape \(200,\) of functions 'a'": lambda: plots.quantiles(ONE, levels=[0.5]),
    "levels: expected increasing": lambda: plots.quantiles(ONE, levels=LEVELS[::-1]),
    r"levels: .*in \(0, 1\)": lambda: plots.quantiles(ONE, levels=LEVELS + 0.5),
    "width: expected": lambda: plots.quantiles(ONE, width=-1),
    "density_limit: expected": lambda: plots.quantiles(ONE, density_limit=0),
    "series: expected at least one": lambda: plots.energy_decay({}),
    "series 'a': expected finite positive": lambda: plots.energy_decay({"a": [0.0, -1.0]}),
    'log: expected "y" or "xy"': lambda: plots.energy_decay({"a": [1.0]}, log="x"),
    "floor: expected": lambda: plots.energy_decay({"a": [1.0]}, floor=0),
    "step_size: expected a positive": lambda: plots.energy_decay({"a": [1.0]}, step_size=[1.0]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
