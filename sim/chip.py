"""Chips: every limit and bit width with its source.

What is a width of the neuron's own arithmetic stands in `sim.arith`, everything else here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from spikeport.sim.arith import DECAY_MAX, DELAY_MAX, STATE_SHIFT, V_TH_MAX
from spikeport.sim.digest import NO_IDENTITY


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Limits of one chip. Counts are per core unless the name says otherwise; ranges inclusive.

    Where `resets`, `v_init` or `each_neuron` fall short of what the arithmetic defines, exporting
    finds another exact spelling or refuses.

    `sources` holds one citation for every other field; a test fails when one is missing.
    """

    name: str
    cores: int
    neurons: int
    in_axons: int
    out_axons: int
    synapse_words: int  # 64-bit words
    weight_bits: int
    decay_max: int
    v_th_max: int
    bias_mantissa_max: int  # symmetric
    bias_exp_max: int
    state_bits: int  # of u and v, sign included
    w_exp_min: int
    w_exp_max: int
    delay_max: int  # steps beyond the one every synapse costs
    conv_delay_max: int  # the same for a convolution, which is built of weights that it shares
    graded_bits: int  # payload of one spike; 0: spikes are binary only
    resets: tuple[str, ...]  # what a neuron can do when it fires
    v_init: bool  # whether samples can start at another potential than 0
    each_neuron: bool  # whether v_th, du and dv may differ within a population
    # Sign included, in units of u: what arrives at a neuron in one step, and its current with the
    # bias. They change no integer of a network, only what is proven of it.
    sum_bits: int = field(default=32, metadata=NO_IDENTITY)
    drive_bits: int = field(default=32, metadata=NO_IDENTITY)
    sources: Mapping[str, str] = field(repr=False, metadata=NO_IDENTITY)

    @property
    def sum_max(self) -> int:
        """Largest magnitude of what may arrive at a neuron in one step, in units of weights."""
        return _magnitude(self.sum_bits) >> STATE_SHIFT

    @property
    def drive_max(self) -> int:
        """Largest magnitude of current and bias together, in units of u."""
        return _magnitude(self.drive_bits)


def _magnitude(bits: int) -> int:
    """Largest number of `bits`, sign included; of more than 32 nothing is left to use."""
    return (1 << (min(bits, 32) - 1)) - 1


_LIF = {
    "weight_bits": "8-bit synapse format, lava-nc 0.10.0 dense/process.py num_weight_bits",
    "decay_max": "12-bit fraction, lava-nc 0.10.0 lif/models.py",
    "v_th_max": "17-bit mantissa shifted by 6, lava-nc 0.10.0 lif/models.py",
    "bias_mantissa_max": "signed 13-bit mantissa; nengo-loihi block.py limits it to +-4095",
    "bias_exp_max": "3-bit exponent, lava-nc 0.10.0 lif/process.py",
    "state_bits": "23 bits and sign, lava-nc 0.10.0 lif/models.py",
    "w_exp_min": "signed 4-bit exponent, brian2-loihi (-8..7)",
    "w_exp_max": "signed 4-bit exponent, brian2-loihi (-8..7), nengo-loihi (-7..7)",
    "conv_delay_max": "lava-nc 0.10.0 conv/process.py: Conv has no delays",
    "resets": "lava-nc 0.10.0 lif/process.py: LIF and LIFReset reset to 0",
    "v_init": "lava-nc 0.10.0 lif/process.py: LIFReset starts every sample at 0",
    "each_neuron": "lava-nc 0.10.0 lif/process.py: vth, du and dv of shape (1,)",
}
_STOCK_NEURON: dict[str, Any] = {"resets": ("zero",), "v_init": False, "each_neuron": False}

