# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A gallery of operators
#
# What does each forward model of the package do to an image, and what comes back by a formula or a few iterations? An operator
# knows its adjoint `A.H` and its pseudo-inverse `A.pinv`. Where the package also knows a basis that diagonalises $A$, $A^H A$ or
# $A A^H$, the pseudo-inverse is a closed form; otherwise it is found by conjugate gradients. The call is the same.
#
# Images are `(H, W, C)`, volumes `(D, H, W, C)`. Four functions serve all linear operators below: a noisy measurement, its
# adjoint, its pseudo-inverse, and a restoration with total variation by FISTA, each as one compiled program.

# %%
import io

import equinox as eqx
import jax
import jax.numpy as jnp
from IPython import display
from PIL import Image

from invjax import InverseProblem, check, generators, iterate, likelihoods, metrics, operators, plots, priors, solvers
from invjax.data import photograph, shepp_logan, shepp_logan_3d

keys = iter(jax.random.split(jax.random.key(0), 128))


@eqx.filter_jit
def measured(key, A, x, sigma=0.01):
    return InverseProblem(A, likelihoods.Gaussian(sigma)).measure(key, x)


@eqx.filter_jit
def adjoint(A, y):
    return A.H(y)


@eqx.filter_jit
def inverted(A, y):
    return A.pinv(y)


@eqx.filter_jit
def restored(A, y, weight, num_steps=100, step_size=None):
    """argmin |A x - y|^2 / 2 + weight TV(x), nearly; the default step size is 1 / |A|^2."""
    start = jnp.zeros_like(A.H(y))
    f = likelihoods.Likelihood(A, likelihoods.Gaussian(1.0), y)
    g = priors.TV(start.shape, weight, complex=jnp.iscomplexobj(start))
    return iterate(solvers.FISTA(f, g, step_size, num_inner=5), start, num_steps)[0].position


@jax.jit
def scaled(x):
    """Magnitude over its largest value."""
    return jnp.abs(x) / jnp.max(jnp.abs(x))


@jax.jit
def decades(y):
    """Four decades of magnitude on a scale from 0 to 1."""
    return 1 + jnp.log10(scaled(y) + 1e-4) / 4


@jax.jit
def phase(x):
    """The phase from -pi to pi on a scale from 0 to 1."""
    return jnp.angle(x) / (2 * jnp.pi) + 0.5


def show(images, colours=96, **options):
    """A panel as a PNG of few colours, which keeps this notebook small; `plots.panel` alone shows itself, too."""
    png = io.BytesIO()
    picture = Image.open(io.BytesIO(plots.figure_png(plots.panel(images, **options))))
    picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(png, "png", optimize=True)
    return display.Image(png.getvalue())


n = 60
camera = photograph("camera", n)
astronaut = photograph("astronaut", 48)

# %% [markdown]
# ## Denoising and inpainting
#
# The identity and a mask are diagonal in the pixels. A binary mask is its own adjoint and its own pseudo-inverse: what is
# not seen stays zero, and filling it in is up to a prior.

# %%
denoising = operators.Identity(camera.shape)
noisy = measured(next(keys), denoising, camera, 0.1)

seen = generators.BernoulliMask(camera.shape, 0.4)(next(keys))
inpainting = operators.Mask(seen, camera.shape)
masked = measured(next(keys), inpainting, camera)

show(
    {
        "truth": camera,
        "noisy": noisy,
        "noisy: TV": restored(denoising, noisy, 0.08),
        "masked: y": seen * masked,
        "masked: pseudo-inverse": inverted(inpainting, masked),
        "masked: TV": restored(inpainting, masked, 0.01, 300),
    },
    truth=camera,
    columns=3,
)

# %% [markdown]
# ## Blurs
#
# A circular blur is diagonal in the Fourier basis. The pseudo-inverse divides by the transfer function, which amplifies the noise
# where that is small; ridge regression, in the same basis, damps it. The kernels are a Gaussian, a random motion of the camera,
# and the diffraction pattern of a lens with defocus, astigmatism and coma (Zernike coefficients in waves).

