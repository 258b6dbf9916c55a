"""The same random integer networks here and in three other simulators, counted bit by bit.

    python benchmarks/conformance.py [--lava 4000] [--emulators 480] [--out FILE]

Against Lava in this process: networks of every kind that `tests/random_nets.py` draws, half of them
with resets by subtraction and starting potentials. Against nengo-loihi and brian2-loihi: networks
of their common subset, see docs/conformance.md. Seeds are fixed; progress is printed. Exits with 1
when a bit differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import file_to_write, of_tests, with_sentences
from where import command_line, machine, versions

from spikeport.hw import lava_inprocess
from spikeport.sim import reference
from spikeport.sim.files import write_text
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Conv2d, SumPool2d
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import Trace, first_difference

OUT = Path(__file__).parent / "results" / "conformance.json"
PACKAGES = {"lava": "lava-nc", "nengo-loihi": "nengo-loihi", "brian2-loihi": "brian2-loihi"}
OTHERS = ("numpy", "numba", "nengo", "brian2")
STATE_BITS = 32  # of u and of v, as they are stored
FIRST_SEED = 10_000  # beyond the seeds of the plain suite

Run = Callable[[FixedNet, NDArray[Any]], Trace]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network to compare. `net` runs here; `spelled`, the same synapses in another spelling
    or the same net, runs there."""

    kind: str
    seed: int
    net: FixedNet
    spelled: FixedNet
    x: NDArray[np.int64]


def lava_cases(count: int) -> Iterator[Case]:
    """`count` nets in turn of every kind, with Lava's own neurons and with ours."""
    draw = of_tests("random_nets.py")
    kinds = [(kind, stock) for stock in (True, False) for kind in (None, *draw.FEATURES)]
    for i in range(count):
        kind, stock = kinds[i % len(kinds)]
        seed = FIRST_SEED + i // len(kinds)
        net, x = draw.random_net(seed, kind=kind, lava=stock)
        label = f"{kind or 'mixed'}, {'Lava' if stock else 'own'} neurons"
        yield Case(kind=label, seed=seed, net=net, spelled=net, x=x)


def emulator_cases(count: int, *, emulator: str) -> Iterator[Case]:
    """`count` nets in turn of every kind of the subset that `emulator` has in common with us."""
    draw, nets = of_tests("random_nets.py"), of_tests("conformance/common_nets.py")
    for i in range(count):
        kind = nets.KINDS[i % len(nets.KINDS)]
        seed = FIRST_SEED + i // len(nets.KINDS)
        net, spelled, x = nets.common_net(
            seed, emulator=emulator, kind=kind, random_net=draw.random_net
        )
        yield Case(kind=kind, seed=seed, net=net, spelled=spelled, x=x)


def differing_bits(left: NDArray[Any], right: NDArray[Any]) -> int:
    """How many bits two integer arrays of one shape differ in."""
    changed = np.bitwise_xor(left.astype(np.int64), right.astype(np.int64))
    return int(np.unpackbits(changed.view(np.uint8)).sum())


def compared(ours: Trace, theirs: Trace) -> Counter[str]:
    """Counts of one comparison of spikes, u and v at every step."""
    count = Counter(wraps=sum(ours.wraps.values()), clips=sum(ours.clips.values()))
    for name, part in ours.populations.items():
        other = theirs[name]
        count["neuron_steps"] += part.spikes.size
        count["spikes"] += int(part.spikes.sum(dtype=np.int64))
        count["bits"] += part.spikes.size * (1 + 2 * STATE_BITS)
        for quantity in ("spikes", "u", "v"):
            pair = getattr(part, quantity), getattr(other, quantity)
            count["differing_bits"] += differing_bits(*pair)
    return count


def features(net: FixedNet) -> Counter[str]:
    """Which of the things a net may have this one has, each 0 or 1."""
    synapses = [p.synapse for p in net.projections]
    has = {
        "convolution": any(isinstance(s, Conv2d) for s in synapses),
        "pool": any(isinstance(s, SumPool2d) for s in synapses),
        "loop": any(is_loop(net, block) for block in blocks(net)),
        "delay": any(p.delay for p in net.projections),
        "waits_on_the_chip": any(net.chip_delays),
        "several_inputs": any(len(net.incoming(p.name)) > 1 for p in net.populations),
        "graded": net.input.kind == "graded",
        "subtract": any(p.reset == "subtract" for p in net.populations),
        "v_init": any(p.v_init.any() for p in net.populations),
        "each_neuron": any(p.v_th.ndim or p.du.ndim or p.dv.ndim for p in net.populations),
    }
    return Counter({name: int(value) for name, value in has.items()})


def measure(name: str, cases: Iterator[Case], *, run: Run, count: int) -> dict[str, Any]:
    """Run `cases` here and with `run`; counts in total and per kind of net."""
    kinds: dict[str, Counter[str]] = {}
    held: Counter[str] = Counter()
    first, ours_s, theirs_s, began = None, 0.0, 0.0, time.perf_counter()
    for i, case in enumerate(cases, 1):
        started = time.perf_counter()
        ours = reference.run(case.net, case.x)
        between = time.perf_counter()
        theirs = run(case.spelled, case.x)
        ended = time.perf_counter()
        ours_s, theirs_s = ours_s + between - started, theirs_s + ended - between
        found = compared(ours, theirs)
        if found["differing_bits"] and first is None:
            first = f"{case.kind}, seed {case.seed}: {first_difference(ours, theirs)}"
        kinds.setdefault(case.kind, Counter()).update(found + Counter(nets=1))
        held.update(features(case.net))
        if i % 100 == 0 or i == count:
            bits = sum(k["differing_bits"] for k in kinds.values())
            print(
                f"{name}: {i}/{count} nets, {bits} differing bits,"
                f" {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    keys = ("nets", "neuron_steps", "spikes", "wraps", "clips", "bits", "differing_bits")
    total: Counter[str] = sum(kinds.values(), Counter())
    return {
        "version": versions([PACKAGES[name]])[PACKAGES[name]],
        "total": {key: total[key] for key in keys},
        "kinds": {kind: {key: part[key] for key in keys} for kind, part in kinds.items()},
        "nets_with": dict(held),
        "first_difference": first,
        "seconds": {"reference": round(ours_s, 1), name: round(theirs_s, 1)},
    }


@with_sentences()
def main() -> None:
    """Run all three and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lava", type=int, default=4000, help="nets against Lava")
    parser.add_argument("--emulators", type=int, default=480, help="nets against each; 0: none")
    parser.add_argument("--out", type=file_to_write, default=OUT)
    arguments = parser.parse_args()
    parts = {
        "lava": measure(
            "lava", lava_cases(arguments.lava), run=lava_inprocess.run, count=arguments.lava
        )
    }
    files = {"nengo-loihi": "nengo_run.py", "brian2-loihi": "brian_run.py"}
    for name, file in files.items() if arguments.emulators else ():
        run = of_tests(f"conformance/{file}").run
        cases = emulator_cases(arguments.emulators, emulator=name)
        parts[name] = measure(name, cases, run=run, count=arguments.emulators)
    result = {
        "command": command_line(parser, arguments),
        "machine": machine(),
        "versions": versions([*PACKAGES.values(), *OTHERS]),
        "emulators": parts,
    }
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    differing = sum(part["total"]["differing_bits"] for part in parts.values())
    print(f"{differing} differing bits; {arguments.out}")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
