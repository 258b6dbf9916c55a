"""Files for the readers of other chips: the same network, in the words that each of them reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from spikeport.export import compile as compile_net
from spikeport.export.agreement import agreement
from spikeport.export.compiled import TARGETS
from spikeport.export.modules import wired
from spikeport.export.nir_dialects import DIALECTS, spoken
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write, write_parts
from spikeport.export.parts import Link, Parts
from spikeport.export.passes import Stage
from spikeport.sim import floating
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FloatPopulation, Input
from spikeport.sim.synapse import FloatDense, FloatSumPool2d

DT_S = 2e-3
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def nets(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(TESTS / "conformance" / "reader_nets.py")


def leaky(beta: float = 1.0, reset: str = "zero") -> Any:
    return snntorch.Leaky(beta, threshold=0.6, reset_mechanism=reset, init_hidden=True)


def synaptic(alpha: float = 0.75, beta: float = 0.9, reset: str = "zero") -> Any:
    return snntorch.Synaptic(
        alpha, beta, threshold=0.6, reset_mechanism=reset, reset_delay=reset == "subtract",
        init_hidden=True,
    )  # fmt: skip


def pooled(kind: Any = nn.AvgPool2d) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), leaky(0.9), kind(2), nn.Flatten(),
        nn.Linear(12, 4, bias=False), leaky(0.8),
    ).eval()  # fmt: skip


def parts_of(module: nn.Sequential, *shape: int) -> Parts:
    return wired(module.eval(), Input(shape=shape), steps=6, readout="count")


def test_every_target_without_a_chip_has_a_dialect() -> None:
    assert {name for name, chip in TARGETS.items() if chip is None} == DIALECTS.keys()


@pytest.mark.parametrize("target", ["nir", "speck", "spinnaker2"])
def test_the_network_read_back_is_the_trained_one(target: str, nets: Any, tmp_path: Path) -> None:
    plain = compile_net(pooled(), target="lava", input=Input(shape=(2, 4, 4)), steps=24)
    written = compile_net(pooled(), target=target, input=Input(shape=(2, 4, 4)), steps=24)
    x = nets.spikes(3, (2, 4, 4), samples=5)
    ours, theirs = (floating.run(c.float_net, x) for c in (plain, written))
    for name, part in ours.populations.items():
        assert np.array_equal(part.spikes, theirs[name].spikes)
        assert theirs[name].v_last == pytest.approx(part.v_last, abs=1e-12)
        assert part.spikes.any()


def types(target: str, path: Path) -> list[str]:
    graph = write(pooled(), path, dt_s=DT_S, input=Input(shape=(2, 4, 4)), steps=6, target=target)
    return [type(node).__name__ for node in graph.nodes.values()]


def test_files_for_speck_have_sums_and_biases(tmp_path: Path) -> None:
    ends = ["Flatten", "Linear", "LIF", "Output"]
    assert types("nir", tmp_path / "a.nir") == ["Input", "Conv2d", "LIF", "AvgPool2d", *ends]
    ends[1] = "Affine"
    for target in ("speck", "spinnaker2"):
        path = tmp_path / f"{target}.nir"
        assert types(target, path) == ["Input", "Conv2d", "LIF", "SumPool2d", *ends]
        graph = nir.read(path)
        linear = pooled()[4].weight.detach().double().numpy()
        assert np.array_equal(graph.nodes["4"].weight, linear / 4)
        assert not graph.nodes["4"].bias.any()


def test_quotients_pass_pools_and_stop_at_weights() -> None:
    """Two pools behind one another divide by both of their sizes; biases stay as they are."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 1), leaky(), nn.AvgPool2d(2), nn.AvgPool2d((1, 2)), nn.Conv2d(2, 3, 1),
        leaky(),
    )  # fmt: skip
    before = parts_of(module, 1, 4, 4)
    after = spoken(before, DIALECTS["speck"])
    pools = [p.synapse for p in after.parts.values() if hasattr(p, "synapse")]
    assert [pool.w for pool in pools if isinstance(pool, FloatSumPool2d)] == [1.0, 1.0]
    stages: list[Any] = [before.parts["4"], after.parts["4"], before.parts["0"], after.parts["0"]]
    assert np.array_equal(stages[1].synapse.w, stages[0].synapse.w / 8)
    assert np.array_equal(stages[1].bias, stages[0].bias)
    assert np.array_equal(stages[3].synapse.w, stages[2].synapse.w)


