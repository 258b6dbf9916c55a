"""Random NIR graphs against a plain simulation of them, node by node and step by step.

The simulation below shares nothing with the reader: it knows NIR's equations, and torch computes
its convolutions and pools. A `Sketch` is a graph whose author knows which edges close loops; the
reader has to find that out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spikeport.export.nir_read import read
from spikeport.sim import floating
from spikeport.sim.net import Input

Floats = NDArray[np.float64]

DT = 1e-3
STEPS = 12


@dataclass
class Sketch:
    """Nodes by name, "inner.name" for those of a graph within the graph; `late` edges carry the
    values of the step before."""

    rng: np.random.Generator
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    late: set[tuple[str, str]] = field(default_factory=set)

    def add(self, name: str, node: Any, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def graph(self) -> nir.NIRGraph:
        top: dict[str, Any] = {}
        groups: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {}
        for name, node in self.nodes.items():
            outer, _, inner = name.partition(".")
            if inner:
                groups.setdefault(outer, ({}, []))[0][inner] = node
            else:
                top[name] = node
        edges = []
        for a, b in self.edges:
            (outer_a, _, inner_a), (outer_b, _, inner_b) = a.partition("."), b.partition(".")
            if inner_a and inner_b and outer_a == outer_b:
                groups[outer_a][1].append((inner_a, inner_b))
            else:
                edges.append((outer_a, outer_b))
        for outer, (nodes, inner_edges) in groups.items():
            top[outer] = nir.NIRGraph(nodes, inner_edges, type_check=False)
        return nir.NIRGraph(top, edges, type_check=False)

    def simulate(
        self, x: Floats, *, rule: str, reset: str
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Spikes and potentials [T, *shape] of every neuron node."""
        state: dict[str, Any] = {}
        spikes: dict[str, list[Floats]] = {}
        potentials: dict[str, list[Floats]] = {}
        before: dict[str, Floats] = {}
        for t, now in enumerate(x):
            values: dict[str, Floats] = {}

            def arriving(
                name: str, values: dict[str, Floats] = values, past: dict[str, Floats] = before
            ) -> Any:
                return sum(
                    past.get(a, np.array(0.0)) if (a, b) in self.late else value(a, values)
                    for a, b in self.edges
                    if b == name
                )

            def value(
                name: str, values: dict[str, Floats], now: Floats = now, t: int = t
            ) -> Floats:
                if name not in values:
                    node = self.nodes[name]
                    if name == "input":
                        values[name] = now
                    elif isinstance(node, nir.Delay):
                        past = state.setdefault(name, [])
                        values[name] = delayed(node, past, t, lambda: arriving(name))
                    elif type(node).__name__ in SPIKING:
                        s, v, state[name] = stepped(
                            node, arriving(name), state.get(name), rule=rule, reset=reset
                        )
                        spikes.setdefault(name, []).append(s)
                        potentials.setdefault(name, []).append(v)
                        values[name] = s
                    else:
                        values[name] = linear(node, arriving(name))
                return values[name]

            for name, node in self.nodes.items():
                value(name, values)
                if isinstance(node, nir.Delay):
                    state[name].append(arriving(name))
            before = {name: s for name, s in values.items() if name in spikes}
        return (
            {name: np.array(s) for name, s in spikes.items()},
            {name: np.array(v) for name, v in potentials.items()},
        )


SPIKING = ("Threshold", "I", "LI", "CubaLI", "IF", "LIF", "CubaLIF")


def delayed(node: Any, past: list[Floats], t: int, present: Callable[[], Floats]) -> Floats:
    steps = np.rint(node.delay / DT).astype(int)
    line = past if (steps > 0).all() else [*past, present()]
    out = np.zeros(steps.shape)
    for at in np.ndindex(*steps.shape):
        if t - steps[at] >= 0:
            out[at] = np.broadcast_to(line[t - steps[at]], steps.shape)[at]
    return out


def stepped(
    node: Any, arrived: Floats, state: Any, *, rule: str, reset: str
) -> tuple[Floats, Floats, Any]:
    kind = type(node).__name__
    if kind == "Threshold":
        return np.where(arrived > node.threshold, 1.0, 0.0), arrived, None
    u, v = (np.zeros(node.r.shape), np.zeros(node.r.shape)) if state is None else state

    def toward(old: Floats, goal: Floats, tau: Floats) -> Floats:
        share = DT / tau if rule == "euler" else 1 - np.exp(-DT / tau)
        return np.asarray(old + share * (goal - old))

    current = arrived
    if kind.startswith("Cuba"):
        u = toward(u, node.w_in * arrived, node.tau_syn)
        current = u
    if kind in ("I", "IF"):
        v = v + node.r * current
    else:
        tau = node.tau_mem if kind.startswith("Cuba") else node.tau
        v = toward(v, node.v_leak + node.r * current, tau)
    if kind in ("I", "LI", "CubaLI"):
        return np.zeros(v.shape), v, (u, v)
    s = v > node.v_threshold
    v = np.where(s, v - node.v_threshold if reset == "subtract" else node.v_reset, v)
    return np.where(s, 1.0, 0.0), v, (u, v)


