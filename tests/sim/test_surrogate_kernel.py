"""Each compiled surrogate is its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeport.sim.surrogate import SURROGATES
from spikeport.sim.surrogate_kernel import KINDS, slopes


def test_all_are_there() -> None:
    assert tuple(SURROGATES) == KINDS


@pytest.mark.parametrize("width", [0.5, 2.0, 25.0])
@pytest.mark.parametrize("name", KINDS)
@np.errstate(under="ignore")
def test_compiled_surrogates_are_the_formulas(name: str, width: float) -> None:
    d = np.concatenate([np.linspace(-40, 40, 4001), [width, -width, width / 2, 1e30, -1e30]])
    h = np.empty_like(d)
    slopes(KINDS.index(name), width, d, h)
    # Near 1, a (1 - s) of the formula for sigmoids keeps only so many digits.
    wanted = SURROGATES[name](torch.from_numpy(d), width)
    np.testing.assert_allclose(h, wanted, rtol=1e-13, atol=1e-14)
    narrow = np.empty(len(d), np.float32)
    slopes(KINDS.index(name), np.float32(width), d.astype(np.float32), narrow)
    np.testing.assert_allclose(narrow, h, rtol=3e-4, atol=1e-6 * h.max())
