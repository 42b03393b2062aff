"""Photographs, files in every format that users have, and phantoms against their closed forms."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import skimage.color
import skimage.data
import tifffile

from invjax import data

GREY8 = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB8 = np.stack([GREY8, 255 - GREY8, GREY8 // 2], -1)
GREY16 = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
RGB16 = np.stack([GREY16, 65535 - GREY16, GREY16 // 3], -1)
ALPHA8 = np.array([0, 64, 255], np.uint8)[:, None] + np.zeros_like(GREY8)


def over_white(colour, alpha):
    alpha = alpha[..., None] / 255
    return colour / 255 * alpha + (1 - alpha)


def pillow(path, pixels, mode=None, **options):
    image = PIL.Image.fromarray(pixels) if mode is None else PIL.Image.fromarray(pixels).convert(mode)
    image.save(path, **options)


@pytest.mark.parametrize("name", data.PHOTOGRAPHS)
def test_photographs_are_those_of_scikit_image(name):
    function = {"motorcycle": lambda: skimage.data.stereo_motorcycle()[0]}.get(name) or getattr(skimage.data, name)
    expected = function()
    expected = (expected if expected.ndim == 3 else expected[..., None]) / 255
    image = data.photograph(name)
    assert image.dtype == jnp.float32
    np.testing.assert_allclose(image, expected, atol=1e-7)


def test_photograph_colours():
    colour = data.photograph("astronaut")
    grey = data.photograph("astronaut", grey=True)
    np.testing.assert_allclose(grey[..., 0], skimage.color.rgb2gray(np.asarray(colour)), atol=1e-6)
    three = data.photograph("camera", grey=False)
    assert three.shape == (512, 512, 3)
    assert (three == data.photograph("camera", grey=True)).all()


def test_photograph_size():
    """The crop is centred, and the resized image is close to the mean over blocks: aliasing would double the distance."""
    image = np.asarray(data.photograph("coffee", 100))
    assert image.shape == (100, 100, 3)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    crop = np.asarray(data.photograph("coffee"))[:, 100:500]
    blocks = crop.reshape(100, 4, 100, 4, 3).mean((1, 3))
    error, aliased = np.std(image - blocks), np.std(crop[2::4, 2::4] - blocks)
    assert error < 0.5 * aliased
    assert abs(image.mean() - crop.mean()) < 1e-3
    np.testing.assert_array_equal(data.photograph("camera", 512), data.photograph("camera"))


def test_photograph_refusals(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"name: expected one of astronaut, .*camera.*; got 'lena'"):
        data.photograph("lena")
    for size in (0, -3, 2.0, True):
        with pytest.raises(ValueError, match="size: expected a positive integer"):
            data.photograph("camera", size)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="the package scikit-image, which is not installed"):
        data.photograph("camera")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match=r"camera\.png.* not found in the installed package scikit-image"):
        data.photograph("camera")


def palette(path, transparent=None):
    image = PIL.Image.fromarray(RGB8).quantize(16)
    image.save(path, **({} if transparent is None else {"transparency": transparent}))
    return image


FORMATS = {
    "grey.png": (lambda p: pillow(p, GREY8), GREY8 / 255),
    "colour.png": (lambda p: pillow(p, RGB8), RGB8 / 255),
    "bilevel.png": (lambda p: pillow(p, GREY8 > 100), (GREY8 > 100) * 1.0),
    "grey16.png": (lambda p: pillow(p, GREY16), GREY16 / 65535),
    "rgba.png": (lambda p: pillow(p, np.dstack([RGB8, ALPHA8])), over_white(RGB8, ALPHA8)),
    "opaque.png": (lambda p: pillow(p, np.dstack([RGB8, np.full_like(GREY8, 255)])), RGB8 / 255),
    "la.png": (lambda p: pillow(p, np.dstack([GREY8, ALPHA8])), over_white(GREY8[..., None], ALPHA8)),
    "key.png": (lambda p: pillow(p, GREY8, transparency=60), np.where(GREY8 == 60, 255, GREY8) / 255),
    "grey.bmp": (lambda p: pillow(p, GREY8), GREY8 / 255),
    "grey16.pgm": (lambda p: pillow(p, GREY16), GREY16 / 65535),
    "grey.tif": (lambda p: tifffile.imwrite(p, GREY8), GREY8 / 255),
    "colour.tif": (lambda p: tifffile.imwrite(p, RGB8, photometric="rgb"), RGB8 / 255),
    "grey16.tif": (lambda p: tifffile.imwrite(p, GREY16), GREY16 / 65535),
    "big_endian16.tif": (lambda p: tifffile.imwrite(p, GREY16, byteorder=">"), GREY16 / 65535),
    "inverted16.tif": (lambda p: tifffile.imwrite(p, GREY16, photometric="miniswhite"), 1 - GREY16 / 65535),
    "inverted8.tif": (lambda p: tifffile.imwrite(p, GREY8, photometric="miniswhite"), 1 - GREY8 / 255),
    "colour16.tif": (lambda p: tifffile.imwrite(p, RGB16, photometric="rgb"), RGB16 / 65535),
    "lzw16.tif": (lambda p: pillow(p, GREY16, compression="tiff_lzw"), GREY16 / 65535),
    "deflate16.tif": (
        lambda p: tifffile.imwrite(p, RGB16, photometric="rgb", compression="zlib", predictor=True),
        RGB16 / 65535,
    ),
    "planes16.tif": (
        lambda p: tifffile.imwrite(p, np.moveaxis(RGB16, -1, 0), photometric="rgb", planarconfig="separate"),
        RGB16 / 65535,
    ),
    "alpha16.tif": (
        lambda p: tifffile.imwrite(
            p, np.dstack([RGB16, ALPHA8.astype(np.uint16) * 257]), photometric="rgb", extrasamples=["unassalpha"]
        ),
        over_white(RGB16 / 257, ALPHA8),
    ),
    "unsigned32.tif": (lambda p: tifffile.imwrite(p, GREY16.astype(np.uint32) * 65537), GREY16 / 65535),
    "signed16.tif": (lambda p: tifffile.imwrite(p, (GREY16 // 2).astype(np.int16)), (GREY16 // 2) / 32767),
    "float16.tif": (lambda p: tifffile.imwrite(p, (GREY8 / 255).astype(np.float16)), (GREY8 / 255).astype(np.float16)),
    "float32.tif": (lambda p: tifffile.imwrite(p, (GREY8 / 255).astype(np.float32)), GREY8 / 255),
    "float64.tif": (lambda p: tifffile.imwrite(p, RGB8 / 255, photometric="rgb"), RGB8 / 255),
    "big.tif": (lambda p: tifffile.imwrite(p, GREY16, bigtiff=True), GREY16 / 65535),
    "pages.tif": (lambda p: tifffile.imwrite(p, np.stack([RGB16, 0 * RGB16]), photometric="rgb"), RGB16 / 65535),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name, tmp_path):
    write, expected = FORMATS[name]
    write(tmp_path / name)
    image = data.load_image(tmp_path / name)
    expected = np.asarray(expected)
    assert image.dtype == jnp.float32
    np.testing.assert_allclose(image, expected if expected.ndim == 3 else expected[..., None], atol=1e-7)


def test_palettes_become_colour(tmp_path):
    image = palette(tmp_path / "palette.png")
    np.testing.assert_allclose(
        data.load_image(tmp_path / "palette.png"), np.asarray(image.convert("RGB")) / 255, atol=1e-7
    )
    palette(tmp_path / "transparent.png", transparent=3)
    colours = np.where((np.asarray(image) == 3)[..., None], 255, np.asarray(image.convert("RGB")))
    np.testing.assert_allclose(data.load_image(str(tmp_path / "transparent.png")), colours / 255, atol=1e-7)
    PIL.Image.fromarray(GREY8).save(
        tmp_path / "animation.gif", save_all=True, append_images=[PIL.Image.fromarray(255 - GREY8)]
    )
    first = data.load_image(tmp_path / "animation.gif")
    np.testing.assert_allclose(first.mean(-1), GREY8 / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode, tmp_path):
    """A smooth image at quality 95: quantisation leaves at most a few grey levels."""
    ramp = np.linspace(0, 1, 64)
    smooth = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 0.5), -1)
    levels = (255 * smooth).astype(np.uint8)
    pillow(tmp_path / "a.jpg", levels, mode, quality=95, **({} if mode == "L" else {"subsampling": 0}))
    image = data.load_image(tmp_path / "a.jpg")
    expected = smooth @ [[0.299], [0.587], [0.114]] if mode == "L" else smooth  # Rec. 601, as Pillow converts
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() < 0.03


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation(orientation, tmp_path):
    """Stored pixels, and how EXIF says to show them: 6 means turn clockwise by 90 degrees."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    levels = np.kron(GREY8, np.ones((8, 8), np.uint8))  # blocks of a JPEG, so that its error is one level
    pillow(tmp_path / "a.jpg", levels, quality=100, exif=exif)
    np.testing.assert_allclose(data.load_image(tmp_path / "a.jpg")[..., 0], TURNS[orientation](levels) / 255, atol=0.01)
    pillow(tmp_path / "a.png", RGB8, exif=exif)
    np.testing.assert_allclose(data.load_image(tmp_path / "a.png"), TURNS[orientation](RGB8) / 255, atol=1e-7)
    for pixels, scale in ((GREY8 > 100, 1), (GREY8, 255), (GREY16, 65535), (RGB16, 65535)):
        options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"}
        tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(0x0112, "H", 1, orientation, True)], **options)
        image = data.load_image(tmp_path / "a.tif")
        expected = TURNS[orientation](pixels if pixels.ndim == 3 else pixels[..., None]) / scale
        np.testing.assert_allclose(image, expected, atol=1e-7)
    pillow(tmp_path / "b.tif", GREY8, compression="tiff_lzw", tiffinfo={0x0112: orientation})
    np.testing.assert_allclose(data.load_image(tmp_path / "b.tif")[..., 0], TURNS[orientation](GREY8) / 255, atol=1e-7)


