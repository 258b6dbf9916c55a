"""Windows: what stands for them where the training method has done its work."""

from __future__ import annotations

import pytest
import torch

from spikeport.sim.surrogate import SURROGATES, Surrogate
from spikeport.train.window import Fixed, slope

AREA_KEPT = sorted(SURROGATES.keys() - {"superspike"})  # that one's height is 1 in any unit


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("form", AREA_KEPT)
def test_the_surrogate_in_membrane_units_is_the_window(form: str, relative: bool) -> None:
    window, v_th = Fixed(Surrogate(form, 1.3), relative=relative), 0.4
    membrane = torch.linspace(-0.8, 1.6, 41, dtype=torch.float64)[None]
    expected = slope(window, membrane, torch.tensor(v_th, dtype=torch.float64))
    torch.testing.assert_close(window.surrogate(v_th)(membrane - v_th), expected)
