"""Files for other chips, loaded by the public readers of those chips, which run them beside ours.

Where `handover.check` finds no error the reader must fire as spikeport does, every neuron in every
step. Where the readers differ from NIR, or stop, the difference is pinned, so that a change of
theirs shows. sinabs 2.0.3 and 3.1.3 and rockpool 3.1.0 pass.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import numpy as np
import pytest
import snntorch
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from spikeport import handover
from spikeport.export import compile
from spikeport.export.agreement import agreement
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write, write_parts
from spikeport.sim import bundle, engine, floating
from spikeport.sim.net import FloatNet, Input

NETS = 40
DT_S = 1e-3
Spikes = dict[str, NDArray[np.float64]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated"),
    # Python warns of a reader's own strings when it parses its files for the first time.
    pytest.mark.filterwarnings("ignore::SyntaxWarning"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sinabs() -> Any:
    pytest.importorskip(
        "sinabs", reason="sinabs is not installed; pip install --no-deps sinabs pbr brings it"
    )
    importlib.import_module("sinabs.nir")
    return importlib.import_module("sinabs")


@pytest.fixture
def rockpool() -> Any:
    pytest.importorskip(
        "rockpool", reason="rockpool is not installed; it belongs to the extra 'readers'"
    )
    return importlib.import_module("rockpool.nn.modules.torch.nir")


@pytest.fixture
def nets(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(Path(__file__).parent / "reader_nets.py")


def loaded(target: str, *, errors: Collection[str] = ()) -> Any:
    """The network in net.nir as the code that the check gives loads it; errors: the rules that it
    must break."""
    found = handover.check(Path("net.nir"), target=target)
    assert {i["rule"] for i in found["issues"] if i["severity"] == "error"} == set(errors)
    scope: dict[str, Any] = {}
    exec(found["load"], scope)
    return scope["net"]


def recorded(module: Any, kind: Any) -> Spikes:
    """Fills itself, by layer, with what layers of `kind` give when `module` runs."""
    spikes: Spikes = {}
    for name, layer in module.named_modules():
        if isinstance(layer, kind):

            def keep(_: Any, __: Any, out: Any, name: str = name) -> None:
                out = out[0] if isinstance(out, tuple) else out
                spikes[name] = out.detach().numpy().astype(np.float64)

            layer.register_forward_hook(keep)
    return spikes


def by_sinabs(sinabs: Any, module: Any, net: FloatNet, x: NDArray[np.float64]) -> Spikes:
    """Spikes [T, 1, n] of every population for one sample x [T, 1, *shape]."""
    spikes = recorded(module, sinabs.layers.LIF)
    with torch.no_grad():
        module(torch.tensor(x[:, 0], dtype=torch.float32))
    return named(net, [s.reshape(len(x), 1, -1) for s in spikes.values()])


def by_rockpool(rockpool: Any, module: Any, net: FloatNet, x: NDArray[np.float64]) -> Spikes:
    """Spikes [T, B, n] of every population."""
    spikes = recorded(module, rockpool.LIFTorch)
    with torch.no_grad():
        module(torch.tensor(x, dtype=torch.float32).transpose(0, 1))
    return named(net, [s.swapaxes(0, 1) for s in spikes.values()])


def named(net: FloatNet, spikes: list[NDArray[np.float64]]) -> Spikes:
    names = [p.name for p in net.populations if not p.name.endswith(".bias")]
    return dict(zip(names, spikes, strict=True))


def differing(trace: Any, spikes: Spikes) -> int:
    return sum(int((trace[name].spikes != found).sum()) for name, found in spikes.items())


# What agrees.


def test_speck_fires_as_trained(sinabs: Any, nets: Any) -> None:
    """Exact numbers, so that not one spike may differ; nor of the chip's integers."""
    compared = fired = mapped = 0
    for seed in range(NETS):
        module, source = nets.exact_if(seed)
        write(module, "net.nir", dt_s=DT_S, input=source, steps=nets.STEPS, target="speck")
        net, x = read("net.nir"), nets.spikes(seed, source.shape)
        spikes = by_sinabs(sinabs, loaded("speck"), net, x)
        trace = floating.run(net, x)
        assert differing(trace, spikes) == 0
        plain = compile(module, target="lava", input=source, steps=nets.STEPS)
        assert differing(floating.run(plain.float_net, x), spikes) == 0
        compared += sum(s.size for s in spikes.values())
        fired += sum(int(s.sum()) for s in spikes.values())
        mapped += len(source.shape) == 3
    assert 10 < mapped < NETS - 5
    assert 0.02 < fired / compared < 0.6
    assert compared > 10_000


