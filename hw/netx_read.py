"""Read a NetX file, as lava-dl's SLAYER writes it, as the `FixedNet` that Lava makes of it.

The network of integers is the one that `netx.hdf5.Network` of lava-dl 0.6 is on Lava 0.10 in fixed
point, bit for bit, each sample beginning at rest. Where that is another one than the file says,
`provenance["notes"]` tells; where it is useless or cannot be held, reading is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import netx_weights
from spikeport.hw.lava_axes import lava_shape, to_rows
from spikeport.hw.lava_limits import refuse
from spikeport.hw.netx_file import BIAS_EXP
from spikeport.hw.netx_layers import Layer, layers
from spikeport.sim.arith import DECAY_MAX, V_TH_MAX, weight_on_chip
from spikeport.sim.chip import LOIHI_2, Chip
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Shape, Synapse

INPUT_NEURON_BITS = 8


def read(
    path: Path | str,
    *,
    steps: int | None = None,
    chip: Chip = LOIHI_2,
    readout: str | None = None,
    input_bits: int | None = None,
) -> FixedNet:
    """The network in the NetX file at `path`, its last layer read out.

    steps: of a sample. readout: its kind. input_bits: 0 for spikes, else of graded input. Each of
    them is taken from the file where `netx_file.write` made it; else steps must be given, readout
    is "count", or "last_v" of a layer that never fires (thresholds of 131071, or lava-dl's 262143),
    and input_bits is 0, or 8 where the input layer has neurons. Such a layer becomes a population
    to which the input is added as NetX's users add it to the bias: in weights, after the transform
    in provenance["transform"]. Raises FileNotFoundError or ValueError with one sentence.
    """
    path = Path(path)
    found, attributes = layers(path)
    if steps is None and "reset_interval" not in attributes:
        raise ValueError(f"{path}: does not say how many steps a sample has; give steps")
    try:
        build = _Build(attributes=attributes, input_bits=input_bits)
        for i, layer in enumerate(found):
            build.add(layer, first=i == 0)
        net = build.net(
            steps=int(attributes["reset_interval"]) if steps is None else steps,
            chip=chip,
            readout=str(attributes.get("readout", build.reading)) if readout is None else readout,
        )
        refuse(net)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    return net


@dataclass(kw_only=True)
class _Build:
    """A network that grows layer by layer."""

    attributes: dict[str, Any]
    input_bits: int | None
    source: str = "input"
    shape: Shape | None = None  # of the source; None before the first layer that tells
    flattened: bool = False
    input: Input | None = None
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=lambda: {"format": "NetX", "notes": []})

    def add(self, layer: Layer, *, first: bool) -> None:
        """Put `layer` behind the layers so far."""
        if layer.kind == "input":
            self._add_input(layer, first=first)
        elif layer.kind == "flatten":
            if self.populations and len(self.shape or ()) == 1:
                raise ValueError(f"{layer.where} flattens what is flat already; drop it")
            self.flattened = True
        elif layer.kind == "conv":
            self._add_conv(layer)
        else:
            self._add_dense(layer)

    @property
    def reading(self) -> str:
        """What to read where nobody says: spikes, or potentials of a layer that never fires."""
        silent = self.populations and (self.populations[-1].v_th == V_TH_MAX).all()
        return "last_v" if silent else "count"

    def net(self, *, steps: int, chip: Chip, readout: str) -> FixedNet:
        """The finished network."""
        if self.input is None or not self.populations:
            raise ValueError("holds no layer with neurons; write the file again")
        return FixedNet(
            input=self.input,
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            readout=Readout(population=self.source, kind=readout),
            steps=steps,
            chip=chip,
            provenance=self.provenance,
        )

    def _set_input(self, shape: Shape, *, bits: int) -> None:
        if self.input_bits is not None:
            bits = self.input_bits
        elif "input_message_bits" in self.attributes:
            graded = int(self.attributes["input_message_bits"]) > 0
            bits = int(self.attributes["payload_bits"]) if graded else 0
        kind = {"kind": "graded", "payload_bits": bits} if bits else {}
        self.input, self.shape = Input(shape=shape, **kind), shape  # type: ignore[arg-type]

    def _add_input(self, layer: Layer, *, first: bool) -> None:
        if not first:
            raise ValueError(f"{layer.where} is an input layer; it must be the first")
        shape = tuple(int(n) for n in layer.values["shape"].reshape(-1))
        self._set_input(shape, bits=INPUT_NEURON_BITS if layer.neuron else 0)
        if layer.neuron is None:
            return
        self.provenance["transform"] = {
            name: _one(layer.values[name], where=f"{layer.where}: {name}")
            for name in ("weight", "bias")
            if name in layer.values
        }
        identity: Synapse = Dense(w=np.eye(shape[0], dtype=int))
        if len(shape) == 3:
            ones = np.ones((shape[0], 1, 1, 1), int)
            identity = Conv2d(w=ones, geometry=ConvGeometry(groups=shape[0]))
        # A bias knows no decay of the current, and as a current it is as large: both are << 6.
        self._grow(layer, shape, [(identity, 0)], du=DECAY_MAX)

    def _add_conv(self, layer: Layer) -> None:
        values, where = layer.values, layer.where
        if self.shape is None or len(self.shape) != 3:
            raise ValueError(
                f"{where}: a convolution needs maps (C, H, W) before it, from an input layer or"
                " another convolution"
            )
        w = values["weight"]
        if w.ndim < 4 or w.size != np.prod(w.shape[:4]):
            raise ValueError(f"{where}: weight has shape {w.shape}; needed is [out, in, kH, kW]")
        pairs = {
            n: _pair(values[n], where=f"{where}: {n}") for n in ("stride", "padding", "dilation")
        }
        groups = _one(values["groups"], where=f"{where}: groups")
        try:
            conv = Conv2d(w=w.reshape(w.shape[:4]), geometry=ConvGeometry(**pairs, groups=groups))
            shape = conv.output_shape(self.shape)
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
        said = tuple(values["shape"].reshape(-1).tolist())
        if said != shape:
            raise ValueError(
                f"{where}: shape is {said}, but the convolution of"
                f" {self.shape} gives {shape}; write the file again"
            )
        self._grow(layer, shape, [(conv, 0)])

    def _add_dense(self, layer: Layer) -> None:
        values, where = layer.values, layer.where
        n_out = int(np.prod(values["shape"]))
        weights = [
            _matrix(values[name], n_out, where=f"{where}: {name}")
            for name in ("weight", "weight_rec")
            if name in values and (name == "weight" or layer.kind == "dense_rec")
        ]
        n_in = weights[0].shape[1]
        if weights[1:] and weights[1].shape[1] != n_out:
            raise ValueError(
                f"{where}: weight_rec has shape {weights[1].shape}; needed is [{n_out}, {n_out}]"
            )
        if self.shape is None:
            self._set_input((n_in,), bits=0)
        self._check_flat(layer, n_in)
        try:
            held = netx_weights.load(*weights)
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None
        if changed := held.changed(*weights):
            self.provenance["notes"].append(
                f"{where}: lava-dl and Lava change {changed} of {sum(w.size for w in weights)}"
                " weights"
            )
        delays = _delays(values.get("delay", np.array(0)), weights[0].shape, where=where)
        # A delayed synapse adds up what arrives in a step before it shifts.
        late = np.unique(delays[held.parts[0] != 0]) if held.parts[0].any() else [0]
        feeding = [
            (_dense(np.where(delays == d, held.parts[0], 0), held.w_exp), int(d)) for d in late
        ]
        self._grow(layer, (n_out,), feeding)
        for again in held.parts[1:]:
            self._connect(self.source, _dense(again, held.w_exp), delay=1)

    def _check_flat(self, layer: Layer, n_in: int) -> None:
        shape = self.shape or ()
        if np.prod(shape) != n_in:
            raise ValueError(
                f"{layer.where}: weight takes {n_in} inputs, but {shape} come from the layer before"
            )
        if self.populations and len(shape) == 3 and not self.flattened:
            raise ValueError(
                f"{layer.where}: maps {shape} come from the layer before; put a layer of type"
                " flatten between"
            )
        self.flattened = False

    def _grow(
        self, layer: Layer, shape: Shape, feeding: Sequence[tuple[Synapse, int]], **changes: int
    ) -> None:
        """Add the neurons of `layer`, fed by (synapse, delay) from the present source."""
        bias = layer.values.get("bias", np.array(0))
        if layer.kind == "input":
            bias = np.array(0)  # of the transform, which is the user's to apply
        settings = {**(layer.neuron or {}), **_bias(bias, shape, where=layer.where), **changes}
        self.populations.append(Population(name=layer.name, shape=shape, **settings))
        before, self.source, self.shape = self.source, layer.name, shape
        for synapse, delay in feeding:
            self._connect(before, synapse, delay=delay)

    def _connect(self, source: str, synapse: Synapse, *, delay: int) -> None:
        self.projections.append(
            Projection(source=source, target=self.source, synapse=synapse, delay=delay)
        )


def _dense(held: NDArray[np.int64], w_exp: int) -> Dense:
    """A synapse that multiplies with `held * 2**w_exp`."""
    if (weight_on_chip(held) == held).all():
        return Dense(w=held, w_exp=w_exp)
    # Lowest weights of -256 in a part without positive ones; then all of them are even.
    return Dense(w=held >> 1, w_exp=w_exp + 1)


def _matrix(w: NDArray[np.int64], n_out: int, *, where: str) -> NDArray[np.int64]:
    if w.ndim == 1 and w.size and w.size % n_out == 0:
        return w.reshape(n_out, -1)
    if w.ndim != 2 or not w.size or len(w) != n_out:
        raise ValueError(f"{where} has shape {w.shape}; needed is [{n_out}, inputs]")
    return w


def _delays(delay: NDArray[np.int64], shape: Shape, *, where: str) -> NDArray[np.int64]:
    """Delays of synapses [n_out, n_in]; of vectors NetX tries the outputs first."""
    if delay.shape == shape[:1]:
        delay = delay[:, None]
    if delay.shape not in ((), (shape[0], 1), shape[1:], shape):
        raise ValueError(
            f"{where}: delay has shape {delay.shape}; allowed are one number, ({shape[0]},),"
            f" ({shape[1]},) and {shape}"
        )
    return np.broadcast_to(delay, shape)


def _bias(bias: NDArray[np.int64], shape: Shape, *, where: str) -> dict[str, Any]:
    """bias and bias_exp of neurons of `shape`, from biases in weights as NetX takes them."""
    flat = len(shape) == 1
    if not flat and bias.shape == lava_shape(shape):  # one a neuron, in the order of Lava's maps
        bias = to_rows(bias[None])[0]
    elif not flat and bias.shape == shape[:1]:
        bias = np.repeat(bias, shape[1] * shape[2])
    elif bias.shape and not (flat and bias.shape == shape):
        raise ValueError(
            f"{where}: bias has shape {bias.shape}, which fits no neurons of shape {shape}; give"
            " one a neuron or one a map"
        )
    wide = abs(bias).max() > LOIHI_2.bias_mantissa_max and not (bias % 2).any()
    return {"bias": bias // 2 if wide else bias, "bias_exp": BIAS_EXP + wide if bias.any() else 0}


def _pair(value: NDArray[np.int64], *, where: str) -> tuple[int, int]:
    if value.shape not in ((), (2,)):
        raise ValueError(f"{where} has shape {value.shape}; allowed are one number and two")
    y, x = np.broadcast_to(value, 2)
    return int(y), int(x)


def _one(value: NDArray[np.int64], *, where: str) -> int:
    if value.size != 1:
        raise ValueError(f"{where} has shape {value.shape}; one number is allowed")
    return int(value.reshape(-1)[0])
