"""Random networks that a NetX file can hold, and lava-dl's own run of such a file.

Loaded from its path with the fixture `load_file`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import netx_file
from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d, Synapse

FAMILIES = {
    "even": (-128, 127, 2),
    "odd": (-128, 127, 1),
    "small": (-9, 14, 1),
    "excitatory": (0, 255, 1),
    "inhibitory": (-255, -1, 1),
}


def draw(seed: int, scratch: Path) -> tuple[FixedNet, NDArray[np.int64]]:
    """A network that `netx_file` accepts, all of whose populations spike, and its input."""
    rng = np.random.default_rng([seed, 2026])
    while True:
        net, x = _Draw(rng=rng).net()
        trace = reference.run(net, x)
        if not all(part.spikes.any() for part in trace.populations.values()):
            continue
        try:
            netx_file.write(net, scratch / "try.net")
        except ValueError as problem:
            # Drawn weights may all be 0, and biases may make neurons fire too early.
            if not any(part in str(problem) for part in ("weights", "before the input")):
                raise
        else:
            return net, x


@dataclass(kw_only=True)
class _Draw:
    """One attempt at a network; grows layer by layer."""

    rng: np.random.Generator
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def net(self) -> tuple[FixedNet, NDArray[np.int64]]:
        maps = self.chance(0.5)
        shape = (self.whole(1, 2), self.whole(3, 6), self.whole(3, 6))
        shape = shape if maps else (self.whole(2, 20),)  # type: ignore[assignment]
        graded: dict[str, Any] = {"kind": "graded", "payload_bits": self.whole(1, 6)}
        self.input = Input(shape=shape, **(graded if self.chance(0.3) else {}))
        size = (self.whole(2, 10), self.whole(1, 3), *shape)
        self.x = self.rng.integers(1, self.input.largest + 1, size) * (self.rng.random(size) < 0.4)
        layers = self.whole(1, 3)
        flat_from = self.whole(0, layers) if maps else 0
        for i in range(layers):
            source = self.populations[-1].name if i else "input"
            self._grow(f"p{i}", source, flat=i >= flat_from)
        return self._net("count"), self.x

    def _net(self, readout: str) -> FixedNet:
        return FixedNet(
            input=self.input,
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            readout=Readout(population=self.populations[-1].name, kind=readout),
            steps=len(self.x),
        )

    def _grow(self, name: str, source: str, *, flat: bool) -> None:
        shape = self.populations[-1].shape if self.populations else self.input.shape
        feeding = self._dense(int(np.prod(shape))) if flat else [(self._spatial(shape), 0)]
        shape = feeding[0][0].output_shape(shape)
        self.projections += [
            Projection(source=source, target=name, synapse=synapse, delay=delay)
            for synapse, delay in feeding
        ]
        if flat and not any(delay for _, delay in feeding) and self.chance(0.4):
            size = int(np.prod(shape))
            # Small beside any weights, so that quantising them together keeps both.
            again = Dense(w=self.rng.integers(-30, 30, (size, size)) // 2 * 2)
            self.projections.append(Projection(source=name, target=name, synapse=again, delay=1))
        settings: dict[str, Any] = {"du": self._decay(4095), "dv": self._decay(0)}
        if self.chance(0.5):
            each = np.prod(shape) if self.chance(0.5) else shape[0]
            bias = np.repeat(self.rng.integers(-20, 30, each), np.prod(shape) // each)
            settings |= {"bias": bias, "bias_exp": self.whole(6, 7)}
        silent = Population(name=name, shape=shape, v_th=131071, **settings)
        self.populations.append(silent)
        v = np.asarray(reference.run(self._net("count"), self.x)[name].v)
        v_th = np.clip(np.quantile(v, self.rng.uniform(0.5, 0.95)) // 64, 0, 131071)
        self.populations[-1] = replace(silent, v_th=int(v_th))

    def _decay(self, common: int) -> int:
        return self.whole(0, 4095) if self.chance(0.6) else common

    def _weights(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        low, high, factor = FAMILIES[str(self.rng.choice(list(FAMILIES)))]
        return self.rng.integers(low, high + 1, shape) * factor

    def _dense(self, n_in: int) -> list[tuple[Synapse, int]]:
        """Dense synapses with their delays: one, or one a delay."""
        w = self._weights((self.whole(2, 12), n_in))
        if self.chance(0.6):
            return [(self._spelled(w), self.whole(0, 5) if self.chance(0.3) else 0)]
        w = self.rng.integers(-100, 101, w.shape)
        delays = self.rng.choice(self.rng.integers(0, 6, 3), w.shape)
        return [(self._spelled(np.where(delays == d, w, 0)), int(d)) for d in np.unique(delays)]

    def _spelled(self, w: NDArray[np.int64]) -> Dense:
        """`w` as one of the pairs of weights and exponent that stand for it."""
        if abs(w).max() < 128 and self.chance(0.5):
            return Dense(w=2 * w, w_exp=-1)
        if not (w % 2).any() and self.chance(0.5):
            return Dense(w=w // 2, w_exp=1)
        return Dense(w=w)

    def _spatial(self, shape: tuple[int, ...]) -> Synapse:
        while True:
            kernel = (self.whole(1, 3), self.whole(1, 3))
            stride, padding = (self.whole(1, 2), self.whole(1, 2)), (self.whole(0, 1),) * 2
            if self.chance(0.3):
                part: Synapse = SumPool2d(kernel=kernel, stride=stride, w=self.whole(1, 64))
            else:
                groups = int(self.rng.choice([g for g in (1, 2) if shape[0] % g == 0]))
                geometry = ConvGeometry(
                    stride=stride,
                    padding=(padding[0], self.whole(0, 2)),
                    dilation=(self.whole(1, 2), self.whole(1, 2)),
                    groups=groups,
                )
                out = groups * self.whole(1, 2)
                w = self._weights((out, shape[0] // groups, *kernel))
                part = Conv2d(w=w, geometry=geometry)
            try:
                part.output_shape(shape)
            except ValueError:
                continue  # the kernel is larger than the map
            return part


def spikes_of_lava_dl(
    lava_dl: Any, path: Path, x: NDArray[np.int64], *, depth: int, bias: Any = None, **loading: Any
) -> NDArray[Any]:
    """Spikes [T, B, n] of the last layer of the file at `path`, as lava-dl's network gives them on
    Lava's process models, `depth` layers behind the input; each sample from a fresh start.

    x: [T, B, *shape] as the network takes it, in our axis order. n is in the order of Lava's axes
    reversed, ours. bias: of the neurons of an input layer, played instead of x.
    """
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    from spikeport.hw.lava_driver import Driver

    network = lava_dl.hdf5.Network(net_config=str(path), **loading)
    if bias is not None:
        network.in_layer.neuron.bias_mant.init = np.array(bias)
    steps = len(x) + depth
    silence = [(0, depth), *[(0, 0)] * (x.ndim - 2)]
    columns = [np.pad(sample, silence).transpose().astype(np.int32) for sample in x.swapaxes(0, 1)]
    sink = Sink(shape=network.out.shape, buffer=steps)
    network.out.connect(sink.a_in)
    source = Source(data=columns[0])
    if bias is None:  # an input layer with neurons has no input
        source.s_out.connect(network.inp)
    driver = Driver(sink)
    found = []
    for sample in columns:
        driver.restart({source: {"data": sample}} if bias is None else {})
        driver.run(steps, lambda step: None)
        found.append(driver.models[sink].data[..., depth:].T.reshape(len(x), -1))
    network.net_config.f.close()
    return np.stack(found, axis=1)