# %%
lens = generators.Diffraction((15, 15), cutoff=0.25, indices=(4, 6, 8)).psf(jnp.array([0.12, 0.1, 0.15]))
kernels = {
    "Gaussian": operators.gaussian_kernel(1.0, 15),
    "motion": generators.MotionBlur((15, 15), sigma=3.0)(next(keys)),
    "lens": lens,
}


@jax.jit
def deblurred(key, kernel):
    A = operators.Blur(kernel, camera.shape)
    problem = InverseProblem(A, likelihoods.Gaussian(0.01))
    y = problem.measure(key, camera)
    return y, A.pinv(y), solvers.ridge(problem.likelihood(y), 20.0)


views = {}
for name, kernel in kernels.items():
    y, inverse, ridge = deblurred(next(keys), kernel)
    views |= {name: scaled(kernel), f"{name}: y": y, f"{name}: pseudo-inverse": inverse, f"{name}: ridge": ridge}
show(views, truth=camera, columns=4)

# %% [markdown]
# ## Blurs without a basis
#
# With the boundary "valid" the sensor sees less than the scene. A space-varying blur is a short sum of products and
# convolutions; a tiled blur has one kernel per tile. None of them has a known basis, and the restoration needs none. The dots
# show the kernel at each place. What the sensor hardly sees, the border of "valid", comes back badly.


# %%
@eqx.filter_jit
def blurs(lens_key, shake_key):
    drawn = generators.ProductConvolution(generators.GaussianBlur((9, 9), 0.5, 2.5), (n, n), 8, (3, 3))(lens_key)
    shake = generators.TiledKernels(generators.MotionBlur((9, 9), sigma=2.0), (3, 3))(shake_key)
    return {
        "valid": operators.Blur(lens, camera.shape, "valid"),
        "space-varying": operators.SpaceVaryingBlur(drawn.kernels, drawn.weights, camera.shape, "replicate"),
        "tiled": operators.TiledBlur(shake, camera.shape, 6, "replicate"),
    }


local = blurs(next(keys), next(keys))
dots = jnp.zeros(camera.shape).at[10::20, 10::20].set(100.0)
views = {}
for name, A in local.items():
    y = measured(next(keys), A, camera)
    views |= {name: scaled(measured(next(keys), A, dots)), f"{name}: y": y}
    views |= {"tiled: adjoint": adjoint(A, y)} if name == "tiled" else {f"{name}: TV": restored(A, y, 0.002)}
show(views, truth=camera, metrics=dict.fromkeys(local, "dots"), columns=3)

# %% [markdown]
# ## Smaller images
#
# Decimation after a circular blur folds the Fourier plane: $A A^H$ is diagonal in the Fourier basis of the small image.
# `Resize` reflects at the border, and for a whole factor $A A^H$ is diagonal in the cosine basis. Any other size is solved by
# conjugate gradients.

# %%
smaller = {
    "a third, circular": operators.downsampling(camera.shape, 3, "bicubic"),
    "a third, reflected": operators.Resize(camera.shape, (20, 20)),
    "24 x 36": operators.Resize(camera.shape, (24, 36), "lanczos"),
}
small = {name: measured(next(keys), A, camera, 0.003) for name, A in smaller.items()}
inverse = {f"{name}: pseudo-inverse": inverted(A, small[name]) for name, A in smaller.items()}
show({**small, **inverse}, truth=camera, columns=3)

# %% [markdown]
# ## Colour
#
# A colour filter array keeps one colour per pixel and a grey image is a weighted sum of the channels; for both, $A A^H$ is
# diagonal in the pixels. Of all images of that grey the pseudo-inverse is the one of least norm, and so greenish: green weighs
# most. Pan-sharpening sees a small colour image and a grey one of full size: `stack` joins the two measurements.

# %%
bayer = operators.demosaicing(astronaut.shape, packed=True)
grey = operators.decolorise(astronaut.shape)
pan = operators.pansharpening(astronaut.shape, 4, [1 / 3, 1 / 3, 1 / 3])

