"""Where the emulators' arithmetic is not ours, shown one difference at a time.

Each row of `profiles.py` names the tests here that show it. Ours is what Lava 0.10 computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import Trace, first_difference

NEVER = 131071
EDGE = 1 << 23
# Currents after which u, losing what du = 0 still loses, is exactly 2**23.
TO_THE_EDGE = [28672, 28679, 28686, 28693, 16412]


def synapses(w: Sequence[Sequence[int]], *, w_exp: int = 0) -> tuple[FixedNet, NDArray[np.int64]]:
    """Neurons that only sum: every input spikes in the one step there is, u is what arrived."""
    dense = Dense(w=np.array(w), w_exp=w_exp)
    n_out, n_in = dense.w.shape
    net = FixedNet(
        input=Input(shape=(n_in,)),
        populations=(Population(name="out", shape=(n_out,), v_th=NEVER),),
        projections=(Projection(source="input", target="out", synapse=dense),),
        readout=Readout(population="out"),
        steps=1,
    )
    return net, np.ones((1, 1, n_in), np.int64)


def arrived(trace: Trace) -> list[float]:
    """u of all neurons in the first step, in units of a weight."""
    return [value / 64 for value in np.asarray(trace["out"].u)[0, 0].tolist()]


def course(trace: Trace, quantity: str) -> list[int]:
    """A quantity of the only neuron, step by step."""
    return [int(value) for value in getattr(trace["out"], quantity)[:, 0, 0]]


# Where all agree.


def test_a_potential_on_the_threshold_does_not_spike(nengo: Any, brian: Any, nets: Any) -> None:
    net, x = nets.driven([50, 50, 1], v_th=100, du=4095, dv=0)
    for run in (reference.run, nengo.run, brian.run):
        assert course(run(net, x), "v") == [3200, 6400, 0]
        assert course(run(net, x), "spikes") == [0, 0, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_decays_round_toward_zero(sign: int, nengo: Any, brian: Any, nets: Any) -> None:
    net, x = nets.driven([sign * 3, 0, 0, 0], v_th=NEVER, du=1000, dv=1000)
    for run in (reference.run, nengo.run, brian.run):
        trace = run(net, x)
        assert course(trace, "u") == [sign * u for u in (192, 145, 109, 82)]
        assert course(trace, "v") == [sign * v for v in (192, 290, 328, 329)]


@pytest.mark.parametrize(("refractory", "silent"), [(1, 0), (2, 1), (5, 4)])
def test_a_refractory_period_of_one_is_none(
    refractory: int, silent: int, nengo: Any, brian: Any, nets: Any
) -> None:
    """Both hold v at 0 for one step less than their parameter says; ours has no such period."""
    net, x = nets.driven([100] * 12, v_th=150, du=4095, dv=0)
    period = [0, 1] + [0] * silent
    expected = (period * 12)[:12]
    for module in (nengo, brian):
        trace = module.run(net, x, refractory=refractory)
        assert course(trace, "spikes") == expected
        assert course(trace, "u") == [6400] * 12
    assert course(reference.run(net, x), "spikes") == [0, 1] * 6


def test_longer_refractory_periods_agree_between_the_emulators(
    nengo: Any, brian: Any, nets: Any, random_net: Any
) -> None:
    for seed in range(4):
        _, net, x = nets.common_net(
            seed, emulator="brian2-loihi", kind="driven", random_net=random_net
        )
        assert nets.beyond(net, x, reference.run(net, x), emulator="nengo-loihi") is None
        long, other = nengo.run(net, x, refractory=3), brian.run(net, x, refractory=3)
        assert first_difference(long, other) is None
        assert first_difference(long, reference.run(net, x)) is not None


# Width of the synaptic sum, the current and the potential.


def test_nengo_wraps_the_synaptic_sum_at_21_bits_and_sign(nengo: Any) -> None:
    net, x = synapses([[254, 254], [-254, -254], [254, 0]], w_exp=7)
    assert arrived(reference.run(net, x)) == [65024, -65024, 32512]
    assert arrived(nengo.run(net, x)) == [65024 - 65536, -65024 + 65536, 32512]


def test_nengo_wraps_the_current_at_minus_two_to_the_23(nengo: Any, nets: Any) -> None:
    """Ours keeps +2**23 and has no -2**23; two's complement is the other way round."""
    for sign in (1, -1):
        net, x = nets.driven([sign * a for a in TO_THE_EDGE], v_th=NEVER, du=0, dv=4095)
        assert course(reference.run(net, x), "u")[-1] == EDGE
        assert course(nengo.run(net, x), "u")[-1] == -EDGE


