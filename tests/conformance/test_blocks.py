"""What a core of Loihi 1 holds, against nengo-loihi's validation of blocks, accept and reject."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from spikeport.hw.core import format_for, list_words
from spikeport.hw.cost import Use
from spikeport.hw.target import TARGETS

LOIHI_1 = TARGETS["loihi1"]
BLOCKS = 600
LIMITS = LOIHI_1.limits


@pytest.fixture(scope="module")
def nengo_block() -> Any:
    reason = "nengo-loihi is not installed; it belongs to the extra 'conformance'"
    return pytest.importorskip("nengo_loihi.block", reason=reason)


def synapse(block: Any, rng: np.random.Generator, *, axons: int, sizes: list[int]) -> Any:
    """A Synapse of `axons` lists, `sizes` by turns, in a format drawn by chance."""
    made = block.Synapse(axons)
    distinct = [np.zeros((1, n), np.float32) for n in sizes]
    weights = [distinct[i % len(sizes)] for i in range(axons)]
    indices = [np.arange(w.size, dtype=np.int32)[None] for w in distinct]
    chosen = [indices[i % len(sizes)] for i in range(axons)]
    made._set_weights_indices(weights, chosen, compression=int(rng.choice([0, 3])))
    made.format(weight_bits=int(rng.integers(1, 8)), delay_bits=int(rng.integers(0, 8)))
    made.pop_type = int(rng.choice([0, 32]))
    return made


def random_block(block: Any, rng: np.random.Generator) -> Any:
    """A LoihiBlock that breaks one limit or keeps it, by little in both cases."""
    tight = rng.integers(4)
    neurons = int(rng.integers(1018, 1030)) if tight == 0 else int(rng.integers(1, 1025))
    made = block.LoihiBlock(neurons)
    sizes = [int(n) for n in rng.integers(1, min(neurons, 200) + 1, 3)]
    axons = int(rng.integers(1, 20))
    if tight == 1:
        sizes, axons = [1, 2, 3], int(rng.integers(4080, 4100))
    first = synapse(block, rng, axons=axons, sizes=sizes)
    made.add_synapse(first)
    if tight == 2:
        one = synapse(block, rng, axons=1, sizes=sizes[:1])
        room = 16384 * 64 - first.bits()
        count = room // one.bits() + int(rng.integers(-1, 3))
        one._set_weights_indices([one.weights[0]] * count, compression=3)
        one.n_axons = count
        made.add_synapse(one)
    for _ in range(2):
        slots = int(rng.integers(2040, 2060)) if tight == 3 else int(rng.integers(1, 1000))
        axon = block.Axon(slots // (2 if first.pop_type == 32 else 1) + int(tight == 3))
        axon.target = first
        made.add_axon(axon)
    return made


def use(block: Any) -> Use:
    """What `block` takes of a core by our rules, from its sizes alone."""
    core, words = LOIHI_1.core, 0
    for s in block.synapses:
        c = s.synapse_cfg
        last = max(int(i.max()) for i in s.indices)
        formats = core.conv_index_formats if c.compression == 0 else core.dense_index_formats
        index = format_for(last.bit_length(), formats)
        weight = core.weight_formats[c.weight_bits - 1]
        for w in s.weights:
            words += list_words(core, w.size, weight=weight, index=index, delay=c.delay_bits)
    return Use(
        in_axons=sum(s.n_axons for s in block.synapses),
        neuron_groups=1,
        neurons=block.n_neurons,
        synapse_words=words,
        out_axons=sum(
            a.n_axons * (core.pixel_axons if a.pop_type == 32 else 1) for a in block.axons
        ),
    )


def test_blocks_are_accepted_and_refused_alike(nengo_block: Any) -> None:
    validation = importlib.import_module("nengo_loihi.builder.validate")
    rng = np.random.default_rng(0)
    accepted = 0
    refused = dict.fromkeys(Use._fields, 0)
    for _ in range(BLOCKS):
        block = random_block(nengo_block, rng)
        found = use(block)
        assert 64 * found.synapse_words == sum(s.bits() for s in block.synapses)
        try:
            validation.validate_block(block)
        except validation.BuildError:
            assert not found.fits(LIMITS)
            for name, a, b in zip(Use._fields, found, LIMITS, strict=True):
                refused[name] += a > b
        else:
            assert found.fits(LIMITS)
            accepted += 1
    assert accepted > 100
    assert all(n > 30 for name, n in refused.items() if name != "neuron_groups"), refused
