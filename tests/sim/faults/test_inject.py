"""What each fault does to a run, worked out by hand on networks of a few neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.sim import reference
from spikeport.sim.faults import Fault, inject
from spikeport.sim.faults.stored import factors
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import first_difference

T = 6
# One sample; the input spikes in every step. In units of 64, v of "a" is 4, 8 > 6: it fires in
# every second step, 1, 3 and 5, and "b" fires with it.
ONES = np.ones((T, 1, 1), np.int64)


def chain(*, delay: int = 0, w: int = 4, **first: Any) -> FixedNet:
    """input -> a -> b, one neuron each; "b" fires when a spike of "a" arrives."""
    return FixedNet(
        input=Input(shape=(1,)),
        populations=(
            Population(name="a", shape=(1,), **{"v_th": 6, **first}),
            Population(name="b", shape=(1,), v_th=1, dv=4095),
        ),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=[[w]])),
            Projection(source="a", target="b", synapse=Dense(w=[[2]]), delay=delay),
        ),
        readout=Readout(population="b"),
        steps=T,
    )


def spikes(net: FixedNet, name: str, *faults: Fault) -> list[int]:
    return [int(s) for s in inject.run(net, ONES, faults)[name].spikes.reshape(-1)]


def potentials(net: FixedNet, name: str, *faults: Fault) -> list[int]:
    v = inject.run(net, ONES, faults)[name].v
    assert v is not None
    return [int(value) for value in v.reshape(-1)]


def test_without_faults() -> None:
    assert spikes(chain(), "a") == spikes(chain(), "b") == [0, 1, 0, 1, 0, 1]
    assert potentials(chain(), "a") == [256, 0, 256, 0, 256, 0]


def test_a_weight() -> None:
    # 4 becomes 4 + 8 = 12 > 6: fires at once and always.
    assert spikes(chain(), "a", Fault(kind="weight", part=0, index=0, bit=3)) == [1] * T


def test_a_threshold() -> None:
    # 6 becomes 2: 4 > 2 fires always; with bit 3, 14: 4, 8, 12, 16 fires in step 3.
    assert spikes(chain(), "a", Fault(kind="threshold", part="a", index=0, bit=2)) == [1] * T
    late = Fault(kind="threshold", part="a", index=0, bit=3)
    assert spikes(chain(), "a", late) == [0, 0, 0, 1, 0, 0]


def test_v_flips_before_its_step() -> None:
    # Step 1 finds 256 = 2**8 and loses it: from then on the neuron is one step late.
    fault = Fault(kind="v", part="a", index=0, bit=8, step=1)
    assert potentials(chain(), "a", fault) == [256, 256, 0, 256, 0, 256]
    assert spikes(chain(), "b", fault) == [0, 0, 1, 0, 1, 0]
    # Step 0 finds v_init.
    first = Fault(kind="v", part="a", index=0, bit=8, step=0)
    assert spikes(chain(), "a", first) == [1, 0, 1, 0, 1, 0]
    assert spikes(chain(v_init=256), "a", first) == [0, 1, 0, 1, 0, 1]


def test_the_sign_of_v() -> None:
    # 256 - 2**23, and nothing brings it back to the threshold.
    fault = Fault(kind="v", part="a", index=0, bit=23, step=1)
    expected = [256, *(512 - 2**23 + 256 * i for i in range(5))]
    assert potentials(chain(), "a", fault) == expected


def test_u_flips_before_it_decays() -> None:
    # u keeps a half: 1024 becomes 512, 256, 128, all of which enters v; nothing else does.
    net = chain(w=0, du=2047, v_th=1000)
    fault = Fault(kind="u", part="a", index=0, bit=10, step=2)
    trace = inject.run(net, ONES, [fault])["a"]
    assert trace.u is not None
    assert trace.u.reshape(-1).tolist() == [0, 0, 512, 256, 128, 64]
    assert potentials(net, "a", fault) == [0, 0, 512, 768, 896, 960]


def test_a_current_without_memory_forgets_its_flip() -> None:
    fault = Fault(kind="u", part="a", index=0, bit=22, step=1)
    assert (
        first_difference(inject.run(chain(), ONES, [fault]), reference.run(chain(), ONES)) is None
    )


def test_a_stuck_neuron_sends_always_and_lives_on() -> None:
    fault = Fault(kind="stuck", part="a", index=0)
    assert spikes(chain(), "a", fault) == spikes(chain(), "b", fault) == [1] * T
    assert potentials(chain(), "a", fault) == [256, 0, 256, 0, 256, 0]


def test_a_dead_neuron_sends_nothing_and_reads_zero() -> None:
    fault = Fault(kind="dead", part="a", index=0)
    assert spikes(chain(), "a", fault) == spikes(chain(), "b", fault) == [0] * T
    assert potentials(chain(), "a", fault) == [0] * T
    stuck = Fault(kind="stuck", part="a", index=0)
    assert spikes(chain(), "a", fault, stuck) == spikes(chain(), "a", stuck, fault) == [0] * T


def test_a_dead_core() -> None:
    trace = inject.run(
        chain(), ONES, [Fault(kind="core", part=3)], cores={3: {"a": [0]}, 4: {"b": [0]}}
    )
    assert trace.spike_total() == 0
    alive = inject.run(
        chain(), ONES, [Fault(kind="core", part=4)], cores={3: {"a": [0]}, 4: {"b": [0]}}
    )
    assert alive["a"].spikes.any()


def test_spikes_lost_or_counted_twice_on_their_way() -> None:
    lost = Fault(kind="dropped", part=0, index=0, rate=1, seed=0)
    assert spikes(chain(), "a", lost) == [0] * T
    # 8 a step instead of 4.
    twice = Fault(kind="duplicated", part=0, index=0, rate=1, seed=0)
    assert spikes(chain(), "a", twice) == [1] * T
    four = Fault(kind="duplicated", part=0, index=0, rate=1, seed=1)
    # 16 a step, counted twice by two faults.
    assert potentials(chain(v_th=1000), "a", twice, four)[0] == 16 * 64
    assert spikes(chain(), "a", twice, lost) == [0] * T


def test_what_is_lost_is_drawn_for_the_step_in_which_it_was_sent() -> None:
    net, late = chain(v_th=3), chain(v_th=3, delay=2)  # "a" fires in every step
    x = np.ones((T, 5, 1), np.int64)
    fault = Fault(kind="dropped", part=1, index=0, rate=0.5, seed=8)
    arrived = factors(fault, steps=T, batch=5).T
    assert 0 < arrived.sum() < arrived.size
    assert (inject.run(net, x, [fault])["b"].spikes[:, :, 0] == arrived).all()
    assert (inject.run(late, x, [fault])["b"].spikes[2:, :, 0] == arrived[:-2]).all()


def test_only_the_neuron_that_is_meant_and_every_sample() -> None:
    net = FixedNet(
        input=Input(shape=(1,)),
        populations=(Population(name="a", shape=(3,), v_th=6),),
        projections=(Projection(source="input", target="a", synapse=Dense(w=[[4], [4], [4]])),),
        readout=Readout(population="a"),
        steps=T,
    )
    fault = Fault(kind="v", part="a", index=1, bit=8, step=1)
    found = inject.run(net, np.ones((T, 2, 1), np.int64), [fault])["a"].spikes
    for sample in range(2):
        assert found[:, sample, 1].tolist() == [0, 0, 1, 0, 1, 0]
        for other in (0, 2):
            assert found[:, sample, other].tolist() == [0, 1, 0, 1, 0, 1]


def test_the_input_is_checked() -> None:
    with pytest.raises(ValueError, match=r"network input is 2; allowed are 0\.\.1"):
        inject.run(chain(), 2 * ONES, [])


@given(data=st.data())
def test_no_fault_is_the_reference(data: st.DataObject, fixed_nets: Callable[[], Any]) -> None:
    net, x = data.draw(fixed_nets())
    assert first_difference(inject.run(net, x, []), reference.run(net, x)) is None
