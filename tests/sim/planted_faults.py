"""Random networks with one planted fault each, run by a small simulator of their own.

Loaded from its path by `test_diagnose.py` and by the divergence benchmark. Nothing here uses the
code under test or the library's simulators: weights are unrolled into matrices by loops, and every
fault is a switch in `simulate`. The same seed gives the same plant for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d
from spikeport.sim.trace import PopulationTrace, Trace

CAUSES = (
    "weight", "threshold", "decay", "bias", "reset", "delay", "overflow", "tie", "input", "float",
)  # fmt: skip
KINDS = ("dense", "conv", "recurrent")
HALF = 1 << 23
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, where. `what` names a switch of `simulate`; `value` goes with it."""

    cause: str
    population: str
    what: str
    value: Any = None
    at: int = -1  # number of the projection, where one is meant


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A net, its input, and the record of a run with `fault`."""

    net: FixedNet
    x: Array
    fault: Fault
    trace: Trace

    @property
    def spikes_only(self) -> Trace:
        """The record without u and v."""
        parts = {k: replace(p, u=None, v=None) for k, p in self.trace.populations.items()}
        return Trace(populations=parts)

    def found_by(self, diagnosis: Any) -> bool:
        """Whether `diagnosis` names population and cause."""
        if diagnosis is None or diagnosis.cause != self.fault.cause:
            return False
        return bool(diagnosis.population == self.fault.population)


def matrix(net: FixedNet, p: Projection) -> Array:
    """The projection's chip weights as an int64 matrix [n_out, n_in], before any shift."""
    if isinstance(p.synapse, Dense):
        w = p.synapse.w.astype(np.int64)
        return w - w % 2 if w.min() < 0 < w.max() else w.copy()
    shape = net.shape_of(p.source)
    synapse = p.synapse
    if isinstance(synapse, SumPool2d):
        w = np.zeros((shape[0], shape[0], *synapse.kernel), np.int64)
        w[np.arange(shape[0]), np.arange(shape[0])] = synapse.w
        return unrolled(w, shape, stride=synapse.stride, padding=synapse.padding)
    g, w = synapse.geometry, np.asarray(synapse.w, np.int64)
    return unrolled(w, shape, stride=g.stride, padding=g.padding)


def unrolled(w: Array, shape: Any, *, stride: Any, padding: Any) -> Array:
    channels, height, width = shape
    rows = []
    tall = (height + 2 * padding[0] - w.shape[2]) // stride[0] + 1
    wide = (width + 2 * padding[1] - w.shape[3]) // stride[1] + 1
    for o in range(len(w)):
        for i in range(tall):
            for j in range(wide):
                row = np.zeros((channels, height, width), np.int64)
                for ky in range(w.shape[2]):
                    for kx in range(w.shape[3]):
                        y, x = i * stride[0] + ky - padding[0], j * stride[1] + kx - padding[1]
                        if 0 <= y < height and 0 <= x < width:
                            row[:, y, x] += w[o, :, ky, kx]
                rows.append(row.ravel())
    return np.array(rows)


def simulate(net: FixedNet, x: Array, fault: Fault | None = None) -> Trace:
    """Run `net`, with one thing wrong. Plain loops over steps and populations."""
    steps, batch = x.shape[:2]
    what: str = fault.what if fault else ""
    x = encoded(x, fault) if fault and fault.cause == "input" else x
    sent: dict[str, Array] = {"input": x.reshape(steps, batch, -1).astype(np.int64)}
    weights = [wired(net, p, i, fault=fault) for i, p in enumerate(net.projections)]
    cells = {}
    for p in net.populations:
        mine = fault if fault and fault.population == p.name and fault.cause != "input" else None
        cells[p.name] = Cell(p, steps=steps, batch=batch, fault=mine)
        sent[p.name] = np.zeros((steps, batch, p.size), np.int64)
    for t in range(steps):
        for p in net.populations:
            a = np.zeros((batch, p.size), np.int64)
            for i, projection in enumerate(net.projections):
                if projection.target != p.name:
                    continue
                delay = projection.delay
                if what == "projection" and fault and fault.at == i:
                    delay += fault.value
                if t >= delay:
                    a += weights[i](sent[projection.source][t - delay])
            spikes = cells[p.name].step(t, a)
            late = 1 if cells[p.name].what == "output" else 0
            if t + late < steps:
                sent[p.name][t + late] = spikes
    return Trace(populations={name: cell.trace(sent[name]) for name, cell in cells.items()})