def test_values_outside_the_unit_interval(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.linspace(-2, 6, 12, dtype=np.float32).reshape(3, 4))
    with pytest.raises(ValueError, match=r"a\.tif: expected values in \[0, 1\], got minimum -2 and maximum 6"):
        data.load_image(path)
    np.testing.assert_allclose(
        data.load_image(path, normalise=True)[..., 0], np.linspace(0, 1, 12).reshape(3, 4), atol=1e-6
    )
    tifffile.imwrite(path, -GREY8.astype(np.int16))
    with pytest.raises(ValueError, match=r"minimum -0\.0067"):
        data.load_image(path)
    tifffile.imwrite(path, np.full((3, 4), 7.0))
    assert (data.load_image(path, normalise=True) == 0).all()
    for bad, message in ((np.nan, "got 1 NaN"), (np.inf, "maximum inf")):
        values = np.zeros((3, 4), np.float32)
        values[1, 1] = bad
        tifffile.imwrite(path, values)
        for normalise in (False, True):
            with pytest.raises(ValueError, match=message):
                data.load_image(path, normalise=normalise)


def damaged(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("a.png", "a.jpg", "a.tif"):
        pillow(folder / name, noise)
    tifffile.imwrite(folder / "deep.tif", noise.astype(np.uint16), photometric="rgb")
    for name in ("a.png", "a.jpg", "a.tif", "deep.tif"):
        content = (folder / name).read_bytes()
        for part in (20, len(content) // 2):
            (folder / f"{part}_{name}").write_bytes(content[:part])
        (folder / name).unlink()
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("this is not an image\n")
    (folder / "tiff.tif").write_bytes(b"II*\0 and then nothing of the kind")
    tifffile.imwrite(
        folder / "two_channels.tif", np.zeros((3, 4, 2), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    tifffile.imwrite(
        folder / "five_channels.tif", np.zeros((3, 4, 5), np.uint16), photometric="rgb", planarconfig="contig"
    )
    tifffile.imwrite(folder / "complex.tif", np.zeros((3, 4), np.complex64))
    return sorted(folder.iterdir())


def test_damaged_files_give_one_clear_line(tmp_path):
    paths = damaged(tmp_path)
    assert len(paths) == 14
    for path in paths:
        if path.name == "two_channels.tif":  # grey and an unspecified channel: legal, the second is dropped
            assert data.load_image(path).shape == (3, 4, 1)
            continue
        with pytest.raises(ValueError, match="cannot be read as an image") as caught:
            data.load_image(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.png: no such file"):
        data.load_image(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="expected an image file, got a folder"):
        data.load_image(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_save_round_trip(channels, tmp_path, key):
    x = jax.random.uniform(key, (5, 7, channels), minval=-0.2, maxval=1.2)
    data.save_image(tmp_path / "a.png", x)
    image = data.load_image(tmp_path / "a.png")
    np.testing.assert_allclose(image, np.clip(x, 0, 1), atol=0.5 / 255 + 1e-6)
    data.save_image(tmp_path / "b.png", image)
    np.testing.assert_array_equal(data.load_image(tmp_path / "b.png"), image)
    data.save_image(str(tmp_path / "c.png"), image[..., 0])
    assert data.load_image(tmp_path / "c.png").shape == (5, 7, 1)


def test_save_refusals(tmp_path):
    x = np.zeros((3, 4, 1))
    for bad in (np.zeros((3, 4, 2)), np.zeros(3), np.zeros((0, 4)), x + np.nan, x + 1j):
        with pytest.raises(ValueError, match="x: expected"):
            data.save_image(tmp_path / "a.png", bad)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        data.save_image(tmp_path / "a.jpg", x)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_saving_is_all_or_nothing(broken, tmp_path, monkeypatch):
    data.save_image(tmp_path / "a.png", np.zeros((3, 4)))
    before = (tmp_path / "a.png").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        data.save_image(tmp_path / "a.png", np.ones((3, 4)))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def brute_force(size):
    """Modified Shepp-Logan (Toft 1996, table B.3) pixel by pixel."""
    rows = """1 .69 .92 0 0 0; -.8 .6624 .874 0 -.0184 0; -.2 .11 .31 .22 0 -18; -.2 .16 .41 -.22 0 18;
    .1 .21 .25 0 .35 0; .1 .046 .046 0 .1 0; .1 .046 .046 0 -.1 0; .1 .046 .023 -.08 -.605 0;
    .1 .023 .023 0 -.606 0; .1 .023 .046 .06 -.605 0"""
    table = np.array([[float(v) for v in row.split()] for row in rows.split(";")])
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = np.meshgrid(axis, -axis)
    image = np.zeros((size, size))
    for value, a, b, x0, y0, angle in table:
        turned = ((x - x0) + 1j * (y - y0)) * np.exp(-1j * np.deg2rad(angle))
        image += value * ((turned.real / a) ** 2 + (turned.imag / b) ** 2 <= 1)
    return image, table


def test_shepp_logan_pixel_by_pixel():
    expected, _ = brute_force(65)
    image = data.shepp_logan(65, dtype=jnp.float64)
    np.testing.assert_allclose(image[..., 0], expected, atol=1e-12)
    single = data.shepp_logan(65)
    assert single.dtype == jnp.float32
    assert (single.min(), single.max()) == (0.0, 1.0)  # cancelling regions are exactly 0
    assert np.mean(np.abs(single - image) > 1e-6) < 1e-3  # rounding may move a centre across an edge


def test_shepp_logan_looks_like_that_of_scikit_image():
    """Their picture has another contrast, but the same skull, the same dark ellipses and the same way up."""
    theirs = skimage.data.shepp_logan_phantom()
    assert np.corrcoef(theirs.ravel(), data.shepp_logan(400).ravel())[0, 1] > 0.95
    assert np.corrcoef(theirs[::-1].ravel(), data.shepp_logan(400).ravel())[0, 1] < 0.9


@pytest.mark.parametrize("supersample", [1, 4])
def test_mean_of_the_phantom_converges(supersample):
    """The mean tends to sum(value area) / 4, at least at first order in the distance of the sampling points."""
    _, table = brute_force(1)
    exact = np.sum(table[:, 0] * np.pi * table[:, 1] * table[:, 2]) / 4
    for size in (16, 64, 256):
        mean = data.shepp_logan(size, supersample=supersample, dtype=jnp.float64).mean()
        # First order: the error of sampling an area is at most of the order of its perimeter times the spacing (times
        # the contrast); signs vary along the perimeter, so a tenth of a spacing is ample.
        assert abs(mean - exact) < 0.1 / (size * supersample)


def test_supersampling_is_the_mean_of_a_finer_grid():
    fine = data.shepp_logan(96, dtype=jnp.float64)
    blocks = fine.reshape(32, 3, 32, 3).mean((1, 3))
    np.testing.assert_allclose(data.shepp_logan(32, supersample=3, dtype=jnp.float64)[..., 0], blocks, atol=1e-12)


def test_shepp_logan_3d():
    volume = data.shepp_logan_3d(33, dtype=jnp.float64)
    assert volume.shape == (33, 33, 33, 1)
    np.testing.assert_array_equal(volume[16], data.shepp_logan(33, dtype=jnp.float64))
    np.testing.assert_array_equal(volume, volume[::-1])  # centred in z
    half_axes = np.array([0.81, 0.78, 0.22, 0.28, 0.41, 0.05, 0.05, 0.05, 0.02, 0.02])
    _, table = brute_force(1)
    exact = np.sum(table[:, 0] * table[:, 1] * table[:, 2] * half_axes) * 4 / 3 * np.pi / 8
    mean = data.shepp_logan_3d(33, supersample=3, dtype=jnp.float64).mean()
    assert mean == pytest.approx(exact, abs=0.02 / 99)
    assert data.shepp_logan_3d(9).dtype == jnp.float32


def test_random_ellipses(key, strict):
    keys = jax.random.split(key, 50)

    @jax.jit
    def draw(keys):
        images = jax.vmap(lambda k: data.random_ellipses(k, 32, 6))(keys)
        return images, data.random_ellipses(keys[3], 32, 6), jax.vmap(lambda k: data.random_ellipses(k, 32, 1))(keys)

    images, third, single = jax.tree.map(np.asarray, draw(keys))
    assert images.shape == (50, 32, 32, 1)
    assert images.dtype == np.float32
    assert images.min() == 0
    np.testing.assert_allclose(images.max((1, 2, 3)), 1, atol=1e-6)
    axis = (np.arange(32) + 0.5) / 16 - 1
    assert (images[:, np.hypot(*np.meshgrid(axis, axis)) > 1] == 0).all()
    np.testing.assert_allclose(images[3], third, atol=1e-6)
    # Mean area of one ellipse: pi E[a] E[b] = pi 0.225^2 of the square of area 4; 50 images, relative spread sqrt(2/3) each.
    assert single.mean() == pytest.approx(np.pi * 0.225**2 / 4, rel=4 * np.sqrt(2 / 3 / 50))
    wide = jax.eval_shape(lambda k: data.random_ellipses(k, 16, 2, supersample=2, dtype=jnp.float64), key)
    assert wide.dtype == jnp.float64


def test_phantom_refusals(key):
    for call in (data.shepp_logan, data.shepp_logan_3d, lambda n: data.random_ellipses(key, n)):
        with pytest.raises(ValueError, match="size: expected a positive integer"):
            call(0)
    with pytest.raises(ValueError, match="supersample: expected a positive integer"):
        data.shepp_logan(8, supersample=0)
    with pytest.raises(ValueError, match="num: expected a positive integer"):
        data.random_ellipses(key, 8, 2.5)


def test_fashion_sample_is_the_data_set():
    """Ten classes in turn, lossless: the sum of all pixels and of one image are those of the IDX file, as integers."""
    images, classes = data.fashion_mnist()
    assert images.shape == (1000, 28, 28, 1)
    assert images.dtype == jnp.float32
    np.testing.assert_array_equal(classes, np.arange(1000) % 10)
    assert len(data.FASHION_CLASSES) == 10
    pixels = np.round(255 * np.asarray(images)).astype(int)
    np.testing.assert_allclose(pixels / 255, images, atol=1e-7)
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert pixels.sum() == 56_973_981
    assert pixels[9].sum() == 33_456
    np.testing.assert_array_equal(data.fashion_mnist(3)[0], images[:3])
    for num in (0, 1001):
        with pytest.raises(ValueError, match="num"):
            data.fashion_mnist(num)
