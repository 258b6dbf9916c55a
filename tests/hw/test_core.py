"""Formats of cores: how many bits a weight needs, how many words a list takes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeport.hw.core import CORES, format_for, list_words, weight_bits
from spikeport.sim.chip import unsourced
from spikeport.sim.synapse import Conv2d, Dense

LOIHI_1, LOIHI_2 = CORES["loihi1"], CORES["loihi2"]


@pytest.mark.parametrize("name", CORES)
def test_every_number_of_a_core_has_a_source(name: str) -> None:
    core = CORES[name]
    assert unsourced(core) == []
    assert set(core.sources) == {f.name for f in fields(core)} - {"sources"}
    assert unsourced(replace(core, sources={**core.sources, "header_bits": ""})) == ["header_bits"]


@pytest.mark.parametrize(
    ("w", "bits"),
    [
        ([2, -2], 2), ([2, -4], 2), ([4, -4], 2), ([6, -6], 3), ([8, -6], 4), ([0, 0], 1), ([1], 1),
        ([3], 2), ([255], 8), ([-255], 8), ([40], 3), ([192, -178], 8), ([124, -98], 8),
        ([-20, 18], 5), ([64, -64], 2), ([126, 0, -128], 8), ([60, -64], 5), ([3, -3], 2),
    ],
)  # fmt: skip
def test_bits_of_dense_weights(w: list[int], bits: int) -> None:
    assert weight_bits(Dense(w=np.array([w])), LOIHI_2) == bits


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=6))
def test_no_smaller_format_holds_the_weights_of_a_convolution(w: list[int]) -> None:
    def holds(bits: int) -> bool:
        span = range(0, 1 << bits) if min(w) >= 0 else range(1 - (1 << bits), 1)
        if min(w) < 0 < max(w):
            span = range(-(1 << bits - 1), 1 << bits - 1)
        return any(all(x % (1 << e) == 0 and x >> e in span for x in w) for e in range(9))

    smallest = min(bits for bits in LOIHI_2.weight_formats if holds(bits))
    assert weight_bits(Conv2d(w=np.array(w).reshape(1, 1, 1, -1)), LOIHI_2) == smallest


def test_lava_dl_counts_the_bits_of_its_weights_alike() -> None:
    utils = pytest.importorskip("lava.lib.dl.netx.utils", reason="needs lava-dl, Python 3.10")
    rng = np.random.default_rng(0)
    for _ in range(200):
        top = int(rng.integers(2, 120))
        w = 2 * rng.integers(-top // 2, top // 2 + 1, (3, 4))
        w.flat[:2] = (-top // 2 * 2, 2)
        found = utils.optimize_weight_bits(w)[1]
        assert weight_bits(Dense(w=w), LOIHI_2) == format_for(found, LOIHI_2.weight_formats)


def test_words_of_a_list_that_logs_give() -> None:
    # Rows of Oxford's and PilotNet's compile logs, whole words an input axon.
    known = {(256, 8): 81, (200, 8): 63, (255, 8): 80, (100, 3): 24, (18, 3): 5, (9, 3): 3}
    for (n, weight), words in known.items():
        assert list_words(LOIHI_2, n, weight=weight, index=12) == words


def test_a_long_list_begins_anew() -> None:
    # 64 synapses of 8 bits and 10 bits of header are 522 bits, 9 words.
    assert list_words(LOIHI_1, 64, weight=8) == 9
    assert list_words(LOIHI_1, 129, weight=8) == 9 + 9 + 1
    assert list_words(LOIHI_1, 0, weight=8) == 0


def test_a_delay_costs_bits() -> None:
    assert list_words(LOIHI_2, 10, weight=8, index=12, delay=6) == 5  # 270 bits


def test_formats() -> None:
    assert [format_for(bits, (1, 2, 8)) for bits in (0, 1, 2, 3, 8, 9)] == [1, 1, 2, 8, 8, 8]
