"""Placement: what public compile logs say, every limit, every neuron once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from spikeport.hw import rules_place
from spikeport.hw.cost import Box, Use, Wire, arriving, leaving, powers, reached, wires
from spikeport.hw.cut import as_compiled
from spikeport.hw.place import WAYS, DoesNotFitError, Placement, Slice, place
from spikeport.hw.target import TARGETS, Target
from spikeport.sim.faults import Fault
from spikeport.sim.faults.inject import run
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LOIHI_1, LOIHI_2 = TARGETS["loihi1"], TARGETS["loihi2"]


def small(base: Target) -> Target:
    """Cores so small that small networks need several."""
    chip = replace(base.chip, neurons=6, in_axons=40, out_axons=30, synapse_words=50)
    return replace(base, chip=chip, core=replace(base.core, neuron_groups=3))


@pytest.fixture(scope="module")
def logs(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    """`benchmarks/compile_logs.py`."""
    return load_file(BENCHMARKS / "compile_logs.py")


# Cores of each layer as Intel's compiler printed them; what the benchmark says in full.
PRINTED = {
    "MNIST MLP": [3, 1, 1],
    "Oxford": [3, 2],
    "PilotNet SDNN": [25, 13, 3, 3, 2, 12, 1, 1, 1],
    "PilotNet LIF": [13, 25, 13, 3, 3, 2, 12, 1, 1, 1],
    "YOLO-KP": [224, 112, 56, 28, 56, 16, 32, 14, 32, 4],
    "num_cores_estimate, its dense layer": [3],
    "profiling_slayer_version, its dense layer": [1],
}


def test_every_log_is_compared(logs: ModuleType) -> None:
    assert [log.name for log in logs.LOGS] == list(PRINTED)


@pytest.mark.parametrize("name", PRINTED)
def test_core_counts_are_those_of_compile_logs(logs: ModuleType, name: str) -> None:
    log = next(log for log in logs.LOGS if log.name == name)
    placed = place(logs.network(log.shape, log.layers, seed=1), TARGETS[log.target])
    assert [row["cores"] for row in placed.rows()] == PRINTED[name]
    for layer, row in zip(log.layers, placed.rows(), strict=True):
        words = sum(
            c.use.synapse_words for c in placed.cores if c.populations == row["populations"]
        )
        if log.shares:
            assert 100 * row["most"].synapse_words / 16000 == pytest.approx(layer.words, abs=0.005)
        else:
            assert words // layer.cores == layer.words


def of_2022() -> Target:
    """The compiler of August 2022 by its logs: pieces start at 1024 neurons, an index has 10 bits,
    and a core 8184 words."""
    base = TARGETS["loihi2"]
    chip = replace(base.chip, neurons=1024, synapse_words=8184)
    return replace(base, chip=chip, core=replace(base.core, dense_index_formats=(10,)))


@pytest.mark.parametrize(
    ("layer", "refused", "taken"), [(0, [14600] * 3, 7400), (1, [14592] * 3 + [9472], 4864)]
)
def test_pieces_shrink_as_an_older_compiler_logged_it(
    logs: ModuleType, layer: int, refused: list[int], taken: int
) -> None:
    """The violations in netx/oxford/runLoihi.ipynb of lava-dl at 04832c98, to which nothing here
    was fitted but the three numbers of `of_2022`."""
    log = next(log for log in logs.LOGS if log.name == "Oxford")
    goal = of_2022()
    net = logs.network(log.shape, log.layers, seed=1)
    wire, n = wires(net, goal.core)[layer], net.populations[layer].size
    seen = []

    def measure(box: Box) -> Use:
        use = arriving(wire, box, goal.core)
        seen.append(use.synapse_words)
        return use

    assert as_compiled((n,), measure, goal.limits)
    assert seen == [*refused, taken]


def test_a_slice_names_its_neurons() -> None:
    part = Slice(population="a", shape=(2, 3, 4), box=((1, 2), (0, 2), (2, 4)))
    assert part.size == 4
    assert part.indices().tolist() == [14, 15, 18, 19]


def dense(n_in: int, n_out: int, *, source: str = "input") -> Projection:
    w = np.random.default_rng(n_in).integers(-128, 128, (n_out, n_in))
    return Projection(source=source, target="out", synapse=Dense(w=w))


def one_layer(n_in: int, n_out: int) -> FixedNet:
    return FixedNet(
        input=Input(shape=(n_in,)), populations=(Population(name="out", shape=(n_out,), v_th=9),),
        projections=(dense(n_in, n_out),), readout=Readout(population="out"), steps=4,
    )  # fmt: skip


def test_the_table_reads_like_intels() -> None:
    placed = place(one_layer(784, 128), TARGETS["loihi2-2024"])
    assert placed.as_text().splitlines() == [
        "              axons in  groups  neurons  synapses  axons out  cores",
        "out              4.90%  12.50%    1.22%    78.40%      0.31%      3",
        "of 128 cores                                                      3",
    ]
    assert placed.core_of("out").tolist() == [0] * 50 + [1] * 50 + [2] * 28
    assert placed.neurons()[2] == {"out": list(range(100, 128))}
    with pytest.raises(ValueError, match="there is no population 'in' in this placement"):
        placed.core_of("in")


def test_an_unknown_way() -> None:
    with pytest.raises(ValueError, match="way is 'best'; allowed are 'compiled', 'fewest'"):
        place(one_layer(2, 2), LOIHI_2, way="best")


def test_a_dead_core_is_dead() -> None:
    net = one_layer(5, 8)
    placed = place(net, small(LOIHI_2), way="fewest")
    assert len(placed.cores) == 2
    x = np.ones((4, 1, 5), np.int64)
    trace = run(net, x, [Fault(kind="core", part=1)], cores=placed.neurons())
    dead = placed.core_of("out") == 1
    assert not trace["out"].spikes[..., dead].any()


def checked(placed: Placement, net: FixedNet, target: Target) -> None:
    for p in net.populations:
        cores = placed.core_of(p.name)
        assert cores.shape == (p.size,)
        held = [i for core in placed.neurons().values() for i in core.get(p.name, [])]
        assert sorted(held) == list(range(p.size))
    for core in placed.cores:
        assert core.use.fits(target.limits)
        assert core.use.neurons == sum(part.size for part in core.slices)
        assert core.use.neuron_groups == len(core.slices)


@given(st.data(), st.sampled_from(sorted(WAYS)), st.sampled_from([LOIHI_1, LOIHI_2]))
def test_every_neuron_on_one_core_within_all_limits(
    fixed_nets: Any, data: st.DataObject, way: str, base: Target
) -> None:
    net, _ = data.draw(fixed_nets())
    target = small(base)
    try:
        placed = place(net, target, way=way)
    except DoesNotFitError:
        reject()
    checked(placed, net, target)
    assert placed == place(net, target, way=way)


@given(st.data(), st.sampled_from([LOIHI_1, LOIHI_2]))
def test_never_more_cores_than_layers_need_alone(
    fixed_nets: Any, data: st.DataObject, base: Target
) -> None:
    net, _ = data.draw(fixed_nets())
    target = small(base)
    lonely = replace(target, core=replace(target.core, neuron_groups=1))  # nothing is shared
    try:
        placed, alone = place(net, target, way="fewest"), place(net, lonely, way="fewest")
    except DoesNotFitError:
        reject()
    assert all(len(core.slices) == 1 for core in alone.cores)
    assert len(placed.cores) <= len(alone.cores)


def test_small_layers_share_what_the_busiest_core_leaves() -> None:
    net = FixedNet(
        input=Input(shape=(20,)),
        populations=tuple(Population(name=n, shape=(4,), v_th=1) for n in ("a", "b", "out")),
        projections=(
            replace(dense(20, 4), target="a"), replace(dense(4, 4, source="a"), target="b"),
            dense(4, 4, source="b"),
        ),
        readout=Readout(population="out"), steps=4,
    )  # fmt: skip
    placed = place(net, LOIHI_2, way="fewest")
    # Two words a row: 40 of 12000 make the first core the busiest, 16 the others together.
    assert [core.populations for core in placed.cores] == [("a",), ("b", "out")]
    assert placed.busiest == 40 / 12000
    assert placed.cores[1].use == Use(8, 2, 8, 16, 8)
    one = replace(LOIHI_2, core=replace(LOIHI_2.core, neuron_groups=1))
    assert len(place(net, one, way="fewest").cores) == 3


def conv_wire(source: tuple[int, int, int], w: Any, **geometry: Any) -> Wire:
    conv = Conv2d(w=w, geometry=ConvGeometry(**geometry))
    return Wire(source="a", target="b", source_shape=source, conv=conv, weight=8, delay=0)


@given(
    st.integers(3, 7), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2)
)
def test_axons_are_counted_for_every_core_that_hears(
    n: int, kernel: int, stride: int, padding: int, split: int
) -> None:
    geometry = {"stride": (stride, 1), "padding": (padding, 0)}
    wire = conv_wire((2, n, 4), np.ones((1, 2, kernel, 2)), **geometry)
    assert wire.conv is not None
    _, height, width = wire.conv.output_shape(wire.source_shape)
    cut = min(split, height)
    boxes = [((0, 1), (0, cut), (0, width)), ((0, 1), (cut, height), (0, width))]
    boxes = [box for box in boxes if box[1][0] < box[1][1]]
    heard = np.zeros((n, 4), int)
    for box in boxes:
        pixels = set()
        for y in range(*box[1]):
            for x in range(*box[2]):
                for i in range(kernel):
                    for j in range(2):
                        pixels.add((y * stride - padding + i, x + j))
        for y, x in pixels:
            if 0 <= y < n:
                heard[y, x] += 1
    found = reached(wire, boxes, LOIHI_1.core)
    np.testing.assert_array_equal(found, heard)
    whole = ((0, 2), (0, n), (0, 4))
    assert leaving(wire, whole, LOIHI_1.core, found) == 2 * heard.sum()
    assert leaving(wire, whole, LOIHI_2.core, reached(wire, boxes, LOIHI_2.core)) == 4 * n


@pytest.mark.parametrize(("base", "axons"), [(LOIHI_1, 4 * 2), (LOIHI_2, 4)])
def test_a_dense_layer_leaves_once_a_listening_core_where_nothing_multiplies_spikes(
    base: Target, axons: int
) -> None:
    """4 neurons on one core, heard by 8 on two."""
    net = FixedNet(
        input=Input(shape=(20,)),
        populations=(
            Population(name="a", shape=(4,), v_th=1), Population(name="out", shape=(8,), v_th=1)
        ),
        projections=(replace(dense(20, 4), target="a"), dense(4, 8, source="a")),
        readout=Readout(population="out"), steps=4,
    )  # fmt: skip
    few = replace(base, chip=replace(base.chip, neurons=4))
    for way in WAYS:
        placed = place(net, few, way=way)
        assert [core.populations for core in placed.cores] == [("a",), ("out",), ("out",)]
        assert placed.cores[0].use.out_axons == axons


def test_powers() -> None:
    assert [powers(n) for n in (1, 48, 36, 64)] == [[1], [32, 16], [32, 4], [64]]


def test_one_neuron_too_many_sources() -> None:
    wide = replace(LOIHI_2, chip=replace(LOIHI_2.chip, synapse_words=99, in_axons=60))
    with pytest.raises(DoesNotFitError, match="the network does not fit loihi2: population 'out'"):
        place(one_layer(100, 3), wide)
    [axons, words] = rules_place.one_neuron(
        Population(name="out", shape=(3,), v_th=1), Use(100, 1, 1, 100, 1), wide
    )
    assert str(axons) == (
        "population 'out': one neuron alone takes 100 input axons, but a core of loihi2 has 60;"
        " give it fewer sources or targets, or weights of fewer bits"
    )
    assert words.got == "one neuron alone takes 100 words of synapse memory"


def test_too_many_cores() -> None:
    assert list(rules_place.cores(128, LOIHI_2)) == []
    [issue] = rules_place.cores(129, LOIHI_2)
    assert str(issue) == (
        "network: it takes 129 cores, but there are 128 on loihi2; make it smaller or use more"
        " chips"
    )
    [board] = rules_place.cores(257, TARGETS["kapoho-bay"])
    assert board.limit == "there are 256 on the 2 chips of kapoho-bay"


def test_pools_and_delays_take_room() -> None:
    maps = Projection(
        source="input", target="pool", synapse=SumPool2d(kernel=(2, 2), stride=(2, 2))
    )
    net = FixedNet(
            input=Input(shape=(3, 4, 4)),
            populations=(
                Population(name="pool", shape=(3, 2, 2), v_th=1),
                Population(name="out", shape=(8,), v_th=1),
            ),
            projections=(maps, dense(12, 8, source="pool"), dense(48, 8)),
            readout=Readout(population="out"), steps=4,
        )  # fmt: skip

    pool, out = place(net, LOIHI_2).cores
    # 4 taps of 3 channels, one word each; 12 and 48 rows of 8 * 20 + 11 bits: 3 words each. The
    # straight path waits a step for the other, hence 6 bits more: 219 bits, 4 words.
    assert pool.use == Use(2, 1, 12, 12, 12)
    assert out.use == Use(60, 1, 8, 12 * 3 + 48 * 4, 8)


@pytest.mark.parametrize("way", WAYS)
def test_a_neuron_in_the_middle_may_be_too_much_where_the_first_is_not(way: str) -> None:
    conv = Conv2d(w=np.ones((1, 1, 3, 3)), geometry=ConvGeometry(padding=(1, 1)))
    net = FixedNet(
        input=Input(shape=(1, 5, 5)),
        populations=(Population(name="out", shape=(1, 5, 5), v_th=1),),
        projections=(Projection(source="input", target="out", synapse=conv),),
        readout=Readout(population="out"), steps=4,
    )  # fmt: skip
    few = replace(LOIHI_1, chip=replace(LOIHI_1.chip, in_axons=8))  # a corner hears 4, others 6, 9
    with pytest.raises(DoesNotFitError, match="one neuron alone takes 9 input axons"):
        place(net, few, way=way)
