"""How a core stores synapses: the formats beside the counts that `spikeport.sim.chip` lists.

A spike that arrives on an input axon reads a list of synapses. A list is written in 64-bit words
and begins with a header; a synapse in it takes as many bits as weight, index and delay need, each
in the smallest format that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spikeport.sim.arith import weight_on_chip
from spikeport.sim.chip import LOIHI_1 as CHIP_1
from spikeport.sim.chip import LOIHI_2 as CHIP_2
from spikeport.sim.synapse import Conv2d, Dense

WORD = 64


@dataclass(frozen=True, kw_only=True)
class Core:
    """Formats of one core. Counts are per core; tuples list the widths there are, ascending.

    `sources` holds one citation for every other field; a test fails when one is missing.
    """

    neuron_groups: int
    weight_formats: tuple[int, ...]
    dense_index_formats: tuple[int, ...]
    conv_index_formats: tuple[int, ...]
    delay_bits: int  # of a synapse whose projection waits
    header_bits: int  # at the head of every list
    list_synapses: int  # most synapses of one list; longer ones begin anew
    taps: bool  # a convolution stores one list a kernel tap; else one a pattern of taps
    pixel_axons: int  # axons through which a pixel leaves; 0: one a block of its channels
    multicast: bool  # a spike leaves once, however many cores hear it
    sources: Mapping[str, str] = field(repr=False)


_S4D = "lava-dl slayer/state_space_models/sCIFAR/profiling_scripts/num_cores_estimate"
_LOGS = "compile logs in lava-dl's tutorials, netx/{mnist,oxford,pilotnet_*}; benchmarks/place.py"

LOIHI_1 = Core(
    neuron_groups=32,
    weight_formats=(1, 2, 3, 4, 5, 6, 8),
    dense_index_formats=(0,),
    conv_index_formats=(0, 6, 7, 8, 9, 10, 11, 12),
    delay_bits=6,
    header_bits=10,
    list_synapses=64,
    taps=False,
    pixel_axons=2,
    multicast=False,
    sources={
        "neuron_groups": "nengo-loihi 1.1 hardware/validate.py: 32 compartment configurations",
        "weight_formats": "nengo-loihi 1.1 block.py WEIGHT_BITS_MAP",
        "dense_index_formats": "nengo-loihi 1.1 block.py set_weights: compression 3, no index",
        "conv_index_formats": "nengo-loihi 1.1 block.py INDEX_BITS_MAP",
        "delay_bits": "Davies et al. 2018, p. 92, as quoted by others: 6-bit field",
        "header_bits": "nengo-loihi 1.1 block.py bits_per_axon: 4 + 6",
        "list_synapses": "nengo-loihi 1.1 block.py: n_synapses=63 means 64",
        "taps": "nengo-loihi 1.1 conv.py conv2d_loihi_weights: a list for each pattern of taps",
        "pixel_axons": "nengo-loihi 1.1 block.py: a pop32 axon takes 2 slots",
        "multicast": "Davies et al. 2018, p. 89, as quoted by others: core-to-core edges",
    },
)

LOIHI_2 = Core(
    neuron_groups=8,
    weight_formats=(1, 2, 3, 4, 5, 6, 8),
    dense_index_formats=(12,),
    conv_index_formats=(0,),
    delay_bits=6,
    header_bits=11,
    list_synapses=CHIP_2.neurons,
    taps=True,
    pixel_axons=0,
    multicast=True,
    sources={
        "neuron_groups": f"{_LOGS}: 1 group = 12.5 %",
        "weight_formats": f"{_LOGS}: as on Loihi 1, Oxford's 7-bit layer is stored in 8",
        "dense_index_formats": f"{_LOGS}: fits every dense row",
        "conv_index_formats": f"{_LOGS}: fits every convolution",
        "delay_bits": "lava-nc 0.10.0 DelayDense: delays 0..62; no log has one",
        "header_bits": f"{_LOGS}: 1..12 fit; {_S4D}: 11 or 12, as 14 synapses of 13 bits take 4"
        " words and 4 of them one",
        "list_synapses": f"{_LOGS}: 256 synapses stand in one list; no longer one is known",
        "taps": f"{_LOGS}: kh * kw * C_in lists, blocks of C_out that are powers of two",
        "pixel_axons": f"{_LOGS}: axon maps of convolutions",
        "multicast": f"{_LOGS}: 1280 neurons heard by 12 cores take 1280 entries",
    },
)

CORES: Mapping[str, Core] = {CHIP_1.name: LOIHI_1, CHIP_2.name: LOIHI_2}


def weight_bits(synapse: Dense | Conv2d, core: Core) -> int:
    """Bits of a stored weight: what the largest needs once the powers of two that all share are
    gone, the sign included where signs differ (source: lava-dl 0.6 netx optimize_weight_bits)."""
    w = synapse.w
    few = np.array([w.min(), w.max(), np.bitwise_or.reduce(w, axis=None)], np.int64)
    low, high, factors = map(int, weight_on_chip(few) if isinstance(synapse, Dense) else few)
    shift = (factors & -factors).bit_length() - 1 if factors else 0
    low, high = low >> shift, high >> shift
    if low < 0 < high:
        bits = 1 + max(high.bit_length(), (-low - 1).bit_length())
    else:
        bits = max(high, -low).bit_length()
    return format_for(bits, core.weight_formats)


def format_for(bits: int, widths: tuple[int, ...]) -> int:
    """The smallest of `widths` that holds `bits`, the largest if none does."""
    return next((width for width in widths if width >= bits), widths[-1])


def list_words(core: Core, n: int, *, weight: int, index: int = 0, delay: int = 0) -> int:
    """Words of a list of `n` synapses, whose weight, index and delay have so many bits."""
    full, rest = divmod(n, core.list_synapses)
    each = weight + index + delay

    def words(k: int) -> int:
        return -(-(k * each + core.header_bits) // WORD)

    return full * words(core.list_synapses) + (words(rest) if rest else 0)
