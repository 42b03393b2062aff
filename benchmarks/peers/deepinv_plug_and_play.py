"""PnP-HQS and PnP-ULA with the same network in PyTorch: DeepInverse's own loops, and loops written tightly for this comparison.

Each is run as fast as PyTorch does it here: threads, memory layout and images at once are chosen by timing the network alone.
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
from common import Variant, arguments, psnr, serve, transfer_function

args, problem = arguments()

import deepinv  # noqa: E402
import torch  # noqa: E402
import torch._inductor.config  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from deepinv.models.base import Denoiser  # noqa: E402
from deepinv.optim import HQS, L2, PnP, ScorePrior  # noqa: E402
from deepinv.sampling import sampling_builder  # noqa: E402
from deepinv_common import tensor, versions  # noqa: E402
from torch import Tensor, nn  # noqa: E402

steps, burn_in, step_size = int(problem["num_steps"]), int(problem["burn_in"]), float(problem["step_size"])
sigma, level = float(problem["sigma"]), float(problem["level"])
sigmas = [float(s) for s in problem["sigmas"]]
measurements = torch.from_numpy(problem["y"])[:, None]


def kernel(name: str) -> Tensor:
    """The weights of a layer."""
    return torch.from_numpy(problem[f"weights.{name}.kernel"])


def conv(name: str) -> nn.Conv2d:
    """A 3 x 3 convolution; the stored kernel is (row, column, in, out)."""
    weight = kernel(name)
    layer = nn.Conv2d(*weight.shape[2:], 3, padding=1, bias=False)
    layer.weight.data = weight.permute(3, 2, 0, 1).contiguous()
    return layer


def down(name: str) -> nn.Conv2d:
    """Half the resolution; the stored matrix is (row column in, out)."""
    weight = kernel(name)
    layer = nn.Conv2d(weight.shape[0] // 4, weight.shape[1], 2, stride=2, bias=False)
    layer.weight.data = weight.reshape(2, 2, -1, weight.shape[1]).permute(3, 2, 0, 1).contiguous()
    return layer


def up(name: str) -> nn.ConvTranspose2d:
    """Twice the resolution; the stored matrix is (in, row column out)."""
    weight = kernel(name)
    layer = nn.ConvTranspose2d(weight.shape[0], weight.shape[1] // 4, 2, stride=2, bias=False)
    layer.weight.data = weight.reshape(weight.shape[0], 2, 2, -1).permute(0, 3, 1, 2).contiguous()
    return layer


class Block(nn.Module):
    """``x + conv(relu(conv(x)))``."""

    def __init__(self, name: str):
        super().__init__()
        self.first, self.second = conv(f"{name}.first"), conv(f"{name}.second")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu_(self.first(x))).add_(x)


class LightDRUNet(Denoiser):
    """The network of the shipped weights, for images ``(B, 1, H, W)`` whose sides are multiples of 16."""

    def __init__(self):
        super().__init__()

        def blocks(name: str) -> nn.Sequential:
            return nn.Sequential(*(Block(f"{name}.{i}") for i in range(2)))

        self.head, self.tail, self.body = conv("head"), conv("tail"), blocks("body")
        self.encoder = nn.ModuleList(blocks(f"encoder.{i}") for i in range(3))
        self.down = nn.ModuleList(down(f"down.{i}.mix") for i in range(3))
        self.up = nn.ModuleList(up(f"up.{i}.mix") for i in range(3))
        self.decoder = nn.ModuleList(blocks(f"decoder.{i}") for i in range(3))

    def forward(self, x: Tensor, sigma: float, **kwargs) -> Tensor:
        squares = F.pixel_unshuffle(x, 2)
        z = torch.cat([squares, torch.full_like(squares[:, :1], sigma)], 1)
        return x + F.pixel_shuffle(self.unet(z.contiguous(memory_format=self.layout)), 2)

    def unet(self, z: Tensor) -> Tensor:
        skips = [self.head(z)]
        for blocks, coarser in zip(self.encoder, self.down, strict=True):
            skips.append(coarser(blocks(skips[-1])))
        z = self.body(skips[-1])
        for finer, blocks in zip(self.up, self.decoder, strict=True):
            z = blocks(finer(z + skips.pop()))
        return self.tail(z + skips.pop())

    def to_layout(self, layout: torch.memory_format) -> LightDRUNet:
        self.layout = layout
        return self.to(memory_format=layout)


networks = {n: LightDRUNet().eval().to_layout(getattr(torch, n)) for n in ("contiguous_format", "channels_last")}
if not args.quick:
    torch._inductor.config.freezing = True  # weights are reordered once, not at every call
    networks["compiled"] = LightDRUNet().eval().to_layout(torch.contiguous_format)
    networks["compiled"].unet = torch.compile(networks["compiled"].unet, dynamic=False)


def fastest() -> dict[int, tuple[int, str, int]]:
    """For 1 and for up to 4 images at once: the threads, layout and images at once with the fastest network, of three runs."""
    seconds = {}
    for settings in itertools.product(range(1, args.threads + 1), networks, (1, 4)):
        threads, layout, count = settings
        torch.set_num_threads(threads)
        batch = measurements[:1].expand(count, -1, -1, -1).contiguous()
        times = []
        for _ in range(4):
            start = time.perf_counter()
            networks[layout](batch, level)
            times.append(time.perf_counter() - start)
        seconds[settings] = min(times[1:]) / count
    return {most: min((s for s in seconds if s[-1] <= most), key=seconds.get) for most in (1, 4)}


physics = deepinv.physics.BlurFFT(img_size=(1, *measurements.shape[2:]), filter=tensor(problem["kernel"]))
spectrum = torch.from_numpy(transfer_function(problem["kernel"], measurements.shape[2:]).astype(np.complex64))
gram = spectrum.abs() ** 2


def library_hqs(network: Denoiser, y: Tensor, lam: Tensor) -> Tensor:
    """DeepInverse's HQS with the schedule of its DPIR; ``lam`` has shape (B, 1, 1, 1)."""
    lengths = [level**2 / (lam * sigma**2) for level in sigmas]
    parameters = {"stepsize": lengths, "g_param": sigmas}
    return HQS(data_fidelity=L2(), prior=PnP(network), params_algo=parameters, max_iter=len(sigmas))(y, physics)


