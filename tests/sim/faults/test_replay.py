"""The replay against the definition, bit for bit, and wrong replays that this would catch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.faults import Fault, Replay, inject, links
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d
from spikeport.sim.trace import Trace, first_difference

Case = tuple[FixedNet, NDArray[np.int64], list[list[Fault]]]
MODULES = ("sim.faults.kernel", "sim.faults.links", "sim.faults.replay")


def agree(net: FixedNet, found: Trace, wanted: Trace) -> bool:
    """Spikes, last v and logits, where the definition knows more."""
    same = (
        np.array_equal(getattr(wanted[p.name], name), getattr(found[p.name], name))
        for p in net.populations
        for name in ("spikes", "v_last")
    )
    return all(same) and np.array_equal(wanted.logits(net.readout), found.logits(net.readout))


@given(data=st.data())
def test_forward_networks(
    data: st.DataObject,
    fixed_nets: Callable[[], Any],
    fault_lists: Callable[..., Any],
    forward: Callable[[FixedNet], FixedNet],
) -> None:
    net, x = data.draw(fixed_nets())
    net = forward(net)
    replay = Replay(net, x)
    assert not replay.loops
    # Twice: nothing of the first may be left behind.
    for _ in range(2):
        faults = data.draw(fault_lists(net, len(x)))
        assert agree(net, replay.trace(faults), inject.run(net, x, faults))
    assert agree(net, replay.trace([]), reference.run(net, x))


@given(data=st.data(), seed=st.integers(0, 10_000), kind=st.sampled_from(["conv", "delay", None]))
def test_larger_networks(
    data: st.DataObject, random_net: Any, fault_lists: Callable[..., Any], seed: int, kind: Any
) -> None:
    net, x = random_net(seed, kind=kind, lava=False)
    faults = data.draw(fault_lists(net, len(x)))
    assert agree(net, Replay(net, x).trace(faults), inject.run(net, x, faults))


@given(data=st.data())
def test_any_network(
    data: st.DataObject, fixed_nets: Callable[[], Any], fault_lists: Callable[..., Any]
) -> None:
    net, x = data.draw(fixed_nets())
    faults = data.draw(fault_lists(net, len(x)))
    assert agree(net, Replay(net, x).trace(faults), inject.run(net, x, faults))


def test_a_dead_core() -> None:
    net, x, _ = maps()
    cores = {5: {"conv": range(20), "out": [1]}}
    fault = Fault(kind="core", part=5)
    replay, wanted = Replay(net, x), inject.run(net, x, [fault], cores=cores)
    assert agree(net, replay.trace([fault], cores=cores), wanted)
    assert (replay.logits([fault], cores=cores)[:, 1] == 0).all()
    with pytest.raises(ValueError, match="which neurons a core holds is unknown"):
        replay.logits([fault])


def test_what_no_fault_reaches_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flip that changes no spike ends there; one that does stirs what lies behind, not before."""
    net, x, _ = maps()
    replay = Replay(net, x)
    arrived: list[int] = []
    arrive = links.Link.arrive

    def noted(link: links.Link, *rest: Any) -> None:
        arrived.append(link.number)
        arrive(link, *rest)

    monkeypatch.setattr(links.Link, "arrive", noted)
    quiet = Fault(kind="v", part="conv", index=3, bit=0, step=0)
    assert first_difference(replay.trace([quiet]), replay.baseline, quantities=("spikes",)) is None
    assert arrived == [0]
    arrived.clear()
    replay.trace([Fault(kind="stuck", part="pool", index=2)])
    assert arrived == [1, 2, 3]
    arrived.clear()
    replay.trace([])
    assert arrived == []


def test_the_baseline_is_left_alone() -> None:
    net, x, sets = maps()
    replay = Replay(net, x)
    for faults in sets:
        replay.trace(faults)
    assert agree(net, replay.baseline, reference.run(net, x))
    assert agree(net, replay.trace([]), reference.run(net, x))