raw = measured(next(keys), bayer, astronaut)
luminance = measured(next(keys), grey, astronaut)
two_noises = likelihoods.Stacked((likelihoods.Gaussian(0.01), likelihoods.Gaussian(0.01)))
small_and_sharp = InverseProblem(pan, two_noises).measure(next(keys), astronaut)
show(
    {
        "truth": astronaut,
        "raw image": raw,
        "raw: pseudo-inverse": inverted(bayer, raw),
        "raw: TV": restored(bayer, raw, 0.005, 200),
        "grey": luminance,
        "grey: pseudo-inverse": inverted(grey, luminance),
        "a quarter": small_and_sharp[0],
        "a quarter, grey: pseudo-inverse": inverted(pan, small_and_sharp),
    },
    colours=256,
    truth=astronaut,
    columns=4,
)

# %% [markdown]
# ## Spectra
#
# `ChannelMatrix` multiplies every pixel by one small matrix, whose pseudo-inverse serves the whole image. Here it unmixes two
# stains: the optical density of a stained tissue is a mixture of the colours of haematoxylin and DAB (Ruifrok and Johnston
# 2001).

# %%
tissue = photograph("immunohistochemistry", n)
stains = jnp.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]])
mixing = operators.ChannelMatrix(stains.T, (n, n, 2))
amounts = mixing.pinv(-jnp.log(jnp.maximum(tissue, 1 / 255)))
haematoxylin, dab = (scaled(jnp.maximum(amounts[..., i], 0)) for i in range(2))
show({"photograph": tissue, "haematoxylin": haematoxylin, "DAB": dab}, colours=256)

# %% [markdown]
# A snapshot spectral camera codes, shears and adds up all bands in one exposure. Every voxel meets one pixel of the sensor, so
# $A A^H$ is diagonal in the pixels. The six bands here are smooth spectra made from the colours of a photograph, and shown as
# colours again.

# %%
offset = jnp.linspace(1.0, 0.0, 6)[:, None] - jnp.array([0.9, 0.5, 0.1])
spectra = operators.ChannelMatrix(jnp.exp(-((offset / 0.3) ** 2)), astronaut.shape)
cube = spectra(astronaut)
aperture = generators.BernoulliMask((48, 48, 1))(next(keys))
snapshot = operators.SnapshotSpectral(aperture, cube.shape)
y = measured(next(keys), snapshot, cube)
show(
    {
        "truth": astronaut,
        "sensor": scaled(y),
        "pseudo-inverse": spectra.pinv(inverted(snapshot, y)),
        "TV": spectra.pinv(restored(snapshot, y, 0.01, 300)),
    },
    colours=256,
    truth=astronaut,
)

# %% [markdown]
# ## Compressed sensing
#
# A quarter as many numbers as pixels, three ways. The Gaussian matrix is never stored: its rows are drawn again at every use. The
# structured one is random signs and cosine transforms, the single-pixel camera keeps a quarter of the Hadamard coefficients; for
# both the pseudo-inverse is the adjoint.

# %%
scene = photograph("camera", 64)
sensing = {
    "Gaussian": operators.GaussianSensing(next(keys), 1024, scene.shape, block=1024),
    "structured": operators.structured_random(next(keys), scene.shape, (32, 32, 1), transform="cosine"),
    "single-pixel": operators.single_pixel_camera(scene.shape, 1024, "cake_cutting"),
}
data = {name: measured(next(keys), A, scene) for name, A in sensing.items()}
show(
    {
        "Gaussian: |y|": scaled(data["Gaussian"].reshape(32, 32)),
        "structured: |y|": scaled(data["structured"]),
        "single-pixel: |y|, four decades": decades(data["single-pixel"] * (sensing["single-pixel"](scene) != 0)),
        **{f"{name}: pseudo-inverse": inverted(A, data[name]) for name, A in sensing.items()},
        "Gaussian: adjoint": adjoint(sensing["Gaussian"], data["Gaussian"]),
        **{
            f"{name}: TV": restored(sensing[name], data[name], 0.02, 60, 1.0) for name in ("structured", "single-pixel")
        },
    },
    truth=scene,
    metrics={"single-pixel: |y|, four decades": ""},
    columns=3,
)

# %% [markdown]
# ## Magnetic resonance imaging
#
# A Cartesian scan samples lines of the Fourier plane (shown over four decades of magnitude, zero frequency in the middle). With
# one coil the operator is a mask after a unitary transform, so the pseudo-inverse fills with zeros. Several coils add what
# their sensitivities know, and the pseudo-inverse, by conjugate gradients, unfolds the image.

