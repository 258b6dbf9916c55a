"""What cores and links do, counted spike by spike in another way, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spikeport.hw import mesh
from spikeport.hw.activity import NAMES, Activity, activity
from spikeport.hw.cost import wires
from spikeport.hw.fanout import fanouts
from spikeport.hw.place import DoesNotFitError, Placement, Slice, place
from spikeport.hw.target import TARGETS, Target
from spikeport.sim import engine
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d
from spikeport.sim.trace import Trace

LOIHI_1, LOIHI_2 = TARGETS["loihi1"], TARGETS["loihi2"]


def small(base: Target, *, neurons: int = 7, cores: int = 128) -> Target:
    """Cores so small that small networks need several."""
    return replace(base, chip=replace(base.chip, neurons=neurons, cores=cores))


def connections(net: FixedNet, projection: Projection) -> list[tuple[int, int, int]]:
    """Every stored synapse (source neuron, target neuron, weight), by the definition of a
    convolution, one output and one tap after the other."""
    synapse: Any = projection.synapse
    shape = net.shape_of(projection.source)
    if isinstance(synapse, Dense):
        return [(j, i, int(w)) for (i, j), w in np.ndenumerate(synapse.w_chip)]
    if isinstance(synapse, SumPool2d):
        synapse = synapse.as_conv(shape[0])
    g, w = synapse.geometry, synapse.w
    out, inside, kh, kw = w.shape
    to = synapse.output_shape(shape)
    found = []
    for o, y, x in np.ndindex(*to):
        group = o // (out // g.groups)
        for c, ky, kx in np.ndindex(inside, kh, kw):
            at_y = y * g.stride[0] - g.padding[0] + ky * g.dilation[0]
            at_x = x * g.stride[1] - g.padding[1] + kx * g.dilation[1]
            if 0 <= at_y < shape[1] and 0 <= at_x < shape[2]:
                j = np.ravel_multi_index((group * inside + c, at_y, at_x), shape)
                i = np.ravel_multi_index((o, y, x), to)
                found.append((int(j), int(i), int(w[o, c, ky, kx])))
    return found


def counted(net: FixedNet, x: Any, trace: Trace, placement: Placement) -> dict[str, Counter[Any]]:
    """{name: {(chip step, sample, core): count}}, event by event."""
    found: dict[str, Counter[Any]] = {name: Counter() for name in (*NAMES, "links", "tiles")}
    homes = {p.name: placement.core_of(p.name) for p in net.populations}
    size = placement.target.chip.cores
    last = len(x) + max(net.depths.values())
    for p in net.populations:
        part: Any = trace[p.name]
        d = net.depths[p.name]
        bias = np.broadcast_to(p.bias_shifted, p.size)
        start = np.broadcast_to(p.v_init, p.size)
        for s, b, n in np.ndindex(last, x.shape[1], p.size):
            key, t = (s, b, int(homes[p.name][n])), s - d
            alive = bool(bias[n])
            if 0 <= t < len(x):
                before = part.v[t - 1, b, n] if t else start[n]
                after = part.v[t, b, n] or part.u[t, b, n]
                alive = alive or bool(before) or bool(after)
                found["spikes"][key] += int(part.spikes[t, b, n])
            found["active"][key] += alive
    for projection in net.projections:
        source, d = projection.source, net.depths[projection.source]
        reach: dict[int, list[tuple[int, int]]] = {}
        for j, i, w in connections(net, projection):
            reach.setdefault(j, []).append((int(homes[projection.target][i]), w))
        values = x if source == "input" else trace[source].spikes
        values = np.asarray(values).reshape(*x.shape[:2], -1)
        kind = "dense" if isinstance(projection.synapse, Dense) else "conv"
        for t, b, j in np.argwhere(values).tolist():
            s = t + d
            for core, w in reach.get(j, []):
                found[kind][s, b, core] += 1
                found["effective"][s, b, core] += w != 0
                graded = source == "input" and net.input.kind == "graded"
                found["macs"][s, b, core] += graded and w != 0
            for core in {core for core, _ in reach.get(j, [])}:
                if source == "input":
                    found["outside"][s, b, core] += 1
                    continue
                start_core = int(homes[source][j])
                found["received"][s, b, core] += 1
                found["sent"][s, b, start_core] += 1
                a, z = ((c % size) // 4 for c in (start_core, core))
                if start_core // size != core // size:
                    found["left"][s, b, start_core] += 1
                else:
                    found["hops_x"][s, b, start_core] += abs(a % 8 - z % 8)
                    found["hops_y"][s, b, start_core] += abs(a // 8 - z // 8)
                    first = -(-size // 4) * (start_core // size)  # tile of this chip
                    for here, there in walked(a, z):
                        found["tiles"][s, b, (first + here, first + there)] += 1
                if start_core != core:
                    found["links"][s, b, ("core", start_core)] += 1
    return found


def walked(tile: int, goal: int) -> Iterator[tuple[int, int]]:
    """Steps from tile to tile in rows of 8, along the row first."""
    while tile != goal:
        across = (goal % 8 > tile % 8) - (goal % 8 < tile % 8)
        step = across or (8 if goal > tile else -8)
        yield tile, tile + step
        tile += step


def compare(found: Activity, expected: dict[str, Counter[Any]]) -> None:
    for name in set(NAMES) - {"words"}:
        wanted = np.zeros_like(getattr(found, name))
        for key, count in expected[name].items():
            wanted[key] = count
        np.testing.assert_array_equal(getattr(found, name), wanted, err_msg=name)
    leaving: Counter[Any] = Counter()
    for (start, _), messages in found.links.items():
        for (t, b), n in np.ndenumerate(messages):
            leaving[(t, b, start)] += int(n)
    leaving = Counter({key: n for key, n in leaving.items() if n and key[2][0] == "core"})
    assert leaving == +expected["links"]
    between = {
        (t, b, (start[1], end[1])): n
        for (start, end), messages in found.links.items()
        for (t, b), n in np.ndenumerate(messages)
        if start[0] == end[0] == "tile" and n
    }
    assert between == +expected["tiles"]


@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from([None, "dense", "conv", "recurrent", "delay"]),
    base=st.sampled_from([LOIHI_1, LOIHI_2]),
    way=st.sampled_from(["compiled", "fewest"]),
    neurons=st.integers(3, 40),
    cores=st.sampled_from([3, 8, 128]),
)
def test_counts_are_those_of_single_events(
    random_net: Any, seed: int, kind: str | None, base: Target, way: str, neurons: int, cores: int
) -> None:
    net, x = random_net(seed, kind=kind, lava=False)
    trace = engine.run(net, x, record=True)
    try:
        placement = place(net, small(base, neurons=neurons, cores=cores), way=way)
    except DoesNotFitError:
        assume(False)
    compare(activity(net, x, trace, placement), counted(net, x, trace, placement))


def chain(*, kind: str = "spike") -> FixedNet:
    """Maps of 2 x 4 x 4, a convolution to 3 x 4 x 4, a pool to 3 x 2 x 2, 5 dense neurons."""
    rng = np.random.default_rng(0)
    same = ConvGeometry(padding=(1, 1))
    return FixedNet(
        input=Input(shape=(2, 4, 4), kind=kind, payload_bits=4 if kind == "graded" else 1),
        populations=(
            Population(name="conv", shape=(3, 4, 4), v_th=100),
            Population(name="pool", shape=(3, 2, 2), v_th=1),
            Population(name="dense", shape=(5,), v_th=10),
        ),
        projections=(
            Projection(
                source="input",
                target="conv",
                synapse=Conv2d(w=rng.integers(-9, 100, (3, 2, 3, 3)), geometry=same),
            ),
            Projection(
                source="conv", target="pool", synapse=SumPool2d(kernel=(2, 2), stride=(2, 2), w=4)
            ),
            Projection(
                source="pool", target="dense", synapse=Dense(w=2 * rng.integers(-3, 50, (5, 12)))
            ),
        ),
        readout=Readout(population="dense"),
        steps=3,
    )


def whole(net: FixedNet, name: str) -> Slice:
    shape = net.shape_of(name)
    return Slice(population=name, shape=shape, box=tuple((0, n) for n in shape))


@pytest.mark.parametrize("target", [LOIHI_1, LOIHI_2])
def test_a_dense_row_is_read_as_it_is_placed(target: Target) -> None:
    """One spike of every source reads all the memory that the layer takes."""
    net = chain()
    dense: Any = net.projections[2].synapse
    core = place(net, target).cores[-1]
    wire = wires(net, target.core)[2]
    [found] = fanouts(dense, wire, [whole(net, "dense")], target.core)
    assert found[3].sum() == core.use.synapse_words


def test_words_of_a_convolution_by_hand() -> None:
    """An inner pixel sees nine taps of three 7-bit weights, stored in 8, and 10 bits of header."""
    net = chain()
    conv: Any = net.projections[0].synapse
    lists = {}
    for target in (LOIHI_1, LOIHI_2):
        wire = wires(net, target.core)[0]
        [lists[target.name]] = fanouts(conv, wire, [whole(net, "conv")], target.core)
        assert wire.weight == 8
    # Loihi 2: a list a tap and block, blocks of 2 and 1 of the 3 channels, a word each.
    np.testing.assert_array_equal(lists["loihi2"][3, 0, 1], [2 * 6, 2 * 9, 2 * 9, 2 * 6])
    # Loihi 1: one list, 8 bits of weight and 6 of index: 27 * 14 + 10 bits are 7 words, 18 are 5,
    # and of a corner 12 are 3.
    np.testing.assert_array_equal(lists["loihi1"][3, 0, 1], [5, 7, 7, 5])
    np.testing.assert_array_equal(lists["loihi1"][3, 0, 0], [3, 5, 5, 3])


def test_words_of_a_placed_convolution_by_hand() -> None:
    """Loihi 1 keeps a list for each set of taps: of 3 x 3 taps a row or column of 4 is seen by two,
    all three, and two others. 2 x 3 channels, 8 bits of weight, 6 of index, 10 of header."""
    use = place(chain(), LOIHI_1).cores[0].use
    four, six, nine = (-(-(6 * taps * 14 + 10) // 64) for taps in (4, 6, 9))
    assert use.synapse_words == 4 * four + 4 * six + nine
    assert use.in_axons == 16


def only(conv: Conv2d, shape: tuple[int, int, int]) -> FixedNet:
    """One convolution of binary input."""
    return FixedNet(
        input=Input(shape=shape),
        populations=(Population(name="out", shape=conv.output_shape(shape), v_th=1),),
        projections=(Projection(source="input", target="out", synapse=conv),),
        readout=Readout(population="out"),
        steps=2,
    )


def test_an_index_is_as_wide_as_its_largest_number() -> None:
    """64 neurons are numbered 0 to 63, in 6 bits: 64 synapses of 8 + 6 bits and 10 are 15 words."""
    w = np.full((64, 1, 1, 1), 255)
    net = only(Conv2d(w=w, geometry=ConvGeometry()), (1, 1, 1))
    assert place(net, LOIHI_1).cores[0].use.synapse_words == 15


def test_each_group_counts_its_own_channels() -> None:
    """Two groups of two channels each; rows of w are outputs, columns the group's own inputs."""
    w = np.array([[1, 0], [1, 0], [1, 1], [0, 1]]).reshape(4, 2, 1, 1)
    conv = Conv2d(w=w, geometry=ConvGeometry(groups=2))
    net = only(conv, (4, 1, 1))
    for target in (LOIHI_1, LOIHI_2):
        [wire] = wires(net, target.core)
        [found] = fanouts(conv, wire, [whole(net, "out")], target.core)
        assert found.reshape(4, 4)[:3].tolist() == [[1] * 4, [2] * 4, [2, 0, 1, 2]]


