"""Encoders land on the chip's grid, and their integers are what the chip's input accepts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeport.train.encode import (
    ENCODERS,
    EVENT_ENCODERS,
    IMAGE_ENCODERS,
    bits,
    counts,
    direct,
    poisson,
    source,
    stored,
    to_integers,
)

SHAPE = (2, 3, 4)


def images(batch: int = 5) -> torch.Tensor:
    return torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(3))


def test_direct_rounds_to_whole_255ths_and_repeats_them() -> None:
    x = images()
    out = direct(x, 3)
    assert out.shape == (3, 5, *SHAPE)
    assert torch.equal(out[0], out[2])
    assert torch.equal(out[0], torch.round(x * 255) / 255)
    assert float((out[0] - x).abs().max()) <= 0.5 / 255 + 1e-7


def test_direct_keeps_all_256_pixels_exactly() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    out = direct(torch.tensor(pixels).float() / 255, 2)
    integers = to_integers(out, source("direct", (1, 16, 16)))
    assert integers.dtype == np.uint8
    assert (integers == pixels).all()
    assert integers.shape == (2, 1, 1, 16, 16)


def test_poisson_fires_at_the_pixels_rate_and_follows_its_generator() -> None:
    x = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(1, 1, 2, 2)
    out = poisson(x, 20_000, torch.Generator().manual_seed(0))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(out.mean(0), x, atol=0.015, rtol=0)
    assert out[:, 0, 0, 0, 0].max() == 0
    assert out[:, 0, 0, 1, 1].min() == 1
    assert torch.equal(out, poisson(x, 20_000, torch.Generator().manual_seed(0)))
    assert not torch.equal(out, poisson(x, 20_000, torch.Generator().manual_seed(1)))
    assert to_integers(out[:4], source("poisson", (1, 2, 2))).max() == 1


def test_a_black_pixel_never_fires_not_even_on_a_draw_of_zero() -> None:
    generator = torch.Generator().manual_seed(146)
    assert bool((torch.rand(1 << 16, generator=generator) == 0).any())
    generator.manual_seed(146)
    assert poisson(torch.zeros(1, 1, 256, 256), 1, generator).sum() == 0


def recordings(batch: int = 5, steps: int = 4) -> torch.Tensor:
    """Event frames as they are stored, [B, T, C, H, W]; some bins hold 255 events."""
    generator = torch.Generator().manual_seed(4)
    few = torch.randint(0, 4, (batch, steps, *SHAPE), generator=generator)
    return torch.where(few == 3, 255, few).to(torch.uint8)


@pytest.mark.parametrize("name", EVENT_ENCODERS)
def test_events_pass_as_they_are_with_time_first(name: str) -> None:
    frames = recordings()
    x = stored(frames.numpy(), name)
    assert torch.equal(x, frames.float())  # in events, not in 255ths of one
    out = ENCODERS[name](x, 4, None)
    carrier = source(name, SHAPE)
    expected = frames if name == "counts" else (frames > 0).to(torch.uint8)
    assert out.shape == (4, 5, *SHAPE)
    assert (to_integers(out, carrier) == expected.transpose(0, 1).numpy()).all()
    assert carrier.scale == 1
    assert carrier.largest == (255 if name == "counts" else 1)


def test_counts_have_as_many_bits_as_they_were_read_with() -> None:
    carrier = source("counts", SHAPE, payload_bits=4)
    assert (carrier.largest, carrier.scale) == (15, 1)
    x = stored(recordings().clamp(max=15).numpy(), "counts")
    assert to_integers(counts(x, 4), carrier).max() == 15
    with pytest.raises(ValueError, match=r"^network input is 255; allowed are 0\.\.15$"):
        to_integers(counts(recordings().float(), 4), carrier)


def test_events_that_an_attack_moved_are_rounded() -> None:
    x = torch.tensor([0.0, 0.4, 0.6, 7.3]).view(1, 2, 1, 1, 2)
    assert counts(x, 2).flatten().tolist() == [0, 0, 1, 7]
    assert bits(x, 2).flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", EVENT_ENCODERS)
def test_gradients_of_events_pass_straight_through(name: str) -> None:
    x = recordings().float().requires_grad_()
    weights = torch.arange(1.0, 5.0)
    (ENCODERS[name](x, 4, None) * weights.view(4, 1, 1, 1, 1)).sum().backward()
    assert torch.equal(x.grad, weights.view(1, 4, 1, 1, 1).expand_as(x))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", EVENT_ENCODERS)
def test_refuses_what_are_no_event_frames(name: str) -> None:
    encode = ENCODERS[name]
    with pytest.raises(
        ValueError,
        match=r"^encoder: event frames of 3 steps are \[B, 3, C, H, W\], but x is \(5, 4, 2, 3, ",
    ):
        encode(recordings().float(), 3, None)
    with pytest.raises(ValueError, match=r"are \[B, 5, C, H, W\], but x is \(5, 2, 3, 4\)$"):
        encode(images(), 5, None)
    for low, high in ((-1.0, 2.0), (0.0, 256.0), (0.0, float("nan"))):
        with pytest.raises(
            ValueError, match=r"^encoder: event counts span \S+\.\.\S+; allowed are 0\.\.255$"
        ):
            encode(torch.tensor([low, high]).view(1, 2, 1, 1, 1), 2, None)


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
def test_encoders_of_images_refuse_event_frames(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^encoder: event frames \(5, 4, 2, 3, 4\) are no images; encode them by counts or",
    ):
        ENCODERS[name](recordings().float(), 4, torch.Generator())


def test_integers_of_a_still_image_are_one_array_seen_in_every_step() -> None:
    integers = to_integers(direct(images(), 50), source("direct", SHAPE))
    assert integers.shape == (50, 5, *SHAPE)
    assert integers.strides[0] == 0
    assert not integers.flags.writeable


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
def test_gradients_pass_straight_through(name: str) -> None:
    x = images().requires_grad_()
    out = ENCODERS[name](x, 4, torch.Generator().manual_seed(0))
    (out * torch.arange(1.0, 5.0).view(4, 1, 1, 1, 1)).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 10.0))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", IMAGE_ENCODERS)
@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-0.1, 1.0, r"^encoder: pixels span -0\.1\.\.1; they must lie in \[0, 1\]$"),
        (0.0, 255.0, r"^encoder: pixels span 0\.\.255; they must lie in \[0, 1\]$"),
        (0.0, float("nan"), r"^encoder: pixels span nan\.\.nan; they must lie in \[0, 1\]$"),
    ],
)
def test_refuses_pixels_out_of_range(name: str, low: float, high: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ENCODERS[name](torch.tensor([[[[low, high]]]]), 2, torch.Generator())


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match=r"^encoder: steps is 0; it must be at least 1$"):
        direct(images(), 0)
    with pytest.raises(ValueError, match=r"^encoder 'poisson' needs a torch\.Generator; pass one "):
        poisson(images(), 2, None)
    with pytest.raises(ValueError, match=r"^to_integers: some entries lie between two chip int"):
        to_integers(images()[None], source("direct", SHAPE))
    with pytest.raises(
        ValueError, match=r"^encoder is 'ttfs'; allowed are bits, counts, direct, poisson$"
    ):
        source("ttfs", SHAPE)