def tight_hqs(network: Denoiser, y: Tensor, lam: Tensor) -> Tensor:
    """The same steps: ``x <- D((A^H y + x / s) / (|h|^2 + 1 / s))`` in Fourier space, with ``A^H y`` transformed once."""
    back = torch.fft.rfft2(y) * spectrum.conj()
    x = torch.fft.irfft2(back, y.shape[2:])
    for noise in sigmas:
        weight = lam * sigma**2 / noise**2
        x = torch.fft.irfft2((back + weight * torch.fft.rfft2(x)) / (gram + weight), y.shape[2:])
        x = network(x, noise)
    return x


def library_ula(network: Denoiser, y: Tensor, alpha: Tensor) -> Tensor:
    """The mean of DeepInverse's projected chain; ``alpha`` has shape (B, 1, 1, 1)."""
    sampler = sampling_builder(
        "ULA",
        data_fidelity=L2(sigma=sigma),
        prior=ScorePrior(denoiser=network),
        params_algo={"step_size": step_size, "alpha": alpha, "sigma": level},
        max_iter=steps,
        thinning=1,
        burnin_ratio=burn_in / steps,
        thresh_conv=0.0,
        history_size=False,
        clip=(0.0, 1.0),
    )
    return sampler.sample(y, physics, seed=0)[0]


def tight_ula(network: Denoiser, y: Tensor, alpha: Tensor) -> Tensor:
    """The same chain with the gradient in one pair of transforms, its mean as a running sum."""
    generator = torch.Generator().manual_seed(0)
    back = torch.fft.irfft2(torch.fft.rfft2(y) * spectrum.conj(), y.shape[2:])
    x, total = back, torch.zeros_like(y)
    for step in range(steps):
        gradient = (torch.fft.irfft2(gram * torch.fft.rfft2(x), y.shape[2:]) - back) / sigma**2
        drift = (network(x, level) - x) * (alpha / level**2) - gradient
        noise = torch.randn(x.shape, generator=generator).mul_((2 * step_size) ** 0.5)
        x = noise.add_(x).add_(drift, alpha=step_size).clamp_(0, 1)
        if step >= burn_in:
            total += x
    return total / (steps - burn_in)


def points(algorithm: str, case: str) -> tuple[Tensor, Tensor]:
    """Measurements ``(B, 1, H, W)`` and parameters ``(B, 1, 1, 1)`` of a case."""
    parameters = torch.from_numpy(problem[f"{algorithm}/parameters"])
    count = {"single": 1, "batch": len(measurements), "sweep": len(parameters)}[case]
    usual = float(problem[f"{algorithm}/usual"])
    if case == "sweep":
        return measurements[:1].expand(count, -1, -1, -1), parameters.reshape(-1, 1, 1, 1)
    return measurements[:count], torch.full((count, 1, 1, 1), usual)


def variant(method, algorithm: str, case: str, settings: tuple[int, str, int]) -> Variant:
    threads, layout, at_once = settings
    ys, parameters = points(algorithm, case)

    def run() -> Tensor:
        torch.set_num_threads(threads)
        parts = zip(ys.split(at_once), parameters.split(at_once), strict=True)
        return torch.cat([method(networks[layout], y.contiguous(), p) for y, p in parts])

    def report(x: Tensor) -> dict:
        images, expected = x[:, 0].numpy(), problem[f"{algorithm}/{case}"]
        cleans = problem["clean"] if case == "batch" else problem["clean"][:1].repeat(len(images), 0)
        psnrs = [psnr(image, clean) for image, clean in zip(images, cleans, strict=False)]
        return {
            "psnr": float(np.mean(psnrs)),
            "difference": float(np.abs(images - expected).max()),
            "settings": f"{threads} threads, {layout}, {at_once} at once",
        }

    return Variant(run, report)


def main() -> None:
    methods = {
        "PnP-HQS": {"library": library_hqs, "tight loop": tight_hqs},
        "PnP-ULA": {"library": library_ula, "tight loop": tight_ula},
    }
    settings = fastest()
    print(f"threads, layout, images at once: {settings}", file=sys.stderr, flush=True)
    variants = {
        f"{algorithm}/{case}/{name}": variant(method, algorithm, case, settings[1 if case == "single" else 4])
        for algorithm, loops in methods.items()
        for case in ("single", "batch", "sweep")
        for name, method in loops.items()
    }
    serve(variants, versions(args.threads))


if __name__ == "__main__":
    with torch.inference_mode():
        main()