def test_the_chips_integers_fire_as_sinabs_does(sinabs: Any) -> None:
    """Weights on an 8-bit grid round to themselves: from torch to Loihi's integers and, through
    NIR, to sinabs, and not one spike differs."""
    rng = np.random.default_rng(3)
    module = nn.Sequential(nn.Linear(12, 10, bias=False), snntorch.Leaky(
        1.0, threshold=1.5, reset_mechanism="zero", init_hidden=True
    ))  # fmt: skip
    with torch.no_grad():
        w = rng.integers(-60, 128, (10, 12))
        w[0, 0] = 127
        module[0].weight.copy_(torch.tensor(w / 127))
    compiled = compile(module.eval(), target="loihi", input=Input(shape=(12,)), steps=20)
    write(module, "net.nir", dt_s=DT_S, input=Input(shape=(12,)), steps=20, target="speck")
    x = (rng.random((20, 1, 12)) < 0.3).astype(np.int64)
    spikes = by_sinabs(sinabs, loaded("speck"), compiled.float_net, x.astype(float))
    trace = engine.run(compiled.net, x)
    assert differing(trace, spikes) == 0
    assert spikes["1"].sum() > 20


def test_trained_digits_on_speck(sinabs: Any) -> None:
    """A network that was trained in snnTorch predicts in sinabs what it predicts here."""
    images, labels = load_digits(return_X_y=True)
    frames = torch.tensor(images > 6).float()
    torch.manual_seed(0)

    def layer() -> snntorch.Leaky:
        return snntorch.Leaky(1.0, threshold=1.0, init_hidden=True, reset_mechanism="subtract")

    module = nn.Sequential(nn.Linear(64, 32), layer(), nn.Linear(32, 10), layer())
    adam = torch.optim.Adam(module.parameters(), 5e-3)
    for _ in range(40):
        for part in module:
            if isinstance(part, snntorch.Leaky):
                part.reset_hidden()
        counts = torch.stack([module(frames[:1000]) for _ in range(6)]).sum(0)
        loss = nn.functional.cross_entropy(counts, torch.tensor(labels[:1000]))
        adam.zero_grad()
        loss.backward()
        adam.step()
    write(module.eval(), "net.nir", dt_s=DT_S, input=Input(shape=(64,)), steps=6, target="speck")
    net, right, differences = read("net.nir"), 0, 0
    for image, label in zip(frames[1000:1100], labels[1000:1100], strict=True):
        x = image.double().numpy()[None, None].repeat(6, 0)
        spikes = by_sinabs(sinabs, loaded("speck"), net, x)
        differences += len(agreement(net, x, spikes).differences)
        right += int(spikes[net.readout.population].sum((0, 1)).argmax() == label)
    assert differences == 0
    assert right > 75


CONFIG = """
[data]
name = "digits"
[encode]
name = "poisson"
steps = 5
[model]
name = "conv"
channels = [3, 4]
keep_v = 1.0
readout = "count"
[train]
epochs = 1
lr = 0.02
seed = 0
device = "cpu"
[quantise]
target = "loihi2"
epochs = 1
"""


def test_a_bundles_vectors_are_what_speck_fires(sinabs: Any, cli: Any) -> None:
    """From a configuration to both chips: sinabs gives the spikes of Loihi's integers, which meet
    their thresholds often, because the file holds these integers."""
    Path("tiny.toml").write_text(CONFIG, "utf-8")
    for line in ("train tiny.toml --out run", "export run --target speck --out .",
                 "export run --target loihi2 --vectors 6 --out bundle"):  # fmt: skip
        assert cli.spikeport(*line.split()).code == 0
    made = bundle.read("bundle")
    vectors, net = made.vectors, read("net.nir")
    assert [p.v_th % 1 for p in net.populations] == [0] * 3
    for sample in range(6):
        x = vectors.inputs[:, sample : sample + 1].astype(float)
        for name, spikes in by_sinabs(sinabs, loaded("speck"), net, x).items():
            assert np.array_equal(spikes, vectors.spikes[name][:, sample : sample + 1])
    assert sum(int(s.sum()) for s in vectors.spikes.values()) > 100
    trace: Any = engine.run(made.net, vectors.inputs, record=True)
    assert any((trace[p.name].v == 64 * p.v_th).any() for p in made.net.populations)


