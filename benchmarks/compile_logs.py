"""What Intel's compiler for Loihi 2 printed about networks, and these networks again.

Source: the outputs stored in lava-dl's notebooks. The rule was fitted to those of the tutorials
netx/{mnist,oxford,pilotnet_snn,pilotnet_sdnn,yolo_kp} and held against the others afterwards.
Weights are drawn; what of them matters are the bits that one needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Shape, Synapse


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer and its row of the log, whose numbers are those of one core, but `cores`.

    out: neurons of a dense layer, channels of a convolution with square `kernel` (0: dense);
    stride, padding in (y, x). bits: of a weight, 0 of a layer that nothing feeds.
    """

    out: int
    bits: int
    cores: int
    axons_in: float
    neurons: float
    words: float
    axon_map: float
    kernel: int = 0
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Log:
    """One network. target: the limits of that compiler. shares: numbers are per cent of the limits
    on the fullest core; else they are means over a layer's cores, rounded down, but the neurons of
    maps, which are those of a full tile. bits_from: where the weights' bits are known from. fitted:
    whether the rule was fitted to it, or was there before the log was read."""

    name: str
    target: str
    shares: bool
    bits_from: str
    shape: Shape
    layers: tuple[Layer, ...]
    fitted: bool = True


def _dense(out: int, bits: int, cores: int, *row: float) -> Layer:
    a, n, w, m = row
    return Layer(out=out, bits=bits, cores=cores, axons_in=a, neurons=n, words=w, axon_map=m)


def _conv(
    out: int, bits: int, how: tuple[int, int, int, int, int], cores: int, *row: float
) -> Layer:
    a, n, w, m = row
    kernel, *stride, y, x = how
    return Layer(
        out=out, bits=bits, cores=cores, axons_in=a, neurons=n, words=w, axon_map=m,
        kernel=kernel, stride=(stride[0], stride[1]), padding=(y, x),
    )  # fmt: skip


def _pilotnet(words: tuple[int, int, int], bits: tuple[int, ...]) -> tuple[Layer, ...]:
    """PilotNet's layers, with the words and bits in which its two versions differ."""
    a, b, c, d, e, f, g, h, i = bits
    return (
        _conv(24, a, (3, 2, 2, 0, 0), 25, 2, 3072, 81, 253),
        _conv(36, b, (3, 2, 2, 0, 0), 13, 2, 2160, 864, 113),
        _conv(48, c, (3, 2, 2, 0, 0), 3, 2, 2688, 1620, 112),
        _conv(64, d, (3, 2, 1, 1, 0), 3, 1, 2048, words[0], 29),
        _conv(64, e, (3, 1, 1, 0, 0), 2, 1, 2048, 2880, 1280),
        _dense(100, f, 12, 2560, 8, words[1], 8),
        _dense(50, g, 1, 100, 50, words[2], 50),
        _dense(10, h, 1, 50, 10, 150, 10),
        _dense(1, i, 1, 10, 1, 10, 1),
    )