# %%
head = shepp_logan(n, supersample=4)
image = head.astype(jnp.complex64)
lines = generators.PolynomialLines(head.shape, 2.5, order=3.0)(next(keys))
one_coil = operators.single_coil_mri(lines, head.shape)
maps = operators.birdcage_maps(head.shape, 4)
equispaced = generators.EquispacedLines(head.shape, 2.0)(next(keys))
four_coils = operators.multi_coil_mri(equispaced, maps, head.shape)

y1 = measured(next(keys), one_coil, image, 0.005)
y4 = measured(next(keys), four_coils, image, 0.005)
show(
    {
        "truth": head,
        "one coil: k-space": decades(y1 * lines),
        "one coil: pseudo-inverse": jnp.abs(inverted(one_coil, y1)),
        "one coil: TV": jnp.abs(restored(one_coil, y1, 0.005, step_size=1.0)),
        "first of four maps": jnp.abs(maps[0]),
        "first k-space": decades(y4[0] * equispaced),
        "four coils: adjoint": jnp.abs(adjoint(four_coils, y4)),
        "four coils: pseudo-inverse": jnp.abs(inverted(four_coils, y4)),
    },
    truth=head,
    metrics=dict.fromkeys(["one coil: k-space", "first of four maps", "first k-space"], "magnitude"),
    columns=4,
)

# %% [markdown]
# In a dynamic scan each frame has its own lines. Here something fills up over six frames of interleaved lines: each frame alone
# is folded, and total variation over space and time uses them all.

# %%
rows, columns = jnp.meshgrid(jnp.arange(n), jnp.arange(n), indexing="ij")
filling = (((rows - 28) / 9) ** 2 + ((columns - 36) / 4) ** 2 < 1)[..., None]
frames = jnp.stack([head + level * filling for level in jnp.linspace(0.0, 0.5, 6)])
interleaved = generators.InterleavedLines(head.shape, 4.0, num_frames=6)(next(keys))
dynamic = operators.dynamic_mri(interleaved, frames.shape)
y = measured(next(keys), dynamic, frames.astype(jnp.complex64), 0.005)
show(
    {
        "truth, last frame": frames[-1],
        "its k-space": decades(y[-1] * interleaved[-1]),
        "pseudo-inverse": jnp.abs(inverted(dynamic, y)[-1]),
        "TV over space and time": jnp.abs(restored(dynamic, y, 0.01, step_size=1.0)[-1]),
    },
    truth=frames[-1],
    metrics={"its k-space": "magnitude"},
)

# %% [markdown]
# Radial spokes leave the grid. The adjoint counts the densely sampled centre too often; weighting each sample by the area that it
# stands for repairs that. The pseudo-inverse takes conjugate gradients with `A.gram`, one convolution on twice the grid.

# %%
spokes = operators.golden_angle_trajectory(48, n)
radial = operators.non_cartesian_mri(spokes, head.shape)
y = measured(next(keys), radial, image, 0.005)
show(
    {
        "48 spokes of k-space": decades(y.reshape(48, n)),
        "adjoint": scaled(adjoint(radial, y)),
        "weighted adjoint": jnp.abs(adjoint(radial, y * operators.ramp_density(spokes, head.shape)[:, None])),
        "pseudo-inverse": jnp.abs(inverted(radial, y)),
    },
    truth=head,
)

# %% [markdown]
# ## Radio interferometry
#
# Each pair of antennas measures one Fourier coefficient of the sky at a time, and the Earth turns the pairs. $A^H A$ is a
# convolution whose kernel, the dirty beam, is the image of a point source. A non-negative least-squares fit cleans the image.