def test_currents_wrap_alike_elsewhere(nengo: Any, brian: Any, nets: Any) -> None:
    """One wrap by 2**24, except that brian2-loihi's current has no limit."""
    net, x = nets.driven([32767] * 6, v_th=NEVER, du=0, dv=4095)
    ours = course(reference.run(net, x), "u")
    assert ours[3:] == [8385280, -6296896, -4198270]
    assert course(nengo.run(net, x), "u") == ours
    assert course(brian.run(net, x), "u")[3:] == [8385280, 10480320, 12574849]


def test_nengo_wraps_current_plus_bias(nengo: Any, nets: Any) -> None:
    """u + bias is 24 bits wide there; ours adds both to v and clips v."""
    settings = {"v_th": NEVER, "du": 0, "dv": 4095, "bias": 4095, "bias_exp": 7}
    net, x = nets.driven([32767] * 4, **settings)
    ours, theirs = reference.run(net, x), nengo.run(net, x)
    assert course(ours, "u") == course(theirs, "u")
    assert course(ours, "spikes") == [0, 0, 0, 1]  # clipped above the highest threshold
    assert course(theirs, "spikes") == [0, 0, 0, 0]
    kept = course(theirs, "v")[2] >> 12
    assert course(theirs, "v")[3] == kept + 8385280 + 524160 - (1 << 24)


def test_potentials_are_clipped_but_not_in_brian(nengo: Any, brian: Any, nets: Any) -> None:
    net, x = nets.driven([-32767] * 6, v_th=NEVER, du=4095, dv=0)
    for run in (reference.run, nengo.run):
        assert course(run(net, x), "v")[3:] == [-8388352, 1 - EDGE, 1 - EDGE]
    assert course(brian.run(net, x), "v")[3:] == [-8388352, -10485440, -12582528]


def test_nengo_keeps_potentials_above_zero_unless_told(nengo: Any) -> None:
    from nengo_loihi.block import Compartment

    assert Compartment(1).vmin == 0


# Weights.


def test_odd_weights_of_mixed_signs(nengo: Any, brian: Any) -> None:
    """To even by floor, to the nearest with ties to a multiple of 4, toward zero."""
    net, x = synapses([[3], [-3], [1], [-1], [5], [254], [-256]])
    assert arrived(reference.run(net, x)) == [2, -4, 0, -2, 4, 254, -256]
    assert arrived(nengo.run(net, x)) == [4, -4, 0, 0, 4, 254, -254]
    assert arrived(brian.run(net, x)) == [2, -2, 0, 0, 4, 254, -256]


def test_weights_of_one_sign(nengo: Any, brian: Any) -> None:
    """Their lowest bit stays in ours and in brian2-loihi; nengo-loihi knows mixed signs only."""
    for sign in (1, -1):
        net, x = synapses([[sign * 3], [sign * 1], [sign * 255]])
        assert arrived(reference.run(net, x)) == [sign * w for w in (3, 1, 255)]
        assert arrived(brian.run(net, x)) == [sign * w for w in (3, 1, 255)]
        assert arrived(nengo.run(net, x)) == [sign * w for w in (4, 0, 254)]


def test_brian_refuses_255_among_mixed_signs(brian: Any) -> None:
    net, x = synapses([[255, -2]])
    assert arrived(reference.run(net, x)) == [252]
    with pytest.raises(Exception, match=r"between -256 and 254 in sign mode MIXED"):
        brian.run(net, x)


def test_negative_exponents_shift_the_sum_or_each_weight(nengo: Any, brian: Any) -> None:
    """Floor of the sum; floor of each weight; each weight to the nearest, ties to even."""
    net, x = synapses([[2, 2], [4, 4], [6, 6], [2, 6]], w_exp=-2)
    assert arrived(reference.run(net, x)) == [1, 2, 3, 2]
    assert arrived(brian.run(net, x)) == [0, 2, 2, 1]
    assert arrived(nengo.run(net, x)) == [0, 2, 4, 2]
    net, x = synapses([[-1, -1, -1]], w_exp=-1)
    assert arrived(reference.run(net, x)) == [-2]
    assert arrived(brian.run(net, x)) == [-3]


def test_brian_clips_each_scaled_weight(brian: Any) -> None:
    net, x = synapses([[-256], [254]], w_exp=7)
    assert arrived(reference.run(net, x)) == [-32768, 32512]
    assert arrived(brian.run(net, x)) == [-32767, 32512]


# Time.


def test_nengo_has_no_delays(nengo: Any) -> None:
    from nengo_loihi.emulator.interface import CompartmentState

    assert CompartmentState.MAX_DELAY == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Brian2's own calls of its parser
def test_brian_has_the_delays_of_the_chip(brian: Any) -> None:
    """0..62 steps beyond the one that a synapse costs, for all synapses of a projection."""
    from brian2_loihi import LoihiNeuronGroup, LoihiSynapses

    group = LoihiNeuronGroup(1)
    with pytest.raises(Exception, match=r"delay has to be between 0 and 62"):
        LoihiSynapses(group, group, delay=63)
