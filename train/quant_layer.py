"""One population on the chip's grids and the synapses into it, as training on integers sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spikeport.sim.arith import DECAY_ONE, STATE_SHIFT, U_LIMIT
from spikeport.sim.chip import Chip
from spikeport.sim.net import Input
from spikeport.sim.twin_lif import Neurons, integrate
from spikeport.sim.twin_stretch import Stretch, joined
from spikeport.train.neuron import LEAST_V_TH, Integrator, Lif
from spikeport.train.quant_synapse import QuantSynapse, straight_round
from spikeport.train.scales import balance, balanced
from spikeport.train.stages import Path, Stage

SUM_LIMIT = U_LIMIT >> STATE_SHIFT  # a synaptic sum beyond it wraps the current
HEADROOM = 0.9  # the share of the range that training keeps to
SAFE = 0.98  # what biases and thresholds, rounded too, cannot use up
BACK_OFF = 0.95  # per attempt, where rounding has used up more than the headroom
PROJECTED = 1e-5  # a log scale less far beyond its limit is left there: log(exp(x)) may move x
LEAST_WEIGHT = 0.01  # root mean square that the pace of a scale counts with, membrane units

# On chips without v_init a spike in step 0 stands for it, through one weight of 8 bits whose sum
# is shifted left by 8 at most (`spikeport.export.prepare`).
START_MAX, START_SHIFT = 127, 8


class QuantLayer(nn.Module):
    """A population and its synapses; learned: their weights, bias, scale, threshold."""

    def __init__(
        self, stage: Stage, chip: Chip, *, weight_bits: int, steps: int, source: Input,
        netx_bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.spiking = isinstance(stage.neuron, Lif)
        neuron = stage.neuron if isinstance(stage.neuron, Lif) else Lif(1.0)  # keeps everything
        self.name, self.chip, self.steps = stage.name, chip, steps
        self.bias_exp_min = STATE_SHIFT if netx_bias else 0
        q_max = (1 << (weight_bits - 1)) - 1

        def synapse(path: Path) -> QuantSynapse:
            unit, largest = 1.0, 1.0
            if path.sources == ("input",):
                unit, largest = source.scale, source.largest / source.scale
            return QuantSynapse(path, q_max=q_max, per_unit=unit, largest=largest)

        self.synapses = nn.ModuleList(synapse(path) for path in stage.paths)
        self.loop = synapse(stage.loop) if stage.loop else None
        self.bias = nn.Parameter(torch.stack([path.bias for path in stage.synapses]).sum(0).float())
        threshold = float(neuron.v_th)
        self.v_init, self.detach_reset = float(neuron.v_init), neuron.detach_reset
        self.dv = min(round(DECAY_ONE * (1 - neuron.keep_v)), chip.decay_max)
        self.surrogate = neuron.surrogate.in_units_of(threshold)
        self.v_th = nn.Parameter(torch.tensor(threshold))
        limit = min(self._range_limit(), self.grid_limit())
        for each in self._every():
            each.choose_shift(limit)
        self.log_scale = nn.Parameter(torch.tensor(limit).log())

    @property
    def keep_v(self) -> float:
        """Share of the potential kept per step, as the chip has it."""
        return 1 - self.dv / DECAY_ONE

    def _every(self) -> list[QuantSynapse]:
        found = [*self.synapses] if self.loop is None else [*self.synapses, self.loop]
        return found

    # The scale and what limits it.

    def scale(self) -> Tensor:
        """S: synaptic integers per membrane unit, kept within the chip's ranges."""
        wanted = balanced(self.log_scale, self._balance()).exp()
        limit = self.safe_limit(float(wanted.detach()))
        # A scale at its limit goes on learning, or else it could never come down again.
        safe: Tensor = wanted * (limit / wanted.detach()).clamp(max=1)
        return safe

    def membrane_unit(self) -> Tensor:
        """Integers of v per unit of the float membrane."""
        return self.scale() * (1 << STATE_SHIFT)

    @torch.no_grad()
    def _balance(self) -> float:
        """See `spikeport.train.scales`; of synapses on several grids the coarsest step counts."""
        scale, every = float(self.log_scale.exp()), self._every()
        if not 0 < scale < math.inf:
            raise ValueError(
                f"layer {self.name!r}: training diverged, its scale is {scale:g}; choose a smaller"
                " quantise.lr or weaker methods"
            )
        return balance(
            max(s.step(scale) for s in every),
            weights=sum(s.weight.numel() for s in every),
            q_max=every[0].q_max,
        )

    @torch.no_grad()
    def pace(self) -> float:
        """One over the root mean square of the weights, see `spikeport.train.scales.balance`."""
        squares = torch.cat([s.weight.flatten() for s in self._every()]).square()
        return float(1 / squares.mean().sqrt().clamp(min=LEAST_WEIGHT))

    def grid_limit(self) -> float:
        """Largest scale S at which every weight is on its grid."""
        return min(s.grid_limit() for s in self._every())

    @torch.no_grad()
    def _range_limit(self) -> float:
        """Largest S at which, but for rounding, no sum and no u can wrap, v cannot clip, and
        threshold, bias and start fit their bits."""
        by_bias = self.chip.bias_mantissa_max << self.chip.bias_exp_max
        by_start = START_MAX << START_SHIFT
        limit = min(
            HEADROOM / max(self._filled(), 1e-15),
            self.chip.v_th_max / max(float(self.v_th), LEAST_V_TH),
            by_bias / (1 << STATE_SHIFT) / max(float(self.bias.abs().max()), 1e-9),
        )
        return limit if self.chip.v_init else min(limit, by_start / max(self._kept(), 1e-9))

    @torch.no_grad()
    def safe_limit(self, wanted: float) -> float:
        """The range limit, or less where the weights' rounding at S = `wanted` exceeds the headroom
        (half a step of many small weights, all in one direction)."""
        limit = self._range_limit()
        scale = min(wanted, limit)
        while self._filled(scale) * scale > SAFE:
            limit = scale = scale * BACK_OFF
        return limit

    def _filled(self, scale: float | None = None) -> float:
        """A bound of the share of their bits that the sum of a step, u and v take at S = 1, with
        the weights as they are or as the grid holds them at S = `scale`."""
        reach = sum((s.reach(scale) for s in self._every()), start=torch.zeros_like(self.bias))
        lost = self.dv / DECAY_ONE
        memory = min(self.steps, 1 / lost if lost else self.steps)
        rest = abs(self.v_init) + max(float(self.v_th), LEAST_V_TH) * self.spiking
        state = float((self.bias.abs() + reach).max()) * memory + rest
        arriving = float(reach.max()) + (0.0 if self.chip.v_init else self._kept())
        return max(state / SUM_LIMIT, arriving / self.chip.sum_max)

    def _kept(self) -> float:
        """What the first step leaves of v_init, its magnitude in membrane units."""
        return abs(self.keep_v * self.v_init)

    def lsb(self) -> Tensor:
        """One LSB in thresholds: what the next integer of a weight adds to the membrane under a
        spike, or under the input's largest value, in the coarsest synapse. No gradient."""
        largest = max(s.step(1.0) * s.loudest for s in self._every())
        lsb: Tensor = largest / self.threshold().detach()
        return lsb

    # Integers of the present parameters, differentiable.

    def weights(self) -> Tensor:
        """Integer weights of the first synapse."""
        first = self._every()[0]
        return first.integers(self.scale())

    def threshold(self) -> Tensor:
        """v_th mantissa; a readout that must not spike has the largest."""
        if not self.spiking:
            return torch.tensor(float(self.chip.v_th_max), device=self.bias.device)
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

    def start(self) -> tuple[Tensor, Tensor]:
        """(v_init, the current that stands for it in step 0), of which the chip has one: the
        current is what the first leak leaves of v_init, 7 bits shifted left."""
        scale = self.scale()
        nothing = torch.zeros((), device=scale.device)
        if not self.v_init:
            return nothing, nothing
        if self.chip.v_init:
            return straight_round(scale * (self.v_init * (1 << STATE_SHIFT))), nothing
        wanted = scale * (self.keep_v * self.v_init)
        shift = 0
        while float(wanted.detach().abs()) > (START_MAX + 0.5) * 2**shift:
            shift += 1
        return nothing, straight_round(wanted / 2**shift).clamp(-START_MAX, START_MAX) * 2**shift

    def forward(self, sent: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What sources have sent, integers [T, B, *shape] or [1, B, *shape] for the same in every
        step -> spikes [T, B, *shape], v_last [B, n], membrane in thresholds [T, B, *shape]."""
        self._project()
        scale = self.scale()
        sums = [s([sent[name] for name in s.sources], s.integers(scale)) for s in self.synapses]
        a = sum(sums[1:], start=sums[0])
        shape, per_map = a.shape[2:], a[0, 0, 0].numel()
        a = a.flatten(2).expand(self.steps, -1, -1)
        v_th, bias = self.threshold(), self.biases().repeat_interleave(per_map)
        v_init, first = self.start()
        if self.v_init and not self.chip.v_init:
            a = torch.cat([a[:1] + first, a[1:]])
        unit = v_th.detach() * (1 << STATE_SHIFT) if self.spiking else self.membrane_unit().detach()
        neurons = self._neurons(unit, v_init)
        if self.loop is None:
            life = [integrate(a, v_th, bias, neurons)]
        else:
            life = self._stepped(a, self.loop.integers(scale), (v_th, bias, neurons))
        fired = torch.cat([part.fired for part in life]) if len(life) > 1 else life[0].fired
        membrane = fired / (v_th * (1 << STATE_SHIFT))
        full = (self.steps, a.shape[1], *shape)
        return joined(life).reshape(full), life[-1].v, membrane.reshape(full)

    def _stepped(self, a: Tensor, q: Tensor, rule: tuple[Tensor, Tensor, Neurons]) -> list[Stretch]:
        """Step by step, the spikes of each step back through the loop into the next."""
        assert self.loop is not None
        life: list[Stretch] = []
        for now in a.split(1):
            state = None
            if life:
                now, state = now + self.loop([life[-1].spikes], q), (life[-1].u, life[-1].v)
            life.append(integrate(now, *rule, state=state))
        return life

    @torch.no_grad()
    def _project(self) -> None:
        """Projected gradient descent, as in `Lif`: what has been learned, back into its range."""
        if not self.training:  # log(exp(x)) may move x, and a look must not change the network
            return
        # Written only if it has left its range: the graph of another pass may hold the tensors.
        if self.v_th.requires_grad and self.v_th < LEAST_V_TH:
            self.v_th.fill_(LEAST_V_TH)
        if self.log_scale.requires_grad:
            held = self.scale().log()
            if held < self.log_scale - PROJECTED:
                self.log_scale.copy_(held)

    def _neurons(self, unit: Tensor, v_init: Tensor) -> Neurons:
        device = self.bias.device
        return Neurons(
            du=torch.tensor(self.chip.decay_max, device=device),
            dv=torch.tensor(self.dv, device=device),
            v_init=v_init,
            unit=unit,
            surrogate=self.surrogate,
            detach_reset=self.detach_reset,
        )

    # Back to plain layers.

    @torch.no_grad()
    def plain(self) -> dict[str, nn.Module]:
        """The linear layers and the neurons by name, in float64, with the integers over the
        scale."""
        scale = self.scale().double()
        bias = self.biases().double() / (scale * (1 << STATE_SHIFT))
        found: dict[str, nn.Module] = {}
        for synapse in self._every():  # one of them has the bias of all
            found[synapse.layer] = synapse.plain(self.scale(), None if found else bias)
        if not self.spiking:
            return {**found, self.name: Integrator(scale=float(scale))}
        v_th = float(self.threshold()) / float(scale)
        lif = Lif(
            self.keep_v, v_th=v_th, surrogate=self.surrogate.in_units_of(1 / v_th),
            detach_reset=self.detach_reset, scale=float(scale),
        )  # fmt: skip
        v_init, first = (part.double().cpu() for part in self.start())
        lif.v_init = (v_init / (1 << STATE_SHIFT) + first / self.keep_v) / scale.cpu()
        return {**found, self.name: lif}
