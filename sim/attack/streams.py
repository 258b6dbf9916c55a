"""Random numbers that belong to a sample, not to its place in a batch.

Every sample owns a generator seeded by a hash of the caller's seed, the attack's name, the label
and the image. So a sample sees the same draws alone, in any batch and in any order; equal images
with equal labels see equal draws. Reproducible within one torch version.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class Streams:
    """One random stream for each sample of a batch; draws advance all of them together."""

    def __init__(self, x: Tensor, y: Tensor, *, seed: int, name: str) -> None:
        self._like = x
        images = x.detach().to("cpu", torch.float32).contiguous().numpy()
        self._generators = [
            torch.Generator().manual_seed(_seed(f"{seed}|{name}|{label}", image.tobytes()))
            for image, label in zip(images, y.tolist(), strict=True)
        ]

    def uniform(self, *shape: int) -> Tensor:
        """Uniform draws in [0, 1), [B, *shape], of the images' type and device."""
        draws = [torch.rand(shape, generator=g) for g in self._generators]
        return torch.stack(draws).to(self._like)

    def signs(self, *shape: int) -> Tensor:
        """-1 or +1 with equal chance, [B, *shape]."""
        return sign_of(self.uniform(*shape))


def sign_of(u: Tensor) -> Tensor:
    """Uniform draws in [0, 1) turned into -1 or +1 with equal chance."""
    return torch.where(u < 0.5, -1.0, 1.0).to(u)


def _seed(text: str, image: bytes) -> int:
    digest = hashlib.blake2b(text.encode() + b"|" + image, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