def test_xylo_fires_as_written(rockpool: Any, nets: Any) -> None:
    compared = ties = 0
    for seed in range(NETS):
        parts = nets.currents(seed)
        write_parts(parts, "net.nir", dt_s=DT_S, target="xylo")
        net, x = read("net.nir"), nets.spikes(seed, parts.input.shape, samples=3)
        biased = any(part.bias.any() for part in parts.parts.values() if hasattr(part, "bias"))
        module = loaded("xylo", errors={"biases"} if biased else ())  # it runs them all the same
        spikes = by_rockpool(rockpool, module, net, x)
        found = agreement(net, x, spikes)
        assert found.differences == ()
        compared, ties = compared + found.compared, ties + found.ties
        write_parts(parts, "plain.nir", dt_s=DT_S)
        assert agreement(read("plain.nir"), x, spikes).differences == ()
    assert compared > 40_000
    assert ties <= 1


def test_xylo_fires_as_snntorch_does(rockpool: Any) -> None:
    """Synaptic neurons that keep all of their potential reset in snnTorch as in rockpool."""
    torch.manual_seed(5)

    def layer() -> snntorch.Synaptic:
        return snntorch.Synaptic(
            0.75, 1.0, threshold=1.0, reset_mechanism="subtract", init_hidden=True
        )

    module = nn.Sequential(
        nn.Linear(8, 12, bias=False), layer(), nn.Linear(12, 5, bias=False), layer()
    ).eval()
    write(module, "net.nir", dt_s=DT_S, input=Input(shape=(8,)), steps=30, target="xylo")
    net = read("net.nir")
    x = (np.random.default_rng(5).random((30, 20, 8)) < 0.5).astype(float)
    spikes = by_rockpool(rockpool, loaded("xylo"), net, x)
    assert agreement(net, x, spikes).differences == ()
    assert all(s.sum() > 50 for s in spikes.values())


# The rules that were read in the readers' sources, held to the sources.


@pytest.fixture
def mapper(rockpool: Any) -> Iterator[Any]:
    """rockpool's mapper without the packages around it, which import samna, the chip's driver."""
    import rockpool as package

    folder, name = Path(package.__file__).parent / "devices", "rockpool.devices"
    before = dict(sys.modules)
    for part in ("", "xylo", "syns61201"):
        name, folder = (f"{name}.{part}", folder / part) if part else (name, folder)
        sys.modules[name] = empty = ModuleType(name)
        empty.__path__ = [str(folder)]
    yield importlib.import_module(f"{name}.xylo_mapper")
    for added in set(sys.modules) - set(before):
        if added.startswith("rockpool.devices"):
            del sys.modules[added]


