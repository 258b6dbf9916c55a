"""The engine gives the reference's bits; and the properties that both must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.sim import engine, kernel, product, reference
from spikeport.sim.events import Rows
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse
from spikeport.sim.trace import Trace, first_difference

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]


def assert_same(left: Trace, right: Trace) -> None:
    difference = first_difference(left, right)
    assert difference is None, str(difference)
    assert dict(left.wraps) == dict(right.wraps)
    assert dict(left.clips) == dict(right.clips)
    for name, part in left.populations.items():
        assert np.array_equal(part.v_last, right[name].v_last)
        assert part.spikes.dtype == right[name].spikes.dtype == np.uint8
        assert part.v_last.dtype == right[name].v_last.dtype == np.int32


def one_layer(source: Input, synapse: Synapse, **settings: object) -> FixedNet:
    shape = synapse.output_shape(source.shape)
    layer = Population(name="layer", shape=shape, **{"v_th": 1000, **settings})  # type: ignore[arg-type]
    return FixedNet(
        input=source,
        populations=(layer,),
        projections=(Projection(source="input", target="layer", synapse=synapse),),
        readout=Readout(population="layer"),
        steps=6,
    )


@pytest.mark.parametrize("lava", [True, False])
@pytest.mark.parametrize("kind", [None, "dense", "conv"])
def test_equals_reference(random_net: RandomNet, kind: str | None, lava: bool) -> None:
    wraps = clips = spikes = 0
    for seed in range(40):
        net, x = random_net(seed, kind=kind, lava=lava)
        expected = reference.run(net, x)
        assert_same(expected, engine.run(net, x, record=True))
        wraps += sum(expected.wraps.values())
        clips += sum(expected.clips.values())
        spikes += expected.spike_total()
    # Small convolutions of 8-bit payloads seldom leave 24 bits; the dense ones see to that.
    assert min(wraps, clips) > (0 if kind == "conv" else 100)
    assert spikes > 1000


def test_state_is_recorded_only_on_demand(random_net: RandomNet) -> None:
    net, x = random_net(3)
    plain, full = engine.run(net, x), engine.run(net, x, record=True)
    for name, part in plain.populations.items():
        assert part.u is None
        assert part.v is None
        assert np.array_equal(part.spikes, full[name].spikes)
        assert np.array_equal(part.v_last, full[name].v_last)


@pytest.mark.parametrize(
    ("bits", "fan_in", "expected"),
    [(8, 258, "float32"), (8, 259, "float64"), (24, 300, "float64"), (24, 1 << 21, "float64"),
     (24, (1 << 21) + (1 << 14), "int64")],
)  # fmt: skip
def test_product_is_as_wide_as_the_sums_need(bits: int, fan_in: int, expected: str) -> None:
    source = Input(shape=(fan_in,), kind="graded", payload_bits=bits)
    net = one_layer(source, Dense(w=np.full((2, fan_in), [[255], [254]]), w_exp=-5))
    (step,) = engine.plan(net)
    assert (step.product, step.kernel) == (expected, "int32")
    assert step.bound == 255 * fan_in * source.largest
    x = np.random.default_rng(bits).integers(source.largest - 9, source.largest + 1, (3, 1, fan_in))
    assert_same(reference.run(net, x), engine.run(net, x, record=True))


def test_bound_counts_each_sign_alone() -> None:
    w = np.array([[100, -256, 20], [-8, -2, 255]])
    net = one_layer(Input(shape=(3,), kind="graded", payload_bits=2), Dense(w=w))
    assert engine.plan(net)[0].bound == 3 * 256  # 255 has become 254
    assert str(engine.plan(net)[0]) == (
        "input -> layer: sums up to 768 in float32, neurons in int32"
    )


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.9])
def test_spikes_are_summed_by_events_where_they_are_rare(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    rng = np.random.default_rng(8)
    w = rng.choice([-256, -255, 255, 254], (70, 90))
    net = one_layer(Input(shape=(90,)), Dense(w=w, w_exp=7), v_th=rng.integers(0, 99999, 70), du=9)
    (step,) = engine.plan(net)
    assert step.events
    assert "or by events, neurons in int32" in str(step)
    x = (rng.random((9, 7, 90)) < rate).astype(np.uint8)
    calls = []
    exact = Rows.__call__

    def counted(rows: Rows, s: NDArray[Any]) -> NDArray[Any]:
        calls.append(1)
        return exact(rows, s)

    monkeypatch.setattr(Rows, "__call__", counted)
    assert_same(reference.run(net, x), engine.run(net, x, record=True))
    assert bool(calls) == (rate < product.DENSE_EVENTS_BELOW[1])


@pytest.mark.parametrize(
    ("n_out", "bits"), [(63, 1), (70, 2)], ids=["narrow target", "graded source"]
)
def test_other_products_know_no_events(n_out: int, bits: int) -> None:
    source = Input(shape=(4,), kind="graded", payload_bits=bits)
    net = one_layer(source, Dense(w=np.ones((n_out, 4))))
    assert not engine.plan(net)[0].events


def test_convolution_beyond_24_bits_wraps_in_float64_and_float32() -> None:
    for bits, arithmetic in ((13, "float32"), (20, "float64")):
        source = Input(shape=(2, 5, 4), kind="graded", payload_bits=bits)
        geometry = ConvGeometry(stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
        w = np.random.default_rng(5).integers(150, 256, (4, 1, 3, 2))
        net = one_layer(source, Conv2d(w=w, geometry=geometry), v_th=60000, du=50, dv=9)
        assert engine.plan(net)[0].product == arithmetic
        x = np.random.default_rng(6).integers(0, source.largest + 1, (6, 3, 2, 5, 4))
        expected = reference.run(net, x)
        assert max(expected.wraps.values()) > 0
        assert_same(expected, engine.run(net, x, record=True))


def test_dense_layer_may_be_read_as_a_map() -> None:
    rng = np.random.default_rng(2)
    net = FixedNet(
        input=Input(shape=(5,)),
        populations=(
            Population(name="map", shape=(2, 3, 4), v_th=20),
            Population(name="out", shape=(1, 2, 3), v_th=30),
        ),
        projections=(
            Projection(source="input", target="map", synapse=Dense(w=rng.integers(0, 40, (24, 5)))),
            Projection(
                source="map", target="out", synapse=Conv2d(w=rng.integers(-50, 99, (1, 2, 2, 2)))
            ),
        ),
        readout=Readout(population="out"),
        steps=7,
    )
    x = rng.integers(0, 2, (7, 3, 5))
    expected = reference.run(net, x)
    assert expected["out"].spikes.any()
    assert_same(expected, engine.run(net, x, record=True))


@pytest.mark.parametrize("seed", range(4))
def test_block_size_changes_no_bit(
    random_net: RandomNet, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    net, x = random_net(seed)
    x = np.repeat(x, 3, axis=1)
    whole = engine.run(net, x, record=True)
    monkeypatch.setattr(engine, "PORTION_BYTES", 1)
    monkeypatch.setattr(product, "COLUMN_BYTES", 1)
    assert_same(whole, engine.run(net, x, record=True))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_input_of_any_type(random_net: RandomNet, dtype: type) -> None:
    seed = next(s for s in range(99) if random_net(s)[0].input.kind == "spike")
    net, x = random_net(seed)
    assert_same(engine.run(net, x, record=True), engine.run(net, x.astype(dtype), record=True))


@pytest.mark.parametrize("run", [reference.run, engine.run])
def test_input_is_refused(run: Callable[..., Trace]) -> None:
    net = one_layer(Input(shape=(3,), kind="graded", payload_bits=2), Dense(w=[[1, 2, 3]]))
    good = np.ones((2, 5, 3), np.int64)
    with pytest.raises(
        ValueError,
        match=r"^network input has shape \(2, 5\); needed is \[T, B, \*\(3,\)\], none empty$",
    ):
        run(net, good[:, :, 0])
    with pytest.raises(ValueError, match=r"^network input is 4; allowed are 0\.\.3$"):
        run(net, good * 4)
    with pytest.raises(ValueError, match=r"^network input is -1; allowed are 0\.\.3$"):
        run(net, -good)
    with pytest.raises(
        ValueError,
        match=r"^network input must hold integers, but some entries are fractions or NaN$",
    ):
        run(net, good * np.nan)


@pytest.mark.parametrize("run", [reference.run, engine.run])
def test_strict_refuses_overflow(run: Callable[..., Trace]) -> None:
    net = one_layer(Input(shape=(2,)), Dense(w=[[255, 255], [1, 1]], w_exp=7), v_th=131071, du=0)
    x = np.ones((4, 2, 2), np.int64)
    trace = run(net, x)
    assert (trace.wraps["layer"], trace.clips["layer"]) == (2, 2)
    with pytest.raises(
        OverflowError,
        match=r"^population 'layer': u wrapped 2 times and v was clipped 2 times; lower the scale"
        r" of its weights$",
    ):
        run(net, x, strict=True)
    assert run(net, x[:1], strict=True)["layer"].v_last.tolist() == [[510 << 13, 2 << 13]] * 2


# Properties


@given(seed=st.integers(0, 10_000), lava=st.booleans())
def test_batch_is_runs_of_one(random_net: RandomNet, seed: int, lava: bool) -> None:
    net, x = random_net(seed, lava=lava)
    together = engine.run(net, x, record=True)
    for b in range(x.shape[1]):
        alone = engine.run(net, x[:, b : b + 1], record=True)
        for name, part in alone.populations.items():
            for quantity in ("spikes", "u", "v"):
                found = getattr(together[name], quantity)[:, b : b + 1]
                assert np.array_equal(found, getattr(part, quantity))


@given(seed=st.integers(0, 10_000), lava=st.booleans())
def test_states_stay_in_range(random_net: RandomNet, seed: int, lava: bool) -> None:
    net, x = random_net(seed, lava=lava)
    trace = engine.run(net, x, record=True)
    for population in net.populations:
        part = trace[population.name]
        v, fired = np.asarray(part.v, np.int64), part.spikes == 1
        assert np.abs(v).max() < 1 << 23
        threshold = np.broadcast_to(population.v_th.astype(np.int64) << 6, v.shape)
        assert (v[~fired] <= threshold[~fired]).all()
        if population.reset == "zero":
            assert (v[fired] == 0).all()
        if not trace.wraps[population.name]:
            assert np.abs(np.asarray(part.u, np.int64)).max() <= 1 << 23


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 12))
def test_past_does_not_depend_on_the_future(random_net: RandomNet, seed: int, cut: int) -> None:
    net, x = random_net(seed)
    whole, part = engine.run(net, x, record=True), engine.run(net, x[:cut], record=True)
    for name, found in part.populations.items():
        assert np.array_equal(np.asarray(found.v), np.asarray(whole[name].v)[:cut])


@given(seed=st.integers(0, 10_000))
def test_permuted_neurons_permute_the_trace(random_net: RandomNet, seed: int) -> None:
    net, x = random_net(seed, kind="dense")
    last = net.populations[-1]
    order = np.random.default_rng(seed).permutation(last.size)

    def turned(value: NDArray[np.int32]) -> NDArray[np.int32]:
        return value[order] if value.ndim else value

    names = ("v_th", "du", "dv", "bias", "v_init")
    parameters: dict[str, Any] = {name: turned(getattr(last, name)) for name in names}
    population = replace(last, **parameters)
    projections = tuple(
        replace(p, synapse=replace(p.synapse, w=p.synapse.w[order]))
        if p.target == last.name and isinstance(p.synapse, Dense)
        else p
        for p in net.projections
    )
    other = replace(net, populations=(*net.populations[:-1], population), projections=projections)
    left, right = engine.run(net, x, record=True)[last.name], engine.run(other, x, record=True)
    assert np.array_equal(np.asarray(left.v)[..., order], np.asarray(right[last.name].v))
    assert np.array_equal(left.spikes[..., order], right[last.name].spikes)


# Any int32 may meet any kept fraction: the kernel must be exact far outside 24 bits too.
INT32 = st.one_of(
    st.sampled_from([-(1 << 31), (1 << 31) - 1, -1, 0, 1, 1 << 23, -(1 << 23), -4096, -4097]),
    st.integers(-(1 << 31), (1 << 31) - 1),
)


@given(x=INT32, keep=st.one_of(st.sampled_from([0, 1, 4095, 4096]), st.integers(0, 4096)))
def test_kept_part_equals_big_integers(x: int, keep: int) -> None:
    exact = abs(x) * keep // 4096 * (1 if x >= 0 else -1)
    assert kernel.kept_part(np.int32(x), np.int32(keep)) == exact


def test_kernel_runs_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cache(**settings: object) -> Callable[..., object]:
        if settings.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: ("compiled", function)

    monkeypatch.setattr(kernel, "njit", no_cache)
    assert kernel.compiled(len) == ("compiled", len)  # type: ignore[comparison-overlap]