def test_quotients_pass_loops() -> None:
    """Weights that stand before the pool in the list, because a loop leads back to them."""
    rng = np.random.default_rng(9)
    flat = FloatDense(w=rng.normal(size=(4, 4)))
    parts: Any = {
        "w": Stage(name="w", source=(4,), synapse=flat),
        "back": Stage(name="back", source=(1, 1, 1), synapse=FloatDense(w=rng.normal(size=(4, 1)))),
        "n": FloatPopulation(name="n", shape=(1, 2, 2), v_th=np.array(1.0)),
        "pool": Stage(name="pool", source=(1, 2, 2), synapse=FloatSumPool2d(
            kernel=(2, 2), stride=(2, 2), w=0.25)),
    }  # fmt: skip
    links = (Link(source="input", target="w"), Link(source="w", target="n"),
             Link(source="n", target="pool"), Link(source="pool", target="back", delay=1),
             Link(source="back", target="n"))  # fmt: skip
    whole = Parts(input=Input(shape=(4,)), steps=3, parts=parts, links=links, output="n",
                  readout="count", layers={})  # fmt: skip
    after: Any = spoken(whole, DIALECTS["spinnaker2"]).parts
    assert np.array_equal(after["back"].synapse.w, parts["back"].synapse.w / 4)
    assert after["pool"].synapse.w == 1
    assert after["w"] is parts["w"]


def test_pools_of_two_sizes_are_refused() -> None:
    pools = {name: FloatSumPool2d(kernel=(2, 2), stride=(2, 2), w=w)
             for name, w in (("p", 0.25), ("q", 1.0))}  # fmt: skip
    parts: Any = {
        name: Stage(name=name, source=(1, 2, 2), synapse=pool) for name, pool in pools.items()
    }
    parts["w"] = Stage(name="w", source=(1, 1, 1), synapse=FloatDense(w=np.ones((2, 1))))
    parts["n"] = FloatPopulation(name="n", shape=(2,), v_th=np.array(1.0))
    links = tuple(Link(source=a, target=b) for a, b in (
        ("input", "p"), ("input", "q"), ("p", "w"), ("q", "w"), ("w", "n")))  # fmt: skip
    whole = Parts(input=Input(shape=(1, 2, 2)), steps=3, parts=parts, links=links, output="n",
                  readout="count", layers={})  # fmt: skip
    with pytest.raises(ValueError, match=r"^layer 'w': average pools lead into it without one"):
        spoken(whole, DIALECTS["speck"])


def test_files_for_everybody_say_nothing_of_dialects(tmp_path: Path) -> None:
    write(pooled(), tmp_path / "net.nir", dt_s=DT_S, input=Input(shape=(2, 4, 4)), steps=6)
    content = (tmp_path / "net.nir").read_bytes()
    assert b'"rule"' not in content
    assert b'"gain"' not in content


@pytest.mark.parametrize("seed", range(4))
def test_files_for_xylo_by_their_formulas(seed: int, nets: Any, tmp_path: Path) -> None:
    """Every neuron keeps exp(-dt / tau), dt is tau_mem / (1 + r), and by NIR's equations, solved
    over a step, an input arrives as the share that its current keeps."""
    parts = nets.currents(seed)
    graph = write_parts(parts, tmp_path / "net.nir", dt_s=DT_S, target="xylo")
    for p in parts.populations:
        node: Any = graph.nodes[p.name]
        assert np.exp(-DT_S / node.tau_mem) == pytest.approx(p.keep_v, rel=1e-12)
        assert np.exp(-DT_S / node.tau_syn) == pytest.approx(p.keep_u, rel=1e-12)
        assert node.tau_mem / (1 + node.r) == pytest.approx(np.full(p.size, DT_S), rel=1e-12)
        arrives = node.w_in * (1 - p.keep_u) * node.r * (1 - p.keep_v)
        assert arrives == pytest.approx(p.keep_u, rel=1e-9)
    net = read(tmp_path / "net.nir")
    for p, found in zip(parts.populations, [q for q in net.populations if q.name[0] == "n"
                                            and "." not in q.name], strict=True):  # fmt: skip
        assert np.array_equal(found.keep_u, p.keep_u)
        assert np.array_equal(found.keep_v, p.keep_v)
    x = nets.spikes(seed, parts.input.shape, samples=4)
    write_parts(parts, tmp_path / "plain.nir", dt_s=DT_S)
    plain = floating.run(read(tmp_path / "plain.nir"), x)
    spikes = {p.name: plain[p.name].spikes.astype(float) for p in parts.populations}
    agreed = agreement(net, x, spikes)
    assert (agreed.differences, agreed.ties) == ((), 0)
    # A reader that knows nothing of our metadata finds the same network by the exact rule.
    with h5py.File(tmp_path / "net.nir", "r+") as file:
        for node in file["node/nodes"].values():
            node.pop("metadata", None)
        del file["node/metadata"]
    bare = read(tmp_path / "net.nir", dt_s=DT_S, steps=24, rule="exact", reset="subtract")
    assert agreement(bare, x, spikes).differences == ()


