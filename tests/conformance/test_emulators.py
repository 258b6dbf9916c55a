"""The same integer nets through ours and two other emulators of the chip: every bit the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.export.bounds import prove
from spikeport.export.witness import worst_input
from spikeport.sim import engine, lif, reference
from spikeport.sim.arith import V_TH_MAX
from spikeport.sim.chip import LOIHI_1, LOIHI_2
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense
from spikeport.sim.trace import first_difference

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]
Emulator = Callable[[str], Any]
KINDS = ("dense", "conv", "mixed", "delay", "recurrent", "driven")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "count"), [("nengo-loihi", 20), ("brian2-loihi", 3)])
def test_random_nets_give_the_same_bits(
    name: str, count: int, kind: str, nets: Any, emulator: Emulator, random_net: RandomNet
) -> None:
    other = emulator(name)
    for seed in range(count):
        net, spelled, x = nets.common_net(seed, emulator=name, kind=kind, random_net=random_net)
        ours = reference.run(net, x)
        # A convolution is the same synapses as the matrix that the emulators are given.
        assert first_difference(ours, engine.run(spelled, x, record=True)) is None
        assert first_difference(ours, other.run(spelled, x)) is None, f"seed {seed}"


def test_shared_nets_wrap_and_clip_and_loop(nets: Any, random_net: RandomNet) -> None:
    """What is compared is worth something only if the arithmetic's edges are reached."""
    wraps = clips = loops = waits = 0
    for seed in range(20):
        net, _, x = nets.common_net(
            seed, emulator="nengo-loihi", kind="driven", random_net=random_net
        )
        trace = reference.run(net, x)
        wraps, clips = wraps + sum(trace.wraps.values()), clips + sum(trace.clips.values())
        net, _, _ = nets.common_net(
            seed, emulator="brian2-loihi", kind="recurrent", random_net=random_net
        )
        loops += sum(p.source == p.target for p in net.projections)
        waits += sum(net.chip_delays)
    assert wraps > 20
    assert clips > 20
    assert loops > 5
    assert waits > 20


@pytest.mark.parametrize("kind", ["dense", "conv", "delay", "recurrent"])
def test_bending_leaves_nothing_that_an_emulator_refuses(
    kind: str, nets: Any, random_net: RandomNet
) -> None:
    for seed in range(10):
        drawn, _ = random_net(seed, kind=kind)
        assert set(nets.bent(drawn, emulator="nengo-loihi").chip_delays) == {0}
        net = nets.bent(drawn, emulator="brian2-loihi")
        assert not any(p.bias.any() or p.du.ndim or p.dv.ndim for p in net.populations)
        for p in nets.unrolled(net).projections:
            assert p.synapse.w.min() >= 0 or p.synapse.w.max() <= 0 or not (p.synapse.w % 2).any()


# Mutants: each wrong way to drive an emulator must be seen.


def differs(module: Any, nets: Any, random_net: RandomNet, *, name: str, kind: str) -> bool:
    for seed in range(3):
        net, spelled, x = nets.common_net(seed, emulator=name, kind=kind, random_net=random_net)
        if first_difference(reference.run(net, x), module.run(spelled, x)) is not None:
            return True
    return False


