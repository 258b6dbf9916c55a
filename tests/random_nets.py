"""Small random networks with legal input, for tests that compare two ways of running them.

Loaded by `conftest.py` from its path (no package called `tests` exists) and handed out as the
fixture `random_net`. The same seed gives the same network and input for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.net import READOUTS, FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Shape, SumPool2d, Synapse

LARGEST = 80  # neurons in a layer
NEVER = 131071  # the highest threshold
FEATURES = ("dense", "conv", "recurrent", "delay")


def random_net(
    seed: int, *, kind: str | None = None, lava: bool = True
) -> tuple[FixedNet, NDArray[np.int64]]:
    """A network of 1..5 populations and input int64 [T, B, *shape] with T in 1..13, B in 1..5.

    kind "dense": dense synapses only, with skip paths; "conv": convolutions only; None:
    convolutions and pools, then dense layers, or one of the other two; "delay": as None, but many
    projections are late, and a source neuron of its own drives the last layer; "recurrent": as
    "delay", with loops through one population or several. With `lava` only what the stock Lava
    processes run is drawn (reset to zero, v_init 0). About one net in five is wild: its weights and
    exponents make u wrap and v clip. Every population spikes at least once.
    """
    if kind not in (None, *FEATURES):
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(map(repr, FEATURES))}, None")
    rng = np.random.default_rng([seed, *map(ord, kind or "any"), lava])
    while True:
        net, x = _Draw(rng=rng, kind=kind, lava=lava).net()
        trace = reference.run(net, x)
        if all(part.spikes.any() for part in trace.populations.values()):
            return net, x


@dataclass(kw_only=True)
class _Draw:
    """One attempt at a network; grows population by population."""

    rng: np.random.Generator
    kind: str | None
    lava: bool
    populations: list[Population] = field(default_factory=list)
    projections: list[Projection] = field(default_factory=list)

    def net(self) -> tuple[FixedNet, NDArray[np.int64]]:
        self.wild = self.chance(0.2)
        self.late = self.kind in ("delay", "recurrent")
        depth = self.whole(1, 4)
        flat_from = {"dense": 0, "conv": depth}.get(self.kind or "", self.whole(0, depth))
        self.input = self._input(flat=flat_from == 0 and self.chance(0.7))
        self.x = self._x()
        source = "input"
        for i in range(depth):
            name = f"layer{i}"
            self._connect(source, name, flat=i >= flat_from)
            if i == depth - 1 and self.late and self.chance(0.5):
                self._add_source_neuron(name)
            self._grow(name)
            source = name
        if self.kind == "recurrent":
            self._close_loops()
        return self._net(str(self.rng.choice(READOUTS))), self.x

    # drawing numbers
    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def each_or_one(self, low: int, high: int, size: int) -> NDArray[np.int64]:
        """A scalar or one value a neuron; the ends of the range are drawn often."""
        values = self.rng.integers(low, high + 1, size if self.chance(0.5) else ())
        edge = self.rng.random(values.shape) < 0.2
        return np.where(edge, self.rng.choice([low, high], values.shape), values)

    # parts
    def _input(self, *, flat: bool) -> Input:
        shape: Shape = (self.whole(1, 2), self.whole(3, 6), self.whole(3, 6))
        shape = (self.whole(2, 40),) if flat else shape
        if self.chance(0.5):
            return Input(shape=shape)
        return Input(shape=shape, kind="graded", payload_bits=self.whole(1, 8))

    def _x(self) -> NDArray[np.int64]:
        size = (self.whole(1, 13), self.whole(1, 5), *self.input.shape)
        density = self.rng.choice([0.05, 0.2, 0.5, 1.0])
        values = self.rng.integers(1, self.input.largest + 1, size)
        return np.asarray(values * (self.rng.random(size) < density))

    def _connect(self, source: str, target: str, *, flat: bool) -> None:
        """Projections into `target`, sometimes a second one beside the first."""
        first = self._dense(source) if flat else self._spatial(source)
        self._project(source, target, first)
        if not self.chance(0.3):
            return
        if isinstance(first, Dense):
            names = ["input", *(p.name for p in self.populations)]
            at = self.whole(0, len(names) - 1)
            second = self._dense(names[at], n_out=first.w.shape[0])
            self._project(names[at], target, second)
        elif isinstance(first, Conv2d):
            twin = replace(first, w=self._weights(first.w.shape))
            self._project(source, target, twin)

    def _project(self, source: str, target: str, synapse: Synapse, *, delay: int = 0) -> None:
        if self.late and not delay and self.chance(0.4):
            delay = self.whole(1, 5)
        self.projections.append(
            Projection(source=source, target=target, synapse=synapse, delay=delay)
        )

    def _add_source_neuron(self, target: str) -> None:
        """A neuron that spikes by itself and drives the population behind the last projection."""
        last = self.projections.pop()
        size = int(np.prod(last.synapse.output_shape(self._shape(last.source))))
        bias = self.whole(200, 4095)
        neuron = Population(name="source", shape=(1,), v_th=3, dv=self.whole(0, 4095), bias=bias)
        self.populations.append(neuron)
        self._project("source", target, Dense(w=self._weights((size, 1)), w_exp=self.whole(-4, 4)))
        self.projections.append(last)

    def _close_loops(self) -> None:
        """Feed populations back to themselves or to earlier ones; their rates may change a lot."""
        for _ in range(self.whole(1, 2)):
            loopable = [i for i, p in enumerate(self.populations) if p.name != "source"]
            at = loopable[self.whole(0, len(loopable) - 1)]
            to = loopable[self.whole(0, loopable.index(at))]
            source, target = self.populations[at], self.populations[to]
            synapse: Synapse = Dense(
                w=self._weights((target.size, source.size)), w_exp=self.whole(-8, 3)
            )
            if len(source.shape) == 3 and at == to and self.chance(0.5):
                w = self._weights((source.shape[0], source.shape[0], 3, 3))
                synapse = Conv2d(w=w, geometry=ConvGeometry(padding=(1, 1)))
            # Enough delay for every synapse of the loop, each of which costs a chip step.
            delay = at - to + 1 + (self.whole(1, 4) if self.chance(0.4) else 0)
            self._project(source.name, target.name, synapse, delay=delay)

    def _shape(self, source: str) -> Shape:
        shapes = {p.name: p.shape for p in self.populations} | {"input": self.input.shape}
        return shapes[source]

    def _dense(self, source: str, *, n_out: int | None = None) -> Dense:
        w = self._weights((n_out or self.whole(2, 40), int(np.prod(self._shape(source)))))
        return Dense(w=w, w_exp=self.whole(3, 7) if self.wild else self.whole(-8, 7))

    def _spatial(self, source: str) -> Synapse:
        """A convolution or a pool that fits the maps of `source` and stays small."""
        channels, *size = self._shape(source)
        while True:
            kernel = (self.whole(1, 3), self.whole(1, 3))
            stride, padding = (self.whole(1, 2), self.whole(1, 2)), (self.whole(0, 1),) * 2
            if self.kind is None and self.chance(0.3):
                pool = SumPool2d(kernel=kernel, stride=stride, padding=padding, w=self.whole(1, 64))
                part: Synapse = pool
            else:
                groups = int(self.rng.choice([g for g in (1, 2, 3, 4) if channels % g == 0]))
                out = groups * self.whole(1, max(1, 4 // groups))
                geometry = ConvGeometry(
                    stride=stride,
                    padding=(padding[0], self.whole(0, 2)),
                    dilation=(self.whole(1, 2), self.whole(1, 2)),
                    groups=groups,
                )
                w = self._weights((out, channels // groups, *kernel))
                part = Conv2d(w=w, geometry=geometry)
            try:
                shape = part.output_shape((channels, *size))
            except ValueError:
                continue  # the kernel is larger than the map
            if np.prod(shape) <= LARGEST:
                return part

    def _weights(self, shape: Shape) -> NDArray[np.int64]:
        """Weights of one of the sign modes between which a core tells, odd ones included."""
        modes = ["mixed", "mixed", "even", "small", "excitatory", "excitatory", "inhibitory"]
        low, high = {
            "mixed": (-256, 255),
            "even": (-128, 127),
            "small": (-9, 14),
            "excitatory": (0, 255),
            "inhibitory": (-255, 0),
        }[mode := "mixed" if self.wild else str(self.rng.choice(modes))]
        w = self.rng.integers(low, high + 1, shape)
        if self.wild:
            w = np.where(self.rng.random(shape) < 0.5, 255, w)
        return 2 * w if mode == "even" else w

    def _grow(self, name: str) -> None:
        """Add the population behind the projections drawn last, with thresholds it reaches."""
        last = self.projections[-1]
        shape = last.synapse.output_shape(self._shape(last.source))
        size = int(np.prod(shape))
        settings: dict[str, Any] = {
            "du": self.each_or_one(0, 4095, size) if self.chance(0.7) else 4095,
            "dv": self.each_or_one(0, 4095, size) if self.chance(0.8) else 0,
        }
        if self.chance(0.6):
            settings |= {"bias": self.each_or_one(-4096, 4095, size), "bias_exp": self.whole(0, 7)}
        if not self.lava and self.chance(0.5):
            settings["v_init"] = self.each_or_one(-(1 << 17), 1 << 17, size)
        if not self.lava and self.chance(0.5):
            settings["reset"] = "subtract"
        silent = Population(name=name, shape=shape, v_th=np.array(NEVER), **settings)
        self.populations.append(silent)
        v = reference.run(self._net("count"), self.x)[name].v
        self.populations[-1] = replace(silent, v_th=self._thresholds(np.asarray(v)))

    def _thresholds(self, v: NDArray[Any]) -> NDArray[np.int64]:
        """One threshold or one a neuron, at a quantile of the potentials [T, B, n]."""
        level = float(self.rng.uniform(0.5, 0.95))
        each = np.quantile(v, level, axis=(0, 1) if self.chance(0.4) else None)
        return np.asarray(np.clip(np.floor(each / 64), 0, NEVER), np.int64)

    def _net(self, readout: str) -> FixedNet:
        return FixedNet(
            input=self.input,
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            readout=Readout(population=self.populations[-1].name, kind=readout),
            steps=len(self.x),
        )
