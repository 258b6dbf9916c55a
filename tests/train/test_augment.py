"""Random motion of images stays within what was asked."""

from __future__ import annotations

import torch

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
