"""Every way of computing a product gives the same sums: by events, of bytes, of floats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product as product_of
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.sim import engine, events_kernel, product, reference, twin
from spikeport.sim.events import Rows, Taps, packed, reach
from spikeport.sim.net import FixedNet, Projection
from spikeport.sim.product import Product, prepare
from spikeport.sim.product_torch import CONV2D, INT8, Convolved, Int8, offered, split
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Shape, SumPool2d, Synapse
from spikeport.sim.trace import first_difference

# Kinds of weights: mixed and even, one sign up to the largest, odd and small, odd and large.
WEIGHTS: dict[str, tuple[int, ...]] = {
    "mixed": (-256, 254, -2, 6),
    "positive": (255, 254, 1, 0),
    "negative": (-255, -256, -1, 0),
    "bytes": (-128, 127, -1, 3),
    "odd": (-255, 255, -256, 1),
}
needs_bytes = pytest.mark.skipif(
    not offered(INT8), reason="torch's products of bytes are not exact"
)
needs_maps = pytest.mark.skipif(not offered(CONV2D), reason="torch's convolutions are not exact")


def weights(rng: np.random.Generator, kind: str, shape: Shape) -> NDArray[np.int64]:
    return rng.choice(WEIGHTS[kind], shape)


def spikes(rng: np.random.Generator, rate: float, shape: Shape) -> NDArray[np.uint8]:
    return (rng.random(shape) < rate).astype(np.uint8)


@st.composite
def convolutions(draw: Any) -> tuple[ConvGeometry, Shape, Shape]:
    """Geometry, shape of the weights, shape of the source."""
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, per_in = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    per_out = draw(st.sampled_from([1, 2, 17]))
    geometry = ConvGeometry(
        stride=draw(pair), dilation=draw(pair), groups=groups,
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
    )  # fmt: skip
    size = tuple(d * (k - 1) + 1 for d, k in zip(geometry.dilation, kernel, strict=True))
    more = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    source = (groups * per_in, size[0] + more[0], size[1] + more[1])
    return geometry, (groups * per_out, per_in, *kernel), source


# Sums by events


@given(
    n=st.integers(1, 200), count=st.integers(1, 4),
    rate=st.sampled_from([0, 0.01, 0.5, 1]), seed=st.integers(0, 999),
)  # fmt: skip
def test_packed_words_hold_the_spikes_in_order(n: int, count: int, rate: float, seed: int) -> None:
    s = spikes(np.random.default_rng(seed), rate, (count, n))
    words = packed(s)
    assert words.shape == (count, -(-n // 64))
    at = np.full(64 * words.shape[1], -1, np.int32)
    for row, found in zip(s, words, strict=True):
        size = events_kernel.ones_of(found, at)
        assert at[:size].tolist() == np.flatnonzero(row).tolist()


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.6, 1.0])
@pytest.mark.parametrize(("n_in", "n_out"), [(1, 1), (65, 64), (300, 70), (700, 130)])
def test_sums_of_rows_are_those_of_int64(kind: str, rate: float, n_in: int, n_out: int) -> None:
    rng = np.random.default_rng((n_in, n_out))
    w = weights(rng, kind, (n_out, n_in)).astype(np.int16)
    w[0] = WEIGHTS[kind][0]  # all at once: 700 times the extreme leaves int16 many times over
    s = spikes(rng, rate, (9, n_in))
    found = Rows.of(w)(s)
    assert found.dtype == np.int32
    assert np.array_equal(found, s.astype(np.int64) @ w.T.astype(np.int64))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("mixed", "int8"), ("bytes", "int8"), ("odd", "int16")]
)
def test_rows_take_the_least_memory(kind: str, dtype: str) -> None:
    assert Rows.of(np.array([WEIGHTS[kind]], np.int16)).w.dtype == dtype


def test_a_full_group_of_the_largest_weights_fits_its_registers() -> None:
    assert events_kernel.GROUP * 256 < 1 << 15 <= (events_kernel.GROUP + 1) * 256
    count = 3 * events_kernel.GROUP
    for extreme in (-256, 255):
        w = np.full((1, count), extreme, np.int16)
        w[0, 0] += 1 if extreme < 0 else 0  # odd, so that int16 rows are kept
        assert Rows.of(w)(np.ones((1, count), np.uint8)).tolist() == [[int(w.sum())]]


def test_compiled_kernels_say_what_python_does(planted: Callable[..., ModuleType]) -> None:
    """The instructions written by hand against their meaning in numpy."""
    module = planted(("sim.events_kernel", "sim.events"))
    rng = np.random.default_rng(3)
    w, s = weights(rng, "odd", (70, 130)).astype(np.int16), spikes(rng, 0.9, (2, 130))
    assert np.array_equal(module.Rows.of(w)(s), Rows.of(w)(s))
    conv = Conv2d(w=weights(rng, "odd", (34, 1, 2, 2)), geometry=ConvGeometry(groups=2))
    s = spikes(rng, 0.5, (2, 2, 4, 3))
    assert np.array_equal(module.Taps.of(conv, (2, 4, 3))(s), Taps.of(conv, (2, 4, 3))(s))


@given(case=convolutions(), rate=st.sampled_from([0, 0.1, 1]), seed=st.integers(0, 999))
def test_sums_of_taps_are_those_of_the_reference(
    case: tuple[ConvGeometry, Shape, Shape], rate: float, seed: int
) -> None:
    geometry, shape, source = case
    rng = np.random.default_rng(seed)
    conv = Conv2d(w=weights(rng, "odd", shape), geometry=geometry)
    s = spikes(rng, rate, (3, *source))
    wanted = reference.conv_sum(conv, s.astype(np.int64)).reshape(3, -1)
    assert np.array_equal(Taps.of(conv, source)(s), wanted)


def test_reach_of_a_small_map() -> None:
    """A kernel of 1 x 2, stride 2 across, one column of padding: four columns are seen by three."""
    conv = Conv2d(w=[[[[1, 2]]]], geometry=ConvGeometry(stride=(1, 2), padding=(0, 1)))
    first, to, tap = reach(conv, (1, 1, 4))
    assert first.tolist() == [0, 1, 2, 3, 4]
    assert to.tolist() == [0, 1, 1, 2]
    assert tap.tolist() == [1, 0, 1, 0]


# torch's products


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_split_into_bytes(kind: str) -> None:
    w = np.array([WEIGHTS[kind]])
    parts = split(w)
    assert all(part.dtype == np.int8 for _, part in parts)
    assert np.array_equal(sum(scale * part for scale, part in parts), w)
    assert len(parts) == (1 if kind in ("mixed", "bytes") else 2)


@needs_bytes
@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_products_of_bytes_are_those_of_int64(kind: str, rate: float) -> None:
    rng = np.random.default_rng(4)
    w = weights(rng, kind, (33, 1000))
    w[0] = WEIGHTS[kind][0]
    s = spikes(rng, rate, (17, 1000))
    found = Int8.of(w)(s)
    assert found.dtype == np.float32
    assert np.array_equal(found, s.astype(np.int64) @ w.T)


@given(case=convolutions(), kind=st.sampled_from(sorted(WEIGHTS)), rate=st.sampled_from([0.3, 1]))
def test_convolutions_of_torch_are_those_of_the_reference(
    case: tuple[ConvGeometry, Shape, Shape], kind: str, rate: float
) -> None:
    geometry, shape, source = case
    rng = np.random.default_rng(5)
    conv = Conv2d(w=weights(rng, kind, shape), geometry=geometry)
    s = spikes(rng, rate, (4, *source))
    wanted = reference.conv_sum(conv, s.astype(np.int64)).reshape(4, -1)
    assert np.array_equal(Convolved.of(conv)(s), wanted)


@pytest.mark.parametrize("one_dnn", [True, False])
def test_large_convolutions_are_exact_whichever_kernel_torch_takes(one_dnn: bool) -> None:
    """Sums up to 460,000 over 4,608 taps, of 32 samples: NNPACK's Winograd gets some wrong."""
    rng = np.random.default_rng(9)
    conv = Conv2d(w=rng.integers(100, 256, (16, 512, 3, 3)), geometry=ConvGeometry(padding=(1, 1)))
    s = spikes(rng, 0.5, (32, 512, 8, 8))
    wanted = reference.conv_sum(conv, s.astype(np.int64))
    as_tensors = torch.from_numpy(s).float(), torch.from_numpy(conv.w.astype(np.float32))
    with torch.backends.mkldnn.flags(enabled=one_dnn):
        assert offered(CONV2D)
        assert np.array_equal(Convolved.of(conv)(s), wanted.reshape(32, -1))
        assert np.array_equal(twin.convolve(*as_tensors, conv.geometry).numpy(), wanted)


