"""MPD-SGR as a method: when its weight warms up, and which statistics each phase has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spikeport.train.methods.mpd_sgr import MpdSgr
from spikeport.train.regularisers import mpd_sgr


@pytest.mark.parametrize(("phase", "share"), [("float", 0.5), ("quantised", 1.0)])
def test_only_the_float_phase_warms_up(
    conv_net: Any, batch_of: Any, phase: str, share: float
) -> None:
    step = batch_of(conv_net(), phase=phase, progress=0.2)
    penalty = MpdSgr(eta=2.0, gamma=0.7, warm_up=0.4).penalty(step)
    expected = mpd_sgr(step.record.membranes, step.model.thresholds(), gamma=0.7)
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(2 * share * float(expected.detach()), rel=1e-6)
    assert MpdSgr(warm_up=0.4).penalty(batch_of(conv_net(), progress=0.0)) is None
    assert MpdSgr(eta=0.0).penalty(step) is None


@pytest.mark.parametrize(
    ("phase", "stats", "used"),
    [
        ("float", "theory", "theory"),
        ("quantised", "theory", "empirical"),  # the norms are folded
        ("float", "hinge", "hinge"),
        ("quantised", "hinge", "hinge"),
    ],
)
def test_statistics_of_the_phases(
    conv_net: Any, batch_of: Any, phase: str, stats: Any, used: str
) -> None:
    net = conv_net()
    with torch.no_grad():
        net.layers.norm1.bias.fill_(0.3)
    step = batch_of(net, phase=phase, progress=1.0)
    penalty = MpdSgr(eta=1.0, stats=stats).penalty(step)
    each = {
        kind: float(
            mpd_sgr(
                step.record.membranes, net.thresholds(), gamma=1.0, stats=kind, drives=net.drives()
            ).detach()
        )
        for kind in ("empirical", "theory", "hinge")
    }
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(each[used], rel=1e-6)
    assert len({round(value, 4) for value in each.values()}) == 3
