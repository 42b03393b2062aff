"""Trains the denoisers that come with the package, and writes them into it.

    python benchmarks/shipped_denoiser.py grey --folder runs/grey --wallpapers /usr/share/backgrounds --ship
    python benchmarks/shipped_denoiser.py colour --folder runs/colour --wallpapers /usr/share/backgrounds --from-grey --ship

It goes on from the newest checkpoint in the folder, so it may be stopped at any time. With ``--from-grey`` a colour network
starts as the shipped grey one applied to the mean of the channels. ``denoising.py`` measures the result.

The photographs are named below (CC-BY, CC0 or public domain): from the Debian package ``lomiri-wallpapers-16.04`` and the
Python packages scikit-learn, scikit-image and matplotlib. The four photographs of ``denoising.py`` are never trained on.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image
from flax import nnx
from jax.sharding import AxisType

from invjax import data, metrics
from invjax.nn import light_drunet, load, save, shipped_denoiser
from invjax.train.data import Patches
from invjax.train.denoising import DenoisingLoss
from invjax.train.loop import fit
from invjax.train.step import Trainer

WALLPAPERS = (
    "Picture_0B_by_freespace.jpg",
    "Picture_1A_by_freespace.jpg",
    "Wine_by_Jakkub_Mede.jpg",
    "aitzgorri_by_Aitzol_Berasategi.jpg",
    "friends_by_Aitzol_Berasategi.jpg",
    "life_by_Aitzol_Berasategi.jpg",
    "picosdeeuropa_by_Aitzol_Berasategi.jpg",
    "seeding_by_Clements_Engelhardt.jpg",
    "sunset_by_Aitzol_Berasategi.jpg",
)
SKIMAGE = {"grey": ("brick", "cell", "coins", "grass", "gravel"), "colour": ()}
SKIMAGE_BOTH = ("retina", "rocket", "hubble_deep_field", "immunohistochemistry")
HELD_OUT = ("camera", "chelsea", "coffee", "astronaut")
SIGMAS = (5, 15, 25, 50, 75)
LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
WEIGHTS = pathlib.Path(__file__).parents[1] / "invjax" / "nn" / "weights"
LEVELS = (1600, 1024, 640, 400)  # longest sides


def main() -> None:
    """Train or go on, and print quality by noise level."""
    jax.config.update("jax_num_cpu_devices", 2)  # XLA's convolutions run on one thread each: two devices use two cores
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("grey", "colour"))
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--wallpapers", type=pathlib.Path, default=pathlib.Path("/usr/share/backgrounds"))
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--from-grey", action="store_true")
    parser.add_argument("--export", type=pathlib.Path, help="write the averaged weights to this file at the end")
    parser.add_argument("--average", type=pathlib.Path, help="ship the mean of the weights and those in this file")
    parser.add_argument("--ship", action="store_true", help="write weights and log into the package at the end")
    args = parser.parse_args()
    images = training_images(args.kind, args.wallpapers)
    print(f"{len(images)} images, {sum(i.shape[0] * i.shape[1] for i in images) / 1e6:.1f} MPix", flush=True)
    graph, params = nnx.split(
        colour_from_grey() if args.from_grey else light_drunet(images[0].shape[-1], rngs=nnx.Rngs(0))
    )
    schedule = optax.warmup_cosine_decay_schedule(0.0, args.rate, 500, args.steps, args.rate / 100)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
    trainer = Trainer(DenoisingLoss(graph), optimiser, ema_decay=0.9995)
    state = trainer.init(params, jax.random.key(1))
    evaluate = quality(args.kind)

    def on_log(record: dict, state: object) -> None:
        if record["step"] % 1000 == 0:
            record["psnr"] = evaluate(graph, state.ema_params)
        print(record, flush=True)

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    patches = Patches(images, 64, args.batch, seed=2)
    state = fit(trainer, state, patches, args.steps, folder=args.folder, log_every=250, on_log=on_log, mesh=mesh)
    weights = state.ema_params
    if args.export:
        save(nnx.merge(graph, weights), args.export)
    if args.average:
        weights = jax.tree.map(lambda a, b: (a + b) / 2, weights, nnx.state(load(args.average)))
    if args.ship:
        save(nnx.merge(graph, weights), WEIGHTS / f"{args.kind}.safetensors", dtype="float16")
        lines = (args.folder / "log.jsonl").read_text().splitlines(keepends=True)
        (WEIGHTS / f"{args.kind}_training.jsonl").write_text("".join(line for line in lines if "psnr" in line))


def colour_from_grey() -> nnx.Module:
    """A colour network that gives every channel the correction which the grey network gives to the mean of the channels.

    A channel of pixel k (of the squares of pixels) is channel ``3 k + c`` of the first layer and of the last.
    """
    grey, colour = shipped_denoiser("grey").net, light_drunet(3, rngs=nnx.Rngs(0))
    weights = nnx.to_pure_dict(nnx.state(grey))
    head, tail = (weights[layer]["kernel"] for layer in ("head", "tail"))
    weights["head"]["kernel"] = jnp.concatenate([jnp.repeat(head[:, :, :-1], 3, 2) / 3, head[:, :, -1:]], 2)
    weights["tail"]["kernel"] = jnp.repeat(tail, 3, 3)
    nnx.update(colour, jax.tree.map(jnp.asarray, weights))
    return colour


def training_images(kind: str, wallpapers: pathlib.Path) -> list[np.ndarray]:
    """Bytes ``(H, W, C)`` at several sizes: shrinking removes the blocks of JPEG and gives sharper edges."""
    files = [wallpapers / name for name in WALLPAPERS] + [
        _package_file("sklearn", f"datasets/images/{n}.jpg") for n in ("china", "flower")
    ]
    files.append(_package_file("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))
    out = [image for file in files for image in _shrunk(np.asarray(data.load_image(file)), LEVELS)]
    for name in (*SKIMAGE_BOTH, *SKIMAGE[kind]):
        out += _shrunk(np.asarray(data.photograph(name)), (512,))
    if kind == "grey":
        out = [i if i.shape[-1] == 1 else np.round(i @ LUMINANCE)[..., None].astype(np.uint8) for i in out]
    return out


def _package_file(package: str, file: str) -> pathlib.Path:
    found = importlib.util.find_spec(package)
    if found is None:
        raise SystemExit(
            f"photographs of {package} are needed: pip install {package.replace('sklearn', 'scikit-learn')}"
        )
    return pathlib.Path(found.submodule_search_locations[0]) / file


def _shrunk(image: np.ndarray, sides: tuple[int, ...]) -> list[np.ndarray]:
    levels = np.round(255 * image).astype(np.uint8)
    picture = PIL.Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    out = []
    for side in sides:
        scale = min(1.0, side / max(picture.size))
        if side > max(picture.size) and side != sides[-1]:
            continue  # never enlarged
        size = tuple(max(64, round(n * scale)) for n in picture.size)
        small = np.asarray(picture.resize(size, PIL.Image.LANCZOS))
        out.append(small[..., None] if small.ndim == 2 else small)
    return out


def quality(kind: str):
    """PSNR per noise level (of 255), averaged over centres of 256 x 256 of the held-out photographs."""
    images = [np.asarray(data.photograph(name, grey=kind == "grey")) for name in HELD_OUT]
    crops = np.stack(
        [i[(h := (i.shape[0] - 256) // 2) : h + 256, (w := (i.shape[1] - 256) // 2) : w + 256] for i in images]
    )
    noise = np.random.default_rng(0).normal(size=crops.shape).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def score(graph, params, sigma):
        net = nnx.merge(graph, params)
        return jax.vmap(lambda x, n: metrics.psnr(net(x + sigma * n, sigma), x))(crops, noise)

    def evaluate(graph, params) -> dict:
        params = jax.device_get(params)
        return {str(s): [round(float(v), 2) for v in score(graph, params, s / 255)] for s in SIGMAS}

    return evaluate


if __name__ == "__main__":
    main()
