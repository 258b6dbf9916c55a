"""Where training on integers starts: the scales with which the network spikes as it did in floats.

Layer by layer, behind the integers chosen so far, the scale is taken at which the fewest spikes
differ on some training images; a readout is judged by its potentials. With few bits that scale lies
above the largest that holds every weight: clipping a few leaves finer steps to all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spikeport.sim.twin import to_grid
from spikeport.train.model import Record, SpikingNet, still
from spikeport.train.quant import QuantNet
from spikeport.train.quant_layer import QuantLayer

LOWEST, HIGHEST = 0.75, 6.0  # of the largest scale that holds every weight
TRIED = 48


@torch.no_grad()
def choose_scales(model: QuantNet, net: SpikingNet, x: Tensor) -> None:
    """Set the scales of `model`, the integers of `net`, in place, by what `net` makes of the window
    x, float [T, B, *shape] in units of the input. Both end in evaluation mode."""
    exact = net.eval()(x)
    sent = {"input": to_grid(still(x), model.eval().input)}
    for name, layer in model.populations().items():
        tried: list[tuple[float, int, Tensor, Tensor]] = []
        for scale in _candidates(layer):
            layer.log_scale.fill_(scale.log())
            spikes, v_last, _ = layer(sent)
            if layer.spiking:
                error = _differing(spikes, exact.spikes[name])
            else:
                error = _off(v_last / (layer.membrane_unit() * model.steps), exact)
            tried.append((error, len(tried), scale, spikes))
        _, _, scale, sent[name] = min(tried, key=lambda t: t[:2])
        layer.log_scale.fill_(scale.log())


def _candidates(layer: QuantLayer) -> Tensor:
    """Scales to try, the present one first; those at which sums could leave the chip's range are
    left out."""
    present = layer.scale().detach()
    factors = torch.logspace(0, 1, TRIED, base=HIGHEST / LOWEST) * LOWEST
    wanted = layer.grid_limit() * factors.to(present)
    fitting = [s for s in wanted if float(s) <= layer.safe_limit(float(s))]
    return torch.stack([present, *fitting])


def _differing(found: Tensor, wanted: Tensor) -> float:
    """Differing spikes over all spikes of both, so that silence is worst."""
    return float((found != wanted).sum() / (found.sum() + wanted.sum()).clamp(min=1))


def _off(logits: Tensor, exact: Record) -> float:
    return float((logits - exact.logits).square().mean())
