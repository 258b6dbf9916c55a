"""Random motion of images stays within what was asked."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from spikeport.train.augment import moved


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_nothing_moved() -> None:
    x = torch.rand(4, 1, 8, 8)
    assert moved(x, shift=0, rotate=0, generator=generator()) is x


def test_shift_moves_the_centre_of_mass_by_at_most_its_pixels() -> None:
    x = torch.zeros(500, 2, 12, 16)
    x[:, :, 5:7, 7:9] = 1
    out = moved(x, shift=2.0, rotate=0, generator=generator())
    torch.testing.assert_close(out.sum((1, 2, 3)), torch.full((500,), 8.0), atol=1e-3, rtol=0)
    for axis, centre in ((2, 5.5), (3, 7.5)):
        places = torch.arange(float(x.shape[axis]))
        other = (1, 2) if axis == 3 else (1, 3)
        offset = (out.sum(other) * places).sum(1) / 8 - centre
        assert 1.9 < float(offset.max()) < 2.01
        assert -2.01 < float(offset.min()) < -1.9
        assert abs(float(offset.mean())) < 0.15


def test_rotation_keeps_the_centre_and_turns_up_to_its_angle() -> None:
    x = torch.zeros(400, 1, 21, 21)
    x[:, :, 10, 18] = 1  # eight pixels right of the centre
    out = moved(x, shift=0, rotate=30.0, generator=generator())[:, 0]
    places = torch.arange(21.0) - 10
    down = (out.sum(2) * places).sum(1) / out.sum((1, 2))
    across = (out.sum(1) * places).sum(1) / out.sum((1, 2))
    angle = torch.rad2deg(torch.atan2(down, across))
    assert 28 < float(angle.max()) < 31
    assert -31 < float(angle.min()) < -28
    assert float((torch.hypot(down, across) - 8).abs().max()) < 0.4


def test_follows_its_generator_and_stays_in_range() -> None:
    x = torch.rand(6, 1, 8, 8, generator=generator(9))
    first, again, other = (moved(x, shift=1, rotate=9, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_half_of_the_samples_are_mirrored_whole() -> None:
    x = torch.rand(400, 3, 4, 5, 6, generator=generator(1))  # [B, T, C, H, W]
    out = moved(x, generator=generator(), flip=True)
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(out == x).flatten(1).all(1))
    assert 160 < int(mirrored.sum()) < 240


@pytest.mark.parametrize("shape", [(300, 2, 7, 9), (300, 3, 2, 7, 9)])
def test_crop_shifts_by_whole_pixels_all_planes_alike(shape: tuple[int, ...]) -> None:
    x = torch.randint(1, 256, shape, generator=generator(2)).float()
    out = moved(x, generator=generator(), crop=2)
    seen = set()
    for before, after in zip(x, out, strict=True):
        wide = functional.pad(before, (2, 2, 2, 2))
        places = [
            (down, across)
            for down in range(5)
            for across in range(5)
            if torch.equal(wide[..., down : down + 7, across : across + 9], after)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_crop_leaves_an_axis_of_one_pixel() -> None:
    x = torch.randint(1, 9, (50, 4, 1, 1, 30), generator=generator(3)).float()
    out = moved(x, generator=generator(), crop=5)
    assert out.shape == x.shape
    assert (out.sum((1, 2, 3, 4)) > 0.7 * x.sum((1, 2, 3, 4))).all()
    assert not torch.equal(out, x)


def test_flip_and_crop_follow_their_generator() -> None:
    x = torch.rand(20, 3, 8, 8, generator=generator(9))
    first, again, other = (moved(x, generator=generator(s), flip=True, crop=1) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("asked", [{"shift": 1.0}, {"rotate": 5.0}])
def test_refuses_to_blur_events(asked: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=r"^augmentation: shift and rotate would blur the whole counts of event "
    ):
        moved(torch.ones(2, 3, 2, 5, 5), generator=generator(), **asked)  # type: ignore[arg-type]
