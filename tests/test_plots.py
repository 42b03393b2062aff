"""Figures: what they show, that nothing runs into anything, and that no global state is touched."""

import io
import itertools
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from invjax import plots

RNG = np.random.default_rng(0)
GREY = RNG.uniform(size=(32, 32, 1))
COLOUR = RNG.uniform(size=(32, 32, 3))
NOISY = GREY + 0.1
LONG = "a reconstruction method with a name so long that it has to be broken into lines"
STEPS = np.arange(1, 101)
WALKS = RNG.normal(size=(10, 30, 2)).cumsum(0)

FIGURES = {
    "panel_1": lambda: plots.panel({"one": GREY[..., 0]}),
    "panel_2": lambda: plots.panel({"one": GREY, LONG: NOISY}, truth=GREY, title=LONG),
    "panel_4": lambda: plots.panel(
        {str(i): NOISY for i in range(4)}, truth=GREY, metrics={"2": "SSIM 0.5"}, title="four"
    ),
    "panel_6": lambda: plots.panel(
        {"x": GREY, "y": COLOUR, LONG: GREY, "z": GREY * 1j, "u": GREY[:16], "v": GREY[:, :8]}
    ),
    "panel_wide": lambda: plots.panel({"one": GREY[:4], "two": NOISY[:4], "three": GREY[:4]}, limits=None),
    "error_grey": lambda: plots.error_map(NOISY, GREY),
    "error_colour": lambda: plots.error_map(0.9 * COLOUR, COLOUR, title=LONG),
    "uncertainty": lambda: plots.uncertainty(NOISY, 0.1 * GREY, truth=GREY, units="intensity", title="posterior"),
    "uncertainty_colour": lambda: plots.uncertainty(COLOUR, 0.1 * COLOUR),
    "traces": lambda: plots.traces(
        {"PGD": 1 / STEPS, "FISTA": 1 / STEPS**2, LONG: 0.1 / STEPS}, log="xy", ylabel="gap", title="rate"
    ),
    "traces_many": lambda: plots.traces({f"method {i}": i + RNG.normal(size=(3, 100)) for i in range(9)}, every=10),
    "coverage": lambda: plots.coverage_curve(STEPS / 100, {"ULA": (STEPS / 100) ** 0.8, LONG: STEPS / 100}),
    "coverage_one": lambda: plots.coverage_curve([0.5, 0.9], [0.4, 0.8], standard_error=[0.02, 0.03]),
    "particles_plane": lambda: plots.particles(
        {str(i): WALKS[i] for i in range(4)} | {LONG: WALKS[4]}, target=WALKS[9], times=range(5), title=LONG
    ),
    "particles_line": lambda: plots.particles({"a": WALKS[0, :, 0], "b": WALKS[1, :, 0]}, target=WALKS[9, :, 1]),
    "trajectories_plane": lambda: plots.trajectories(WALKS, target=WALKS[9], xlabel="x", ylabel="y", title="one"),
    "trajectories_line": lambda: plots.trajectories(
        {"one": WALKS[..., 0], LONG: WALKS[..., 1], "three": WALKS[..., 1]}, target=[0.0, 1.0], ylabel="x"
    ),
    "quantiles": lambda: plots.quantiles(
        {"t = 1": 1000 * np.maximum(STEPS, 50), LONG: STEPS}, target=STEPS, title=LONG
    ),
    "energy_decay": lambda: plots.energy_decay({"one": 1 / STEPS, LONG: 1 / STEPS**8}, floor=1e-9, title="decay"),
}