def test_neurons_that_keep_everything_have_a_time_constant(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2, bias=False), synaptic(0.5, 1.0, "subtract")).eval()
    write(module, tmp_path / "net.nir", dt_s=DT_S, input=Input(shape=(3,)), steps=5, target="xylo")
    [population] = read(tmp_path / "net.nir").populations
    assert population.keep_v == 1
    assert population.reset == "subtract"


def on_the_grid(scale: float | None, *, off: float = 0.0, names: str = "abc") -> Parts:
    """Two populations of which training has settled the first one's scale, and a readout."""
    rng = np.random.default_rng(4)
    parts: dict[str, Any] = {}
    links: list[Link] = []
    for before, name, v_th in zip(("input", *names), names, (30.0, 30.0, NEVER), strict=False):
        w = FloatDense(w=(rng.integers(-99, 100, (4, 4)) + off) / 24)
        bias = rng.integers(-9, 9, 4) / 24
        parts[f"w{name}"] = Stage(name=f"w{name}", source=(4,), synapse=w, bias=bias)
        parts[name] = FloatPopulation(
            name=name, shape=(4,), v_th=np.array(v_th if v_th == NEVER else v_th / 24),
            scale=None if name == "b" else scale, keep_v=np.array(0.9),
        )  # fmt: skip
        links += [Link(source=before, target=f"w{name}"), Link(source=f"w{name}", target=name)]
    return Parts(
        input=Input(shape=(4,)), steps=20, parts=parts, links=tuple(links), output=names[-1],
        readout="last_v", layers={},
    )  # fmt: skip


def test_what_lies_on_the_chips_grid_is_written_in_integers(tmp_path: Path, nets: Any) -> None:
    """The population with a scale, weights, bias and threshold; others and readouts stay."""
    before = on_the_grid(24.0)
    after: Any = spoken(before, DIALECTS["speck"]).parts
    known: Any = before.parts
    assert np.array_equal(after["wa"].synapse.w, np.rint(known["wa"].synapse.w * 24))
    assert np.array_equal(after["wa"].bias, np.rint(known["wa"].bias * 24))
    assert (after["a"].v_th, after["a"].scale) == (30.0, 1.0)
    assert all(after[name] is known[name] for name in ("wb", "b", "wc", "c"))
    x = nets.spikes(1, (4,), samples=6)
    traces = []
    for target in ("nir", "speck"):
        write_parts(before, tmp_path / target, dt_s=DT_S, target=target)
        traces.append(floating.run(read(tmp_path / target), x))
    for name in "abc":
        assert np.array_equal(traces[0][name].spikes, traces[1][name].spikes)
    assert traces[0]["a"].spikes.any()
    assert traces[1]["c"].v_last == pytest.approx(traces[0]["c"].v_last, abs=1e-9)


@pytest.mark.parametrize(("scale", "off"), [(None, 0.0), (24.0, 0.3), (25.0, 0.0)])
def test_what_lies_off_the_grid_is_left_alone(scale: float | None, off: float) -> None:
    before = on_the_grid(scale, off=off)
    after = spoken(before, DIALECTS["spinnaker2"]).parts
    assert all(after[name] is part for name, part in before.parts.items())