_DOWN, _SAME, _POINT = (3, 2, 2, 1, 1), (3, 1, 1, 1, 1), (1, 1, 1, 0, 0)
_FED_BY_NOTHING = Layer(out=3, bits=0, cores=13, axons_in=1, neurons=3168, words=0, axon_map=1015)
LOGS = (
    Log(
        name="MNIST MLP", target="loihi2-2024", shares=True, bits_from="the log's words",
        shape=(784,), layers=(
            _dense(128, 8, 3, 4.90, 1.22, 78.40, 0.31),
            _dense(64, 8, 1, 0.80, 1.56, 16.80, 0.40),
            _dense(10, 8, 1, 0.40, 0.24, 1.60, 0.06),
        ),
    ),
    Log(
        name="Oxford", target="loihi2", shares=False, bits_from="its network file",
        shape=(200,), layers=(
            _dense(256, 8, 3, 200, 85, 5400, 85),
            _dense(200, 7, 2, 256, 100, 8064, 100),
        ),
    ),
    Log(
        name="PilotNet SDNN", target="loihi2", shares=False, bits_from="the log's words",
        shape=(3, 66, 200), layers=_pilotnet((2592, 7253, 1500), (5, 4, 4, 5, 4, 4, 6, 5, 6)),
    ),
    Log(
        name="PilotNet LIF", target="loihi2", shares=False, bits_from="its network file",
        shape=(3, 66, 200),
        layers=(
            _FED_BY_NOTHING, *_pilotnet((2160, 7253, 1300), (5, 4, 4, 4, 4, 3, 4, 5, 6)),
        ),
    ),
    Log(
        name="YOLO-KP", target="loihi2-2024", shares=True, bits_from="the log's words",
        shape=(3, 448, 448), layers=(
            _conv(16, 5, _DOWN, 224, 0.01, 87.52, 0.34, 1.40),
            _conv(32, 6, _DOWN, 112, 0.01, 87.52, 3.60, 0.70),
            _conv(64, 5, _DOWN, 56, 0.01, 87.52, 10.80, 0.35),
            _conv(128, 5, _DOWN, 28, 0.01, 87.52, 39.60, 0.17),
            _conv(256, 5, _SAME, 56, 0.01, 87.52, 79.20, 0.17),
            _conv(256, 4, _DOWN, 16, 0.01, 87.52, 72.00, 0.35),
            _conv(512, 5, _SAME, 32, 0.01, 87.52, 86.40, 0.35),
            _conv(256, 5, _POINT, 14, 0.01, 87.52, 67.20, 0.09),
            _conv(512, 5, _SAME, 32, 0.01, 87.52, 86.40, 0.35),
            _conv(48, 6, _POINT, 4, 0.01, 65.64, 19.20, 16.80),
        ),
    ),
    # Two S4D networks of slayer/state_space_models/sCIFAR/profiling_scripts; their other layers are
    # of neurons or of sparse synapses that `FixedNet` does not have. They fit header_bits 11 and 12
    # of `spikeport.hw.core`, which was 10 before them; these rows fit 10 too.
    Log(
        name="num_cores_estimate, its dense layer", target="loihi2-2024", shares=True,
        bits_from="its code: weights 0 and 9", fitted=False,
        shape=(256,), layers=(_dense(256, 4, 3, 1.60, 3.10, 51.20, 0.79),),
    ),
    Log(
        name="profiling_slayer_version, its dense layer", target="loihi2-2024", shares=True,
        bits_from="its code: the identity", fitted=False,
        shape=(10,), layers=(_dense(10, 2, 1, 0.06, 0.24, 0.19, 0.06),),
    ),
)  # fmt: skip


def network(shape: Shape, layers: tuple[Layer, ...], *, seed: int) -> FixedNet:
    """A network of these layers behind an input of `shape`; a first layer without weights is the
    input itself, as neurons that their bias drives."""
    rng = np.random.default_rng(seed)
    populations, projections = [], []
    source, size = "input", shape
    for i, layer in enumerate(layers):
        name = f"layer{i}"
        settings: dict[str, Any] = {"bias": 1}
        if layer.bits:
            synapse = _synapse(layer, size, rng)
            size, settings = synapse.output_shape(size), {}
            projections.append(Projection(source=source, target=name, synapse=synapse))
        populations.append(Population(name=name, shape=size, v_th=1000, **settings))
        source = name
    return FixedNet(
        input=Input(shape=shape), populations=tuple(populations), projections=tuple(projections),
        readout=Readout(population=source), steps=8,
    )  # fmt: skip


def _synapse(layer: Layer, source: Shape, rng: np.random.Generator) -> Synapse:
    """Even weights, as lava-dl's are, of which some need all bits and none more."""
    dense = not layer.kernel
    inside = int(np.prod(source)) if dense else source[0]
    shape = (layer.out, inside) if dense else (layer.out, inside, layer.kernel, layer.kernel)
    top = 1 << (layer.bits - 1)
    w = rng.integers(-top, top, shape, np.int16)
    w.flat[:3] = (-top, top - 1, 1)[: w.size]
    if dense:
        return Dense(w=2 * w)
    return Conv2d(w=2 * w, geometry=ConvGeometry(stride=layer.stride, padding=layer.padding))
