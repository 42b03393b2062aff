"""The shipped denoisers: better than total variation on photographs they were not trained on, small, and documented."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invjax
from invjax import metrics, nn, priors
from invjax.data import photograph

WEIGHTS = pathlib.Path(invjax.__file__).parent / "nn" / "weights"


@pytest.mark.parametrize("kind", nn.SHIPPED)
def test_better_than_total_variation(kind, float32):
    """By 1 dB at least in the mean over noise levels, with TV's weight chosen knowing the truth."""
    D = nn.shipped_denoiser(kind)
    photo = photograph("chelsea", grey=kind == "grey")
    clean = photo[100:196, 160:256]  # eyes and fur
    sigmas = jnp.array([5, 25, 75], jnp.float32) / 255
    noise = jax.random.normal(jax.random.key(0), clean.shape)
    tv = priors.TV(clean.shape)

    @jax.jit
    def gains(D, clean, noise):
        def gain(sigma):
            noisy = clean + sigma * noise
            by_weight = jax.lax.map(lambda w: metrics.psnr(tv.prox(noisy, w * sigma), clean), jnp.geomspace(0.2, 2, 10))
            return metrics.psnr(D(noisy, sigma), clean) - by_weight.max()

        return jax.lax.map(gain, sigmas)

    assert gains(D, clean, noise).mean() > 1


@pytest.mark.parametrize("kind", nn.SHIPPED)
def test_noise_level_zero_changes_little(kind, float32):
    clean = photograph("chelsea", grey=kind == "grey")[100:196, 160:256]
    assert metrics.psnr(nn.shipped_denoiser(kind)(clean, 0.0), clean) > 45


def test_files_are_small_and_documented():
    assert sum(p.stat().st_size for p in WEIGHTS.iterdir()) < 10e6
    notice = (WEIGHTS / "NOTICE.md").read_text()
    for kind in nn.SHIPPED:
        assert f"- {kind}: " in notice
        records = [json.loads(line) for line in (WEIGHTS / f"{kind}_training.jsonl").read_text().splitlines()]
        steps = [r["step"] for r in records]
        assert steps == sorted(steps)
        assert f"{steps[-1]:,} steps" in notice
        assert all(np.isfinite(r["loss"]) for r in records)


def test_refusal():
    with pytest.raises(ValueError, match="kind: expected one of grey, colour, got 'gray'"):
        nn.shipped_denoiser("gray")