def test_weights_of_two_populations_are_left_alone() -> None:
    before = on_the_grid(24.0)
    shared = replace(before, links=(*before.links, Link(source="wa", target="b")))
    assert spoken(shared, DIALECTS["speck"]).parts["a"] is before.parts["a"]


def test_files_for_spinnaker2_by_its_formulas(tmp_path: Path) -> None:
    """py-spinnaker2's forward Euler step (convert_LIF and convert_CubaLIF of s2_nir.py) divides
    thresholds by dt r / tau, and by dt w_in / tau_syn, which must be 1, and keeps 1 - dt / tau."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(3, 4), leaky(0.9), nn.Linear(4, 2), synaptic(0.6, 0.8))
    graph: Any = write(module.eval(), tmp_path / "net.nir", dt_s=DT_S, input=Input(shape=(3,)),
                       steps=5, target="spinnaker2")  # fmt: skip
    first, second = graph.nodes["1"], graph.nodes["3"]
    for tau, factor, keep in (
        (first.tau, first.r, 0.9), (second.tau_mem, second.r, 0.8),
        (second.tau_syn, second.w_in, 0.6),
    ):  # fmt: skip
        assert DT_S / tau * factor == pytest.approx(np.ones_like(tau), rel=1e-12)
        assert 1 - DT_S / tau == pytest.approx(np.full_like(tau, np.float32(keep)), rel=1e-6)
    assert first.v_threshold == pytest.approx([0.6] * 4)


REFUSED = {
    "pool into neurons": (
        lambda: parts_of(nn.Sequential(nn.Conv2d(1, 2, 1), leaky(), nn.AvgPool2d(2), leaky()),
                         1, 4, 4),
        "speck",
        r"^layer '3' \(Leaky\): average pools lead into it without one layer of weights that could"
        " divide their sums; put a convolution or a linear layer between$",
    ),
    "keeps too little": (
        lambda: parts_of(nn.Sequential(nn.Linear(3, 2), leaky(0.9)), 3), "xylo",
        r"^layer '1' \(Leaky\): a step keeps 0 of its current or potential, and Xylo's neurons keep"
        " more than 0.368 of both; train a Synaptic with larger alpha and beta$",
    ),
    "loop": (
        lambda: parts_of(nn.Sequential(nn.Linear(3, 2), synaptic(reset="subtract")), 3), "xylo",
        r"^layer '1' \(Synaptic\): what arrives through '1.reset2?' is late or comes back, and"
        " rockpool runs no loops; train without recurrence, and mind that snnTorch's reset by"
        " subtraction is a loop where neurons leak$",
    ),
    "convolution": (
        lambda: parts_of(nn.Sequential(nn.Conv2d(1, 2, 3), synaptic()), 1, 4, 4), "xylo",
        r"^layer '1' \(Synaptic\): Xylo's neurons take spikes through dense weights of their own;"
        " put a Linear between '0' and it$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said(name: str, tmp_path: Path) -> None:
    parts, target, says = REFUSED[name]
    with pytest.raises(ValueError, match=says):
        write_parts(parts(), tmp_path / "net.nir", dt_s=DT_S, target=target)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_reader(tmp_path: Path) -> None:
    says = r"^a file for 'teapot' was asked for; allowed are nir, speck, xylo, spinnaker2$"
    with pytest.raises(ValueError, match=says):
        write_parts(parts_of(pooled(), 2, 4, 4), tmp_path / "n", dt_s=DT_S, target="teapot")


def test_the_rule_of_a_file_is_its_own(tmp_path: Path, nets: Any) -> None:
    write_parts(nets.currents(0), tmp_path / "net.nir", dt_s=DT_S, target="xylo")
    with pytest.raises(ValueError, match="the rule 'euler' would change them; leave it out"):
        read(tmp_path / "net.nir", rule="euler")
    with pytest.raises(ValueError, match=r"^rule is ''; allowed are 'euler', 'exact'$"):
        read(tmp_path / "net.nir", rule="")
    with h5py.File(tmp_path / "net.nir", "r+") as file:
        place = "node/metadata/spikeport"
        said = file[place][()].replace(b'"exact"', b'"magic"')
        del file[place]
        file[place] = said
    with pytest.raises(ValueError, match=r"metadata 'spikeport' of 'graph' are damaged \(rule\)"):
        read(tmp_path / "net.nir")
