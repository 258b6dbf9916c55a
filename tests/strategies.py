"""Hypothesis strategies for whole networks: drawn part by part, so that failures shrink.

Loaded by `conftest.py` from its path and handed out as the fixture `nets`. A shrunk example has the
fewest populations, projections and delays, and the smallest weights, that still fail.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.sim.net import READOUTS, FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d, Synapse

RESETS = ("zero", "subtract")


def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def integers(draw: st.DrawFn, shape: tuple[int, ...], *, low: int, high: int) -> NDArray[Any]:
    """int64 of `shape` in low..high."""
    n = int(np.prod(shape))
    values = draw(st.lists(whole(low, high), min_size=n, max_size=n))
    return np.array(values, np.int64).reshape(shape)


@st.composite
def denses(draw: st.DrawFn, n_out: int, n_in: int) -> Dense:
    w = draw(integers((n_out, n_in), low=-256, high=255))
    return Dense(w=w, w_exp=draw(whole(-8, 7)))


@st.composite
def spatials(draw: st.DrawFn, channels: int) -> Synapse:
    """A convolution or a pool that fits any map of at least 2 x 2."""
    if draw(st.booleans()):
        return SumPool2d(kernel=(2, 2), stride=(draw(whole(1, 2)), 1), w=draw(whole(1, 64)))
    w = draw(integers((draw(whole(1, 2)), channels, 2, draw(whole(1, 2))), low=-256, high=255))
    return Conv2d(w=w, geometry=ConvGeometry(padding=(draw(whole(0, 1)), 0)))


@st.composite
def populations(draw: st.DrawFn, name: str, shape: tuple[int, ...]) -> Population:
    n = int(np.prod(shape))

    def one_or_each(low: int, high: int) -> Any:
        size = draw(st.sampled_from([(), (n,)]))
        return draw(integers(size, low=low, high=high))

    return Population(
        name=name, shape=shape, v_th=one_or_each(0, 2000), du=one_or_each(0, 4095),
        dv=one_or_each(0, 4095), bias=one_or_each(-4096, 4095), bias_exp=draw(whole(0, 7)),
        v_init=one_or_each(-5000, 5000), reset=draw(st.sampled_from(RESETS)),
    )  # fmt: skip


@st.composite
def fixed_nets(draw: st.DrawFn) -> tuple[FixedNet, NDArray[np.int64]]:
    """A FixedNet and input int64 [T, B, *shape]: maps or vectors, 1..3 populations in a chain,
    then skips, loops and self-loops with delays on top."""
    flat = draw(st.booleans())
    shape: tuple[int, ...] = (draw(whole(1, 4)),) if flat else (draw(whole(1, 2)), 3, 3)
    graded = draw(st.booleans())
    source = Input(shape=shape, kind="graded", payload_bits=draw(whole(1, 8))) if graded else (
        Input(shape=shape)
    )  # fmt: skip
    sizes, before = {"input": int(np.prod(shape))}, "input"
    parts: list[Population] = []
    wires: list[Projection] = []
    for i in range(draw(whole(1, 3))):
        name = f"layer{i}"
        fits = len(shape) == 3 and min(shape[1:]) >= 2
        if fits and draw(st.booleans()):
            synapse: Synapse = draw(spatials(shape[0]))
        else:
            synapse = draw(denses(draw(whole(1, 4)), sizes[before]))
        shape = synapse.output_shape(shape)
        late = draw(st.sampled_from([0, 0, 1, 3]))
        wires.append(Projection(source=before, target=name, synapse=synapse, delay=late))
        parts.append(draw(populations(name, shape)))
        sizes[name], before = int(np.prod(shape)), name
    for _ in range(draw(whole(0, 2))):
        wires.append(draw(_extra(sizes)))
    steps, samples = draw(whole(1, 6)), draw(whole(1, 2))
    net = FixedNet(
        input=source, populations=tuple(parts), projections=tuple(wires), steps=steps,
        readout=Readout(population=before, kind=draw(st.sampled_from(READOUTS))),
    )  # fmt: skip
    return net, draw(integers((steps, samples, *source.shape), low=0, high=source.largest))


@st.composite
def _extra(draw: st.DrawFn, sizes: dict[str, int]) -> Projection:
    """A dense skip, or a projection backwards with enough delay for every step of its loop."""
    names = list(sizes)
    a, b = draw(st.sampled_from(names)), draw(st.sampled_from(names[1:]))
    back = names.index(a) - names.index(b)
    delay = back + 1 + draw(whole(0, 2)) if back >= 0 else draw(whole(0, 3))
    return Projection(source=a, target=b, synapse=draw(denses(sizes[b], sizes[a])), delay=delay)