@pytest.mark.parametrize(
    ("widths", "bias", "slow"),
    [((4, 6, 3), False, 0.0), ((4, 6, 3), True, 0.0), ((17, 6, 3), False, 0.0),
     ((4, 6, 9), False, 0.0), ((4, 3), False, 0.0), ((4, 1001, 3), False, 0.0),
     ((4, 6, 3), False, 0.5)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rules_of_xylo_are_rockpools(
    rockpool: Any, mapper: Any, widths: tuple[int, ...], bias: bool, slow: float
) -> None:
    """rockpool's mapper stops, or warns, where the check finds an error, and nowhere else; slow:
    how much longer the second layer takes a step to be."""
    layers: list[nn.Module] = []
    for n_in, n in pairwise(widths):
        layers += [
            nn.Linear(n_in, n, bias=bias),
            snntorch.Synaptic(0.75, 1.0, reset_mechanism="subtract", init_hidden=True),
        ]
    module = nn.Sequential(*layers).eval()
    graph = write(
        module, "net.nir", dt_s=DT_S, input=Input(shape=widths[:1]), steps=4, target="xylo"
    )
    if slow:
        node: Any = graph.nodes["3"]
        node.r *= 1 + slow
        nir.write("net.nir", graph)
    found = handover.check(Path("net.nir"), target="xylo")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        stopped = refuses(mapper, rockpool.from_nir(nir.read("net.nir")).as_graph())
    stopped = stopped or any("Xylo" in str(w.message) for w in warned)
    assert found["passed"] is not stopped


def refuses(mapper: Any, graph: Any) -> bool:
    try:
        mapper.mapper(graph)
    except ValueError:
        return True
    return False


def test_rules_of_speck_are_sinabs(sinabs: Any) -> None:
    """sinabs' own memory check says yes to what ours says yes to, on random convolutions."""
    validate = pytest.importorskip(
        "sinabs.validate_memory_speck", reason="this sinabs is too old to check memory"
    )
    rng, verdicts = np.random.default_rng(11), set()
    for _ in range(400):
        channels, features = (int(2 ** rng.uniform(0, 10.1)) for _ in "ab")
        kernel = int(rng.choice([1, 2, 3, 5, 8, 16, 17]))
        stride, padding = int(rng.choice([1, 2, 3, 4])), int(rng.integers(0, 3))
        side = int(rng.choice([8, 16, 20, 32, 64]))
        if side + 2 * padding < kernel or channels * features * kernel**2 > 300_000:
            continue
        out = (side + 2 * padding - kernel) // stride + 1
        if (side + 2 * padding - kernel) % stride:
            continue  # theirs takes fractions of a neuron for more of them
        graph = convolution(channels, features, kernel, stride, padding, side, out)
        nir.write("net.nir", graph)
        ours = handover.check(Path("net.nir"), target="speck")["passed"]
        try:
            check = validate.ValidateMapping(
                channels, features, (kernel, kernel), (stride, stride), (padding, padding),
                (side, side),
            )  # fmt: skip
            theirs = not any(check.calculate_total_memory()[2:])
        except Exception:
            theirs = False
        assert ours is theirs, (channels, features, kernel, stride, padding, side)
        verdicts.add(ours)
    assert verdicts == {True, False}


def convolution(
    channels: int, features: int, kernel: int, stride: int, padding: int, side: int, out: int
) -> Any:
    shape = np.array([channels, side, side])
    ones = np.ones((features, out, out), np.float32)
    nodes = {
        "input": nir.Input(input_type={"input": shape}),
        "conv": nir.Conv2d(
            input_shape=(side, side), stride=stride, padding=padding, dilation=1, groups=1,
            weight=np.ones((features, channels, kernel, kernel), np.float32),
            bias=np.zeros(features, np.float32),
        ),
        "if": nir.IF(r=ones, v_threshold=ones, v_reset=0 * ones),
        "output": nir.Output(output_type={"output": np.array(ones.shape)}),
    }  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "conv"), ("conv", "if"), ("if", "output")])


# What differs: pinned, as the check says it.


def one_neuron(node: Any, w: float = 1.0) -> Any:
    nodes = {
        "input": nir.Input(input_type={"input": np.array([1])}),
        "w": nir.Affine(weight=np.array([[w]]), bias=np.zeros(1)),
        "n": node,
        "output": nir.Output(output_type={"output": np.array([1])}),
    }
    return nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "output")])


def fires(module: Any, x: list[float]) -> list[float]:
    """What one neuron sends, step by step."""
    with torch.no_grad():
        out = module(torch.tensor(x)[:, None])
    return [float(v) for v in (out[0] if isinstance(out, tuple) else out).reshape(-1)]


def integrator(v_th: float = 1.0) -> Any:
    return nir.IF(r=np.ones(1), v_threshold=np.full(1, v_th), v_reset=np.zeros(1))


def test_sinabs_fires_several_times_a_step(sinabs: Any) -> None:
    """Left as it is loaded: 3.5 gives three spikes and leaves 0.5, -5 stops at -1 (the floor is
    the threshold's negative), and a threshold that is met is a spike. NIR says v > v_threshold."""
    module = sinabs.nir.from_nir(one_neuron(integrator()), batch_size=1)
    assert fires(module, [3.5, 0.25, 0.25, -5.0, 2.0]) == [3, 0, 1, 0, 1]


