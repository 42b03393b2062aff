"""Random parameters of forward models: ``key`` first, static sizes, batches by ``jax.vmap`` over keys."""

from .mri_masks import equispaced_mask, gaussian_mask, interleaved_masks, polynomial_mask, uniform_mask

__all__ = ["equispaced_mask", "gaussian_mask", "interleaved_masks", "polynomial_mask", "uniform_mask"]