def linear(node: Any, x: Any) -> Floats:
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return np.asarray(x)
    if kind == "Flatten":
        return np.reshape(x, (*np.shape(x)[: node.start_dim], -1))
    if kind == "Scale":
        return np.asarray(node.scale * x)
    if kind in ("Affine", "Linear"):
        flat = np.broadcast_to(np.reshape(x, -1), node.weight.shape[1])
        return np.asarray(node.weight @ flat) + getattr(node, "bias", 0.0)
    batch = torch.from_numpy(np.asarray(x)[None])
    if kind.startswith("Conv"):
        convolve = torch.conv1d if kind == "Conv1d" else torch.conv2d
        w, b = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        out = convolve(batch, w, b, node.stride, node.padding, node.dilation, node.groups)
    else:
        kernel = tuple(int(k) for k in node.kernel_size)
        stride, padding = tuple(node.stride.tolist()), tuple(node.padding.tolist())
        out = torch.nn.functional.avg_pool2d(batch, kernel, stride, padding)
        out = out * (kernel[0] * kernel[1] if kind == "SumPool2d" else 1)
    return np.asarray(out[0].numpy())


def neurons(rng: np.random.Generator, kind: str, shape: Any, *, reset: str) -> Any:
    def each(low: float, high: float) -> Floats:
        return np.asarray(rng.uniform(low, high, shape))

    v_reset = each(-0.2, 0.1) if reset == "zero" else np.zeros(shape)
    if kind == "Threshold":
        return nir.Threshold(each(-0.2, 0.6))
    if kind == "I":
        return nir.I(r=each(0.5, 2))
    if kind == "IF":
        return nir.IF(r=each(0.5, 2), v_threshold=each(0.4, 1), v_reset=v_reset)
    leak, tau, r = each(-0.2, 0.3), each(2e-3, 2e-2), each(1, 4)
    if kind == "LI":
        return nir.LI(tau=tau, r=r, v_leak=leak)
    if kind == "LIF":
        return nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=each(0.15, 0.4), v_reset=v_reset)
    cuba = {"tau_syn": each(1e-3, 5e-3), "tau_mem": tau, "r": r, "v_leak": leak}
    if kind == "CubaLI":
        return nir.CubaLI(**cuba, w_in=each(0.5, 3))
    return nir.CubaLIF(
        **cuba, v_threshold=each(0.15, 0.4), v_reset=v_reset, w_in=each(0.5, 3)
    )  # fmt: skip


def weights(rng: np.random.Generator, n_out: int, n_in: int) -> Floats:
    return np.asarray(rng.normal(0.2, 1, (n_out, n_in)) * 1.5 / np.sqrt(n_in))