def test_sinabs_takes_tau_in_steps(sinabs: Any) -> None:
    """A tau of 20 ms is 0.02 steps, after which nothing is left; r is not read."""
    one = np.ones(1)
    node = nir.LIF(tau=0.02 * one, r=20 * one, v_leak=0 * one, v_threshold=10 * one)
    layer = sinabs.nir.from_nir(one_neuron(node), batch_size=1).get_submodule("n")
    assert float(layer.alpha_mem_calculated) == pytest.approx(np.exp(-50), rel=1e-3)
    assert not layer.norm_input


def test_sinabs_decays_by_the_exponential(sinabs: Any) -> None:
    """Even with steps of a second: what keeps 0.9 here keeps exp(-0.1) there."""
    module = nn.Sequential(nn.Linear(3, 2), snntorch.Leaky(0.9, init_hidden=True, threshold=1.0,
                                                           reset_mechanism="zero"))  # fmt: skip
    write(module.eval(), "net.nir", dt_s=1.0, input=Input(shape=(3,)), steps=5)
    layer = sinabs.nir.from_nir(nir.read("net.nir"), batch_size=1).get_submodule("1")
    assert layer.alpha_mem_calculated.tolist() == pytest.approx([np.exp(-0.1)] * 2, rel=1e-5)


def test_sinabs_stops_at_maps_of_lif(sinabs: Any) -> None:
    """Its test of v_leak asks for the truth of a whole row."""
    module = nn.Sequential(nn.Conv2d(1, 2, 3), snntorch.Leaky(0.9, init_hidden=True,
                                                              reset_mechanism="zero"))  # fmt: skip
    write(module.eval(), "net.nir", dt_s=1.0, input=Input(shape=(1, 5, 5)), steps=5)
    with pytest.raises(ValueError, match="truth value of an array"):
        sinabs.nir.from_nir(nir.read("net.nir"), batch_size=1)


def leaky() -> Any:
    return snntorch.Leaky(1.0, init_hidden=True, reset_mechanism="zero")


