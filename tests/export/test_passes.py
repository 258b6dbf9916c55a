"""Composition: one stage equals the chain it came from, borders and biases included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeport.export import passes
from spikeport.export.convolutions import regrouped, ungrouped
from spikeport.export.passes import Chain, Gain, Stage, as_dense, composed, scaled
from spikeport.sim.synapse import (
    ConvGeometry,
    FloatConv2d,
    FloatDense,
    FloatSumPool2d,
    Pair,
    Shape,
)


def pair(rng: np.random.Generator, low: int, high: int) -> Pair:
    y, x = rng.integers(low, high, 2)
    return int(y), int(x)


def random_stage(rng: np.random.Generator, source: Shape) -> Stage:
    """A convolution or pool with nothing at its default."""
    kernel = pair(rng, 1, 4)
    stride = pair(rng, 1, 3)
    synapse: FloatConv2d | FloatSumPool2d
    if rng.random() < 0.5:
        groups = int(rng.choice([1, 2]))
        geometry = ConvGeometry(
            stride=stride,
            padding=pair(rng, 0, 3),
            dilation=pair(rng, 1, 3),
            groups=groups,
        )
        w = rng.normal(size=(2 * int(rng.integers(1, 3)), source[0] // groups, *kernel))
        synapse = FloatConv2d(w=w, geometry=geometry)
    else:
        padding = (kernel[0] // 2, kernel[1] // 2) if rng.random() < 0.3 else (0, 0)
        synapse = FloatSumPool2d(
            kernel=kernel,
            stride=kernel if rng.random() < 0.6 else stride,
            padding=padding,
            w=float(rng.normal()),
        )
    stage = Stage(source=source, synapse=synapse, name="s")
    return replace(stage, bias=rng.normal(size=int(np.prod(stage.target))))


def random_gain(rng: np.random.Generator, source: Shape) -> Gain:
    """One factor for all, one a channel, or one a value, zeros included."""
    each = rng.normal(size=source) * rng.integers(0, 2, source)
    factor = [np.array(-1.5), np.broadcast_to(each[:, :1, :1], source), each][rng.integers(0, 3)]
    return Gain(source=source, factor=factor.reshape(-1) if factor.ndim else factor, name="g")


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(0, 3), dense=st.booleans())
def test_one_stage_equals_the_chain(seed: int, length: int, dense: bool) -> None:
    rng = np.random.default_rng(seed)
    source: Shape = (2, int(rng.integers(4, 10)), int(rng.integers(4, 10)))
    chain: Chain = ()
    shape = source
    for _ in range(length):
        if rng.random() < 0.4:
            chain = (*chain, random_gain(rng, shape))
        try:
            chain = (*chain, random_stage(rng, shape))
        except ValueError:  # a kernel larger than the map
            continue
        shape = chain[-1].target
    if rng.random() < 0.4:
        chain = (*chain, random_gain(rng, shape))
    if dense:
        n = int(np.prod(shape))
        w = FloatDense(w=rng.normal(size=(3, n)))
        chain = (*chain, Stage(source=shape, synapse=w, bias=rng.normal(size=3)))
    x = rng.normal(size=(4, *source))
    expected = x
    for link in chain:
        expected = link(expected)
    found = composed(source, chain)(x)
    assert found.reshape(4, -1) == pytest.approx(expected.reshape(4, -1), rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
def test_scaling_and_dense_form_change_no_output(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stage = random_stage(rng, (2, 6, 7))
    x = rng.normal(size=(3, 2, 6, 7))
    gain = rng.normal(size=int(np.prod(stage.target)))
    assert as_dense(stage)(x).reshape(3, -1) == pytest.approx(stage(x).reshape(3, -1), abs=1e-9)
    assert scaled(stage, gain)(x).reshape(3, -1) == pytest.approx(
        stage(x).reshape(3, -1) * gain, abs=1e-9
    )
    one = scaled(stage, np.array(-1.5))
    assert type(one.synapse) is type(stage.synapse)
    assert one(x) == pytest.approx(-1.5 * stage(x), abs=1e-9)


def pool(source: Shape, kernel: tuple[int, int]) -> Stage:
    area = kernel[0] * kernel[1]
    synapse = FloatSumPool2d(kernel=kernel, stride=kernel, w=1 / area)
    return Stage(source=source, synapse=synapse, name="pool")


def padded_conv(source: Shape) -> Stage:
    w = np.arange(36.0).reshape(2, 2, 3, 3)
    synapse = FloatConv2d(w=w, geometry=ConvGeometry(padding=(1, 1)))
    return Stage(source=source, synapse=synapse, name="conv")


def conv_weights(stage: Stage) -> NDArray[np.float64]:
    assert isinstance(stage.synapse, FloatConv2d)
    return np.asarray(stage.synapse.w)


def test_a_pool_before_a_padded_convolution_is_one_strided_convolution() -> None:
    first = pool((2, 8, 12), (2, 3))
    one = composed((2, 8, 12), (first, padded_conv(first.target)))
    assert isinstance(one.synapse, FloatConv2d)
    assert one.synapse.w.shape == (2, 2, 6, 9)
    assert one.synapse.geometry == ConvGeometry(stride=(2, 3), padding=(2, 3))
    assert one.synapse.w[1, 0, 2, 3] == conv_weights(padded_conv(first.target))[1, 0, 1, 1] / 6


def test_a_map_that_the_pool_does_not_divide_needs_a_matrix() -> None:
    first = pool((2, 9, 12), (2, 3))
    one = composed((2, 9, 12), (first, padded_conv(first.target)))
    assert isinstance(one.synapse, FloatDense)


def test_a_matrix_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "LARGEST_DENSE", 1000)
    first = pool((2, 9, 12), (2, 3))
    with pytest.raises(
        ValueError,
        match=r"^layers 'pool\+conv': only a dense matrix of 6912 entries computes them exactly,"
        r" the limit is 1000; use map sizes that pools divide evenly, no padding behind a pool or"
        r" convolution, or put a spiking layer between them$",
    ):
        composed((2, 9, 12), (first, padded_conv(first.target)))


def test_a_bias_before_a_padded_convolution_becomes_one_a_neuron() -> None:
    first = Stage(
        source=(2, 4, 4),
        synapse=FloatConv2d(w=np.ones((2, 2, 1, 1))),
        bias=np.repeat([1.0, -2.0], 16),
    )
    one = composed((2, 4, 4), (first, padded_conv((2, 4, 4))))
    corner, centre = one.bias.reshape(2, 4, 4)[0, 0, 0], one.bias.reshape(2, 4, 4)[0, 1, 1]
    w = conv_weights(padded_conv((2, 4, 4)))[0]
    assert corner == (w[0, 1:, 1:].sum() - 2 * w[1, 1:, 1:].sum())
    assert centre == (w[0].sum() - 2 * w[1].sum())


def test_groups_can_be_spelled_out_and_found_again() -> None:
    w = np.random.default_rng(0).normal(size=(6, 2, 3, 2))
    full = ungrouped(w, 3)
    assert full.shape == (6, 6, 3, 2)
    assert np.array_equal(np.asarray(regrouped(full, 3)), w)
    full[0, 5] = 1
    assert regrouped(full, 3) is None
