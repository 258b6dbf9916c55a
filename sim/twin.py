"""The differentiable twin of the chip: a FixedNet as a torch module.

`Twin(net)(x)` runs the chip's integers exactly (the same bits as `sim.reference`) and can be
differentiated by any attack or training loop. Every call starts from the reset state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.sim.arith import FLOAT32_EXACT, STATE_SHIFT
from spikeport.sim.net import FixedNet, FloatNet, Input, Population, Projection
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import ConvGeometry, Dense, Shape, Synapse, lowered
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.sim.twin_lif import Neurons, integrate


class Twin(nn.Module):
    """FixedNet with exact integer forward and surrogate backward.

    `forward(x)`: x float [B, *shape] in the input's float unit (pixels in [0, 1] for graded
    inputs, 0 or 1 for spikes), shown in every step, or a train [T, B, *shape]; returns logits
    [B, K] as floats carrying the integers of `Trace.logits`, divided by `logit_unit` (1 for spike
    counts; the threshold-free readout's own scale for potentials), so that losses see ordinary
    magnitudes. Values off the input's integer grid are rounded, with the identity as gradient.
    """

    def __init__(
        self,
        net: FixedNet,
        *,
        surrogate: Surrogate | None = None,
        detach_reset: bool = True,
    ) -> None:
        super().__init__()
        self.net = net
        self.surrogate = surrogate or Surrogate("triangle", 1.0)
        self.detach_reset = detach_reset
        if net.readout.kind == "first_spike":
            raise ValueError(
                "the twin cannot differentiate a first_spike readout; use count or last_v"
            )
        for i, projection in enumerate(net.projections):
            w = _integers(net, projection).to(_exact_type(net, projection.target))
            self.register_buffer(f"w{i}", w, persistent=False)

    @property
    def logit_unit(self) -> float:
        """Integers of the readout per unit of the logits."""
        if self.net.readout.kind == "count":
            return 1.0
        population = self.net.population(self.net.readout.population)
        return float(population.scale * (1 << STATE_SHIFT) * self.net.steps)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] for x [B, *shape]; see the class."""
        s, steps = shown(x, self.net)
        out = self._run(to_grid(s, self.net.input), steps=steps)
        spikes, v_last, _ = out[self.net.readout.population]
        raw = spikes.sum(0) if self.net.readout.kind == "count" else v_last
        return raw / self.logit_unit

    @torch.no_grad()
    def run(self, x: Any) -> Trace:
        """Run integers x [T, B, *shape] like `sim.reference.run`; spikes and v_last only."""
        checked = self.net.input.check(x)
        device = self.get_buffer("w0").device
        s = _tensor(checked, device).to(torch.float32)
        parts = {}
        for name, (spikes, v_last, _) in self._run(s, steps=len(s)).items():
            parts[name] = PopulationTrace(
                spikes=spikes.to(torch.uint8).cpu().numpy(),
                v_last=v_last.to(torch.int32).cpu().numpy(),
            )
        return Trace(populations=parts)

    def _run(self, s: Tensor, *, steps: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Spikes [T, B, n], v_last and v before reset of every population. `s` has T steps, or
        one that stands for all of them (the synaptic sums of a static image are then computed
        once)."""
        values, results = {"input": s}, {}
        for population in self.net.populations:
            a: Tensor | float = 0.0
            for i, projection in enumerate(self.net.projections):
                if projection.target == population.name:
                    w = self.get_buffer(f"w{i}")
                    a = a + synapse_sum(projection.synapse, w, values[projection.source])
            assert isinstance(a, Tensor)
            a = a.expand(steps, *a.shape[1:])
            numbers = self._neurons(population, a.device)
            v_th = _tensor(population.v_th, a.device)
            bias = _tensor(population.bias_shifted, a.device)
            spikes, v_last, fired = integrate(a, v_th.to(a), bias.to(a), numbers)
            results[population.name] = spikes, v_last, fired
            values[population.name] = spikes.reshape(*spikes.shape[:2], *population.shape)
        return results

    def _neurons(self, population: Population, device: torch.device) -> Neurons:
        threshold = _tensor(population.v_th, device) << STATE_SHIFT
        stand_in = population.scale * (1 << STATE_SHIFT)
        unit = torch.where(threshold > 0, threshold.double(), stand_in)
        return Neurons(
            du=_tensor(population.du, device),
            dv=_tensor(population.dv, device),
            v_init=_tensor(population.v_init, device),
            unit=unit,
            reset=population.reset,
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
        )


def shown(x: Tensor, net: FixedNet | FloatNet) -> tuple[Tensor, int]:
    """`x` with a leading time axis, and the number of steps it stands for: a static [B, *shape]
    becomes [1, B, *shape] for all `net.steps`, a train [T, B, *shape] stays for its T."""
    shape = net.input.shape
    if x.shape[1:] == shape:
        return x.unsqueeze(0), net.steps
    if x.shape[2:] == shape:
        return x, len(x)
    raise ValueError(
        f"twin input has shape {tuple(x.shape)}; allowed are [B, *{shape}] and [T, B, *{shape}]"
    )


def to_grid(x: Tensor, source: Input) -> Tensor:
    """x in float units -> floats carrying the input's integers, identity (times scale) backward."""
    scaled = x * source.scale
    rounded = scaled.detach().round().clamp(0, source.largest)
    return rounded + (scaled - scaled.detach())


def synapse_sum(synapse: Synapse, w: Any, s: Tensor) -> Tensor:
    """Synaptic sums [T, B, n_out] (floats carrying integers) for source values [T, B, *shape].

    `w`: the synapse's integers as floats of a type wide enough to be exact. Exponents,
    and the 24-bit wrap of convolutions, act on the value and are transparent to the gradient
    except for their scale.
    """
    steps, batch, *shape = s.shape
    part = lowered(synapse, tuple(shape))
    s = s.to(w.dtype)
    if isinstance(part, Dense):
        total = s.reshape(steps * batch, -1) @ w.T
        total = shifted(wrapped(total, 32) if w.dtype == torch.float64 else total, part.w_exp)
    else:
        total = wrapped(convolve(s.reshape(steps * batch, *shape), w, part.geometry), 24)
    return total.reshape(steps, batch, -1)


def convolve(s: Tensor, w: Tensor, geometry: ConvGeometry) -> Tensor:
    """Cross-correlation of [N, C, H, W]; rounded, so that float kernels cannot leave residue."""
    total = F.conv2d(
        s, w, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
    )
    return total + (total.round() - total).detach()


def shifted(total: Tensor, w_exp: int) -> Tensor:
    """Weight exponent on an accumulated sum: exact value (floor), gradient 2**w_exp."""
    scaled = total * 2.0**w_exp
    return scaled + (scaled.floor() - scaled).detach()


def wrapped(total: Tensor, bits: int) -> Tensor:
    """Two's complement wrap to `bits` bits; identity backward."""
    half = 2.0 ** (bits - 1)
    wrap = torch.remainder(total + half, 2 * half) - half
    return total + (wrap - total).detach()


def _integers(net: FixedNet, projection: Projection) -> Tensor:
    """int64 weights of a projection as its core multiplies with them."""
    shape: Shape = net.shape_of(projection.source)
    part = lowered(projection.synapse, shape)
    return torch.from_numpy(part.w_chip if isinstance(part, Dense) else part.w.astype(np.int64))


def _exact_type(net: FixedNet, target: str) -> torch.dtype:
    """The float type that holds every sum that can arrive at population `target`, exponents
    applied, without rounding."""
    bound = 0
    for projection in net.incoming(target):
        w = _integers(net, projection).abs().flatten(1)
        largest = net.input.largest if projection.source == "input" else 1
        w_exp = projection.synapse.w_exp if isinstance(projection.synapse, Dense) else 0
        bound += int(w.sum(1).max()) * largest << max(w_exp, 0)
    return torch.float32 if bound < FLOAT32_EXACT else torch.float64


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64)).to(device)