def test_a_way_by_hand() -> None:
    """From core 2, in the first tile, to core 70, tile 17: one column right, two rows down."""
    found = mesh.way(2, 70, 128)
    tiles = [("tile", n) for n in (0, 1, 9, 17)]
    nodes = [("core", 2), *tiles, ("core", 70)]
    assert found.links == tuple(pairwise(nodes))
    assert (found.hops_x, found.hops_y, found.leaves_chip) == (1, 2, False)
    back = mesh.way(70, 2, 128)
    assert [a for a, _ in back.links] == [("core", 70), *(("tile", n) for n in (17, 16, 8, 0))]


@pytest.mark.parametrize("cores", [3, 20, 33, 100, 122, 128])
def test_every_way_goes_from_neighbour_to_neighbour(cores: int) -> None:
    """On the second of two chips, along the row first, within the chip; also where the last row of
    tiles has no cores at its end, in which messages from it turn."""
    for start, end in product(range(cores, 2 * cores, 4), repeat=2):
        found = mesh.way(start, end, cores)
        steps = [link for link in found.links if link[0][0] == link[1][0] == "tile"]
        places = [[mesh.position(tile, cores) for _, tile in link] for link in steps]
        moves = [(z[1] - a[1], z[2] - a[2]) for a, z in places]
        own, to = start % cores // 4, end % cores // 4
        down, right = to // 8 - own // 8, to % 8 - own % 8
        assert all(chip == 1 for link in places for chip, _, _ in link)
        across = [(0, 1 if right > 0 else -1)] * abs(right)
        assert moves == across + [(1 if down > 0 else -1, 0)] * abs(down)
        assert (found.hops_x, found.hops_y) == (abs(right), abs(down))


