"""How long does it take to compile a 10-layer convolutional net, and how does that grow?

    python benchmarks/compile.py [--out benchmarks/results/compile.json]

Nine 3x3 convolutions with LIF neurons (the map shrinks from 32x32 to 4x4) and a dense readout,
with about 10^4, 10^5, 10^6 and 10^7 weights, from the snnTorch module to the integers with their
overflow proof and report. Every size runs in a process of its own, imports not counted; the
exponent is the slope of log time over log weights between neighbouring sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared import file_to_write, with_sentences
from where import machine, versions

from spikeport.sim.files import write_text

OUT = Path(__file__).parent / "results" / "compile.json"
PACKAGES = ("numpy", "torch", "snntorch", "nir")
SIZES = (10**4, 10**5, 10**6, 10**7)
STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1)
SIDE, PIXELS, CLASSES = 32, 4 * 4, 10


def channels_for(weights: int) -> int:
    """Channels a layer at which the net has about `weights` weights: 72 c^2 + 27 c + 160 c."""
    return round((-187 + math.sqrt(187**2 + 4 * 72 * weights)) / (2 * 72))


def one(weights: int) -> dict[str, Any]:
    """Build and compile one net in this process."""
    import snntorch
    import torch
    from torch import nn

    from spikeport.export import compile

    torch.manual_seed(0)

    def lif() -> nn.Module:
        return snntorch.Leaky(beta=0.5, reset_mechanism="zero")

    layers: list[nn.Module] = []
    width = channels_for(weights)
    before = 3
    for stride in STRIDES:
        layers += [nn.Conv2d(before, width, 3, stride, padding=1), lif()]
        before = width
    layers += [nn.Flatten(), nn.Linear(width * PIXELS, CLASSES), lif()]
    model = nn.Sequential(*layers).eval()
    started = time.perf_counter()
    compiled = compile(model, torch.rand(3, SIDE, SIDE), target="loihi2", steps=8)
    seconds = time.perf_counter() - started
    assert compiled.report is not None
    return {
        "weights": sum(p.synapse.w.size for p in compiled.net.projections),
        "neurons": sum(p.size for p in compiled.net.populations),
        "channels": width,
        "seconds": seconds,
        "proven": compiled.report.proven,
    }


@with_sentences()
def main() -> None:
    """Run all sizes, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=file_to_write, default=OUT)
    parser.add_argument("--one", type=int)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        command = [sys.executable, __file__, "--one", str(size)]
        child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(child.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    exponents = [
        math.log(b["seconds"] / a["seconds"]) / math.log(b["weights"] / a["weights"])
        for a, b in pairwise(rows)
    ]
    result = {
        "command": "python benchmarks/compile.py",
        "machine": machine(),
        "versions": versions(PACKAGES),
        "rows": rows,
        "exponents": exponents,
    }
    write_text(arguments.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