def maps() -> Case:
    """Graded maps through a padded convolution of two groups, a pool with decaying states, a late
    dense path and a skip, and sets of faults that reach all of it."""
    rng = np.random.default_rng(4)
    w = rng.integers(-20, 60, (4, 1, 3, 2))
    net = FixedNet(
        input=Input(shape=(2, 5, 5), kind="graded", payload_bits=4),
        populations=(
            Population(
                name="conv", shape=(4, 3, 5), v_th=rng.integers(900, 3000, 60), du=900, dv=1500
            ),
            Population(name="pool", shape=(4, 2, 2), v_th=12, dv=700, reset="subtract"),
            Population(name="out", shape=(3,), v_th=25, dv=300),
        ),
        projections=(
            Projection(
                source="input", target="conv",
                synapse=Conv2d(
                    w=w,
                    geometry=ConvGeometry(stride=(2, 1), padding=(1, 1), dilation=(1, 2), groups=2),
                ),
            ),
            Projection(
                source="conv", target="pool",
                synapse=SumPool2d(kernel=(2, 2), stride=(1, 2), padding=(0, 0), w=3),
            ),
            Projection(
                source="pool", target="out", delay=1,
                synapse=Dense(w=rng.integers(-90, 99, (3, 16)), w_exp=-3),
            ),
            Projection(
                source="conv", target="out", synapse=Dense(w=rng.integers(-9, 10, (3, 60)))
            ),
        ),
        readout=Readout(population="out", kind="sum_v"),
        steps=6,
    )  # fmt: skip
    weight = Fault(kind="weight", part=0, index=9, bit=6)
    duplicated = Fault(kind="duplicated", part=2, index=5, rate=0.5, seed=1)
    sets = [
        [weight],
        [Fault(kind="weight", part=1, index=0, bit=1)],
        [Fault(kind="weight", part=2, index=21, bit=7)],
        [weight, Fault(kind="weight", part=1, index=0, bit=4)],
        [Fault(kind="stuck", part="pool", index=5), Fault(kind="weight", part=2, index=5, bit=7)],
        [Fault(kind="threshold", part="pool", index=0, bit=3)],
        [Fault(kind="threshold", part="conv", index=7, bit=8)],
        [Fault(kind="v", part="conv", index=4, bit=18, step=4)],
        [Fault(kind="u", part="conv", index=9, bit=17, step=2)],
        [Fault(kind="u", part="conv", index=9, bit=23, step=1)],
        [Fault(kind="v", part="out", index=1, bit=23, step=1)],
        [Fault(kind="v", part="conv", index=9, bit=23, step=0)],
        [duplicated],
        [Fault(kind="stuck", part="pool", index=5), duplicated],
        [Fault(kind="dead", part="pool", index=5), duplicated],
        [Fault(kind="stuck", part="pool", index=6), duplicated],
        [
            duplicated,
            Fault(kind="dropped", part=2, index=5, rate=0.5, seed=2),
            Fault(kind="dropped", part=2, index=6, rate=0.5, seed=2),
        ],
        [duplicated, Fault(kind="weight", part=2, index=5, bit=6)],
        [Fault(kind="dropped", part=0, index=12, rate=0.5, seed=2)],
        [Fault(kind="dead", part="out", index=0)],
        [Fault(kind="stuck", part="out", index=0)],
        [Fault(kind="stuck", part="conv", index=3), Fault(kind="dead", part="conv", index=3)],
        [weight, Fault(kind="v", part="conv", index=9, bit=18, step=3)],
        [],
    ]
    return net, rng.integers(0, 16, (6, 3, 2, 5, 5)), sets


def overflowing() -> Case:
    """A convolution whose sum wraps at 24 bits, and currents that wrap."""
    net = FixedNet(
        input=Input(shape=(1, 2, 2), kind="graded", payload_bits=20),
        populations=(Population(name="a", shape=(1, 2, 1), v_th=1000, du=2000),),
        projections=(
            Projection(source="input", target="a", synapse=Conv2d(w=[[[[100, 7]]]])),
        ),
        readout=Readout(population="a", kind="last_v"),
        steps=4,
    )  # fmt: skip
    x = np.random.default_rng(0).integers(0, 1 << 20, (4, 3, 1, 2, 2))
    return net, x, [[Fault(kind="weight", part=0, index=0, bit=bit)] for bit in range(8)]


CASES = [maps(), overflowing()]
WANTED = [[inject.run(net, x, faults) for faults in sets] for net, x, sets in CASES]


def all_agree(module: ModuleType) -> bool:
    with np.errstate(all="ignore"):  # numbers of one entry warn where they wrap
        for (net, x, sets), wanted in zip(CASES, WANTED, strict=True):
            replay = module.Replay(net, x)
            if not all(
                agree(net, replay.trace(faults), trace)
                for faults, trace in zip(sets, wanted, strict=True)
            ):
                return False
    return True