@pytest.mark.parametrize("constant", ["DECAY_OFFSET", "INPUT_STEP"])
def test_mutants_of_driving_brian2_loihi(
    constant: str, brian: Any, nets: Any, random_net: RandomNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decays without the hidden +1, and input a step early."""
    monkeypatch.setattr(brian, constant, 0)
    assert differs(brian, nets, random_net, name="brian2-loihi", kind="delay")


def test_mutant_of_driving_nengo_loihi(nengo: Any, nets: Any, random_net: RandomNet) -> None:
    """Biases that act before a population's window begins."""
    found = []
    for seed in range(10):
        _, net, x = nets.common_net(
            seed, emulator="nengo-loihi", kind="dense", random_net=random_net
        )
        early = nengo.run(net, x, hold_bias=False)
        biased = any(p.bias.any() for p in net.populations)
        found.append((biased, first_difference(reference.run(net, x), early) is not None))
    assert (True, True) in found
    assert (False, True) not in found


def test_mutant_of_our_own_tick(
    nengo: Any, nets: Any, random_net: RandomNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Currents that decay without the hidden +1."""
    monkeypatch.setattr(lif, "DU_OFFSET", 0)
    assert differs(nengo, nets, random_net, name="nengo-loihi", kind="recurrent")


@pytest.mark.parametrize(("last", "fits"), [(0, True), (2, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_loihi1_wraps_are_those_that_no_proof_allows(
    sign: int, last: int, fits: bool, nengo: Any
) -> None:
    """129 weights of 254 and one more: 32767 is the largest sum that 21 bits and sign hold. One of
    the other sign makes them even."""
    w = sign * np.array([[*[254] * 129, last, -2]])
    alone = net_with(Dense(w=w), shape=(131,), v_th=V_TH_MAX, du=4095, dv=4095)
    net = replace(alone, chip=LOIHI_1)
    x = np.ones((2, 1, 131), np.int64)
    x[..., -1] = 0
    # Two's complement has room for one more below 0, which no proof counts on.
    same = first_difference(reference.run(net, x), nengo.run(net, x)) is None
    assert same == (fits or sign < 0)
    assert [(risk.quantity, risk.bound) for risk in prove(net)] == (
        [] if fits else [("sum", sign * 32768)]
    )
    assert prove(alone) == []


@pytest.mark.parametrize(("bias", "risks"), [(15, []), (27, ["v"]), (28, ["drive", "v"])])
def test_a_current_and_its_bias_that_loihi1_wraps_are_seen(
    bias: int, risks: list[str], nengo: Any
) -> None:
    """Four sums in a row drive u to 8,385,024, from where 2^23 is 28 biases of 128 away."""
    w = np.array([[*[254] * 129, -2]])
    net = net_with(Dense(w=w), shape=(130,), v_th=V_TH_MAX, du=0, dv=4095, bias=bias, bias_exp=7)
    net = replace(net, chip=LOIHI_1, steps=4)
    x = np.ones((4, 1, 130), np.int64)
    x[..., -1] = 0
    found = reference.run(net, x)
    assert (first_difference(found, nengo.run(net, x)) is None) == ("drive" not in risks)
    proof = prove(net)
    assert [risk.quantity for risk in proof] == risks
    assert all(worst_input(net, risk).happens for risk in proof)
    assert [risk.quantity for risk in prove(replace(net, chip=LOIHI_2))] == risks[-1:]


@pytest.mark.skipif(
    sys.version_info >= (3, 11) or os.environ.get("NEED_LAVA") != "1",
    reason="asked for by .ci/run with NEED_LAVA=1 on Python 3.10",
)
def test_nothing_is_skipped_where_everything_must_run() -> None:
    assert find_spec("nengo_loihi")
    assert find_spec("brian2_loihi")


# What is refused, in one sentence.


def net_with(synapse: Any, *, shape: Any = (2,), delay: int = 0, **settings: Any) -> FixedNet:
    source = Input(shape=shape)
    return FixedNet(
        input=source,
        populations=(Population(name="out", shape=synapse.output_shape(shape), **settings),),
        projections=(Projection(source="input", target="out", synapse=synapse, delay=delay),),
        readout=Readout(population="out"),
        steps=2,
    )


DENSE = Dense(w=np.array([[2, 4]]))
CONV = net_with(Conv2d(w=np.ones((1, 1, 1, 1), int)), shape=(1, 2, 2), v_th=1)
GRADED = net_with(DENSE, v_th=1)
GRADED = replace(GRADED, input=Input(shape=(2,), kind="graded", payload_bits=3))


def waiting() -> FixedNet:
    """A path of one synapse beside a path of two, which must wait."""
    net = net_with(DENSE, v_th=1)
    middle = Population(name="middle", shape=(1,), v_th=1)
    return replace(
        net,
        populations=(middle, *net.populations),
        projections=(
            Projection(source="input", target="middle", synapse=DENSE),
            Projection(source="middle", target="out", synapse=Dense(w=np.array([[2]]))),
            *net.projections,
        ),
    )


REFUSED = {
    "nengo-loihi": [
        (GRADED, r"^nengo-loihi: spikes carry no payload; give a net with spike input$"),
        (
            net_with(DENSE, v_th=1, reset="subtract"),
            r"^nengo-loihi: population 'out' must reset to zero and start at 0$",
        ),
        (
            net_with(DENSE, v_th=1, v_init=3),
            r"^nengo-loihi: population 'out' must reset to zero and start at 0$",
        ),
        (CONV, r"^nengo-loihi: projection 'input' -> 'out' must be dense and cost one step, got"),
        (waiting(), r"'input' -> 'out' must be dense and cost one step, got a chip delay of 1$"),
    ],
    "brian2-loihi": [
        (GRADED, r"^brian2-loihi: spikes carry no payload; give a net with spike input$"),
        (net_with(DENSE, v_th=1, bias=2), r"'out' must reset to zero and have no v_init and no b"),
        (net_with(DENSE, v_th=1, v_init=2), r"'out' must reset to zero and have no v_init and no"),
        (
            net_with(DENSE, v_th=1, dv=np.array([3])),
            r"^brian2-loihi: population 'out': dv must be one number for all its neurons$",
        ),
        (CONV, r"^brian2-loihi: projection 'input' -> 'out' must be dense$"),
    ],
}


@pytest.mark.parametrize(
    ("name", "net", "message"), [(name, *case) for name, cases in REFUSED.items() for case in cases]
)
def test_refused(name: str, net: FixedNet, message: str, emulator: Emulator) -> None:
    with pytest.raises(ValueError, match=message):
        emulator(name).run(net, np.ones((2, 1, *net.input.shape), int))


def test_unknown_emulators_and_kinds_are_refused(nets: Any, random_net: RandomNet) -> None:
    with pytest.raises(ValueError, match=r"^emulator 'x', kind 'dense'; allowed are \('nengo-"):
        nets.common_net(0, emulator="x", kind="dense", random_net=random_net)
    with pytest.raises(ValueError, match=r"^emulator 'nengo-loihi', kind 'x'; allowed are"):
        nets.common_net(0, emulator="nengo-loihi", kind="x", random_net=random_net)
