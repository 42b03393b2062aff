"""BM3D with its standard profile, the level given; in colour its opponent colours."""

from __future__ import annotations

import functools
import importlib.metadata

from common import Variant, arguments, psnr, serve

args, problem = arguments()

import bm3d  # noqa: E402

VARIANTS = {}
for key in problem:
    if key.endswith("/noisy"):
        case = key.removesuffix("/noisy")
        noisy, clean, sigma = (problem[f"{case}/{name}"] for name in ("noisy", "clean", "sigma"))
        method = bm3d.bm3d_rgb if noisy.shape[-1] == 3 else bm3d.bm3d
        VARIANTS[case] = Variant(
            functools.partial(method, noisy.squeeze(), float(sigma)),
            lambda z, clean=clean: {"quality": psnr(z, clean)},
        )

if __name__ == "__main__":
    serve(VARIANTS, {"bm3d": importlib.metadata.version("bm3d")})
