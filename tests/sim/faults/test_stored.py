"""What bits stand for, against tables written by hand and the chip's own programming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.arith import weight_on_chip
from spikeport.sim.faults import Fault, faulty, inject
from spikeport.sim.faults.stored import factors, flipped_state, flipped_weights, format_of
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, Dense, SumPool2d, Synapse
from spikeport.sim.trace import first_difference


def wired(synapse: Synapse, *, v_th: Any = 100) -> FixedNet:
    """One population behind `synapse`, driven by the input."""
    shape = (int(np.shape(synapse.w)[1]),) if isinstance(synapse, Dense) else (1, 3, 3)
    return FixedNet(
        input=Input(shape=shape),
        populations=(Population(name="a", shape=synapse.output_shape(shape), v_th=v_th),),
        projections=(Projection(source="input", target="a", synapse=synapse),),
        readout=Readout(population="a"),
        steps=4,
    )


def flip(w: Any, index: int, bit: int) -> NDArray[np.int64]:
    """Stored weights of a dense matrix `w` after a flip, in C order."""
    net = wired(Dense(w=w))
    fault = Fault(kind="weight", part=0, index=index, bit=bit)
    return flipped_weights(net, [fault])[0].reshape(-1)


@pytest.mark.parametrize(
    ("w", "bit", "expected"),
    [
        # Both signs: half the weight in two's complement. 6 -> 00000011, -4 -> 11111110.
        ([[6, -4]], 0, [4, -4]),
        ([[6, -4]], 1, [2, -4]),
        ([[6, -4]], 2, [14, -4]),
        ([[6, -4]], 6, [6 + 128, -4]),
        ([[6, -4]], 7, [6 - 256, -4]),
        # 3 and -3 are stored as 2 and -4 before anything flips.
        ([[3, -3]], 0, [0, -4]),
        ([[-3, 3]], 7, [252, 2]),
        # One sign: the byte is the magnitude, and its highest bit is no sign.
        ([[5, 0]], 7, [5 + 128, 0]),
        ([[5, 0]], 0, [4, 0]),
        ([[-5, 0]], 7, [-5 - 128, 0]),
        ([[-5, 0]], 1, [-7, 0]),
        ([[-5, 0]], 0, [-4, 0]),
        # Clipped to what a byte holds before anything flips.
        ([[-256, 0]], 0, [-254, 0]),
        ([[0, 0]], 3, [8, 0]),
    ],
)
def test_dense_bits(w: Any, bit: int, expected: list[int]) -> None:
    assert flip(w, 0, bit).tolist() == expected


@pytest.mark.parametrize(
    ("w", "expected"),
    [
        # (weights, the first one after each of its bits 0..7 has flipped)
        ([3, -128], [2, 1, 7, 11, 19, 35, 67, 3 - 128]),
        ([-1, 127], [-2, -3, -5, -9, -17, -33, -65, 127]),
        ([130, -2], [128, 134, 138, 146, 162, 194, 2, 130 - 256]),
        ([3, 200], [2, 1, 7, 11, 19, 35, 67, 131]),
        ([-3, -200], [-2, -1, -7, -11, -19, -35, -67, -131]),
        ([-256, 0], [-254, -252, -248, -240, -224, -192, -128, 0]),
    ],
)
def test_convolution_bits(w: list[int], expected: list[int]) -> None:
    net = wired(Conv2d(w=np.reshape(w, (1, 1, 1, 2))))
    for bit, value in enumerate(expected):
        found = flipped_weights(net, [Fault(kind="weight", part=0, index=0, bit=bit)])[0]
        assert found.reshape(-1).tolist() == [value, w[1]]


def test_a_convolution_that_no_core_holds() -> None:
    for w in ([129, -1], [-129, 2], [-256, -1]):
        net = wired(Conv2d(w=np.reshape(w, (1, 1, 1, 2))))
        with pytest.raises(ValueError, match="some odd, which no eight bits hold; a core holds"):
            format_of(net.projections[0])


def test_the_one_weight_of_a_pool() -> None:
    net = wired(SumPool2d(kernel=(2, 2), stride=(1, 1), w=64))
    changed = faulty(net, [Fault(kind="weight", part=0, index=0, bit=0)])
    assert changed.projections[0].synapse == SumPool2d(kernel=(2, 2), stride=(1, 1), w=65)


matrices = hnp.arrays(np.int64, (2, 3), elements=st.integers(-256, 255))
edges = hnp.arrays(np.int64, (2, 2), elements=st.sampled_from([-256, -255, -2, -1, 0, 1, 2, 255]))


@given(w=st.one_of(matrices, edges), index=st.integers(0, 3), bit=st.integers(0, 7))
def test_one_bit_flips_one_weight_and_back(w: Any, index: int, bit: int) -> None:
    before = weight_on_chip(w).reshape(-1)
    after = flip(w, index, bit)
    assert np.flatnonzero(before != after).tolist() == [index]
    # The step is that bit's value: twice it with both signs.
    mixed = w.min() < 0 < w.max()
    assert abs(int(after[index] - before[index])) == (2 if mixed else 1) << bit
    fault = Fault(kind="weight", part=0, index=index, bit=bit)
    twice = flipped_weights(wired(Dense(w=w)), [fault, fault])[0]
    assert (twice.reshape(-1) == before).all()


@given(w=st.one_of(matrices, edges), index=st.integers(0, 3), bit=st.integers(0, 7))
def test_programming_the_faulty_network_stores_the_flipped_weights(
    w: Any, index: int, bit: int
) -> None:
    net = wired(Dense(w=w, w_exp=-1))
    fault = Fault(kind="weight", part=0, index=index, bit=bit)
    wanted = flipped_weights(net, [fault])[0]
    if wanted.max() < 0 and wanted.min() == -256:
        with pytest.raises(ValueError, match="all weights are negative and one is -256, which"):
            faulty(net, [fault])
        return
    synapse: Any = faulty(net, [fault]).projections[0].synapse
    assert (synapse.w_chip == wanted).all()
    assert synapse.w_exp == -1


def test_minus_256_survives_the_loss_of_the_only_positive_weight() -> None:
    # 2 is stored as 1 and loses its only bit; -256 would become -255 in a matrix of one sign.
    fault = Fault(kind="weight", part=0, index=0, bit=0)
    synapse: Any = faulty(wired(Dense(w=[[2, -256]])), [fault]).projections[0].synapse
    assert synapse.w_chip.tolist() == [[0, -256]]


def test_flipped_thresholds() -> None:
    net = wired(Dense(w=[[1], [1]]))
    assert faulty(net, [Fault(kind="threshold", part="a", index=0, bit=16)]).population(
        "a"
    ).v_th.tolist() == 100 + (1 << 16)
    each = wired(Dense(w=[[1], [1]]), v_th=[4, 5])
    faults = [Fault(kind="threshold", part="a", index=1, bit=bit) for bit in (0, 1)]
    assert faulty(each, faults).population("a").v_th.tolist() == [4, 6]
    assert each.population("a").v_th.tolist() == [4, 5]


def test_no_network_stands_for_a_fault_that_passes() -> None:
    net = wired(Dense(w=[[1]]))
    with pytest.raises(ValueError, match="no network stands for it; run it with"):
        faulty(net, [Fault(kind="dead", part="a", index=0)])


HALF = 1 << 23


@pytest.mark.parametrize(
    ("kind", "state", "bit", "expected"),
    [
        ("u", 0, 0, 1),
        ("u", 5, 2, 1),
        ("u", -1, 0, -2),
        ("u", 1, 23, 1 - HALF),
        ("u", -1, 23, HALF - 1),
        ("u", 0, 23, HALF),  # the pattern -2**23 reads as 2**23, as after a wrap
        ("u", HALF, 23, 0),
        ("u", HALF, 0, 1 - HALF),
        ("u", 3 * HALF + 64, 0, 65 - HALF),  # beyond 24 bits after a far wrap
        ("v", 0, 23, 1 - HALF),  # what saturation makes of -2**23
        ("v", HALF - 1, 22, HALF // 2 - 1),
        ("v", 1 - HALF, 0, 1 - HALF),  # -2**23 again
        ("v", 1 - HALF, 23, 1),
        ("v", 640, 7, 512),
    ],
)
def test_flipped_states(kind: str, state: int, bit: int, expected: int) -> None:
    assert flipped_state(kind, np.array([state]), bit).tolist() == [expected]


def test_spikes_are_hit_at_their_rate_and_a_sample_keeps_its_draws() -> None:
    fault = Fault(kind="dropped", part=0, index=0, rate=0.25, seed=3)
    found = factors(fault, steps=50, batch=400)
    assert set(np.unique(found)) == {0, 1}
    # Standard deviation of the share: sqrt(0.25 * 0.75 / 20000) = 0.003.
    assert abs((found == 0).mean() - 0.25) < 0.015
    assert (factors(fault, steps=50, batch=7) == found[:7]).all()
    assert (factors(fault, steps=50, batch=7, first=30) == found[30:37]).all()
    twice = Fault(kind="duplicated", part=0, index=0, rate=0.25, seed=3)
    assert (factors(twice, steps=50, batch=7) == np.where(found[:7] == 0, 2, 1)).all()
    other = Fault(kind="dropped", part=0, index=0, rate=0.25, seed=4)
    assert (factors(other, steps=50, batch=400) != found).any()


def test_only_spikes_have_a_rate() -> None:
    with pytest.raises(ValueError, match="has no rate; only spikes are dropped or duplicated"):
        factors(Fault(kind="dead", part="a", index=0), steps=2, batch=2)


@given(data=st.data())
def test_permanent_faults_are_another_network(
    data: st.DataObject, fixed_nets: Callable[[], Any], fault_lists: Callable[..., Any]
) -> None:
    net, x = data.draw(fixed_nets())
    faults = [f for f in data.draw(fault_lists(net, len(x))) if f.kind in ("weight", "threshold")]
    wanted = flipped_weights(net, faults).values()
    if all(w.max() >= 0 or w.min() > -256 for w in wanted):
        trace = reference.run(faulty(net, faults), x)
        assert first_difference(inject.run(net, x, faults), trace) is None