def encoded(x: Array, fault: Fault) -> Array:
    if fault.what == "late":
        return np.concatenate([0 * x[:1], x[:-1]])
    if fault.what == "early":
        return np.concatenate([x[1:], 0 * x[:1]])
    if fault.what == "binarised":
        return (x > 0).astype(np.int64)
    if fault.what == "doubled":
        return 2 * x
    if fault.what == "halved":
        return x // 2
    if fault.what == "channels_last":
        return np.moveaxis(x, 2, -1).reshape(x.shape)
    if fault.what == "transposed":
        return x.swapaxes(-1, -2).reshape(x.shape)
    return x[..., ::-1] if x.ndim == 3 else x[..., ::-1, :]  # "reversed": entries or rows


def wired(net: FixedNet, p: Projection, number: int, *, fault: Fault | None) -> Any:
    """The function from source values [B, n_in] to what arrives [B, n_out]."""
    w, exponent = matrix(net, p), getattr(p.synapse, "w_exp", 0)
    if fault is not None and fault.at == number and fault.cause == "weight":
        if fault.what == "exponent":
            exponent += fault.value
        elif fault.what == "each":
            w, exponent = np.floor(w * 2.0**exponent).astype(np.int64), 0
        elif fault.what == "odd":
            w = np.asarray(p.synapse.w, np.int64)
        elif fault.what == "signs":
            w = -w
        else:
            w = fault.value

    def deliver(s: Array) -> Any:
        total = s @ w.T
        if isinstance(p.synapse, Dense):
            return total * 2**exponent if exponent >= 0 else total // 2**-exponent
        return (total + HALF) % (2 * HALF) - HALF

    return deliver