def texts(figure):
    """Boxes in pixels of every visible text of a drawn figure (tick labels, titles, axis labels, legend, notes)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = {t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()}
    hidden = {t for a in figure.axes if not a.axison for x in (a.xaxis, a.yaxis) for t in x.findobj()}
    drawn = []
    for axis in (x for a in figure.axes if a.axison for x in (a.xaxis, a.yaxis)):
        ticks = axis.get_ticklabels(which="both")
        low, high = sorted(axis.get_view_interval())
        places = axis.get_ticklocs(minor=False).tolist() + axis.get_ticklocs(minor=True).tolist()
        hidden |= {t for t, p in zip(ticks, places, strict=False) if not low <= p <= high}
    for text in found:
        if text not in hidden:
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
    return drawn


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_inside_and_apart(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    image = PIL.Image.open(io.BytesIO(plots.figure_png(figure)))
    width, height = (figure.get_size_inches() * 100).astype(int)
    np.testing.assert_allclose(image.size, (width, height), atol=1)
    assert 200 <= width <= 1300
    assert 100 <= height <= 900
    boxes = texts(figure)
    assert boxes
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
        assert box.height >= 7, text
    for (text, a), (other, b) in itertools.combinations(boxes, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        assert not overlap, (text, other)


def shown(figure):
    """Images of a figure as displayed: arrays of RGBA in [0, 1]."""
    found = [axis.images[0] for axis in figure.axes if axis.images]
    return [image.to_rgba(image.get_array()) for image in found]


def test_panel_shows_all_images_on_one_scale():
    ramp = np.linspace(-0.5, 1.5, 16).reshape(4, 4)
    grey, colour, magnitude = shown(plots.panel({"a": ramp, "b": COLOUR, "c": 0.5j * np.ones((4, 4))}))
    np.testing.assert_allclose(grey[..., 0], np.clip(ramp, 0, 1), atol=0.5 / 255 + 1e-3)
    np.testing.assert_allclose(colour[..., :3], COLOUR, atol=1e-12)
    np.testing.assert_allclose(magnitude[..., :3], 0.5, atol=0.005)
    scaled, half = shown(plots.panel({"a": ramp, "b": 0.5 + 0 * COLOUR}, limits=None))
    np.testing.assert_allclose(scaled[..., 0], (ramp + 0.5) / 2, atol=0.005)
    np.testing.assert_allclose(half[..., :3], 0.5, atol=1e-12)
    holes = ramp.copy()
    holes[1, 2] = np.nan
    assert shown(plots.panel({"a": holes}))[0][1, 2].tolist() == [1, 0, 0, 1]


def titles(figure):
    return [axis.get_title().strip() for axis in figure.axes if axis.get_title()]


def test_panel_captions():
    figure = plots.panel(
        {"truth": GREY, "x": NOISY, "y": NOISY, "z": NOISY[:8], "w": COLOUR},
        truth=GREY[..., 0],
        metrics={"y": "SSIM 1"},
    )
    assert titles(figure) == ["truth", "x\nPSNR 20.00 dB", "y\nSSIM 1", "z", "w"]
    assert len({axis.get_subplotspec().rowspan.start for axis in figure.axes}) == 2  # five images make two rows
    with pytest.raises(ValueError, match=r"metrics: expected names among \['x'\], got \['y'\]"):
        plots.panel({"x": GREY}, metrics={"y": "?"})
    with pytest.raises(ValueError, match="at least one image"):
        plots.panel({})
    for bad in (GREY[0, 0], np.zeros((4, 4, 2)), np.zeros((4, 4, 4, 1)), np.zeros((0, 4))):
        with pytest.raises(ValueError, match="bad: expected an image"):
            plots.panel({"bad": bad})


def test_error_map():
    figure = plots.error_map(GREY - 0.1, GREY, limit=0.4)
    (image,) = (axis.images[0] for axis in figure.axes if axis.images)
    np.testing.assert_allclose(image.get_array(), -0.1, atol=1e-12)
    assert image.get_clim() == (-0.4, 0.4)
    assert titles(figure) == ["error\nPSNR 20.00 dB"]
    x = COLOUR + np.array([0.3, 0.0, 0.0])
    (image,) = (axis.images[0] for axis in plots.error_map(x, COLOUR).axes if axis.images)
    np.testing.assert_allclose(image.get_array(), 0.3 / np.sqrt(3), atol=1e-12)
    (image,) = (axis.images[0] for axis in plots.error_map(GREY * 1j, GREY).axes if axis.images)
    np.testing.assert_allclose(image.get_array(), np.sqrt(2) * GREY[..., 0], atol=1e-12)
    assert titles(plots.error_map(GREY, GREY)) == ["error"]
    with pytest.raises(ValueError, match="truth: expected shape"):
        plots.error_map(GREY, COLOUR)


def test_uncertainty_and_error_share_a_scale():
    figure = plots.uncertainty(NOISY, 0.05 + 0 * GREY, truth=GREY, units="HU")
    _, std, error = (axis.images[0] for axis in figure.axes if axis.images)
    assert std.get_clim() == error.get_clim() == pytest.approx((0, 0.1))
    np.testing.assert_allclose(error.get_array(), 0.1, atol=1e-12)
    bars = [axis for parent in figure.axes for axis in parent.child_axes]
    assert [bar.get_ylabel() for bar in bars] == ["HU"] * 3
    with pytest.raises(ValueError, match="std: expected shape"):
        plots.uncertainty(GREY, COLOUR)


def test_traces():
    figure = plots.traces({"a": [4.0, 0.0, 1.0], "b": np.ones((2, 3))}, log="y", every=5)
    (axis,) = figure.axes
    assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")
    assert len(axis.lines) == 3
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), [1, 6, 11])
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), [4, np.nan, 1])
    assert axis.lines[1].get_color() == axis.lines[2].get_color() != axis.lines[0].get_color()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["a", "b"]
    for bad, message in (
        ([], "expected shape"),
        (np.ones((2, 2, 2)), "expected shape"),
        ([0.0, -1.0], "finite positive"),
    ):
        with pytest.raises(ValueError, match=f"series 'a': .*{message}"):
            plots.traces({"a": bad}, log="y")
    with pytest.raises(ValueError, match="log: expected"):
        plots.traces({"a": [1.0]}, log="z")
    with pytest.raises(ValueError, match="series: expected at least one"):
        plots.traces({})


def test_coverage_curve():
    figure = plots.coverage_curve([0.5, 0.9], {"ULA": [0.4, 0.8]}, standard_error={"ULA": [0.02, 0.03]})
    _, points = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(points.get_xydata(), [[0.5, 0.4], [0.9, 0.8]])
    (bars,) = (c for c in figure.axes[0].collections)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[0.36, 0.44], [0.74, 0.86]])
    with pytest.raises(ValueError, match="empirical: expected shape"):
        plots.coverage_curve([0.5, 0.9], [0.4])


def test_save_figure(tmp_path):
    figure = plots.coverage_curve([0.5], [0.4])
    for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        plots.save_figure(tmp_path / f"a{suffix}", figure)
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 3
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        plots.save_figure(tmp_path / "a.doc", figure)


@pytest.mark.parametrize(("image", "mode"), [(GREY, "L"), (COLOUR, "RGB")])
def test_png_is_the_picture_of_matplotlib_without_its_transparency(image, mode):
    figure, plain = plots.panel({"": image}), io.BytesIO()
    stored = PIL.Image.open(io.BytesIO(plots.figure_png(figure)))
    figure.savefig(plain, format="png", dpi=round(stored.info["dpi"][0]))
    assert stored.mode == mode
    np.testing.assert_array_equal(stored.convert("RGBA"), PIL.Image.open(plain))


def test_no_global_state():
    code = (
        "import sys, invjax.plots as p; import matplotlib; before = dict(matplotlib.rcParams); "
        "p.figure_png(p.traces({'a': [1.0, 2.0]})); "
        "print('matplotlib.pyplot' in sys.modules, before == dict(matplotlib.rcParams))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False True\n"
    )
