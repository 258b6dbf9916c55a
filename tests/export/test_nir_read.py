"""What the reader makes of each NIR primitive, and every sentence with which it refuses one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from spikeport.export import nir_paths
from spikeport.export.nir_read import read
from spikeport.sim import floating
from spikeport.sim.net import FloatNet, Input
from spikeport.sim.synapse import FloatConv2d, FloatDense


def vector(*values: float) -> Any:
    return np.array(values, dtype=float)


def lif(n: int = 1, **rest: Any) -> Any:
    """tau 4 ms, r 1: a step of 1 ms keeps 3/4 and has a gain of 1/4."""
    one = np.ones(n)
    return nir.LIF(**{"tau": 4e-3 * one, "r": one, "v_leak": 0 * one, "v_threshold": one, **rest})


def cubalif(n: int = 1) -> Any:
    one = np.ones(n)
    taus = {"tau_syn": 2e-3 * one, "tau_mem": 4e-3 * one}
    return nir.CubaLIF(**taus, r=4 * one, v_leak=0 * one, v_threshold=one, w_in=2 * one)


def integrate(n: int = 1, v_th: float = 1.0) -> Any:
    return nir.IF(r=np.ones(n), v_threshold=np.full(n, v_th))


def port(kind: str, *shape: int) -> Any:
    key = kind.lower()
    return getattr(nir, kind)(**{f"{key}_type": {key: np.array(shape)}})


def row(path: Path, shape: tuple[int, ...], **nodes: Any) -> Path:
    """A file with the nodes one after the other between an Input and an Output."""
    whole = {"input": port("Input", *shape), **nodes, "output": port("Output", 1)}
    return graph(path, whole, *pairwise(whole))


def graph(path: Path, nodes: dict[str, Any], *edges: tuple[str, str]) -> Path:
    nir.write(path, nir.NIRGraph(nodes, list(edges), type_check=False))
    return path


def loop(path: Path, *edges: tuple[str, str], **nodes: Any) -> Path:
    """input -> fc -> a -> output and more."""
    whole = {
        "input": port("Input", 2),
        "fc": nir.Affine(weight=np.eye(2), bias=vector(0.25, 0.5)),
        "a": integrate(2),
        "output": port("Output", 2),
        **nodes,
    }
    return graph(path, whole, ("input", "fc"), ("fc", "a"), ("a", "output"), *edges)


def wiring(net: FloatNet) -> list[tuple[str, str, int]]:
    return [(p.source, p.target, p.delay) for p in net.projections]


def dense(net: FloatNet, index: int = 0) -> Any:
    synapse = net.projections[index].synapse
    assert isinstance(synapse, FloatDense)
    return synapse.w


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "g.nir"


# Neurons.


def test_lif_by_either_rule(path: Path) -> None:
    rest = {"r": vector(2, 2), "v_leak": vector(0.5, 0.25), "tau": vector(4e-3, 8e-3)}
    row(path, (2,), lif=lif(2, **rest))
    euler = read(path, dt_s=1e-3, steps=5)
    assert euler.populations[0].keep_v == pytest.approx([0.75, 0.875])
    assert euler.populations[0].bias == pytest.approx([0.125, 0.03125])
    assert dense(euler) == pytest.approx(np.diag([0.5, 0.25]))
    exact = read(path, dt_s=1e-3, steps=5, rule="exact")
    keep = np.exp([-0.25, -0.125])
    assert exact.populations[0].keep_v == pytest.approx(keep)
    assert exact.populations[0].bias == pytest.approx([0.5, 0.25] * (1 - keep))
    assert dense(exact) == pytest.approx(np.diag(2 * (1 - keep)))


def test_an_if_divides_its_threshold_by_r(path: Path) -> None:
    rest = {"r": vector(2, 4), "v_threshold": vector(1, 1), "v_reset": vector(-1, 0)}
    row(path, (2,), a=nir.IF(**rest))
    p = read(path, steps=5).populations[0]
    assert p.v_th.tolist() == [1.0, 0.25]
    assert p.v_init.tolist() == [0.5, 0.0]  # 0 counted from v_reset, over r
    assert (p.keep_u, p.keep_v) == (0.0, 1.0)
    assert dense(read(path, steps=5)).tolist() == [[1, 0], [0, 1]]


def test_v_reset_shifts_potentials(path: Path) -> None:
    rest = {"v_reset": vector(-0.5, 0.25), "v_leak": vector(0.5, 0.5)}
    row(path, (2,), lif=lif(2, **rest))
    p = read(path, dt_s=1e-3, steps=3).populations[0]
    assert p.v_th.tolist() == [1.5, 0.75]
    assert p.v_init.tolist() == [0.5, -0.25]
    assert p.bias.tolist() == [0.25, 0.0625]
    assert read(path, dt_s=1e-3, steps=3, start="leak").populations[0].v_init.tolist() == [1, 0.25]


def test_a_threshold_has_no_memory(path: Path) -> None:
    row(path, (3,), t=nir.Threshold(vector(0.5, 0.0, -0.5)))
    net = read(path, steps=2, input=Input(shape=(3,), kind="graded", payload_bits=8))
    p = net.populations[0]
    assert (p.keep_u, p.keep_v, p.reset) == (0, 0, "zero")
    x = np.array([[[0.5, 0.0, -0.5]], [[0.6, 0.1, -0.4]]])
    assert floating.run(net, x)["t"].spikes[:, 0].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert read(path, steps=2, reset="subtract").populations[0].reset == "zero"


def test_readouts_without_spikes(path: Path) -> None:
    one = vector(1)
    row(path, (1,), last=nir.I(r=2 * one))
    assert dense(read(path, steps=3)) == 2
    taus = {"tau_syn": 2e-3 * one, "tau_mem": 4e-3 * one}
    row(path, (1,), last=nir.CubaLI(**taus, r=one, v_leak=0.5 * one, w_in=3 * one))
    net = read(path, dt_s=1e-3, steps=3, reset="subtract")
    p = net.populations[0]
    assert (p.keep_u, p.keep_v, p.bias, p.v_th) == (0.5, 0.75, 0.125, floating.NEVER)
    assert (dense(net), p.reset) == (0.375, "zero")
    assert net.readout.kind == "last_v"
    assert read(path, dt_s=1e-3, steps=3, readout="sum_v").readout.kind == "sum_v"


def test_a_readout_of_potentials_keeps_their_unit(path: Path) -> None:
    row(path, (1,), a=nir.IF(r=vector(2), v_threshold=vector(3)))
    assert dense(read(path, steps=3, readout="last_v")) == 2
    assert read(path, steps=3, readout="last_v").populations[0].v_th == 3


def test_a_bias_before_a_current_comes_from_a_source(path: Path) -> None:
    row(path, (1,), fc=nir.Affine(vector(1)[:, None], vector(0.125)), a=cubalif())
    net = read(path, dt_s=1e-3, steps=4)
    source, a = net.populations
    assert (source.name, source.shape, source.bias, source.v_th) == ("a.bias", (1,), 2, 1)
    assert (a.bias, wiring(net)) == (0, [("input", "a", 0), ("a.bias", "a", 0)])
    trace = floating.run(net, np.zeros((4, 1, 1)))
    assert trace["a.bias"].spikes.tolist() == [[[1]]] * 4
    u = trace["a"].u
    assert u is not None
    assert u.reshape(-1) == pytest.approx([0.125, 0.1875, 0.21875, 0.234375])


# Linear nodes.


def test_gains_fold_into_what_stands_beside_them(path: Path) -> None:
    w = np.arange(6.0).reshape(2, 3)
    row(
        path, (3,), s=nir.Scale(vector(1, 2, 3)), fc=nir.Linear(w), t=nir.Scale(vector(5, 7)),
        a=integrate(2),
    )  # fmt: skip
    net = read(path, steps=2)
    assert dense(net).tolist() == (w * [[5], [7]] * [1, 2, 3]).tolist()
    conv = nir.Conv2d((4, 4), np.ones((2, 2, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    each = np.repeat(vector(2, 3), 16).reshape(2, 4, 4)
    row(path, (2, 4, 4), s=nir.Scale(each), c=conv, a=integrate(1))
    synapse = read(path, steps=2).projections[0].synapse
    assert isinstance(synapse, FloatConv2d)  # one gain a channel: still a convolution
    assert synapse.w[1, :, 2, 1].tolist() == [2, 3]
    each[1, 2, 3] = 9
    row(path, (2, 4, 4), s=nir.Scale(each), c=conv, a=integrate(1))
    assert dense(read(path, steps=2)).max() == 9


def test_a_gain_alone_is_a_synapse(path: Path) -> None:
    row(path, (2,), s=nir.Scale(vector(2, 3)), a=integrate(2))
    assert dense(read(path, steps=2)).tolist() == [[2, 0], [0, 3]]


def test_conv1d_is_a_convolution_of_height_1(path: Path) -> None:
    w = np.arange(12.0).reshape(2, 2, 3)
    row(path, (2, 9), c=nir.Conv1d(9, w, 2, 1, 2, 1, vector(1, 2)), a=integrate(1))
    net = read(path, steps=2)
    assert (net.input.shape, net.populations[0].shape) == ((2, 1, 9), (2, 1, 4))
    synapse = net.projections[0].synapse
    assert isinstance(synapse, FloatConv2d)
    g = synapse.geometry
    assert (g.stride, g.padding, g.dilation) == ((1, 2), (0, 1), (1, 2))
    assert np.array_equal(synapse.w[:, :, 0], w)
    assert net.populations[0].bias.tolist() == [1] * 4 + [2] * 4


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (0, 2), (1, 2), (-3, -1), (0, 1)])
def test_a_flatten_moves_nothing(path: Path, start: int, end: int) -> None:
    flat = nir.Flatten({"input": np.array([2, 1, 3])}, start, end)
    w = np.arange(12.0).reshape(2, 6)
    row(path, (2, 1, 3), f=flat, fc=nir.Linear(w), a=integrate(2))
    assert np.array_equal(dense(read(path, steps=2)), w)


def test_shapes_with_a_batch_of_one(path: Path) -> None:
    row(path, (1, 3), fc=nir.Linear(np.ones((2, 3))), a=integrate(2))
    assert read(path, steps=2).input.shape == (1, 1, 3)
    conv = nir.Conv2d((4, 4), np.ones((2, 3, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    row(path, (1, 3, 4, 4), c=conv, a=integrate(1))
    assert read(path, steps=2).input.shape == (3, 4, 4)


def test_a_convolution_after_a_reshape_becomes_a_matrix(path: Path) -> None:
    rng = np.random.default_rng(0)
    first = nir.Conv2d((3, 4), rng.normal(size=(2, 1, 2, 2)), 1, 0, 1, 1, vector(0.5, 1))
    flat = nir.Flatten({"input": np.array([2, 2, 3])}, 1, 2)
    second = nir.Conv1d(6, rng.normal(size=(2, 2, 3)), 1, 0, 1, 1, np.zeros(2))
    row(path, (1, 3, 4), c=first, f=flat, d=second, a=integrate(1, v_th=1e3))
    net = read(path, steps=1, input=Input(shape=(1, 3, 4), kind="graded", payload_bits=8))
    x = rng.random((1, 1, 1, 3, 4))
    between = floating.conv_sum(FloatConv2d(w=first.weight), x[0]).reshape(2, 6)
    between += vector(0.5, 1)[:, None]
    expected = [
        sum(second.weight[o, i] @ between[i, k : k + 3] for i in (0, 1))
        for o in (0, 1)
        for k in range(4)
    ]
    assert floating.run(net, x)["a"].v_last[0] == pytest.approx(expected)


# Branches, loops, delays, graphs in graphs.


def test_paths_add_up_and_skips_need_no_delay(path: Path) -> None:
    graph(
        path,
        {
            "input": port("Input", 2),
            "w1": nir.Linear(np.eye(2) * 2),
            "n1": lif(2),
            "w2": nir.Affine(np.ones((2, 2)), vector(0.25, 0.5)),
            "w3": nir.Affine(np.eye(2), vector(0.25, 0.0)),
            "skip": nir.Linear(np.eye(2)[::-1].copy()),
            "sum": nir.Scale(vector(4, 4)),
            "n2": lif(2, v_threshold=vector(1, 2)),
            "output": port("Output", 2),
        },
        ("input", "w1"), ("w1", "n1"), ("n1", "w2"), ("n1", "w3"), ("input", "skip"),
        ("w2", "sum"), ("w3", "sum"), ("skip", "sum"), ("sum", "n2"), ("n2", "output"),
    )  # fmt: skip
    net = read(path, dt_s=1e-3, steps=3)
    assert wiring(net) == [("input", "n1", 0), ("n1", "n2", 0), ("input", "n2", 0)]
    assert dense(net, 1).tolist() == [[2, 1], [1, 2]]  # two dense paths are one
    assert dense(net, 2).tolist() == [[0, 1], [1, 0]]
    assert net.population("n2").bias.tolist() == 0.5
    assert net.population("n2").v_th.tolist() == [1, 2]


def test_a_loop_gets_one_step_where_it_closes(path: Path) -> None:
    back = nir.Affine(np.array([[0.0, 2], [3, 0]]), vector(0.5, 0.25))
    loop(path, ("a", "rec"), ("rec", "a"), rec=back)
    net = read(path, steps=3)
    assert wiring(net) == [("input", "a", 0), ("a", "a", 1)]
    assert dense(net, 1).tolist() == [[0, 2], [3, 0]]
    assert net.populations[0].bias.tolist() == 0.75  # acts from the first step on
    loop(path, ("a", "a"))
    assert wiring(read(path, steps=3)) == [("input", "a", 0), ("a", "a", 1)]


def test_the_order_of_edges_does_not_change_the_net(path: Path) -> None:
    nodes = {
        "input": port("Input", 2), "fc": nir.Linear(np.eye(2)), "a": integrate(2),
        "rec": nir.Linear(np.ones((2, 2))), "output": port("Output", 2),
    }  # fmt: skip
    edges = [("rec", "a"), ("a", "rec"), ("a", "output"), ("fc", "a"), ("input", "fc")]
    nets = []
    for given in (edges, edges[::-1]):
        graph(path, nodes, *given)
        nets.append(read(path, steps=3))
    assert wiring(nets[0]) == [("input", "a", 0), ("a", "a", 1)]
    assert nets[0] == nets[1]


def test_an_explicit_delay_is_the_time_of_its_loop(path: Path) -> None:
    back = nir.Affine(np.eye(2), vector(0.5, 0.25))
    edges = (("a", "rec"), ("rec", "d"), ("d", "a"))
    loop(path, *edges, rec=back, d=nir.Delay(vector(2e-3, 2e-3)))
    net = read(path, steps=4, dt_s=1e-3)
    assert wiring(net) == [("input", "a", 0), ("a", "a", 2), ("a.bias", "a", 2)]
    assert net.population("a").bias.tolist() == [0.25, 0.5]
    v = floating.run(net, np.zeros((4, 1, 2)))["a"].v
    assert v is not None
    assert v[:, 0, 0].tolist() == [0.25, 0.5, 0, 0.75]  # 0.25 a step, 0.75 from the third on
    loop(path, *edges, rec=back, d=nir.Delay(vector(0, 0)))
    assert wiring(read(path, steps=4, dt_s=1e-3)) == [("input", "a", 0), ("a", "a", 1)]


def test_delays_that_differ_are_paths_of_their_own(path: Path) -> None:
    row(
        path,
        (3,),
        d=nir.Delay(vector(0, 2e-3, 2e-3)),
        fc=nir.Linear(np.ones((1, 3))),
        a=integrate(),
    )
    net = read(path, steps=4, dt_s=1e-3)
    assert wiring(net) == [("input", "a", 0), ("input", "a", 2)]
    assert [dense(net, i).tolist() for i in (0, 1)] == [[[1, 0, 0]], [[0, 1, 1]]]


def test_delays_are_rounded_on_demand_only(path: Path) -> None:
    row(path, (1,), d=nir.Delay(vector(2.4e-3)), a=integrate())
    with pytest.raises(
        ValueError,
        match=r"node 'd' \(Delay\): a delay of 0\.0024 s is 2\.4 steps of 0\.001 s; choose dt_s so"
        r" that all delays are whole steps, or allow rounding with round_delays=True$",
    ):
        read(path, steps=4, dt_s=1e-3)
    assert wiring(read(path, steps=4, dt_s=1e-3, round_delays=True)) == [("input", "a", 2)]


def inner(broken: bool = False) -> Any:
    name = "hidden" if broken else "lif"
    nodes = {
        "input": port("Input", 2), name: integrate(2), "rec": nir.Linear(np.eye(2)[::-1].copy()),
        "output": port("Output", 2),
    }  # fmt: skip
    edges = [("input", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def test_a_graph_in_a_graph_is_opened(path: Path) -> None:
    row(path, (2,), block=inner())
    net = read(path, steps=3)
    assert wiring(net) == [("input", "block.lif", 0), ("block.lif", "block.lif", 1)]
    outer = {"input": port("Input", 2), "block": inner(), "output": port("Output", 2)}
    twice = nir.NIRGraph(outer, [("input", "block"), ("block", "output")], type_check=False)
    row(path, (2,), deep=twice, fc=nir.Linear(np.ones((1, 2))), a=integrate())
    found = wiring(read(path, steps=3))
    assert found[1:] == [("deep.block.lif", "deep.block.lif", 1), ("deep.block.lif", "a", 0)]


def test_a_renamed_node_in_an_inner_graph_is_found(path: Path) -> None:
    row(path, (2,), block=inner(broken=True))
    found = wiring(read(path, steps=3))
    assert found == [("input", "block.hidden", 0), ("block.hidden", "block.hidden", 1)]


def test_populations_come_in_an_order_that_can_run(path: Path) -> None:
    """b feeds a at once, a feeds b later: b comes first, though the walk meets a first."""
    nodes = {"b": integrate(2), "d": nir.Delay(vector(1e-3, 1e-3))}
    loop(path, ("a", "d"), ("d", "b"), ("b", "a"), **nodes)
    net = read(path, steps=3, dt_s=1e-3)
    assert [p.name for p in net.populations] == ["b", "a"]
    assert ("b", "a", 0) in wiring(net)
    assert ("a", "b", 1) in wiring(net)


# Refusals.


IF_1 = {"a": integrate()}
EYE = nir.Linear(np.eye(1))
WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"a": lif()}, {"steps": 3},
     "node 'a' (LIF): does not say how long a step is; give dt_s in seconds"),
    ({"a": lif()}, {"dt_s": 1e-3}, "does not say how many steps to run; give steps"),
    ({"a": lif()}, {"dt_s": -1.0}, "node 'a' (LIF): a step of -1.0 s was asked for; it must be"
     " positive"),
    ({"a": lif()}, {"dt_s": 5e-3}, "node 'a' (LIF): tau is 0.004 s and a step 0.005 s; by the"
     ' rule "euler" a step is not longer than the time constant, choose a smaller dt_s or'
     ' rule="exact"'),
    ({"v": nir.I(r=vector(1))}, {"readout": "count"}, "node 'v' (I): has no threshold, so readout"
     " 'count' would read nothing; use 'last_v' or 'sum_v'"),
    ({"a": lif(tau=vector(0))}, {"dt_s": 5e-3, "rule": "exact"}, "node 'a' (LIF): tau is 0 s; time"
     " constants must be positive"),
    ({"a": lif(v_reset=vector(0.5))}, {"dt_s": 1e-3, "reset": "subtract"}, "node 'a' (LIF): v_reset"
     " is not 0, which reset by subtraction cannot have; shift all potentials by it"),
    ({"a": lif(v_reset=vector(0.5))}, {"dt_s": 1e-3, "readout": "sum_v"}, "node 'a' (LIF): v_reset"
     " is not 0, which a readout of potentials cannot have; shift all potentials by it"),
    ({"a": lif(v_reset=vector(1.5))}, {"dt_s": 1e-3}, "node 'a' (LIF): v_threshold lies 0.5 below"
     " the potential it resets to, which chips cannot have; put it above"),
    ({"a": lif(3)}, {"dt_s": 1e-3}, "node 'a' (LIF): has 3 neurons, but 1 values arrive"),
    ({"w": nir.Linear(np.ones((3, 1))), "a": lif(2)}, {"dt_s": 1e-3},
     "node 'a' (LIF): r has 2 values, but 3 values arrive"),
    ({**IF_1, "fc": nir.Linear(np.ones((2, 1)))}, {}, "the output comes from 'fc' (Linear), which"
     " has no neurons; end the network with neurons that spike, or with I (r = 1) or LI to sum its"
     " values up"),
    ({**IF_1, "d": nir.Delay(vector(1e-3))}, {"dt_s": 1e-3}, "the output comes from 'd' (Delay),"
     " which has no neurons; end the network with neurons that spike, or with I (r = 1) or LI to"
     " sum its values up"),
    ({"fc": nir.Linear(np.array([[np.nan]])), **IF_1}, {}, "node 'fc' (Linear): weight holds NaN or"
     " infinity; repair the network before export"),
    ({"v": nir.I(r=vector(1)), "w": EYE, **IF_1}, {}, "node 'a' (IF): its input from 'v' (I) is a"
     " potential, and chips send spikes; give 'v' a threshold, or end the network with it"),
    ({"d": nir.Delay(vector(-1e-3)), **IF_1}, {"dt_s": 1e-3}, "node 'd' (Delay): a delay is"
     " -0.001 s; delays must not be negative"),
    ({"d": nir.Delay(vector(1e-3)), **IF_1}, {}, "node 'd' (Delay): does not say how long a step"
     " is; give dt_s in seconds"),
    ({"s": nir.Scale(vector(1, 2)), **IF_1}, {}, "node 's' (Scale): scale has 2 values, but 1"
     " values arrive"),
    ({"c": nir.Conv1d(1, np.ones((1, 1, 1)), 1, 0, 1, 1, vector(0)), **IF_1}, {},
     "node 'c' (Conv1d): the source has shape (1,); needed is (C, L)"),
    ({"p": nir.SumPool2d(vector(2, 2), vector(2, 2), vector(0, 0)), **IF_1}, {},
     "node 'p' (SumPool2d): the source has shape (1,); needed is (C, H, W)"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "arguments", "message"), WRONG)
def test_a_node_is_refused_in_one_sentence(
    path: Path, nodes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    row(path, (1,), **nodes)
    given = arguments if "how many steps" in message else {"steps": 3, **arguments}
    with pytest.raises(ValueError, match=r"\S") as error:
        read(path, **given)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("shape", "nodes", "message"),
    [
        ((2, 3, 3), {"f": nir.Flatten({"input": np.array([2, 9])}, 3, -1)}, "node 'f' (Flatten):"
         " start_dim=3, end_dim=-1 do not fit a source of shape (2, 3, 3); dimensions are counted"
         " without batch and time"),
        ((2, 3, 3), {"w": nir.Linear(np.ones((1, 18)))}, "node 'w' (Linear): weights of shape (1,"
         " 18) do not fit a source of shape (2, 3, 3); they must be [n_out, n_in], behind a Flatten"
         " if the source is a map"),
        ((2, 2, 3, 3), {"w": EYE}, "node 'input' (Input): has shape (2, 2, 3, 3); allowed are (n,),"
         " (C, L) and (C, H, W) without batch and time"),
        ((2, 4, 4), {"p": nir.AvgPool2d(vector(5, 7), vector(1, 1), vector(1, 1))},
         "node 'p' (AvgPool2d): kernel (5, 7) does not fit a map of (4, 4) padded by (1, 1)"),
        ((1, 4, 4), {"c": nir.Conv2d((4, 4), np.ones((1, 1, 3, 3)), 1, 9999, 1, 1, vector(0))},
         "node 'c' (Conv2d): its output would have shape (1, 20000, 20000), more than chips hold;"
         " see padding"),
        ((1, 9), {"c": nir.Conv1d(9, np.ones((1, 1, 2)), 1, "same", 1, 1, vector(0))},
         "node 'c' (Conv1d): padding is 'same' for a kernel of (1, 2) and stride (1, 1); allowed"
         " are numbers, 'valid', and 'same' for odd kernels of stride 1"),
        ((1, 9), {"c": nir.Conv1d(9, np.ones((1, 1, 2)), np.array([1, 1]), 0, 1, 1, vector(0))},
         "node 'c' (Conv1d): stride is [1, 1]; needed is one whole number"),
        ((1, 9), {"c": nir.Conv2d(None, np.ones((1, 1, 2)), 1, 0, 1, 1, vector(0))},
         "node 'c' (Conv2d): the source has shape (1, 9); needed is (C, H, W)"),
        ((1, 9, 9), {"c": nir.Conv2d((9, 9), np.ones((1, 1, 2)), 1, 0, 1, 1, vector(0))},
         "node 'c' (Conv2d): weights have shape (1, 1, 2); needed is [C_out, C_in, kH, kW]"),
    ],
)  # fmt: skip
def test_a_shape_is_refused_in_one_sentence(
    path: Path, shape: tuple[int, ...], nodes: dict[str, Any], message: str
) -> None:
    for node in nodes.values():
        if getattr(node, "input_shape", 0) is None:
            node.input_shape = (3, 3)  # nir cannot write None
    row(path, shape, **nodes, a=integrate())
    with pytest.raises(ValueError, match=r"\S") as error:
        read(path, steps=3)
    assert str(error.value) == f"{path}: {message}"


def test_graphs_that_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rec, twice = nir.Linear(np.eye(2)), nir.Linear(np.eye(2))
    loop(path, ("fc", "rec"), ("rec", "fc"), rec=rec)
    with pytest.raises(
        ValueError,
        match=r"the edge 'rec' -> 'fc' closes a loop without neurons, a"
        r" filter that no synapse can be; put spiking neurons into the loop or remo",
    ):
        read(path, steps=3)
    loop(path, ("a", "d"), ("d", "a"), d=nir.Delay(vector(0, 1e-3)))
    with pytest.raises(
        ValueError,
        match=r"node 'd' \(Delay\): lies on a loop and delays only some"
        r" of its values; give all of them at least one step$",
    ):
        read(path, steps=3, dt_s=1e-3)
    loop(path, ("lost", "a"), lost=rec)
    with pytest.raises(ValueError, match=r"node 'lost' \(Linear\): has no source; connect or remo"):
        read(path, steps=3)
    loop(path, lost=integrate(2))
    with pytest.raises(
        ValueError, match=r"node 'lost' \(IF\): has no source; connect or remove it"
    ):
        read(path, steps=3)
    loop(path, ("a", "w"), ("w", "a"), w=nir.Linear(np.ones((3, 2))))
    with pytest.raises(
        ValueError,
        match=r"node 'a' \(IF\): different numbers of values arrive \(2"
        r" from 'fc', 3 from 'w'\) and cannot add up$",
    ):
        read(path, steps=3)
    loop(path, ("a", "input"))
    with pytest.raises(ValueError, match=r"node 'input' \(Input\): an edge leads into it; remove"):
        read(path, steps=3)
    loop(path, ("two", "fc"), two=port("Input", 2))
    with pytest.raises(ValueError, match=r"g\.nir: has 2 Input nodes; exactly one is needed$"):
        read(path, steps=3)
    loop(path, ("fc", "output"))
    with pytest.raises(ValueError, match=r"has 1 Output nodes with 2 sources; exactly one of each"):
        read(path, steps=3)
    loop(path, ("input", "rec"), ("rec", "fc"), ("input", "two"), ("two", "fc"), rec=rec, two=twice)
    monkeypatch.setattr(nir_paths, "MOST_PATHS", 2)
    with pytest.raises(
        ValueError,
        match=r"node 'fc' \(Affine\): 3 ways of linear nodes lead there,"
        r" 2 are the most; put neurons between the branches, or add their weights",
    ):
        read(path, steps=3)


def test_inner_graphs_that_are_refused(path: Path) -> None:
    two = inner()
    two.nodes["more"] = port("Input", 2)
    row(path, (2,), block=two)
    with pytest.raises(
        ValueError,
        match=r"the graph 'block' has 2 Input nodes; one within another"
        r" graph must have exactly one$",
    ):
        read(path, steps=3)
    wrong = inner()
    wrong.edges.append(("lif", "moon"))
    row(path, (2,), block=wrong)
    with pytest.raises(
        ValueError,
        match=r"the graph 'block': an edge leads to 'moon', but there is"
        r" no such node$",
    ):
        read(path, steps=3)
    row(path, (2,), block=inner(), **{"block.lif": integrate(2)})
    with pytest.raises(ValueError, match=r"two nodes are called 'block\.lif' once opened; rename"):
        read(path, steps=3)
    for part in ("edges", "nodes"):
        row(path, (2,), block=inner())
        with h5py.File(path, "a") as file:
            del file[f"node/nodes/block/{part}"]
        with pytest.raises(
            ValueError, match=rf"the graph 'block' has no {part}; write the file ag"
        ):
            read(path, steps=3)


def test_a_type_of_the_future_is_refused(path: Path) -> None:
    row(path, (1,), a=integrate())
    with h5py.File(path, "a") as file:
        del file["node/nodes/a/type"]
        file["node/nodes/a/type"] = "Izhikevich"
    with pytest.raises(
        ValueError,
        match=r"node 'a' has type Izhikevich, which is not supported; su"
        r"pported are Input, Output, Affine, Linear, Scale, Conv1d, Conv2d, SumPool2"
        r"d, AvgPool2d, Flatten, Delay, Threshold, I, LI, CubaLI, IF, LIF, CubaLIF$",
    ):
        read(path, steps=3)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("rule", "'euler', 'exact'"),
        ("reset", "None, 'zero', 'subtract'"),
        ("start", "'zero', 'leak'"),
        ("readout", "None, 'count', 'last_v', 'sum_v', 'first_spike'"),
    ],
)
def test_arguments_are_checked(path: Path, name: str, allowed: str) -> None:
    row(path, (1,), a=integrate())
    arguments: dict[str, Any] = {name: "later"}
    with pytest.raises(ValueError, match=rf"^{name} is 'later'; allowed are {allowed}$"):
        read(path, steps=3, **arguments)


def test_every_primitive_of_nir_is_known() -> None:
    from nir.ir import __all__ as known

    from spikeport.export.nir_file import FIELDS

    kinds = {name for name in known if name[0].isupper()} - {"NIRNode", "NIRGraph"}
    assert kinds == set(FIELDS)


def test_a_bias_before_two_delays_waits_for_both(tmp_path: Path) -> None:
    """Two steps and one step, in a neuron that fires as soon as the bias reaches it."""
    path = row(
        tmp_path / "g.nir",
        (1,),
        fc=nir.Affine(weight=np.zeros((1, 1)), bias=vector(2.0)),
        first=nir.Delay(vector(2e-3)),
        second=nir.Delay(vector(1e-3)),
        out=integrate(),
    )
    net = read(path, dt_s=1e-3, steps=6)
    spikes = floating.run(net, np.zeros((6, 1, 1)))["out"].spikes
    assert spikes.ravel().tolist() == [0, 0, 0, 1, 1, 1]