LOIHI_1 = Chip(
    name="loihi1",
    cores=128,
    neurons=1024,
    in_axons=4096,
    out_axons=4096,
    synapse_words=16384,
    weight_bits=8,
    decay_max=DECAY_MAX,
    v_th_max=V_TH_MAX,
    bias_mantissa_max=4095,
    bias_exp_max=7,
    state_bits=24,
    w_exp_min=-8,
    w_exp_max=7,
    delay_max=DELAY_MAX,
    conv_delay_max=0,
    graded_bits=0,
    sum_bits=22,
    drive_bits=24,
    **_STOCK_NEURON,
    sources={
        **_LIF,
        "name": "Davies et al. 2018, Loihi",
        "cores": "Davies et al. 2018, p. 86, as quoted by others",
        "neurons": "nengo-loihi block.py; Davies et al. 2018",
        "in_axons": "nengo-loihi block.py; Davies et al. 2018, p. 89",
        "out_axons": "nengo-loihi block.py",
        "synapse_words": "nengo-loihi block.py: 16384 words of 64 bits",
        "delay_max": "brian2-loihi: 0..62",
        "graded_bits": "Davies et al. 2018: spikes carry no payload",
        "sum_bits": "nengo-loihi builder/discretize.py: 21 bits and sign, Q_BITS; its"
        " test_uv_overflow compares a board. Not in Lava",
        "drive_bits": "nengo-loihi builder/discretize.py: 23 bits and sign, U_BITS. Not in Lava",
    },
)

LOIHI_2 = Chip(
    name="loihi2",
    cores=128,
    neurons=4095,
    in_axons=16000,
    out_axons=16000,
    synapse_words=12000,
    weight_bits=8,
    decay_max=DECAY_MAX,
    v_th_max=V_TH_MAX,
    bias_mantissa_max=4095,
    bias_exp_max=7,
    state_bits=24,
    w_exp_min=-8,
    w_exp_max=7,
    delay_max=DELAY_MAX,
    conv_delay_max=0,
    graded_bits=32,
    **_STOCK_NEURON,
    sources={
        **_LIF,
        "name": "Intel, Loihi 2 technology brief",
        "cores": "Intel, Loihi 2 technology brief; 122 usable on Hala Point",
        "neurons": "compile logs in lava-dl's tutorials: 3584 neurons = 87.52 %",
        "in_axons": "compile logs in lava-dl's tutorials: 784 axons = 4.90 %",
        "out_axons": "compile logs in lava-dl's tutorials: axon map 2688 = 16.80 %",
        "synapse_words": "compile logs in lava-dl's tutorials: limit 12000",
        "delay_max": "lava-dl 0.6.0 netx clamps delays at 62",
        "graded_bits": "Intel, Loihi 2 technology brief: integer payload up to 32 bits",
        "sum_bits": "int32, lava-nc 0.10.0 dense/models.py; of the chip itself not public",
        "drive_bits": "int32, lava-nc 0.10.0 lif/models.py; of the chip itself not public",
    },
)

# Lava's simulator on a CPU: a Loihi 2 whose neurons may also be a process of ours.
LAVA = replace(
    LOIHI_2,
    name="lava",
    conv_delay_max=DELAY_MAX,
    resets=("zero", "subtract"),
    v_init=True,
    each_neuron=True,
    sources={
        **LOIHI_2.sources,
        "name": "lava-nc 0.10.0, process models tagged fixed_pt",
        "conv_delay_max": "spikeport.hw.lava_synapses: spikes wait before they reach Lava's Conv",
        "resets": "spikeport.hw.lava_processes",
        "v_init": "spikeport.hw.lava_processes",
        "each_neuron": "lava-nc 0.10.0 lif/models.py broadcasts arrays; measured",
    },
)

CHIPS = {"loihi1": LOIHI_1, "loihi2": LOIHI_2, "lava": LAVA}

# What `--target` accepts: "loihi" stands for the present chip, "lava" for the simulator.
TARGETS = {"loihi": LOIHI_2, **CHIPS}


def unsourced(part: Any) -> list[str]:
    """Names of fields of a Chip, or of another table with `sources`, without a citation."""
    return [f.name for f in fields(part) if f.name != "sources" and not part.sources.get(f.name)]
