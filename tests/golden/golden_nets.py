"""The networks of the golden traces: name -> (why the case exists, network, input).

Each is small and pins something that a typical random network misses. Inputs have one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.digest import digest
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse

SEED = 20
Case = tuple[str, FixedNet, NDArray[np.int64]]
CASES: dict[str, Callable[[np.random.Generator], Case]] = {}


def case(build: Callable[[np.random.Generator], Case]) -> Callable[[np.random.Generator], Case]:
    CASES[build.__name__] = build
    return build


def golden(name: str) -> Case:
    """(why, net, x) of the case `name`; the same at every call."""
    return CASES[name](np.random.default_rng([SEED, *name.encode()]))


def fingerprint(net: FixedNet, x: NDArray[np.int64]) -> str:
    """64 hex digits over all that Lava was given; the chip's citations are no part of it."""
    return digest((net.input, net.populations, net.projections, x))


def chain(source: Input, *layers: tuple[Synapse, dict[str, Any]]) -> FixedNet:
    """Populations layer1, layer2, ... one behind the other."""
    populations, projections, name, shape = [], [], "input", source.shape
    for i, (synapse, settings) in enumerate(layers, start=1):
        shape = synapse.output_shape(shape)
        populations.append(Population(name=f"layer{i}", shape=shape, **settings))
        projections.append(Projection(source=name, target=f"layer{i}", synapse=synapse))
        name = f"layer{i}"
    return FixedNet(
        input=source,
        populations=tuple(populations),
        projections=tuple(projections),
        readout=Readout(population=name),
        steps=16,
    )


def spikes(rng: np.random.Generator, steps: int, *shape: int) -> NDArray[np.int64]:
    return (rng.random((steps, 1, *shape)) < 0.3).astype(np.int64)


@case
def typical(rng: np.random.Generator) -> Case:
    net = chain(
        Input(shape=(12,)),
        (
            Dense(w=rng.integers(-64, 64, (10, 12)) * 2),
            {"v_th": 90, "du": 1500, "dv": 400, "bias": rng.integers(-500, 900, 10)},
        ),
        (
            Dense(w=rng.integers(-40, 90, (6, 10)) * 2),
            {"v_th": 110, "du": 4095, "dv": 900, "bias": 7, "bias_exp": 5},
        ),
    )
    return "two layers with decays and biases", net, spikes(rng, 30, 12)


@case
def one_wrap(rng: np.random.Generator) -> Case:
    w = rng.choice([-256, 254, 200], (8, 10))
    layer = {"v_th": 4000, "du": 300, "dv": 2000}
    net = chain(Input(shape=(10,)), (Dense(w=w, w_exp=7), layer))
    return "u leaves 24 bits and comes back by one wrap", net, spikes(rng, 30, 10)


@case
def inhibited(rng: np.random.Generator) -> Case:
    layer = {"v_th": 50, "du": 700, "dv": 30, "bias": 4095, "bias_exp": 6}
    w = rng.choice([-256, -256, -255, -191, 77], (8, 10))
    net = chain(Input(shape=(10,)), (Dense(w=w, w_exp=5), layer))
    x = spikes(rng, 40, 10)
    x[25:] = 0
    return "v is driven to its lower clip, then decays toward zero", net, x


@case
def on_threshold(rng: np.random.Generator) -> Case:
    w = np.array([[30], [31], [32], [60]])
    net = chain(Input(shape=(1,)), (Dense(w=w), {"v_th": 30, "dv": 0}))
    x = np.zeros((12, 1, 1), np.int64)
    x[[1, 4, 5, 9]] = 1
    return "v meets the threshold exactly and must not spike", net, x


@case
def wrap_edge(rng: np.random.Generator) -> Case:
    # 8 inputs of 128 << 7 give the sum 2**17, that is u = 2**23 exactly; the ninth goes beyond.
    w = np.array([[128] * 8 + [2], [-128] * 8 + [-2], [-128] * 8 + [2], [128] * 8 + [-2]])
    net = chain(Input(shape=(9,)), (Dense(w=w, w_exp=7), {"v_th": 131071, "du": 4095, "dv": 4095}))
    x = np.zeros((10, 1, 9), np.int64)
    x[1, 0, :8] = x[3] = x[5, 0, :8] = 1
    x[6, 0, 8] = 1
    return "u lands exactly on +-2**23, where the wrap is not symmetric", net, x