# What is wrong: (text, wrong text).
MUTANTS = {
    "sums of the last trial stay": ("            sums[row, t] = 0\n", ""),
    "marks of the last trial stay": ("        self.mark[rows] = 0\n", ""),
    "delay forgotten": ("sums[row, t + delay] += deltas[r, t]", "sums[row, t] += deltas[r, t]"),
    "delay of a weight forgotten": (
        "sums[row, t + delay] += value * change", "sums[row, t] += value * change",
    ),
    "groups mixed up": ("channel // per_in * per_out * pixels", "0 * per_out * pixels"),
    "weights of the wrong group": (
        "channel // per_in * per_out + o, k_y", "o, k_y",
    ),
    "rows taken for columns": ("i // width % height, i % width", "i % width, i // width % height"),
    "stride skips nothing": ("or out_y % s_y or", "or"),
    "padding forgotten": ("out_x = x + p_x - k_x * d_x", "out_x = x - k_x * d_x"),
    "dilation forgotten": ("x = out_x * s_x + k_x * d_x - p_x", "x = out_x * s_x + k_x - p_x"),
    "shift of the change alone": (
        "np.int32(np.int32(total << left) >> right)",
        "np.int32((raw[row, t] << left >> right) + (total - raw[row, t] << left >> right))",
    ),
    "no wrap at 24 bits": ("            if wraps:", "            if False:"),
    "flips after the tick": (
        "strikes[k, 1] == t:", "strikes[k, 1] + 1 == t:",
    ),
    "u for v": ("if strikes[k, 3]:", "if not strikes[k, 3]:"),
    "-2**23 stays": ("if y == -U_LIMIT:", "if False:"),
    "-2**23 of v is that of u": ("U_LIMIT if of_u else -V_LIMIT", "U_LIMIT"),
    "other neurons struck": ("if strikes[k, 0] == j and", "if"),
    "the dead keep their state": ("u, v, fired = np.int32(0), np.int32(0), False", "fired = False"),
    "stuck before dead": (
        '(("stuck", 1), ("dead", 0))', '(("dead", 0), ("stuck", 1))',
    ),
    "stuck neurons reset": (
        "v = after if fired else y", "v = after if fired or held[j] == 1 else y",
    ),
    "reset to zero for all": (
        "np.int32(y - threshold[j]) if subtract else np.int32(0)\n            v",
        "np.int32(0)\n            v",
    ),
    "only v that spreads counts": (
        "v_last[samples, neurons] = self.v_last",
        "v_last[samples[self.differs], neurons[self.differs]] = self.v_last[self.differs]",
    ),
    "the sum of v is kept": ("v_sum[samples, neurons] = self.v_sum", "pass"),
    "a threshold strikes one neuron": ('fault.kind != "threshold" and ', ""),
    "a flipped weight sees old spikes": (
        "self._channel(channel, sent)", "self._channel(channel, None)",
    ),
    "a lost spike was sent without faults": (
        "now[changes.rows[own] // self.n_in] += changes.deltas[own]", "pass",
    ),
    "others of a lossy projection forget": (
        "parts.append((changes.rows[~own], changes.deltas[~own]))", "pass",
    ),
    "one spike fault a source": ("now = now * factors", "now = self.values[rows] * factors"),
    "a pool keeps its other weights": (
        "now = np.full(self.w.shape, weights[0])",
        "now = np.array(self.w, np.int64)\n            now.flat[0] = weights[0]",
    ),
    "spike faults hit every projection": (
        "f.kind in SPIKE and f.part == link.number", "f.kind in SPIKE",
    ),
}  # fmt: skip


def test_without_a_mutant_all_agree(planted: Callable[..., ModuleType]) -> None:
    assert all_agree(planted(MODULES))


def test_compiled_all_agree() -> None:
    from spikeport.sim.faults import replay

    assert all_agree(replay)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(planted: Callable[..., ModuleType], mutant: str) -> None:
    module = planted(MODULES, MUTANTS[mutant])
    assert not all_agree(module)


def test_the_cases_reach_what_mutants_change() -> None:
    net, x, sets = CASES[0]
    plain = reference.run(net, x)
    assert all(0 < plain[p.name].spikes.mean() < 1 for p in net.populations)
    silent = [
        faults for faults, trace in zip(sets, WANTED[0], strict=True)
        if agree(net, trace, plain)
    ]  # fmt: skip
    assert silent == [[]]
    wrapping, x, _ = CASES[1]
    assert reference.run(wrapping, x).wraps["a"] > 0
