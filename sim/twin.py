"""The differentiable twin of the chip: a FixedNet as a torch module.

`Twin(net)(x)` runs the chip's integers exactly (the same bits as `sim.reference`) and can be
differentiated by any attack or training loop. Every call starts from the reset state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spikeport.sim.arith import FLOAT32_EXACT, STATE_SHIFT, U_LIMIT
from spikeport.sim.net import FixedNet, Input, Projection
from spikeport.sim.reference import refuse_overflow
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import ConvGeometry, Dense, Shape, Synapse, largest_sum, lowered
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.sim.twin_base import State, Stretch, TwinBase, joined, read, shown
from spikeport.sim.twin_lif import Neurons, integrate


class Twin(TwinBase):
    """FixedNet with exact integer forward and surrogate backward.

    `forward(x)`: x float [B, *shape] in the input's float unit (pixels in [0, 1] for graded
    inputs, 0 or 1 for spikes), shown in every step, or a train [T, B, *shape]; returns logits
    [B, K] as floats carrying the integers of `Trace.logits`, divided by `logit_unit`, so that
    losses see ordinary magnitudes. Values off the input's integer grid are rounded, with the
    identity as gradient.
    """

    def __init__(
        self,
        net: FixedNet,
        *,
        surrogate: Surrogate | None = None,
        detach_reset: bool = True,
    ) -> None:
        super().__init__(net, surrogate=surrogate, detach_reset=detach_reset)
        self.net = net
        for i, projection in enumerate(net.projections):
            w = _integers(net, projection).to(_exact_type(net, projection.target))
            self.register_buffer(f"w{i}", w, persistent=False)

    @property
    def logit_unit(self) -> float:
        """Integers of the readout per unit of the logits: 1 for spike counts; for last and summed
        potentials the float membrane's unit times the steps, so that a sum becomes a mean."""
        if self.net.readout.kind == "count":
            return 1.0
        population = self.net.population(self.net.readout.population)
        return float(population.scale * (1 << STATE_SHIFT) * self.net.steps)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] for x [B, *shape]; see the class."""
        s, steps = shown(x, self.net)
        lives = self._live(to_grid(s, self.net.input), steps=steps)
        readout = self.net.readout
        return read(lives[readout.population], readout.kind) / self.logit_unit

    @torch.no_grad()
    def run(self, x: Any, *, record: bool = False, strict: bool = False) -> Trace:
        """Run integers x [T, B, *shape] like `sim.reference.run`, the same bits; u and v of every
        step only with `record`. Raises as the reference does."""
        checked = self.net.input.check(x)
        device = next(self.buffers(), torch.zeros(())).device
        s = _tensor(checked, device).to(torch.float32)
        found = self._live(s, steps=len(s), every_step=record)
        lives = {p.name: found[p.name] for p in self.net.populations}
        wraps = {name: int(sum(part.wraps for part in life)) for name, life in lives.items()}
        clips = {name: int(sum(part.clips for part in life)) for name, life in lives.items()}
        if strict:
            for name in lives:
                refuse_overflow(name, wraps=wraps[name], clips=clips[name])
        parts = {name: _trace(life, record=record) for name, life in lives.items()}
        return Trace(populations=parts, wraps=wraps, clips=clips)

    def _sum(self, i: int, s: Tensor) -> Tensor:
        return synapse_sum(self.net.projections[i].synapse, self.get_buffer(f"w{i}"), s)

    def _integrator(
        self, name: str, device: torch.device
    ) -> Callable[[Tensor, State | None], Stretch]:
        population = self.net.population(name)
        v_th, bias = _tensor(population.v_th, device), _tensor(population.bias_shifted, device)
        threshold = v_th << STATE_SHIFT
        stand_in = population.scale * (1 << STATE_SHIFT)
        neurons = Neurons(
            du=_tensor(population.du, device),
            dv=_tensor(population.dv, device),
            v_init=_tensor(population.v_init, device),
            unit=torch.where(threshold > 0, threshold.double(), stand_in),
            reset=population.reset,
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
        )
        return lambda a, state: integrate(a, v_th.to(a), bias.to(a), neurons, state=state)


def _trace(life: list[Stretch], *, record: bool) -> PopulationTrace:
    """A population's trace; stretches must be of one step each to `record` every state."""

    def numbers(tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
        array: NDArray[Any] = tensor.to(dtype).cpu().numpy()
        return array

    def states(each: list[Tensor]) -> NDArray[Any] | None:
        return numbers(torch.stack(each), torch.int32) if record else None

    return PopulationTrace(
        spikes=numbers(joined(life), torch.uint8),
        v_last=numbers(read(life, "last_v"), torch.int32),
        v_sum=numbers(read(life, "sum_v"), torch.int64),
        u=states([part.u for part in life]),
        v=states([part.v for part in life]),
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
    applied, without rounding; wrapping a sum of a convolution adds half its range to it."""
    total, widest = 0, 0
    for projection in net.incoming(target):
        part = lowered(projection.synapse, net.shape_of(projection.source))
        largest = net.input.largest if projection.source == "input" else 1
        own = largest_sum(part, largest=largest)
        total += own << max(part.w_exp, 0) if isinstance(part, Dense) else own
        widest = max(widest, own if isinstance(part, Dense) else own + U_LIMIT)
    return torch.float32 if max(total, widest) < FLOAT32_EXACT else torch.float64


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64)).to(device)