@case
def far_wrap(rng: np.random.Generator) -> Case:
    w = np.array([[255, 1], [254, 0], [240, 3]])
    layer = {"v_th": 2000, "du": 900, "dv": 100}
    net = chain(Input(shape=(2,), kind="graded", payload_bits=16), (Dense(w=w, w_exp=3), layer))
    return (
        "u leaves 24 bits by more than one wrap, and int32",
        net,
        rng.integers(0, 65536, (16, 1, 2)),
    )


@case
def conv_flatten(rng: np.random.Generator) -> Case:
    conv = Conv2d(
        w=rng.integers(-100, 160, (3, 2, 3, 2)),
        geometry=ConvGeometry(stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    )
    shape = conv.output_shape((2, 6, 5))
    net = chain(
        Input(shape=(2, 6, 5)),
        (conv, {"v_th": 150, "du": 2000, "dv": 300, "bias": -200}),
        (Dense(w=rng.integers(-60, 80, (5, int(np.prod(shape)))) * 2), {"v_th": 160, "dv": 700}),
    )
    return "kernel without symmetry, rectangular map, flatten order", net, spikes(rng, 20, 2, 6, 5)


@case
def conv_wrap(rng: np.random.Generator) -> Case:
    conv = Conv2d(w=rng.integers(-256, 256, (2, 1, 2, 2)))
    net = chain(
        Input(shape=(1, 3, 4), kind="graded", payload_bits=16),
        (conv, {"v_th": 30000, "du": 1000, "dv": 1000}),
    )
    x = rng.integers(0, 65536, (16, 1, 1, 3, 4))
    return "a convolution's sum leaves 24 bits", net, x


@case
def graded(rng: np.random.Generator) -> Case:
    source = Input(shape=(8,), kind="graded", payload_bits=8)
    w = rng.integers(-9, 12, (6, 8))
    net = chain(source, (Dense(w=w), {"v_th": 2500, "du": 4000, "dv": 128, "bias": -3000}))
    return "8-bit payloads are multiplied, not counted", net, rng.integers(0, 256, (24, 1, 8))


@case
def exponents(rng: np.random.Generator) -> Case:
    net = chain(
        Input(shape=(10,)),
        (Dense(w=rng.integers(-128, 128, (8, 10)) * 2, w_exp=-3), {"v_th": 9, "dv": 200}),
        (Dense(w=rng.integers(-20, 30, (6, 8)) * 2, w_exp=4), {"v_th": 700, "dv": 500}),
    )
    return "exponents of both signs shift the sum, with floor", net, spikes(rng, 30, 10)


@case
def odd_weights(rng: np.random.Generator) -> Case:
    net = chain(
        Input(shape=(10,)),
        (Dense(w=rng.integers(-8, 8, (8, 10)) * 2 + 1), {"v_th": 10, "dv": 300}),
        (Dense(w=rng.integers(0, 9, (8, 8)) * 2 + 1), {"v_th": 20, "dv": 100}),
        (Dense(w=-2 * rng.integers(0, 9, (6, 8)) - 1), {"v_th": 9, "dv": 900, "bias": 640}),
    )
    return (
        "odd weights: mixed signs lose the lowest bit, one sign keeps it",
        net,
        spikes(rng, 30, 10),
    )


@case
def small_states(rng: np.random.Generator) -> Case:
    w = np.array([[1, 0], [0, 3], [5, 1]])
    bias = np.array([-7, 5, -1])
    layer = {"v_th": 40, "du": 100, "dv": 1000, "bias": bias}
    net = chain(Input(shape=(2,)), (Dense(w=w), layer), (Dense(w=-w.T), {"v_th": 0, "bias": 2}))
    return "states of a few units, where rounding toward zero shows", net, spikes(rng, 40, 2)


@case
def loops(rng: np.random.Generator) -> Case:
    sizes, paths = {"input": 8, "a": 6, "b": 5}, (
        ("input", "a", 0), ("a", "a", 1), ("b", "a", 2), ("a", "b", 0), ("b", "b", 1),
        ("input", "b", 3),
    )  # fmt: skip
    net = FixedNet(
        input=Input(shape=(8,)),
        populations=(
            Population(name="a", shape=(6,), v_th=70, du=2500, dv=500),
            Population(name="b", shape=(5,), v_th=55, du=4095, dv=900),
        ),
        projections=tuple(
            Projection(
                source=source,
                target=target,
                synapse=Dense(w=rng.integers(-40, 60, (sizes[target], sizes[source])) * 2),
                delay=delay,
            )
            for source, target, delay in paths
        ),
        readout=Readout(population="b"),
        steps=16,
    )
    x = spikes(rng, 24, 8)
    x[12:18] = 0
    return "loops through one population and through two, and input that arrives late", net, x