def front(s: Sketch, shape: Any) -> tuple[str, Any]:
    """Nodes that suit the input's shape, up to neurons."""
    rng, last, scale = s.rng, "input", 1.0
    if len(shape) == 1:
        w = weights(rng, 5, shape[0])
        last = s.add("fc", nir.Affine(weight=w, bias=rng.normal(0, 0.3, 5)), last)
        return last, (5,)
    if rng.random() < 0.5:
        last = s.add("gain", nir.Scale(rng.uniform(0.5, 1.5, shape)), last)
    if len(shape) == 2:
        w, b = rng.normal(0, 0.8, (4, shape[0], 3)), rng.normal(0, 0.2, 4)
        last = s.add("conv", nir.Conv1d(shape[1], w, 2, 1, 1, 1, b), last)
        return last, (4, (shape[1] - 1) // 2 + 1)
    stride = int(rng.integers(1, 3))
    w, b = rng.normal(0, 0.6, (4, 1, 3, 3)), rng.normal(0, 0.2, 4)
    last = s.add("conv", nir.Conv2d(shape[1:], w, stride, 1, 1, 2, b), last)
    h, wide = ((n - 1) // stride + 1 for n in shape[1:])
    if rng.random() < 0.7:
        two = np.array([2, 2])
        pool = nir.SumPool2d if rng.random() < 0.5 else nir.AvgPool2d
        scale = scale if pool is nir.AvgPool2d else 0.5
        last = s.add("pool", pool(kernel_size=two, stride=two, padding=0 * two), last)
        h, wide = h // 2, wide // 2
    return last, (4, h, wide)


def random_sketch(seed: int, *, reset: str) -> Sketch:
    rng = np.random.default_rng(seed)
    s = Sketch(rng=rng)
    shape: Any = [(6,), (2, 7), (2, 6, 5)][seed % 3]
    s.add("input", nir.Input(input_type={"input": np.array(shape)}))
    last, shape = front(s, shape)
    spiking = ["Threshold", "IF", "LIF", "CubaLIF"]
    kinds = [spiking[seed // 3 % 4], *rng.choice(spiking, 2)]
    last = a = s.add("a", neurons(rng, kinds[0], shape, reset=reset), last)
    size = int(np.prod(shape))
    if len(shape) > 1:
        start = int(rng.integers(0, 2))  # from 1 on it leaves channels apart
        last = a = s.add("flat", nir.Flatten({"input": np.array(shape)}, start, -1), a)
    if rng.random() < 0.5:
        steps = rng.integers(0, 4, size) if rng.random() < 0.5 else np.full(size, 2)
        w = weights(rng, size, size)
        last = s.add("mix", nir.Affine(weight=w, bias=rng.normal(0, 0.1, size)), last)
        last = s.add("late", nir.Delay(steps * DT), last)
    w = weights(rng, 7, size)
    last = s.add("second", nir.Affine(weight=w, bias=rng.normal(0, 0.2, 7)), last)
    inner = "loop." if seed % 2 else ""
    if inner:
        last = s.add("loop.input", nir.Input(input_type={"input": np.array([7])}), last)
    b = s.add(f"{inner}b", neurons(rng, kinds[1], (7,), reset=reset), last)
    w = weights(rng, 7, 7)
    s.add(f"{inner}rec", nir.Affine(weight=w, bias=rng.normal(0, 0.2, 7)))
    s.edges += [(b, f"{inner}rec"), (f"{inner}rec", b)]
    s.late.add((b, f"{inner}rec"))
    if inner:
        b = s.add("loop.output", nir.Output(output_type={"output": np.array([7])}), b)
    s.add("third", nir.Linear(weight=weights(rng, 4, 7)), b)
    s.add("skip", nir.Affine(weight=weights(rng, 4, size), bias=rng.normal(0, 0.2, 4)), a)
    s.add("c", neurons(rng, kinds[2], (4,), reset=reset), "third", "skip")
    if seed % 5 == 0:  # a long loop with a delay of its own, which has a bias before it
        s.add("home", nir.Affine(weight=weights(rng, 7, 4), bias=rng.normal(0, 0.2, 7)), "c")
        s.add("way", nir.Delay(np.full(7, 3 * DT)), "home")
        s.edges.append(("way", "loop.input" if inner else "b"))
    s.add("last", nir.Scale(rng.uniform(0.5, 1.5, 4)), "c")
    readout = ["I", "LI", "CubaLI", "LIF"][seed // 7 % 4]
    s.add("readout", neurons(rng, readout, (4,), reset=reset), "last")
    s.add("output", nir.Output(output_type={"output": np.array([4])}), "readout")
    return s


@pytest.mark.parametrize("seed", range(48))
def test_a_graph_does_what_its_nodes_say(tmp_path: Path, seed: int) -> None:
    rule, reset = ("euler", "exact")[seed % 2], ("zero", "subtract")[seed // 2 % 2]
    s = random_sketch(seed, reset=reset)
    nir.write(tmp_path / "g.nir", s.graph())
    shape = tuple(s.nodes["input"].input_type["input"].tolist())
    ours = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    given = Input(shape=ours, kind="graded", payload_bits=8)
    net = read(tmp_path / "g.nir", dt_s=DT, steps=STEPS, input=given, rule=rule, reset=reset)
    x = s.rng.random((3, STEPS, *shape))
    found = floating.run(net, x.swapaxes(0, 1).reshape(STEPS, 3, *ours))
    fired = 0
    for sample, row in enumerate(x):
        spikes, potentials = s.simulate(row, rule=rule, reset=reset)
        for name, expected in spikes.items():
            ours_s = found[name].spikes[:, sample]
            assert np.array_equal(expected.reshape(STEPS, -1), ours_s), name
            fired += int(expected.sum())
        v = found["readout"].v
        assert v is not None
        if net.readout.kind == "last_v":
            assert v[:, sample] == pytest.approx(potentials["readout"], abs=1e-9)
    assert fired >= 20
    everywhere = {name for name, node in s.nodes.items() if type(node).__name__ in SPIKING}
    assert {p.name for p in net.populations if not p.name.endswith(".bias")} == everywhere