def test_chips_follow_one_another() -> None:
    assert mesh.tile_of(127, 128) == 31
    assert mesh.tile_of(128, 128) == 32
    assert mesh.position(33, 128) == (1, 0, 1)
    assert mesh.tile_of(121, 122) == 30  # of 122 cores the last tile in use holds two
    assert mesh.position(mesh.tile_of(122, 122), 122) == (1, 0, 0)
    assert mesh.way(127, 128, 128) == mesh.Way(
        links=((("core", 127), ("tile", 31)), (("tile", 32), ("core", 128))),
        hops_x=0, hops_y=0, leaves_chip=True,
    )  # fmt: skip


def test_a_trace_without_potentials_is_refused() -> None:
    net = chain()
    x = np.ones((3, 1, 2, 4, 4), np.int64)
    with pytest.raises(ValueError, match="holds no u and v of population 'conv'; run it again"):
        activity(net, x, engine.run(net, x), place(net, LOIHI_1))


def test_the_trace_of_another_run_is_refused() -> None:
    net = chain()
    x = np.ones((3, 2, 2, 4, 4), np.int64)
    other = engine.run(net, x[:, :1], record=True)
    with pytest.raises(ValueError, match="give the input and its own run"):
        activity(net, x, other, place(net, LOIHI_1))