# %%
sky = photograph("hubble_deep_field", n, grey=True)
antennas = 500 * jax.random.normal(next(keys), (12, 3)) * jnp.array([1.0, 1.0, 0.0])
hours = jnp.linspace(-1.2, 1.2, 30)
uv = operators.earth_rotation_uv(antennas, hours, declination=0.7, latitude=0.6, wavelength=0.2)
telescope = operators.radio_interferometry(uv, sky.shape, pixel_size=5e-5)
point = jnp.zeros(sky.shape).at[n // 2, n // 2].set(1.0)


@eqx.filter_jit
def observed(key, A):
    problem = InverseProblem(A, likelihoods.Gaussian(0.1))
    f = problem.likelihood(problem.measure(key, sky))
    fit = iterate(solvers.FISTA(f, priors.NonNegative()), jnp.zeros(sky.shape), 200)[0].position
    return A.gram(point), A.H(f.y), fit


beam, dirty, fit = observed(next(keys), telescope)
show(
    {
        "truth": sky,
        "dirty beam": decades(beam),
        "dirty image": (dirty - dirty.min()) / (dirty.max() - dirty.min()),
        "non-negative fit": fit,
    },
    truth=sky,
    metrics={"dirty beam": "four decades", "dirty image": "scaled"},
)

# %% [markdown]
# ## Tomography
#
# Rows of a sinogram are angles, columns are detectors. Filtered back-projection is a formula for angles all around; SIRT needs
# only `A` and `A.H`, here with non-negative values. With a third of the half turn, edges along directions that no ray follows
# are lost.

# %%
half_turn = jnp.pi * jnp.arange(72) / 72
geometries = {
    "parallel": operators.parallel_beam(half_turn, head.shape, 72),
    "fan": operators.fan_beam(2 * half_turn, head.shape, 72, source_distance=120.0, detector_distance=60.0),
    "limited angle": operators.parallel_beam(half_turn[:24], head.shape, 72),
}


@eqx.filter_jit
def sirt(A, y, num_steps=100):
    method = solvers.SIRT(A, y, constraint=priors.NonNegative())
    return iterate(method, jnp.zeros(A.in_structure.shape), num_steps)[0].position


views = {}
for name, A in geometries.items():
    y = measured(next(keys), A, head, 0.05)
    views |= {
        f"{name}: y": scaled(y),
        f"{name}: adjoint": scaled(adjoint(A, y)),
        f"{name}: filtered": operators.filtered_back_projection(A, y, "cosine"),
        f"{name}: SIRT": sirt(A, y),
    }
show(views, truth=head, columns=4)

# %% [markdown]
# A cone beam sees a volume from a circle. `filtered_back_projection` is then Feldkamp's method, and SIRT stays the same line.

# %%
volume = shepp_logan_3d(40, supersample=2)
cone = operators.cone_beam(2 * half_turn[::2], volume.shape, (48, 60), source_distance=100.0, detector_distance=50.0)
y = measured(next(keys), cone, volume, 0.05)
feldkamp = operators.filtered_back_projection(cone, y)
iterated = sirt(cone, y, 40)
show(
    {
        "truth: plane of the circle": volume[20],
        "Feldkamp": feldkamp[20],
        "SIRT": iterated[20],
        "first view": scaled(y[0, ::-1]),
        "truth: upright section": volume[::-1, 20],
        "Feldkamp: upright": feldkamp[::-1, 20],
        "SIRT: upright": iterated[::-1, 20],
        "all views, middle row": scaled(y[:, 24]),
    },
    columns=4,
)

# %% [markdown]
# ## Propagation of light
#
# Free space is a filter in the Fourier basis. Fresnel's is unitary, so its adjoint propagates back; the angular spectrum method
# has the exact phase and leaves out the frequencies that the grid cannot sample.

# %%
wave = (0.3 + 0.7 * camera) * jnp.exp(2j * jnp.pi * (photograph("moon", n) - 0.5))
near = operators.fresnel(wave.shape, 0.5e-6, 1e-3, 4e-6)
exact = operators.angular_spectrum(wave.shape, 0.5e-6, 1e-3, 4e-6)
y, y_exact = measured(next(keys), near, wave, 1e-3), measured(next(keys), exact, wave, 1e-3)
show(
    {
        "amplitude": jnp.abs(wave),
        "phase": phase(wave),
        "Fresnel, 1 mm: amplitude": jnp.abs(y),
        "Fresnel, 1 mm: phase": phase(y),
        "and back: amplitude": jnp.abs(adjoint(near, y)),
        "and back: phase": phase(adjoint(near, y)),
        "angular spectrum: amplitude": jnp.abs(y_exact),
        "angular spectrum: phase": phase(y_exact),
    },
    columns=4,
)

# %% [markdown]
# ## Phase retrieval
#
# Detectors see intensities, $|B x|^2$. `PhaseRetrieval` makes that of any linear $B$. With coded diffraction patterns a spectral
# start and Wirtinger flow find the object up to a global phase, which `align_phase` removes.

# %%
coded = operators.coded_diffraction(generators.CodedMasks(wave.shape, 6)(next(keys)), wave.shape)
problem = InverseProblem(operators.PhaseRetrieval(coded), likelihoods.Gaussian(0.005))
f = problem.likelihood(problem.measure(next(keys), wave))
start = solvers.spectral_start(next(keys), f)
flow = check(iterate(solvers.WirtingerFlow(f, ramp=30.0), start, 300))[0].position
start, flow = (metrics.align_phase(x, wave) for x in (start, flow))
show(
    {
        "one of six intensities": jnp.fft.fftshift(decades(f.y[0])),
        "spectral start": jnp.abs(start),
        "Wirtinger flow": jnp.abs(flow),
        "its phase": phase(flow),
    }
)

# %% [markdown]
# Ptychography scans a small probe over the object; overlapping positions tie the phases together. $B^H B$ is diagonal in
# the pixels, where it is the total illumination, so each projection of the method is closed form. The border has no light.

# %%
probe = operators.gaussian_probe((24, 24), 6.0)
positions = operators.fermat_scan(wave.shape, (24, 24), 5.0)
scan = operators.Ptychography(probe, positions, wave.shape)
light = scan.illumination
lit = light > 0.2 * light.max()
problem = InverseProblem(operators.PhaseRetrieval(scan), likelihoods.Gaussian(1e-4))
f = problem.likelihood(problem.measure(next(keys), wave))
state, _, _ = check(iterate(solvers.ErrorReduction(f), jnp.ones(wave.shape, jnp.complex64), 500))
ptychogram = metrics.align_phase(lit * state.position, lit * wave)
show(
    {
        "illumination": scaled(light),
        f"one of {len(positions)} intensities": jnp.fft.fftshift(decades(f.y[0])),
        "error reduction": jnp.abs(ptychogram),
        "its phase": lit * phase(ptychogram),
    }
)

# %% [markdown]
# ## Wrapped phase and haze
#
# A phase is known modulo $2 \pi$. The fidelity `Itoh` compares differences, which are right where neighbours differ by less than
# half a turn; its prox, diagonal in the cosine basis, unwraps the phase up to a constant. Haze mixes the image with the colour of
# the air; for a known depth the model is affine in the image, and its inverse a division.

# %%
hills = operators.Blur(operators.gaussian_kernel(4.0, 25), camera.shape, "reflect")(25 * camera)
wrapped = operators.WrappedPhase(hills.shape)(hills)
unwrapped = eqx.filter_jit(likelihoods.Itoh().prox)(jnp.zeros_like(wrapped), wrapped, 1e7)
unwrapped = unwrapped + (hills - unwrapped).mean()

road = photograph("motorcycle", 48)
depth = jnp.broadcast_to(jnp.linspace(20.0, 2.0, 48)[:, None, None], (48, 48, 1))
air = jnp.array([0.75, 0.8, 0.85])
haze = eqx.filter_jit(operators.Haze(road.shape, beta=0.12))
hazy = haze((road, depth, air))
veil, transmission = haze((0 * road, depth, air)), haze((jnp.ones_like(road), depth, 0 * air))
clear = (hazy - veil) / transmission
show(
    {
        "phase": hills / hills.max(),
        "wrapped phase": wrapped / (2 * jnp.pi) + 0.5,
        "unwrapped": unwrapped / hills.max(),
        "truth": road,
        "haze": hazy,
        "divided": clear,
    },
    colours=256,
    columns=3,
)

# %% [markdown]
# ## Noise
#
# The same photograph under laws of noise. A noise model draws measurements (`sample`) and is the data term of every
# method (`potential`, `grad`, `prox`).

# %%
coins = photograph("coins", 48)
smooth = operators.Blur(operators.gaussian_kernel(1.0), coins.shape)
laws = {
    "Gaussian": likelihoods.Gaussian(0.1),
    "correlated": likelihoods.CorrelatedGaussian(0.1 * smooth.gram + 1e-4 * operators.Identity(coins.shape)),
    "Laplace": likelihoods.Laplace(0.08),
    "quantised": likelihoods.Quantised(0.2),
    "salt and pepper": likelihoods.SaltPepper(0.05, 0.05),
    "Poisson": likelihoods.Poisson(0.03),
    "Poisson and Gaussian": likelihoods.PoissonGaussian(0.03, 0.05),
    "speckle": likelihoods.Gamma(8.0),
    "Rician": likelihoods.Rician(0.1),
}
draws = {name: eqx.filter_jit(law.sample)(next(keys), coins) for name, law in laws.items()}
show({"none": coins, **draws}, columns=5)

# %% [markdown]
# ## Random parameters
#
# A generator draws the parameters of an operator: kernels, pupils, masks, lines of k-space. It is a function of a key, so a batch
# is a `vmap` over keys.

# %%
random_kernels = {
    "Gaussian": generators.GaussianBlur((25, 25), 0.8, 4.0),
    "motion": generators.MotionBlur((25, 25), sigma=4.0),
    "diffraction": generators.Diffraction((25, 25), 0.25),
    "three colours": generators.Diffraction((25, 25), 0.25, jnp.array([0.22, 0.18, 0.15])),
}
random_masks = {
    "BernoulliMask": generators.BernoulliMask((48, 48, 1)),
    "GaussianMask": generators.GaussianMask((48, 48, 1), 0.3),
    "UniformLines": generators.UniformLines((48, 48, 1), 3.0),
    "GaussianLines": generators.GaussianLines((48, 48, 1), 3.0),
    "PolynomialLines": generators.PolynomialLines((48, 48, 1), 3.0, order=3.0),
    "two axes of lines": generators.PolynomialLines((48, 48, 1), 4.0, order=3.0, axes=(0, 1)),
    "EquispacedLines": generators.EquispacedLines((48, 48, 1), 3.0),
}
views = {}
for name, generator in random_kernels.items():
    batch = eqx.filter_jit(eqx.filter_vmap(generator))(jax.random.split(next(keys), 2))
    views |= {f"{name}, {i}": scaled(kernel) for i, kernel in enumerate(batch, 1)}
for name, generator in random_masks.items():
    views[name] = jnp.broadcast_to(eqx.filter_jit(generator)(next(keys)), (48, 48, 1))
confocal = eqx.filter_jit(generators.Confocal((9, 25, 25)))(next(keys))
views["confocal, in focus"] = scaled(confocal[4])
show(views, colours=256, columns=8)

# %% [markdown]
# ## Checks
#
# Adjoints agree with their operators to float32 accuracy. Where $A A^H$ is invertible, the pseudo-inverse explains the whole
# measurement, noise included.

# %%
error = eqx.filter_jit(operators.dot_test)(next(keys), four_coils)
print(f"four coils: <A u, v> and <u, A^H v> differ by {error:.0e}")
assert error < 1e-4
for name, A in smaller.items():
    unexplained = metrics.nrmse(A(inverted(A, small[name])), small[name])
    print(f"{name:18} the pseudo-inverse misses {unexplained:.0e} of the measurement")
    assert unexplained < 1e-4
errors = {
    "spectral start": metrics.nrmse(start, wave),
    "Wirtinger flow": metrics.nrmse(flow, wave),
    "ptychography": metrics.nrmse(ptychogram, lit * wave),
}
print({name: f"{error:.3f}" for name, error in errors.items()})
assert metrics.nrmse(near.H(near(wave)), wave) < 1e-5
assert jnp.max(jnp.abs(unwrapped - hills)) < 0.01
assert jnp.max(jnp.abs(clear - road)) < 1e-4
assert errors["Wirtinger flow"] < 0.05 < errors["spectral start"]
assert errors["ptychography"] < 0.15
assert metrics.psnr(iterated, volume) > 20
