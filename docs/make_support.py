"""Write docs/support.md: what becomes of every NIR primitive on every target, found by trying.

    python docs/make_support.py [--check]

Each row is a small graph around one primitive, its parameters on the chip's own grids (decays in
4096ths, whole weights), so that a difference is the compiler's and not that of rounding. The graph
is written with nir, read and compiled for every target at a given scale, held to the rules of
the chip and to the overflow proof, and run on random input, floats against integers. A cell says

    exact           no spike and, for readouts of potentials, no prediction differs, and the report
                    has no rounding error
    approximated    a parameter is off, and by how much (from the report), or "state": none is, and
                    potentials differ because the chip cuts what a decay leaves
    refused         the sentence that the user gets

With --check nothing is written, and the exit code is 1 if the file is not up to date.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from spikeport.export import bounds, nir_read, quantise
from spikeport.export.prepare import prepare
from spikeport.export.report import report
from spikeport.hw import rules
from spikeport.sim import engine, fidelity, floating
from spikeport.sim.chip import CHIPS
from spikeport.sim.files import write_text
from spikeport.sim.net import FixedNet, FloatNet, Input

OUT = Path(__file__).parent / "support.md"
DT = 2.0**-10  # seconds a step; a power of two makes the decays below exact
STEPS, SAMPLES = 72, 2  # longer than the longest delay
SCALE = 8.0  # integers a unit; weights and averages of four of them are whole then
MAP, FLAT = (2, 4, 4), (6,)
Floats = NDArray[np.float64]
Nodes = dict[str, nir.NIRNode]
Edges = list[tuple[str, str]]


def full(value: float, shape: Any = FLAT) -> Floats:
    return np.full(shape, value)


def weights(*shape: int) -> Floats:
    """Whole numbers between -14 and 15, the same for the same shape."""
    return np.random.default_rng(list(shape)).integers(-14, 16, shape).astype(float)


def lif(shape: Any = FLAT, **changed: Any) -> nir.LIF:
    settings = {
        "tau": full(4 * DT, shape), "r": full(4, shape), "v_leak": full(0, shape),
        "v_threshold": full(19, shape), "v_reset": full(0, shape),
    }  # fmt: skip
    return nir.LIF(**settings | changed)


def cuba(kind: Any = nir.CubaLIF, **changed: Any) -> nir.NIRNode:
    settings = {
        "tau_syn": full(2 * DT), "tau_mem": full(4 * DT), "r": full(4), "v_leak": full(0),
        "w_in": full(2),
    }  # fmt: skip
    if kind is nir.CubaLIF:
        settings |= {"v_threshold": full(38), "v_reset": full(0)}
    return kind(**settings | changed)


def linear(n_in: int = 6, n_out: int = 6) -> nir.Linear:
    return nir.Linear(weight=weights(n_out, n_in))


def affine() -> nir.Affine:
    return nir.Affine(weight=weights(6, 6), bias=np.arange(6.0) * 2)


def conv(**changed: Any) -> nir.Conv2d:
    settings: dict[str, Any] = {
        "input_shape": MAP[1:], "weight": weights(3, 2, 3, 3), "stride": 1, "padding": 1,
        "dilation": 1, "groups": 1, "bias": np.zeros(3),
    }  # fmt: skip
    return nir.Conv2d(**settings | changed)


def chain(*nodes: nir.NIRNode, shape: tuple[int, ...] = FLAT, end: int | None = None) -> Any:
    """input -> n0 -> n1 ... -> output."""
    named: Nodes = {"input": nir.Input(input_type={"input": np.array(shape)})}
    named |= {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output(output_type={"output": np.array([end or 6])})
    return named, list(pairwise(named))


def wired(nodes: Nodes, edges: str, shape: tuple[int, ...] = FLAT) -> Any:
    """Named nodes and edges "a b, b c", input and output added."""
    named = {
        "input": nir.Input(input_type={"input": np.array(shape)}), **nodes,
        "output": nir.Output(output_type={"output": np.array([6])}),
    }  # fmt: skip
    return named, [tuple(edge.split()) for edge in edges.split(", ")]


def pool(kind: Any) -> Any:
    two = np.array([2, 2])
    flatten = nir.Flatten(input_type={"input": np.array([2, 2, 2])}, start_dim=0)
    layers = kind(kernel_size=two, stride=two, padding=0 * two), flatten, linear(8), lif()
    return chain(*layers, shape=MAP)


def nested() -> Any:
    inner, edges = wired({"w": linear(), "lif": lif()}, "input w, w lif, lif output")
    return wired(
        {"sub": nir.NIRGraph(nodes=inner, edges=edges)}, "input sub, sub output"
    )  # fmt: skip


def recurrent(neurons: Any = None) -> Any:
    return wired(
        {"w": linear(), "lif": neurons or lif(), "back": affine()},
        "input w, w lif, lif back, back lif, lif output",
    )


def loop(*, delay: bool) -> Any:
    nodes = {"w": linear(), "a": lif(), "ab": linear(), "b": lif(), "ba": linear()}
    edges = "input w, w a, a ab, ab b, b ba, ba a, b output"
    if delay:
        nodes["late"] = nir.Delay(delay=full(2 * DT))
        edges = edges.replace("ba a", "ba late, late a")
    return wired(nodes, edges)


def skip() -> Any:
    nodes = {"w": linear(), "a": lif(), "ab": linear(), "b": lif(), "past": linear()}
    return wired(nodes, "input w, w a, a ab, ab b, input past, past b, b output")


def conv_skip() -> Any:
    def same(channels: int) -> nir.Conv2d:
        return conv(weight=weights(2, channels, 3, 3), bias=np.zeros(2))

    flat = nir.Flatten(input_type={"input": np.array(MAP)}, start_dim=0)
    nodes = {
        "w": same(2), "a": lif(MAP), "ab": same(2), "b": lif(MAP), "past": same(2), "flat": flat,
        "out": linear(32), "c": lif(),
    }  # fmt: skip
    edges = "input w, w a, a ab, ab b, input past, past b, b flat, flat out, out c, c output"
    return wired(nodes, edges, shape=MAP)


@dataclass(frozen=True)
class Row:
    """One line of the table. build: nodes and edges; read: arguments of the reader."""

    primitive: str
    what: str
    build: Callable[[], Any]
    read: Mapping[str, Any] = field(default_factory=dict)


GRADED = {"input": Input(shape=FLAT, kind="graded", payload_bits=6)}
SUBTRACT = {"reset": "subtract"}
LEAK = {"start": "leak"}
ROWS = (
    Row("Input", "binary spikes", lambda: chain(linear(), lif())),
    Row("Input", "graded, 6 bits", lambda: chain(linear(), lif()), GRADED),
    Row("Linear", "", lambda: chain(linear(), lif())),
    Row("Affine", "bias", lambda: chain(affine(), lif())),
    Row("Scale", "", lambda: chain(nir.Scale(scale=full(2)), linear(), lif())),
    Row("Conv1d", "", lambda: chain(
        nir.Conv1d(input_shape=6, weight=weights(1, 2, 3), stride=1, padding=1, dilation=1,
                   groups=1, bias=np.zeros(1)),
        lif((1, 6)), shape=(2, 6))),
    Row("Conv2d", "stride, padding, bias", lambda: chain(
        conv(stride=2, bias=np.array([2.0, 0, -2])), lif((3, 2, 2)), shape=MAP)),
    Row("Conv2d", "dilation 2", lambda: chain(
        conv(dilation=2, padding=2), lif((3, 4, 4)), shape=MAP)),
    Row("Conv2d", "groups 2", lambda: chain(
        conv(weight=weights(4, 1, 3, 3), groups=2, bias=np.zeros(4)), lif((4, 4, 4)), shape=MAP)),
    Row("SumPool2d", "before a Linear", lambda: pool(nir.SumPool2d)),
    Row("AvgPool2d", "before a Linear", lambda: pool(nir.AvgPool2d)),
    Row("Flatten", "", lambda: chain(
        nir.Flatten(input_type={"input": np.array(MAP)}, start_dim=0), linear(32), lif(),
        shape=MAP)),
    Row("Delay", "the same for all", lambda: chain(linear(), nir.Delay(delay=full(3 * DT)), lif())),
    Row("Delay", "one each", lambda: chain(
        linear(), nir.Delay(delay=np.arange(6.0) * DT), lif())),
    Row("Delay", "behind a bias", lambda: chain(affine(), nir.Delay(delay=full(3 * DT)), lif())),
    Row("Delay", "of 63 steps", lambda: chain(linear(), nir.Delay(delay=full(63 * DT)), lif())),
    Row("Delay", "of 64 steps", lambda: chain(linear(), nir.Delay(delay=full(64 * DT)), lif())),
    Row("Delay", "of half a step", lambda: chain(linear(), nir.Delay(delay=full(DT / 2)), lif())),
    Row("Threshold", "", lambda: chain(linear(), nir.Threshold(threshold=full(11)))),
    Row("Threshold", "one each", lambda: chain(
        linear(), nir.Threshold(threshold=8 + 4 * np.arange(6.0)))),
    Row("IF", "", lambda: chain(
        linear(), nir.IF(r=full(1), v_threshold=full(31), v_reset=full(0)))),
    Row("IF", "r is 2", lambda: chain(
        linear(), nir.IF(r=full(2), v_threshold=full(62), v_reset=full(0)))),
    Row("IF", "r is one each", lambda: chain(
        linear(), nir.IF(r=1.0 + np.arange(6) % 2, v_threshold=full(32), v_reset=full(0)))),
    Row("LIF", "reset to zero", lambda: chain(linear(), lif())),
    Row("LIF", "reset by subtraction", lambda: chain(linear(), lif()), SUBTRACT),
    Row("LIF", "v_leak", lambda: chain(linear(), lif(v_leak=full(8)))),
    Row("LIF", "v_reset", lambda: chain(linear(), lif(v_reset=full(-16)))),
    Row("LIF", "start at v_leak", lambda: chain(linear(), lif(v_leak=full(8))), LEAK),
    Row("LIF", "threshold below v_reset", lambda: chain(linear(), lif(v_threshold=full(-8)))),
    Row("LIF", "tau below a step", lambda: chain(linear(), lif(tau=full(DT / 2)))),
    Row("LIF", "tau below a step, rule exact", lambda: chain(
        linear(), lif(tau=full(DT / 2))), {"rule": "exact"}),
    Row("LIF", "own thresholds", lambda: chain(
        linear(), lif(v_threshold=12 + 6 * np.arange(6.0)))),
    Row("LIF", "own tau", lambda: chain(
        linear(), lif(tau=DT * 2.0 ** np.arange(1, 7), r=2.0 ** np.arange(1, 7)))),
    Row("CubaLIF", "", lambda: chain(linear(), cuba())),
    Row("CubaLIF", "behind a bias", lambda: chain(affine(), cuba())),
    Row("CubaLIF", "w_in one each", lambda: chain(
        linear(), cuba(w_in=2.0 ** np.arange(6)))),
    Row("CubaLIF", "v_reset", lambda: chain(linear(), cuba(v_reset=full(-16)))),
    Row("CubaLIF", "reset by subtraction", lambda: chain(linear(), cuba()), SUBTRACT),
    Row("I", "read: last potential", lambda: chain(linear(), nir.I(r=full(1)))),
    Row("LI", "read: last potential", lambda: chain(
        linear(), nir.LI(tau=full(4 * DT), r=full(4), v_leak=full(0)))),
    Row("LI", "read: sum of potentials", lambda: chain(
        linear(), nir.LI(tau=full(4 * DT), r=full(4), v_leak=full(0))), {"readout": "sum_v"}),
    Row("LI", "between neurons", lambda: chain(
        linear(), nir.LI(tau=full(4 * DT), r=full(4), v_leak=full(0)), linear(), lif())),
    Row("CubaLI", "read: last potential", lambda: chain(linear(), cuba(nir.CubaLI))),
    Row("CubaLI", "behind a bias", lambda: chain(affine(), cuba(nir.CubaLI))),
    Row("CubaLI", "read: sum of potentials", lambda: chain(
        linear(), cuba(nir.CubaLI)), {"readout": "sum_v"}),
    Row("Output", "of a Linear", lambda: chain(linear(), lif(), linear())),
    Row("NIRGraph", "nested", nested),
    Row("loop", "LIF <-> Affine", recurrent),
    Row("loop", "LIF <-> itself", lambda: wired(
        {"w": linear(), "lif": lif()}, "input w, w lif, lif lif, lif output")),
    Row("loop", "CubaLIF <-> Affine", lambda: recurrent(cuba())),
    Row("loop", "through two LIF", lambda: loop(delay=False)),
    Row("loop", "through two LIF, with a Delay", lambda: loop(delay=True)),
    Row("skip", "paths of unequal length", skip),
    Row("skip", "a Conv2d past a Conv2d", conv_skip),
)  # fmt: skip


def outcomes(row: Row) -> list[str]:
    """The cells of a row, one a chip."""
    nodes, edges = row.build()
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.nir"
        nir.write(path, graph)
        try:
            net = nir_read.read(path, dt_s=DT, steps=STEPS, **row.read)
        except ValueError as refusal:
            sentence = str(refusal).removeprefix(f"{path}: ")
            return [f"refused: {sentence}"] * len(CHIPS)
    scaled = tuple(replace(p, scale=SCALE) for p in net.populations)
    return [outcome(replace(net, populations=scaled), chip) for chip in CHIPS.values()]


def outcome(net: FloatNet, chip: Any) -> str:
    """One cell."""
    try:
        fixed = quantise.to_fixed(net, chip)
        if risks := bounds.prove(fixed):
            return f"refused: {risks[0]}"
        rules.enforce(fixed, chip)
    except ValueError as refusal:
        return f"refused: {refusal}"
    off = [r for r in report(net, fixed).rows if r.error > 1e-12 * max(1, abs(r.value))]
    differing, predictions = compared(prepare(net, chip), fixed)
    if not off and not differing and not predictions:
        return "exact"
    worst = max(off, key=lambda r: r.relative, default=None)
    reason = f"{worst.quantity} {worst.value:.6g} is {worst.effective:.6g}" if worst else "state"
    return f"approximated: {reason}; {differing} of {STEPS * SAMPLES * 6} spikes differ"


def compared(net: FloatNet, fixed: FixedNet) -> tuple[int, int]:
    """Differing spikes and predictions on random input."""
    rng = np.random.default_rng(7)
    shape = (STEPS, SAMPLES, *net.input.shape)
    x = rng.integers(0, net.input.largest + 1, shape) * (rng.random(shape) < 0.4)
    rung = fidelity.compare(
        ("floats", floating.run(net, x / net.input.scale)), ("integers", engine.run(fixed, x)),
        net.readout, exact=False, potentials=False,
    )  # fmt: skip
    return rung.differing, rung.predictions


def table() -> str:
    """The whole document."""
    lines = [
        "# What becomes of every NIR primitive", "",
        "Written by `python docs/make_support.py`, which tries each of them with parameters on the",
        "chip's grids. Exact: spikes are those of the floats. Approximated: parameters are rounded",
        "(or a state: a chip cuts what decays leave). Refused: with the sentence below.", "",
        f"| primitive | | {' | '.join(CHIPS)} |", f"|---|---|{'---|' * len(CHIPS)}",
    ]  # fmt: skip
    notes: list[str] = []
    for row in ROWS:
        cells = []
        for cell in outcomes(row):
            kind, _, rest = cell.partition(": ")
            if rest and rest not in notes:
                notes.append(rest)
            cells.append(f"{kind} [{notes.index(rest) + 1}]" if rest else kind)
        lines.append(f"| {row.primitive} | {row.what} | {' | '.join(cells)} |")
    lines += ["", *(f"{i}. {note}" for i, note in enumerate(notes, start=1))]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write or check the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = table()
    if not arguments.check:
        write_text(OUT, text)
    elif not OUT.exists() or OUT.read_text(encoding="utf-8") != text:
        sys.exit(f"{OUT.name} is not up to date; run python docs/make_support.py")


if __name__ == "__main__":
    main()
