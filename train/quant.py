"""Quantisation-aware training: the trained network on the chip's own integers.

A `QuantNet` is what the exporter will write: batch norm folded, weights on the 8-bit grid,
thresholds, biases and decays on theirs, the membrane truncated as the chip truncates it, all by the
same integer tick as the twin. Rounding is passed straight through. On the chip only the ratio of
weights to threshold matters: every population has a scale S (synaptic integers per unit of the
membrane, for all synapses into it) and a threshold, q = round(W S), v_th = round(S V_th), and
learns one of them, see `spikeport.train.scales`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from spikeport.sim.arith import STATE_SHIFT
from spikeport.sim.chip import Chip
from spikeport.sim.twin import to_grid
from spikeport.train.model import Record, SpikingNet, still
from spikeport.train.quant_layer import QuantLayer
from spikeport.train.regularisers import Drive
from spikeport.train.scales import LEARNED
from spikeport.train.stages import stages


class QuantNet(nn.Module):
    """A SpikingNet on the integers of `chip`; forward as SpikingNet's, membranes in thresholds."""

    def __init__(
        self, net: SpikingNet, chip: Chip, *, weight_bits: int = 8, learn: str = "scale",
        netx_bias: bool = True,
    ) -> None:  # fmt: skip
        """learn: the one learned quantity of every layer beside weights and bias, of `LEARNED`."""
        super().__init__()
        if learn not in LEARNED:
            raise ValueError(f"QuantNet: learn is {learn!r}; allowed are {', '.join(LEARNED)}")
        if not 2 <= weight_bits <= chip.weight_bits:
            raise ValueError(
                f"weight_bits is {weight_bits}; {chip.name} allows 2..{chip.weight_bits}"
            )
        self.input, self.steps, self.readout = net.input, net.steps, net.readout
        self.layers = nn.ModuleDict()
        shell = copy.deepcopy(net.layers)
        for stage in stages(net):
            layer = QuantLayer(
                stage, chip, weight_bits=weight_bits, steps=net.steps, source=net.input,
                netx_bias=netx_bias,
            )  # fmt: skip
            layer.log_scale.requires_grad_(learn == "scale")
            layer.v_th.requires_grad_(learn == "threshold" and layer.spiking)
            self.layers[stage.name.replace(".", "/")] = layer
            for path in stage.synapses:
                _put(shell, path.layer, nn.Identity())
                if path.norm is not None:
                    _put(shell, path.norm, nn.Identity())
        self._shell = (shell,)  # no part of the model: what is between the layers

    def populations(self) -> dict[str, QuantLayer]:
        """The populations by name, in order."""
        return {
            layer.name: layer for layer in self.layers.values() if isinstance(layer, QuantLayer)
        }

    def forward(self, x: Tensor) -> Record:
        """x: float [T, B, *shape] in units of the input; logits [B, K], spikes and membranes
        (v before the reset, in thresholds) of every spiking layer."""
        sent = {"input": to_grid(still(x), self.input)}
        membranes: dict[str, Tensor] = {}
        logits = outputs = x
        for name, layer in self.populations().items():
            sent[name], v_last, membrane = layer(sent)
            if layer.spiking:
                membranes[name] = membrane
                outputs, logits = sent[name], sent[name].sum(0)
            else:
                unit = layer.membrane_unit()
                top = layer.threshold() * (1 << STATE_SHIFT)
                outputs = membrane.diff(dim=0, prepend=torch.zeros_like(membrane[:1])) * top / unit
                logits = v_last / (unit * self.steps)
        spikes = {name: sent[name] for name in membranes}
        return Record(logits=logits, outputs=outputs, spikes=spikes, membranes=membranes)

    def thresholds(self) -> dict[str, Tensor]:
        """Per spiking layer the threshold in the unit of its membranes, which is 1."""
        one = torch.tensor(1.0)
        return {name: one for name, layer in self.populations().items() if layer.spiking}

    def lsbs(self) -> dict[str, Tensor]:
        """Per spiking layer one LSB in thresholds, see `QuantLayer.lsb`."""
        return {name: layer.lsb() for name, layer in self.populations().items() if layer.spiking}

    @torch.no_grad()
    def paces(self) -> dict[str, float]:
        """For Adam: a step of log S is as large as the weights' steps are relative to them."""
        return {
            f"layers.{key}.log_scale": layer.pace()
            for key, layer in self.layers.items()
            if isinstance(layer, QuantLayer) and layer.log_scale.requires_grad
        }

    def drives(self) -> dict[str, Drive]:
        """Nothing: the norms whose statistics would drive the membranes are folded."""
        return {}

    @torch.no_grad()
    def spiking_net(self) -> SpikingNet:
        """The same network in plain layers: weights, biases and thresholds are the integers over
        the layer's scale, in float64, and each neuron carries its `scale`. Exporting it gives
        these integers back."""
        layers = copy.deepcopy(self._shell[0])
        for layer in self.populations().values():
            for name, part in layer.plain().items():
                _put(layers, name, part)
        return SpikingNet(layers, input=self.input, steps=self.steps, readout=self.readout)


def _put(layers: nn.Sequential, name: str, part: nn.Module) -> None:
    """Replace the layer at the path `name`."""
    within, _, last = name.rpartition(".")
    setattr(layers.get_submodule(within), last, part)