@needs_bytes
def test_input_that_must_not_be_written_is_read_without_a_warning() -> None:
    s = np.ones((2, 3), np.uint8)
    s.flags.writeable = False
    assert Int8.of(np.array([[1, 2, 3]]))(s).tolist() == [[6], [6]]


@pytest.mark.parametrize("way", [INT8, CONV2D])
def test_without_torch_nothing_is_offered(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    assert not offered(way)


def changed_torch(how: str) -> ModuleType:
    """torch as the trial uses it: "right", or its sums are "wrong" by 1, or it is "missing"."""
    exact: Any = torch
    linear, conv2d = exact.ops.onednn.qlinear_pointwise, exact.nn.functional.conv2d
    more = 1 if how == "wrong" else 0
    onednn: dict[str, Any] = {"qlinear_prepack": exact.ops.onednn.qlinear_prepack}
    functional: dict[str, Any] = {}
    if how != "missing":
        onednn["qlinear_pointwise"] = lambda *arguments: linear(*arguments) + more
        functional["conv2d"] = lambda *arguments: conv2d(*arguments) + more
    module = ModuleType("torch")
    module.__dict__.update(
        ops=SimpleNamespace(onednn=SimpleNamespace(**onednn)),
        nn=SimpleNamespace(functional=SimpleNamespace(**functional)), backends=torch.backends,
        from_numpy=torch.from_numpy, zeros=torch.zeros, full=torch.full, int32=torch.int32,
        float32=torch.float32, autocast=torch.autocast,
    )  # fmt: skip
    return module


@needs_bytes
@pytest.mark.parametrize("way", [INT8, CONV2D])
@pytest.mark.parametrize("how", ["right", "wrong", "missing"])
def test_the_trial_finds_products_that_are_not_exact(
    monkeypatch: pytest.MonkeyPatch, way: str, how: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", changed_torch(how))
    assert offered(way) is (how == "right")


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="torch lacks NNPACK")
def test_the_trial_finds_nnpack_and_is_made_again_without_onednn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unswitched = changed_torch("right")
    nnpack = SimpleNamespace(flags=lambda enabled: nullcontext())
    unswitched.__dict__["backends"] = SimpleNamespace(mkldnn=torch.backends.mkldnn, nnpack=nnpack)
    monkeypatch.setitem(sys.modules, "torch", unswitched)
    with torch.backends.mkldnn.flags(enabled=True):
        assert offered(CONV2D)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not offered(CONV2D)


def test_a_convolution_leaves_the_switch_of_nnpack_as_it_was() -> None:
    conv = Conv2d(w=np.ones((1, 1, 1, 1), np.int16))
    for enabled in (True, False):
        with torch.backends.nnpack.flags(enabled=enabled):
            Convolved.of(conv)(np.ones((1, 1, 2, 2), np.uint8))
            assert torch._C._get_nnpack_enabled() is enabled


# The choice


def made(synapse: Synapse, source: Shape, *, largest: int = 1) -> Product:
    projection = Projection(source="input", target="layer", synapse=synapse)
    return prepare(projection, shape=source, largest=largest)


def force(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Make every product that can go `way` do so."""
    always = (2.0, 2.0) if way == "events" else (0.0, 0.0)
    monkeypatch.setattr(product, "DENSE_EVENTS_BELOW", always)
    monkeypatch.setattr(product, "CONV_EVENTS_BELOW", always)
    monkeypatch.setattr(product, "EVENTS_WIDTH", 1)
    monkeypatch.setattr(product, "TORCH_FROM", 0 if way in (INT8, CONV2D) else 1 << 62)
    monkeypatch.setattr(product, "TORCH_LEAST", 0)
    monkeypatch.setattr(product, "TORCH_CHANNELS", 1)


NUMPYS = ("events", "float32")
TORCHS = [
    pytest.param("dense", INT8, marks=needs_bytes),
    pytest.param("recurrent", INT8, marks=needs_bytes),
    pytest.param("conv", CONV2D, marks=needs_maps),
]


@pytest.mark.parametrize(
    ("kind", "way"), [*product_of(("dense", "conv", "recurrent"), NUMPYS), *TORCHS]
)
def test_every_way_gives_the_reference(
    monkeypatch: pytest.MonkeyPatch,
    random_net: Callable[..., tuple[FixedNet, NDArray[np.int64]]],
    way: str,
    kind: str,
) -> None:
    force(monkeypatch, way)
    taken: list[str] = []
    choose = Product.way

    def noted(self: Product, s: NDArray[Any]) -> str:
        taken.append(choose(self, s))
        return taken[-1]

    monkeypatch.setattr(Product, "way", noted)
    for seed in range(15):
        net, x = random_net(seed, kind=kind)
        wanted, found = reference.run(net, x), engine.run(net, x, record=True)
        assert first_difference(wanted, found) is None
        assert (dict(wanted.wraps), dict(wanted.clips)) == (dict(found.wraps), dict(found.clips))
    assert taken.count(way) > 10


@pytest.mark.parametrize("torchs", [(INT8, CONV2D), ()])
def test_the_choice_follows_rate_and_size(
    monkeypatch: pytest.MonkeyPatch, torchs: tuple[str, ...]
) -> None:
    monkeypatch.setattr(product, "offered", torchs.__contains__)
    rng = np.random.default_rng(6)
    dense = made(Dense(w=weights(rng, "mixed", (512, 512))), (512,))
    narrow = made(Dense(w=weights(rng, "mixed", (10, 512))), (512,))
    graded = made(Dense(w=weights(rng, "mixed", (512, 512))), (512,), largest=3)
    pool = made(SumPool2d(kernel=(2, 2), stride=(2, 2)), (16, 24, 24))
    much, few, maps = (8, 32, 512), (1, 2, 512), (8, 32, 16, 24, 24)
    by_bytes = INT8 if torchs else "float32"
    assert dense.way(spikes(rng, 0.02, much)) == "events"
    assert dense.way(spikes(rng, 0.3, much)) == (INT8 if torchs else "events")
    assert dense.way(spikes(rng, 0.3, much).astype(np.float32)) == "events"
    assert dense.way(spikes(rng, 0.9, much)) == by_bytes
    assert dense.way(spikes(rng, 0.9, few)) == "float32"  # too little for a call
    assert narrow.way(spikes(rng, 0.02, much)) == by_bytes
    assert graded.way(spikes(rng, 0.02, much)) == "float32"
    assert pool.way(spikes(rng, 0.01, maps)) == "events"
    assert pool.way(spikes(rng, 0.5, maps)) == (CONV2D if torchs else "float32")


def test_large_weights_are_left_to_products_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    p = made(Dense(w=weights(np.random.default_rng(7), "mixed", (64, 50))), (50,))
    s = np.zeros((4, 2, 50), np.uint8)
    s[..., :15] = 1  # 30 %
    assert p.way(s) == "events"
    monkeypatch.setattr(product, "CACHED_WEIGHTS", 64 * 50 - 1)
    assert p.way(s) == "float32"


def test_what_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "offered", lambda way: True)
    rng = np.random.default_rng(8)
    wide = made(Dense(w=weights(rng, "mixed", (64, 50))), (50,))
    assert (wide.torch, wide.events) == (INT8, True)
    assert made(Dense(w=weights(rng, "mixed", (64, 9))), (9,)).torch == ""  # too little
    first = made(Conv2d(w=weights(rng, "odd", (16, 1, 5, 5))), (1, 9, 9))
    assert (first.torch, first.events) == ("", True)  # one channel
    assert made(Conv2d(w=weights(rng, "odd", (16, 4, 5, 5))), (4, 9, 9)).torch == CONV2D
    monkeypatch.setattr(product, "offered", lambda way: False)
    assert wide.torch == ""


# What surrounds a call


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@needs_bytes
@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize(
    "context",
    [
        lambda: torch.autocast("cpu"),
        lambda: default_dtype(torch.float64),
        lambda: torch.device("meta"),
    ],
    ids=["autocast", "float64", "meta"],
)
def test_no_context_of_torch_changes_a_sum(context: Callable[[], Any], kind: str) -> None:
    rng = np.random.default_rng(3)
    s = (rng.random((9, 32, 6, 6)) < 0.5).astype(np.uint8)
    if kind == "dense":
        w = rng.integers(-256, 256, (5, s[0].size))
        expected = s.reshape(len(s), -1).astype(np.int64) @ w.T
        with context():
            found = Int8.of(w)(s)
    else:
        conv = Conv2d(w=rng.integers(-256, 256, (4, 32, 3, 3)).astype(np.int16))
        expected = reference.conv_sum(conv, s.astype(np.int64)).reshape(len(s), -1)
        with context():
            found = Convolved.of(conv)(s)
    assert np.array_equal(found, expected)
