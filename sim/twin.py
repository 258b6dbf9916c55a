"""The differentiable twin of the chip: a FixedNet as a torch module.

`Twin(net)(x)` runs the chip's integers exactly (the same bits as `sim.reference`) and can be
differentiated by any attack or training loop. Every call starts from the reset state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeport.sim.arith import FLOAT32_EXACT, STATE_SHIFT, U_LIMIT
from spikeport.sim.net import FixedNet, Input, Projection
from spikeport.sim.product_torch import conv2d
from spikeport.sim.reference import refuse_overflow
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, largest_sum, lowered
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.sim.twin_base import TwinBase
from spikeport.sim.twin_lif import Neurons, integrate
from spikeport.sim.twin_rules import Rule
from spikeport.sim.twin_stretch import State, Stretch, joined, read

DENSE_BITS, CONV_BITS = 32, 24  # where sums wrap


class Twin(TwinBase):
    """FixedNet with exact integer forward and surrogate backward.

    `forward(x)`: x float [B, *shape] in the input's float unit (pixels in [0, 1] for graded
    inputs, 0 or 1 for spikes), shown in every step, or a train [T, B, *shape]; returns logits
    [B, K] as floats carrying the integers of `Trace.logits`, divided by `logit_unit`, so that
    losses see ordinary magnitudes. Values off the input's integer grid are rounded, with the
    identity as gradient.

    checkpoint: None, or steps after which a pass starts anew in memory: only the states between are
    kept, and the gradient lives each segment again (`sim.twin_segments`); sqrt(T) is least.
    """

    net: FixedNet

    def __init__(
        self,
        net: FixedNet,
        *,
        surrogate: Surrogate | Rule | None = None,
        detach_reset: bool = True,
        checkpoint: int | None = None,
    ) -> None:
        super().__init__(
            net, surrogate=surrogate, detach_reset=detach_reset, checkpoint=checkpoint
        )  # fmt: skip
        for i, projection in enumerate(net.projections):
            part = lowered(projection.synapse, net.shape_of(projection.source))
            w = part.w_chip if isinstance(part, Dense) else part.w.astype(np.int64)
            exact = torch.from_numpy(self._taken(i, part, w)).to(
                _exact_type(net, projection.target)
            )
            self.register_buffer(f"w{i}", exact, persistent=False)
        self._wraps = [_can_wrap(net, projection) for projection in net.projections]

    @property
    def logit_unit(self) -> float:
        """Integers of the readout per unit of the logits: 1 for spike counts; for last and summed
        potentials the float membrane's unit times the steps, so that a sum becomes a mean."""
        if self.net.readout.kind == "count":
            return 1.0
        population = self.net.population(self.net.readout.population)
        return float(population.scale * (1 << STATE_SHIFT) * self.net.steps)

    def _logits(self, s: Tensor, *, steps: int) -> Tensor:
        return self._read(to_grid(s, self.net.input), steps=steps) / self.logit_unit

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
        synapse, w = self.net.projections[i].synapse, self.get_buffer(f"w{i}")
        part = lowered(synapse, tuple(s.shape[2:]))
        steps, batch = s.shape[:2]
        s = s.flatten(0, 1).to(w.dtype)
        if isinstance(part, Dense):
            with torch.autocast(s.device.type, enabled=False):  # which would round the integers
                total = s.flatten(1) @ w.T
            total = wrapped(total, DENSE_BITS) if self._wraps[i] else total
            total = shifted(total, part.w_exp)
        else:
            total = rounded(self._convolved(i, s, w))
            total = wrapped(total, CONV_BITS) if self._wraps[i] else total
        return total.reshape(steps, batch, -1)

    def _integrator(
        self, name: str, device: torch.device, *, steps: int
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
            surrogate=self._passing(name),
            detach_reset=self.detach_reset,
        )
        return lambda a, state: integrate(
            a, v_th.to(a), bias.to(a), replace(neurons, slot=self._slot(name)), state=state,
            steps=steps,
        )  # fmt: skip


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


def convolve(s: Tensor, w: Tensor, geometry: ConvGeometry) -> Tensor:
    """Cross-correlation of [N, C, H, W]; rounded, for what float kernels leave below a half."""
    return rounded(conv2d(s, w, geometry))


def rounded(x: Tensor) -> Tensor:
    """x rounded in place, identity backward."""
    found: Tensor = _Rounded.apply(x)
    return found


class _Rounded(torch.autograd.Function):
    """Round in place, identity backward: maps are large, and fresh memory is dear."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.round_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def shifted(total: Tensor, w_exp: int) -> Tensor:
    """Weight exponent on an accumulated sum: exact value (floor), gradient 2**w_exp."""
    if w_exp >= 0:  # integers stay integers
        return total * 2.0**w_exp if w_exp else total
    scaled = total * 2.0**w_exp
    return scaled + (scaled.floor() - scaled).detach()


def wrapped(total: Tensor, bits: int) -> Tensor:
    """Two's complement wrap to `bits` bits; identity backward."""
    half = 2.0 ** (bits - 1)
    wrap = torch.remainder(total + half, 2 * half) - half
    return total + (wrap - total).detach()


def _exact_type(net: FixedNet, target: str) -> torch.dtype:
    """The float type that holds every sum that can arrive at population `target`, exponents
    applied, without rounding; wrapping a sum of a convolution adds half its range to it."""
    total, widest = 0, 0
    for projection in net.incoming(target):
        part, own = _reach(net, projection)
        total += own << max(part.w_exp, 0) if isinstance(part, Dense) else own
        widest = max(widest, own if isinstance(part, Dense) else own + U_LIMIT)
    return torch.float32 if max(total, widest) < FLOAT32_EXACT else torch.float64


def _can_wrap(net: FixedNet, projection: Projection) -> bool:
    """Whether a sum of a projection can reach the wrap of its kind of synapse."""
    part, own = _reach(net, projection)
    return own >= 1 << ((DENSE_BITS if isinstance(part, Dense) else CONV_BITS) - 1)


def _reach(net: FixedNet, projection: Projection) -> tuple[Dense | Conv2d, int]:
    """A projection's synapse, lowered, and the largest sum of it that can occur."""
    part = lowered(projection.synapse, net.shape_of(projection.source))
    largest = net.input.largest if projection.source == "input" else 1
    return part, largest_sum(part, largest=largest)


def _tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64)).to(device)