def test_sinabs_drops_a_linear(sinabs: Any, nets: Any) -> None:
    """A Linear without a bias is gone without a word where nothing else is unknown, and a network
    with other spikes is left; files for speck have an Affine."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(6, 6, bias=False), leaky()).eval()
    x = nets.spikes(1, (6,))
    for target, same in (("nir", False), ("speck", True)):
        write(module, "net.nir", dt_s=DT_S, input=Input(shape=(6,)), steps=5, target=target)
        found = loaded("speck", errors=set() if same else {"types"})
        assert (nn.Linear in [type(part) for part in found.modules()]) is same
        net = read("net.nir")
        spikes = by_sinabs(sinabs, found, net, x)
        assert (differing(floating.run(net, x), spikes) == 0) is same


def test_sinabs_stops_at_two_that_it_does_not_know(sinabs: Any) -> None:
    """With an AvgPool2d and a Linear its graph looks for the first in vain."""
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), leaky(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(8, 3, bias=False), leaky(),
    ).eval()  # fmt: skip
    write(module, "net.nir", dt_s=DT_S, input=Input(shape=(1, 4, 4)), steps=5)
    with pytest.raises(KeyError, match="2"):
        sinabs.nir.from_nir(nir.read("net.nir"), batch_size=1)


def synaptic(**changed: float) -> Any:
    values = {"tau_mem": 4e-3, "tau_syn": 2e-3, "r": 3.0, "v_leak": 0.0, "v_threshold": 1.0,
              "w_in": 1.0} | changed  # fmt: skip
    return nir.CubaLIF(**{name: np.full(1, value) for name, value in values.items()})


def test_rockpool_stops_at_lif(rockpool: Any) -> None:
    """It asks a LIF for tau_mem, which is called tau."""
    one = np.ones(1)
    node = nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one)
    with pytest.raises(AttributeError, match="tau_mem"):
        rockpool.from_nir(one_neuron(node))


def test_rockpool_finds_its_step_in_r(rockpool: Any, nets: Any) -> None:
    """dt = tau_mem / (1 + r): right in a file for xylo, short by dt / tau in a plain one."""
    parts = nets.currents(1)
    for target, expected in (
        ("xylo", [DT_S for _ in parts.populations]),
        ("nir", [float((DT_S / (2 - p.keep_v)).min()) for p in parts.populations]),
    ):
        write_parts(parts, "net.nir", dt_s=DT_S, target=target)
        module = rockpool.from_nir(nir.read("net.nir"))
        found = [m.dt for m in module.modules() if isinstance(m, rockpool.LIFTorch)]
        assert found == pytest.approx(expected, rel=1e-5)


def test_rockpool_reads_no_w_in(rockpool: Any) -> None:
    x = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    one, ten = (rockpool.from_nir(one_neuron(synaptic(w_in=w), w=0.9)) for w in (1.0, 10.0))
    assert fires(one, x) == fires(ten, x)


def test_nirtorch_leaves_out_what_comes_later(rockpool: Any, nets: Any) -> None:
    """A skip connection reaches no neuron where the way through the layer between runs first, and
    what it carries is given back instead of spikes."""
    graph = write_parts(nets.currents(2), "net.nir", dt_s=DT_S, target="xylo")
    n_in, n = graph.nodes["w0"].weight.shape[1], graph.nodes["w1"].weight.shape[0]
    x = torch.tensor(nets.spikes(2, (n_in,)), dtype=torch.float32).transpose(0, 1)
    spikes: list[Spikes] = []
    for errors in ((), ("chain",)):
        module = loaded("xylo", errors=errors)
        spikes.append(recorded(module, rockpool.LIFTorch))
        with torch.no_grad():
            out, _ = module(x)
        graph.nodes["skip"] = nir.Linear(weight=np.full((n, n_in), 5.0))
        graph.edges += [("input", "skip"), ("skip", "n1")]
        nir.write("net.nir", graph)
    before, after = spikes
    assert all(np.array_equal(after[name], found) and found.any() for name, found in before.items())
    assert torch.equal(out, 5 * x.sum(2, keepdim=True).expand_as(out))


def test_rockpool_maps_no_other_names(rockpool: Any) -> None:
    graph = one_neuron(synaptic())
    graph.nodes["in"] = graph.nodes.pop("input")
    graph.edges[0] = ("in", "w")
    with pytest.raises(AttributeError, match="'Identity' object has no attribute 'as_graph'"):
        rockpool.from_nir(graph).as_graph()


def test_rockpool_divides_by_a_threshold_of_nothing(rockpool: Any) -> None:
    """The first spike is infinitely many less infinitely many."""
    module = rockpool.from_nir(one_neuron(synaptic(v_threshold=0.0)))
    module.n.max_spikes_per_dt = torch.tensor(1.0)
    assert np.isnan(fires(module, [1.0])).all()


def test_rockpool_lets_the_current_decay_at_once(rockpool: Any) -> None:
    """One spike of weight 1 arrives as exp(-dt / tau_syn) = exp(-1/2), then adds up: it passes a
    threshold of 0.6 at once and one of 0.61 in the step after it, two of 0.3 twice in one step."""
    for v_th, expected in ((0.6, [1, 0]), (0.61, [0, 1]), (0.3, [2, 1])):
        module = rockpool.from_nir(one_neuron(synaptic(v_threshold=v_th)))
        assert fires(module, [1.0, 0.0]) == expected


def test_rockpool_fires_at_the_threshold(rockpool: Any) -> None:
    """NIR says above it; without integers in the file potentials hardly ever meet it."""
    for v_th, expected in ((1.0, 1.0), (1.0 + 2.0**-23, 0.0)):
        node = synaptic(v_threshold=v_th, tau_syn=1e9)  # nothing is lost: the potential is 1
        assert fires(rockpool.from_nir(one_neuron(node)), [1.0]) == [expected]


def test_rockpool_adds_all_of_v_leak(rockpool: Any) -> None:
    """v_leak arrives in every step, not the share of it that NIR's equation lets in."""
    module = rockpool.from_nir(one_neuron(synaptic(v_leak=1.5)))
    assert fires(module, [0.0]) == [1]


def test_rockpool_always_subtracts(rockpool: Any, nets: Any) -> None:
    parts = nets.currents(2, reset="zero")
    write_parts(parts, "net.nir", dt_s=DT_S, target="xylo")
    module = loaded("xylo", errors={"resets"})
    net, x = read("net.nir"), nets.spikes(2, parts.input.shape, samples=3)
    assert differing(floating.run(net, x), by_rockpool(rockpool, module, net, x)) > 0
