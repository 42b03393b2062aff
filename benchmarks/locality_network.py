"""Which analytic denoiser explains a trained network? U-Net, optimal, Wiener and locality denoiser of the same images.

    python benchmarks/locality_network.py FOLDER --run RUN

FOLDER holds Fashion-MNIST as for ``locality.py``. A U-Net is trained on the first training images (a stopped run goes on from
the folder RUN) until it beats Wiener on test images at every level: before that it is no measure of anything. Then, for each
denoiser and level, ``r2 = 1 - |U - D|^2 / |U - mean U|^2`` per test image, U the network's output; the quality is its mean.
The comparison is that of Lukoianov, Yuan, Solomon and Sitzmann 2025 (arXiv 2509.09672), scaled down.
"""

from __future__ import annotations

import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from harness import emit, parser, record
from jax import Array
from locality import LEVELS, denoisers, images, restored, sigma_of

from invjax.nn import EDMDenoiser, UNet, frozen
from invjax.train import Trainer, fit

FEATURES, BATCH, RATE, EMA = (32, 64, 128), 32, 1e-3, 0.999
SIGMA_MIN, SIGMA_MAX = 0.1, 6.0
"""The levels of training, log-uniform; those of the comparison lie between 0.2 and 3.4."""


class EDMLoss(eqx.Module):
    """``E (sigma^2 + s^2) / (sigma s)^2 |D(x + sigma n, sigma) - x|^2``: that of the inner network, of variance 1."""

    graph: Any = eqx.field(static=True)
    deviation: float = eqx.field(static=True)

    def __call__(self, params: Any, key: Array, clean: Array) -> Array:
        of_level, of_noise = jax.random.split(key)
        u = (jnp.arange(len(clean)) + jax.random.uniform(of_level, (len(clean),))) / len(clean)
        sigma = SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** u
        noisy = clean + sigma[:, None, None, None] * jax.random.normal(of_noise, clean.shape)
        error = jnp.mean((jax.vmap(nnx.merge(self.graph, params))(noisy, sigma) - clean) ** 2, (1, 2, 3))
        return jnp.mean(error * (sigma**-2 + self.deviation**-2))


def trained(points: np.ndarray, run: pathlib.Path, num_steps: int) -> Any:
    """The denoiser after ``num_steps`` steps, with averaged weights."""
    deviation = float(points.std())
    net = EDMDenoiser(UNet(1, FEATURES, 1, rngs=nnx.Rngs(0)), deviation, float(points.mean()))
    graph, params = nnx.split(net)
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, num_steps // 20, num_steps, RATE / 100)
    trainer = Trainer(EDMLoss(graph, deviation), optax.adam(schedule, b2=0.99), ema_decay=EMA)

    def batch(step: int) -> np.ndarray:
        draws = np.random.default_rng((0, step))
        chosen = points[draws.integers(0, len(points), BATCH)]
        return np.where(draws.integers(0, 2, (BATCH, 1, 1, 1)), chosen, chosen[:, :, ::-1])

    state = fit(
        trainer,
        trainer.init(params, jax.random.key(0)),
        batch,
        num_steps,
        folder=run,
        save_every=500,
        on_log=lambda line, state: print(line, flush=True),
    )
    nnx.update(net, state.ema_params)
    return frozen(net)


def explained(network: np.ndarray, analytic: np.ndarray) -> float:
    """The mean of r2 over the images."""
    gap = np.sum((network - analytic) ** 2, (1, 2, 3))
    return float(np.mean(1 - gap / np.sum((network - network.mean((1, 2, 3), keepdims=True)) ** 2, (1, 2, 3))))


def compared(points: np.ndarray, clean: np.ndarray, network: Any) -> list[dict]:
    """A line for each denoiser and level."""
    noise = np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    nothing = {"seconds": None, "seconds_median": None, "cpu_seconds": None, "compile_seconds": None}
    sizes = {"points": len(points), "images": len(clean), "shape": list(clean.shape[1:])}
    lines = []
    for t in LEVELS:
        sigma = jnp.float32(sigma_of(t))
        all_of_them = {"network": network, **denoisers(points)}
        found = {k: np.asarray(restored(d, jnp.asarray(clean + sigma * noise), sigma)) for k, d in all_of_them.items()}
        errors = {k: float(np.mean((v - clean) ** 2)) for k, v in found.items()}
        for name, image in found.items():
            facts = {"mse": errors[name], "network_beats_wiener": errors["network"] < errors["Wiener"]}
            quality = explained(found["network"], image)
            lines.append(record(f"locality/network/t={t}/{name}", sizes, nothing, quality, "r2", **facts))
    return lines


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("folder", type=pathlib.Path, help="where the package dataset-fashion-mnist was unpacked")
    options.add_argument("--run", type=pathlib.Path, required=True, help="checkpoints of the training")
    options.add_argument("--steps", type=int, default=6000)
    args = options.parse_args()
    num_points, num_tests, steps = (1000, 32, 20) if args.quick else (3000, 256, args.steps)
    points, clean = images(args.folder, "train", num_points), images(args.folder, "t10k", num_tests)
    lines = compared(points, clean, trained(points, args.run, steps))
    mean = {}
    for line in lines:
        mean.setdefault(line["case"].split("/")[-1], []).append(line["quality"])
    print({name: round(float(np.mean(values)), 4) for name, values in mean.items()}, flush=True)
    emit(lines)


if __name__ == "__main__":
    main()
