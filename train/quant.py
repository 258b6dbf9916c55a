"""Quantisation-aware training: the trained network on the chip's own integers.

A `QuantNet` is what the exporter will write: batch norm folded, weights on the 8-bit grid,
thresholds, biases and decays on theirs, the membrane truncated as the chip truncates it, all by the
same integer tick as the twin. Rounding is passed straight through. On the chip only the ratio of
weights to threshold matters, so every layer has a learned scale S (synaptic integers per unit of
the membrane) beside its learned threshold: q = round(W S), v_th = round(S V_th). Their gradients
are those of a learned step size (LSQ, arXiv 1902.08153), since a common factor cancels.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.arith import DECAY_ONE, STATE_SHIFT, U_LIMIT
from spikeport.sim.chip import Chip
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import convolve, shifted, to_grid
from spikeport.sim.twin_lif import Neurons, integrate
from spikeport.train.model import Record, SpikingNet
from spikeport.train.neuron import LEAST_V_TH, Integrator, Lif
from spikeport.train.regularisers import Drive
from spikeport.train.stages import Stage, stages

SUM_LIMIT = U_LIMIT >> STATE_SHIFT  # a synaptic sum beyond it wraps the current
HEADROOM = 0.9  # the share of the range that training keeps to
SAFE = 0.98  # what biases and thresholds, rounded too, cannot use up
BACK_OFF = 0.95  # per attempt, where rounding has used up more than the headroom
SHIFT_MAX = 7  # w_exp = -1 - shift must not fall below -8


def straight_round(x: Tensor) -> Tensor:
    """Round half to even, identity backward."""
    return x + (x.round() - x).detach()


class QuantNet(nn.Module):
    """A SpikingNet on the integers of `chip`; forward as SpikingNet's, membranes in thresholds."""

    def __init__(
        self, net: SpikingNet, chip: Chip, *, weight_bits: int = 8, learn_scale: bool = True,
        learn_threshold: bool = True, netx_bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 2 <= weight_bits <= chip.weight_bits:
            raise ValueError(
                f"weight_bits is {weight_bits}; {chip.name} allows 2..{chip.weight_bits}"
            )
        self.input, self.steps, self.readout = net.input, net.steps, net.readout
        self.layers = nn.ModuleDict()
        largest, per_unit = net.input.largest / net.input.scale, net.input.scale
        for stage in stages(net):
            layer = QuantLayer(
                stage, chip, weight_bits=weight_bits, steps=net.steps,
                source_largest=largest, source_scale=per_unit, netx_bias=netx_bias,
            )  # fmt: skip
            layer.log_scale.requires_grad_(learn_scale)
            layer.v_th.requires_grad_(learn_threshold and isinstance(stage.neuron, Lif))
            self.layers[stage.name.replace(".", "_")] = layer
            largest, per_unit = 1.0, 1.0

    def forward(self, x: Tensor) -> Record:
        """x: float [T, B, *shape] in units of the input; logits [B, K], spikes and membranes
        (v before the reset, in thresholds) of every spiking layer."""
        s = to_grid(x, self.input)
        spikes: dict[str, Tensor] = {}
        membranes: dict[str, Tensor] = {}
        logits = outputs = s
        for name, layer in self.layers.items():
            assert isinstance(layer, QuantLayer)
            s, v_last, membrane = layer(s)
            if layer.spiking:
                spikes[name], membranes[name] = s, membrane
                outputs, logits = s, s.sum(0)
            else:
                unit = layer.membrane_unit()
                top = layer.threshold() * (1 << STATE_SHIFT)
                outputs = membrane.diff(dim=0, prepend=torch.zeros_like(membrane[:1])) * top / unit
                logits = v_last / (unit * self.steps)
        return Record(logits=logits, outputs=outputs, spikes=spikes, membranes=membranes)

    def thresholds(self) -> dict[str, Tensor]:
        """Per spiking layer the threshold in the unit of its membranes, which is 1."""
        one = torch.tensor(1.0)
        return {name: one for name, layer in self.layers.items() if layer.spiking}

    def drives(self) -> dict[str, Drive]:
        """Nothing: the norms whose statistics would drive the membranes are folded."""
        return {}

    @torch.no_grad()
    def spiking_net(self) -> SpikingNet:
        """The same network in plain layers: weights, biases and thresholds are the integers over
        the layer's scale, in float64, and each neuron carries its `scale`. Exporting it gives
        these integers back."""
        layers: dict[str, nn.Module] = {}
        for name, layer in self.layers.items():
            assert isinstance(layer, QuantLayer)
            for i, pool in enumerate(layer.pools):
                layers[f"{name}_pool{i}"] = nn.AvgPool2d(pool.kernel_size, pool.stride)
            if layer.flatten:
                layers[f"{name}_flatten"] = nn.Flatten()
            layers[f"{name}_linear"], layers[name] = layer.plain()
        return SpikingNet(
            nn.Sequential(OrderedDict(layers)),
            input=self.input, steps=self.steps, readout=self.readout,
        )  # fmt: skip


class QuantLayer(nn.Module):
    """Weights and one population on the chip's grids; learned: weight, bias, scale, threshold."""

    def __init__(
        self, stage: Stage, chip: Chip, *, weight_bits: int, steps: int,
        source_largest: float, source_scale: float, netx_bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pools, self.flatten, self.geometry = stage.pools, stage.flatten, stage.geometry
        self.chip, self.steps = chip, steps
        self.bias_exp_min = STATE_SHIFT if netx_bias else 0
        self.q_max = (1 << (weight_bits - 1)) - 1
        self.source_scale = source_scale
        self.source_largest = source_largest / stage.pool_gain  # the largest pooled sum
        self.spiking = isinstance(stage.neuron, Lif)
        self.pool_gain = stage.pool_gain
        self.weight = nn.Parameter((stage.weight * stage.pool_gain).float())
        self.bias = nn.Parameter(stage.bias.float())
        keep_v = float(stage.neuron.beta) if isinstance(stage.neuron, Lif) else 1.0
        self.dv = min(round(DECAY_ONE * (1 - keep_v)), chip.decay_max)
        threshold = float(stage.neuron.threshold) if isinstance(stage.neuron, Lif) else 1.0
        surrogate = stage.neuron.surrogate if isinstance(stage.neuron, Lif) else Surrogate()
        self.surrogate = surrogate.in_units_of(threshold)
        self.detach_reset = stage.neuron.detach_reset if isinstance(stage.neuron, Lif) else True
        self.v_th = nn.Parameter(torch.tensor(threshold))
        self.shift = self._choose_shift()
        limit = min(self._grid_limit(), self._range_limit())
        self.log_scale = nn.Parameter(torch.tensor(limit).log())

    # The scale and what limits it.

    def scale(self) -> Tensor:
        """S: synaptic integers per membrane unit, kept within the chip's ranges."""
        wanted = self.log_scale.exp()
        limit = self._safe_limit(float(wanted.detach()))
        # A scale at its limit goes on learning, or else it could never come down again.
        safe: Tensor = wanted * (limit / wanted.detach()).clamp(max=1)
        return safe

    def membrane_unit(self) -> Tensor:
        """Integers of v per unit of the float membrane."""
        return self.scale() * (1 << STATE_SHIFT)

    def _grid_limit(self) -> float:
        """Largest S at which every weight is on the grid."""
        top = float(self.weight.detach().abs().max()) or 1.0
        return float(self.q_max * self.source_scale / (top * 2**self.shift))

    @torch.no_grad()
    def _range_limit(self) -> float:
        """Largest S at which, but for rounding, u cannot wrap, v cannot clip and the threshold
        fits its 17 bits."""
        by_bias = self.chip.bias_mantissa_max << self.chip.bias_exp_max
        return min(
            HEADROOM * SUM_LIMIT / max(self._widest(self.weight), 1e-9),
            self.chip.v_th_max / max(float(self.v_th), LEAST_V_TH),
            by_bias / (1 << STATE_SHIFT) / max(float(self.bias.abs().max()), 1e-9),
        )

    @torch.no_grad()
    def _safe_limit(self, wanted: float) -> float:
        """The range limit, or less where the weights' rounding at S = `wanted` exceeds the headroom
        (half a step of many small weights, all in one direction)."""
        limit = self._range_limit()
        scale = min(wanted, limit)
        while self._widest(self._rounded(scale)) * scale > SAFE * SUM_LIMIT:
            limit = scale = scale * BACK_OFF
        return limit

    def _rounded(self, scale: float) -> Tensor:
        """The weights, in membrane units, that the grid holds at S = `scale`."""
        per_unit = scale * 2**self.shift / self.source_scale
        q = (self.weight * per_unit).round().clamp(-self.q_max, self.q_max)
        held: Tensor = q / per_unit
        return held

    def _widest(self, weight: Tensor) -> float:
        """A bound of |u| and |v|, membrane units, with these weights."""
        reach = weight.flatten(1).abs().sum(1) * self.source_largest + self.bias.abs()
        lost = self.dv / DECAY_ONE
        memory = min(self.steps, 1 / lost if lost else self.steps)
        return float(reach.max()) * memory + max(float(self.v_th), LEAST_V_TH) * self.spiking

    def _choose_shift(self) -> int:
        """Bits by which a dense sum is shifted right, so that weights keep their bits although
        the sum must stay in range; convolutions have no exponent."""
        self.shift = 0
        if self.geometry is not None:
            return 0
        spare = self._grid_limit() / self._range_limit()
        return max(0, min(SHIFT_MAX, math.floor(math.log2(spare)))) if spare > 1 else 0

    # Integers of the present parameters, differentiable.

    def weights(self) -> Tensor:
        """q: integers in -q_max .. q_max; a row of one sign could not hold -q_max - 1."""
        q = straight_round(self.weight * (self.scale() * 2**self.shift / self.source_scale))
        return q.clamp(-self.q_max, self.q_max)

    def threshold(self) -> Tensor:
        """v_th mantissa; a readout that must not spike has the largest."""
        if not self.spiking:
            return torch.tensor(float(self.chip.v_th_max), device=self.weight.device)
        return straight_round(self.scale() * self.v_th).clamp(1, self.chip.v_th_max)

    def biases(self) -> Tensor:
        """Bias as added to v: a 13-bit mantissa shifted by the smallest exponent that fits (and
        that a NetX file can hold, where biases count in synaptic units of 64)."""
        wanted = self.bias * self.membrane_unit()
        top = self.chip.bias_mantissa_max
        exponent = self.bias_exp_min
        while float(wanted.detach().abs().max()) > (top + 0.5) * 2**exponent:
            exponent += 1
        mantissa = straight_round(wanted / 2**exponent).clamp(-top, top)
        shifted_bias: Tensor = mantissa * 2**exponent
        return shifted_bias

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Integers [T, B, *shape] -> spikes [T, B, *shape], v_last [B, n], membrane in thresholds
        [T, B, *shape]."""
        self._project()
        steps, batch = s.shape[:2]
        s = s.flatten(0, 1)
        for pool in self.pools:
            s = F.avg_pool2d(s, pool.kernel_size, pool.stride, divisor_override=1)
        if self.geometry is None:
            a = shifted(s.flatten(1) @ self.weights().T, -self.shift)
        else:
            a = convolve(s, self.weights(), self.geometry)
        shape, per_map = a.shape[1:], a[0, 0].numel()
        bias = self.biases().repeat_interleave(per_map)
        v_th = self.threshold()
        unit = v_th.detach() * (1 << STATE_SHIFT) if self.spiking else self.membrane_unit().detach()
        life = integrate(a.reshape(steps, batch, -1), v_th, bias, self._neurons(unit))
        membrane = life.fired / (v_th * (1 << STATE_SHIFT))
        full = (steps, batch, *shape)
        return life.spikes.reshape(full), life.v, membrane.reshape(full)

    @torch.no_grad()
    def _project(self) -> None:
        """Projected gradient descent, as in `Lif`: what has been learned, back into its range."""
        if not self.training:  # log(exp(x)) may move x, and a look must not change the network
            return
        if self.v_th.requires_grad:
            self.v_th.clamp_(min=LEAST_V_TH)
        if self.log_scale.requires_grad:
            self.log_scale.copy_(self.scale().log())

    def _neurons(self, unit: Tensor) -> Neurons:
        device = self.weight.device
        return Neurons(
            du=torch.tensor(self.chip.decay_max, device=device),
            dv=torch.tensor(self.dv, device=device),
            v_init=torch.tensor(0, device=device),
            unit=unit,
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
        )

    # Back to plain layers.

    @torch.no_grad()
    def plain(self) -> tuple[nn.Module, nn.Module]:
        """(Linear or Conv2d, Lif or Integrator) in float64 holding the integers over the scale."""
        scale = self.scale().double()
        per_unit = scale * 2**self.shift / self.source_scale * self.pool_gain
        weight = self.weights().double() / per_unit
        bias = self.biases().double() / (scale * (1 << STATE_SHIFT))
        linear: nn.Linear | nn.Conv2d
        if self.geometry is None:
            linear = nn.Linear(weight.shape[1], weight.shape[0])
        else:
            g = self.geometry
            linear = nn.Conv2d(
                weight.shape[1] * g.groups, weight.shape[0], tuple(weight.shape[2:]),
                stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups,
            )  # fmt: skip
        linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
        if not self.spiking:
            return linear, Integrator(scale=float(scale))
        keep_v = 1 - self.dv / DECAY_ONE
        v_th = float(self.threshold()) / float(scale)
        surrogate = self.surrogate.in_units_of(1 / v_th)
        return linear, Lif(
            keep_v, v_th=v_th, surrogate=surrogate, detach_reset=self.detach_reset,
            scale=float(scale),
        )  # fmt: skip
