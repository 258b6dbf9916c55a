"""TrSG: thresholds and leaks that are learned, under a window that scales with the threshold.

Source: arXiv 2511.08708 (WACV 2026) and its published code. One threshold softplus(theta) and one
leak a layer; spikes leave as A = v_th s, and with Wn = 1[v_th / 2 <= U <= 3 v_th / 2]

    dA/dU = Wn,   dA/dv_th = s - (U / v_th) Wn

whatever the threshold is. A hangs on the weights that read the spikes, W (v_th s) = (v_th W) s:
the same gradients, and spikes that stay 0 or 1. The code resets by subtraction and lets gradients
through the reset; the chip resets to zero, so `model.reset` is "zero" here, and
`model.detach_reset` chooses the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from spikeport.sim.surrogate import Surrogate
from spikeport.train.methods import learned
from spikeport.train.methods.base import Method
from spikeport.train.methods.wiring import Population, populations
from spikeport.train.window import Fixed

if TYPE_CHECKING:
    from spikeport.train.model import SpikingNet

WINDOW = Fixed(Surrogate("rectangle", 1.0), relative=True)


class Trsg(Method):
    """Thresholds and leaks start from model.v_th and model.keep_v (1.0 and 0.5 in the published
    code). decay_input: U = V + k (I - V) with k = 1 - keep_v, as there; without, U = keep_v V + I.

    Where a layer adds up the spikes of several populations (a residual sum), these share one
    threshold, for the sum has no other form on a chip; so do populations that it ties together.
    Spikes that are counted as the output leave as 1.
    """

    claims: ClassVar[frozenset[str]] = frozenset({"surrogate window", "threshold", "leak"})

    decay_input: bool = True

    def prepare(self, net: SpikingNet) -> None:
        """Make thresholds and leaks parameters; raises ValueError where they would not fold."""
        found = populations(net)
        for p in found:
            p.lif.window = WINDOW
            learned.learn_leak(p.lif, p.lif.keep_v, f"methods.trsg, layer {p.name!r}")
            learned.learn(p.lif, "threshold", learned.Positive(), p.lif.threshold)
            if self.decay_input:
                _scale_current(p, found)
        _share(found)

    def settle(self, net: SpikingNet) -> None:
        """Write thresholds and gains into the weights, exactly, and make the neurons plain."""
        lifs = [p.lif for p in populations(net)]
        layers = [layer for layer in net.modules() if layer not in lifs]
        for layer in layers:  # whose values hang on those of the neurons
            learned.settle(layer)
        for lif in lifs:
            learned.settle(lif)


def _scale_current(p: Population, others: list[Population]) -> None:
    for layer in p.before:
        shared = [o.name for o in others if any(layer is b for b in o.before)]
        if len(shared) > 1 or getattr(layer, "weight", None) is None:
            raise ValueError(
                f"methods.trsg: the current of layer {p.name!r} comes from a layer"
                f" {'without weights' if len(shared) == 1 else f'that {shared} share'}, so that its"
                " gain has no place; set methods.trsg.decay_input = false"
            )
        learned.scale(layer, p.lif, "gain")


def _share(found: list[Population]) -> None:
    """One threshold for populations whose spikes are added up; then spikes as high as it."""
    head = {id(p): p for p in found}
    readers: dict[int, tuple[nn.Module, Population]] = {}
    for p in found:
        for layer in p.readers:
            _, first = readers.setdefault(id(layer), (layer, p))
            old, new = head[id(p)], head[id(first)]
            head = {key: new if of is old else of for key, of in head.items()}
    for p in found:
        p.lif.parametrizations.threshold.original = head[
            id(p)
        ].lif.parametrizations.threshold.original
    counted = [head[id(p)] for p in found if p.last]
    for layer, p in readers.values():
        if head[id(p)] not in counted:
            learned.scale(layer, p.lif, "v_th")
