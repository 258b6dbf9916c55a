"""From a trained torch network to the chip's integers.

    from spikeport.export import compile
    compiled = compile(model, sample, target="loihi", steps=8)
    compiled.net                       the integers, ready for the engine, the twin and Lava
    print(compiled.report.as_text())   what rounding did, and the proof that nothing overflows
    compiled.save("bundle", vectors)   everything in one folder

Importing this package is cheap; torch, snntorch and nir are loaded when a function needs them.
"""

from __future__ import annotations

from spikeport.export.compiled import TARGETS, Compiled, compile
from spikeport.export.samples import input_of

__all__ = ["TARGETS", "Compiled", "compile", "input_of"]