class Cell:
    """The neurons of one population."""

    def __init__(self, p: Population, *, steps: int, batch: int, fault: Fault | None) -> None:
        self.what = fault.what if fault else ""
        self.value: Any = fault.value if fault else None
        self.float = self.what == "float"
        kind: Any = np.float64 if self.float else np.int64
        shape = (batch, p.size)
        self.u, self.v = np.zeros(shape, kind), np.zeros(shape, kind) + p.v_init
        self.fired = np.zeros(shape, bool)
        wide = {k: np.zeros(p.size, np.int64) + getattr(p, k) for k in ("du", "dv", "v_th", "bias")}
        wide["bias"] = wide["bias"] * 2**p.bias_exp
        self.keep_u, self.keep_v = 4095 - wide["du"], 4096 - wide["dv"]
        self.th, self.bias, self.reset = wide["v_th"] * 64, wide["bias"], p.reset
        changes = {"keep_u", "keep_v", "th", "bias", "reset"}
        if self.what in changes:
            setattr(self, self.what, self.value)
        if self.what == "swapped":
            self.keep_u, self.keep_v = 4095 - wide["dv"], 4096 - wide["du"]
        self.us, self.vs = (np.zeros((steps, *shape), kind) for _ in range(2))

    def shrunk(self, x: Array, keep: Array) -> Any:
        if self.float:
            return x * keep / 4096.0
        return np.sign(x) * (np.abs(x) * keep // 4096)

    def step(self, t: int, a: Array) -> Array:
        self.u = self.current(self.shrunk(self.u, self.keep_u) + 64 * a)
        v = self.potential(self.shrunk(self.v, self.keep_v) + self.u + self.bias)
        late = self.what == "late"
        if late and self.value == "zero":
            v = np.where(self.fired, 0, v)
        elif late:
            v = v - np.where(self.fired, self.th, 0)
        self.fired = v >= self.th if self.what == "tie" else v > self.th
        if not late and self.reset == "zero":
            v = np.where(self.fired, 0, v)
        elif not late and self.reset == "subtract":
            v = v - np.where(self.fired, self.th, 0)
        self.v = v
        self.us[t], self.vs[t] = self.u, self.v
        return self.fired.astype(np.int64)

    def current(self, u: Array) -> Any:
        if self.what == "u_limit":
            return limited(u, self.value)
        if self.float:
            return u
        u = np.where(u > HALF, u - 2 * HALF, u)
        return np.where(u <= -HALF, u + 2 * HALF, u)

    def potential(self, v: Array) -> Any:
        if self.what == "v_limit":
            return limited(v, self.value)
        return v if self.float else np.minimum(np.maximum(v, 1 - HALF), HALF - 1)

    def trace(self, spikes: Array) -> PopulationTrace:
        us, vs = self.us, self.vs
        if self.what == "output":
            us, vs = (np.concatenate([0 * z[:1], z[:-1]]) for z in (us, vs))
            vs[0] = self.vs[0] * 0
        return PopulationTrace(spikes=spikes.astype(np.uint8), u=us, v=vs, v_last=vs[-1])


def limited(x: Array, how: tuple[str, int]) -> Any:
    kind, bits = how
    if kind == "none":
        return x
    if kind == "clip":
        return np.minimum(np.maximum(x, 1 - 2**bits), 2**bits - 1)
    return (x + 2**bits) % 2 ** (bits + 1) - 2**bits


def plant(seed: int, *, cause: str, kind: str) -> Plant:
    """A plant whose fault changes at least one spike and leaves its population some: silence has
    too many causes."""
    rng = np.random.default_rng([seed, CAUSES.index(cause), KINDS.index(kind)])
    while True:
        net, x, right = _Draw(rng, cause=cause, kind=kind).net()
        if any(not p.spikes.any() for p in right.populations.values()):
            continue
        for _ in range(5):
            fault = draw_fault(rng, net, cause)
            if fault is None:
                continue
            trace = simulate(net, x, fault)
            changed = any((p.spikes != right[n].spikes).any() for n, p in trace.populations.items())
            if changed and trace[fault.population].spikes.any():
                return Plant(net=net, x=x, fault=fault, trace=trace)


class _Draw:
    """One attempt at a network."""

    def __init__(self, rng: np.random.Generator, *, cause: str, kind: str) -> None:
        self.rng, self.cause, self.kind = rng, cause, kind
        self.populations: list[Population] = []
        self.projections: list[Projection] = []

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def net(self) -> tuple[FixedNet, Array, Trace]:
        shape: Any = (self.whole(4, 16),)
        if self.kind == "conv":
            shape = (self.whole(1, 2), self.whole(4, 6), self.whole(4, 6))
        self.input = Input(shape=shape)
        # Graded values and the weights of overflow plants would leave 32 bits.
        chances = {"input": 0.7, "overflow": 0.0}
        if self.chance(chances.get(self.cause, 0.4)):
            self.input = Input(shape=shape, kind="graded", payload_bits=self.whole(2, 8))
        size = (self.whole(20, 40), self.whole(3, 6), *shape)
        values = self.rng.integers(1, self.input.largest + 1, size)
        self.x = np.where(self.rng.random(size) < self.rng.choice([0.2, 0.4]), values, 0)
        source = "input"
        for i in range(self.whole(1, 4)):
            self.grow(source, f"layer{i}")
            source = f"layer{i}"
        net = self.build()
        return net, self.x, simulate(net, self.x)

    def grow(self, source: str, name: str) -> None:
        shape = self.populations[-1].shape if self.populations else self.input.shape
        spatial = self.kind == "conv" and len(shape) == 3 and min(shape[1:]) > 2
        spatial = spatial and (not self.populations or self.chance(0.6))
        n_in = int(np.prod(shape))
        synapse = self.conv(shape) if spatial else self.dense(n_in, self.whole(3, 12))
        here = synapse.output_shape(shape)
        n = int(np.prod(here))
        delay = self.whole(0, 2) if self.chance(0.3) else 0
        self.projections.append(
            Projection(source=source, target=name, synapse=synapse, delay=delay)
        )
        if not spatial and self.populations and self.chance(0.4):
            skip = self.dense(self.input.size, n)
            self.projections.append(
                Projection(source="input", target=name, synapse=skip, delay=self.whole(0, 2))
            )
        if self.kind == "recurrent" and (not self.populations or self.chance(0.5)):
            loop = self.dense(n, n)
            if len(here) == 1:
                self.projections.append(
                    Projection(source=name, target=name, synapse=loop, delay=self.whole(1, 3))
                )
        self.settle(name, here, n)

    def settle(self, name: str, shape: Any, n: int) -> None:
        """Add the population with a threshold that its potentials cross now and then."""
        clean = self.cause == "tie"
        values: dict[str, Any] = {
            "du": 4095 if clean or self.chance(0.3) else self.whole(200, 4000),
            "dv": 0 if clean else self.whole(20, 2000),
        }
        if self.chance(0.5):
            step = 64 if clean else 1
            each = self.rng.integers(-10, 20, n if self.chance(0.5) else ())
            values |= {"bias": each * (step if clean else 16), "bias_exp": 0 if clean else 2}
        if self.chance(0.3) and self.cause != "overflow":
            values["reset"] = "subtract"
        silent = Population(name=name, shape=shape, v_th=131071, **values)
        self.populations.append(silent)
        v = np.asarray(simulate(self.build(), self.x)[name].v)
        axes = (0, 1) if self.chance(0.3) else None
        level = np.quantile(v, self.rng.uniform(0.6, 0.9), axis=axes)
        v_th = np.clip(np.floor(level / 64), 1, 131000).astype(np.int64)
        self.populations[-1] = replace(silent, v_th=v_th)

    def dense(self, n_in: int, n_out: int) -> Dense:
        if self.cause == "overflow":
            w = self.rng.integers(-256, 256, (n_out, n_in))
            return Dense(w=w, w_exp=self.whole(4, 7))
        if self.cause == "tie":
            return Dense(w=2 * self.rng.integers(-4, 7, (n_out, n_in)), w_exp=-1)
        w = self.rng.integers(-90, 128, (n_out, n_in))
        return Dense(w=w, w_exp=self.whole(-3, 2))

    def conv(self, shape: Any) -> Conv2d | SumPool2d:
        if self.chance(0.2) and self.cause != "overflow":
            return SumPool2d(kernel=(2, 2), stride=(2, 2), w=self.whole(4, 40))
        out, kernel = self.whole(1, 3), (self.whole(1, 3), self.whole(1, 3))
        low, high = (-6, 9) if self.cause == "tie" else (-90, 128)
        if self.cause == "overflow":
            low, high = -256, 256
        w = self.rng.integers(low, high, (out, shape[0], *kernel))
        padding = (self.whole(0, 1), self.whole(0, 1))
        return Conv2d(w=w, geometry=ConvGeometry(stride=(1, self.whole(1, 2)), padding=padding))

    def build(self) -> FixedNet:
        return FixedNet(
            input=self.input, populations=tuple(self.populations),
            projections=tuple(self.projections), steps=len(self.x),
            readout=Readout(population=self.populations[-1].name),
        )  # fmt: skip


def draw_fault(rng: np.random.Generator, net: FixedNet, cause: str) -> Fault | None:
    """A fault of class `cause` in a random population, or None where this net has no room."""
    p = net.populations[int(rng.integers(len(net.populations)))]
    if cause == "input":
        return input_fault(rng, net)
    if cause in ("weight", "delay"):
        return (weight_fault if cause == "weight" else delay_fault)(rng, net, p)
    makers = {
        "threshold": threshold_fault, "decay": decay_fault, "bias": bias_fault,
        "reset": reset_fault, "overflow": overflow_fault,
    }  # fmt: skip
    if cause in makers:
        what, value = makers[cause](rng, p)
        return Fault(cause=cause, population=p.name, what=what, value=value)
    return Fault(cause=cause, population=p.name, what=cause)


def only_consumer(net: FixedNet, projection: Projection) -> bool:
    """Whether a fault of `projection` cannot be told from one of the network's input."""
    fed = [p for p in net.projections if p.source == "input"]
    return projection.source == "input" and len(fed) == 1


def input_fault(rng: np.random.Generator, net: FixedNet) -> Fault:
    kinds = ["late", "early", "doubled", "reversed"]
    if net.input.kind == "graded":
        kinds += ["binarised", "halved"]
    if len(net.input.shape) == 3:
        kinds += ["transposed", "channels_last"]
    first = next(
        p.name for p in net.populations if any(q.source == "input" for q in net.incoming(p.name))
    )
    return Fault(cause="input", population=first, what=str(rng.choice(kinds)))


def weight_fault(rng: np.random.Generator, net: FixedNet, p: Population) -> Fault | None:
    own = [i for i, q in enumerate(net.projections) if q.target == p.name]
    at = int(rng.choice(own))
    projection = net.projections[at]
    synapse = projection.synapse
    kinds = ["single", "single", "single"]
    if isinstance(synapse, Dense):
        kinds += ["odd"] + (["each"] if synapse.w_exp < 0 else [])
        if not only_consumer(net, projection):
            kinds += ["exponent"]
    if isinstance(synapse, Conv2d):
        kinds += ["flipped"]
    what = str(rng.choice(kinds))
    value: Any = None
    if what == "exponent":
        value = int(rng.choice([-1, 1]))
    elif what == "flipped" and isinstance(synapse, Conv2d):
        flipped = replace(synapse, w=synapse.w[..., ::-1, ::-1])
        value = matrix(net, replace(projection, synapse=flipped))
    elif what == "single":
        value = one_weight(rng, net, projection)
    return Fault(cause="weight", population=p.name, what=what, value=value, at=at)


def one_weight(rng: np.random.Generator, net: FixedNet, projection: Projection) -> Array:
    change = int(rng.integers(4, 80)) * int(rng.choice([-1, 1]))
    synapse = projection.synapse
    if isinstance(synapse, SumPool2d):
        return matrix(net, replace(projection, synapse=replace(synapse, w=synapse.w + 2)))
    if isinstance(synapse, Dense):
        w = matrix(net, projection)
        row, column = (int(rng.integers(n)) for n in w.shape)
        w[row, column] = np.clip(w[row, column] + change, -256, 255)
        return w
    w = synapse.w.copy()
    index = tuple(int(rng.integers(n)) for n in w.shape)
    w[index] = np.clip(int(w[index]) + change, -256, 255)
    return matrix(net, replace(projection, synapse=replace(synapse, w=w)))


def delay_fault(rng: np.random.Generator, net: FixedNet, p: Population) -> Fault | None:
    own = [(i, q) for i, q in enumerate(net.projections) if q.target == p.name]
    choices = [(i, 1) for i, q in own if not only_consumer(net, q)]
    choices += [(i, -1) for i, q in own if q.delay > (1 if q.source == p.name else 0)
                and not only_consumer(net, q)]  # fmt: skip
    if not all(only_consumer(net, q) for _, q in own):
        choices.append((-1, 1))
    if not choices:
        return None
    at, value = choices[int(rng.integers(len(choices)))]
    what = "projection" if at >= 0 else "output"
    return Fault(cause="delay", population=p.name, what=what, value=value, at=at)


def threshold_fault(rng: np.random.Generator, p: Population) -> tuple[str, Any]:
    th = (np.zeros(p.size, np.int64) + p.v_th) * 64
    factor = 1 + rng.uniform(0.03, 0.3) * rng.choice([-1, 1])
    new = np.clip(np.rint(th / 64 * factor), 0, 131071).astype(np.int64) * 64
    if p.v_th.ndim and rng.random() < 0.7:  # in one neuron only
        one = np.arange(p.size) == rng.integers(p.size)
        return "th", np.where(one, new, th)
    return "th", new


def bias_fault(rng: np.random.Generator, p: Population) -> tuple[str, Any]:
    bias = np.zeros(p.size, np.int64) + p.bias.astype(np.int64) * 2**p.bias_exp
    size = int(max(p.v_th.max() * rng.uniform(0.03, 0.3), 2)) * 64 * int(rng.choice([-1, 1]))
    one = np.arange(p.size) == rng.integers(p.size)
    return "bias", bias + np.where(one, size, 0) if rng.random() < 0.5 else bias + size


def decay_fault(rng: np.random.Generator, p: Population) -> tuple[str, Any]:
    keep_u, keep_v = (4095 - p.du.astype(np.int64), 4096 - p.dv.astype(np.int64))
    kind = str(rng.choice(["hidden", "keep_u", "keep_v", "keep_v", "swapped"]))
    change = int(rng.integers(40, 800)) * int(rng.choice([-1, 1]))
    if kind == "hidden":
        return "keep_u", np.zeros(p.size, np.int64) + keep_u + 1
    if kind == "keep_u":
        return "keep_u", np.clip(np.zeros(p.size, np.int64) + keep_u + change, 0, 4095)
    if kind == "keep_v":
        return "keep_v", np.clip(np.zeros(p.size, np.int64) + keep_v + change, 1, 4096)
    return "swapped", None


def reset_fault(rng: np.random.Generator, p: Population) -> tuple[str, Any]:
    other = "subtract" if p.reset == "zero" else "zero"
    return [("reset", other), ("reset", "none"), ("late", "zero"), ("late", "subtract")][
        int(rng.integers(4))
    ]


def overflow_fault(rng: np.random.Generator, p: Population) -> tuple[str, Any]:
    return [
        ("u_limit", ("none", 0)), ("u_limit", ("clip", 23)),
        ("v_limit", ("none", 0)), ("v_limit", ("wrap", 23)),
        ("u_limit", ("clip", 20)), ("v_limit", ("clip", 21)), ("v_limit", ("wrap", 21)),
    ][int(rng.integers(7))]  # fmt: skip
