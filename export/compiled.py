"""The front door: one call from a torch module to integers, report and bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spikeport.sim import bundle
from spikeport.sim.bundle import Bundle, Content, Vectors
from spikeport.sim.chip import TARGETS as CHIP_TARGETS
from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet, FloatNet, Input

if TYPE_CHECKING:
    from torch import nn

    from spikeport.export.report import Report
    from spikeport.sim.twin import Twin

# The chips, and None for a file without integers.
TARGETS: Mapping[str, Chip | None] = {**CHIP_TARGETS, "nir": None}
PIXEL_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled network. nir: the bytes of its NIR file. float_net: the same, discretised.
    fixed and report: its integers and what rounding did; None for target "nir"."""

    target: str
    nir: bytes = field(repr=False)
    float_net: FloatNet = field(repr=False)
    fixed: FixedNet | None = field(repr=False)
    report: Report | None = field(repr=False)

    @property
    def net(self) -> FixedNet:
        """The integers; ValueError for target "nir", which has none."""
        if self.fixed is None:
            raise ValueError('target "nir" has no integers; compile for loihi, loihi1 or loihi2')
        return self.fixed

    def twin(self, **options: Any) -> Twin:
        """The integers as a differentiable torch module; options: see `spikeport.sim.twin.Twin`."""
        from spikeport.sim.twin import Twin

        return Twin(self.net, **options)

    def save(
        self, folder: Path | str, vectors: Vectors, *, files: Mapping[str, Content] | None = None
    ) -> Bundle:
        """Write a bundle with net.nir, report.json, report.txt and `files`; see sim.bundle."""
        own: dict[str, Content] = {"net.nir": self.nir}
        if self.report is not None:
            own |= {"report.json": self.report.as_json(), "report.txt": self.report.as_text()}
        return bundle.write(folder, self.net, files={**own, **(files or {})}, vectors=vectors)


def compile(
    module: nn.Module,
    sample: Any = None,
    *,
    target: str,
    steps: int | None = None,
    input: Input | None = None,
    readout: str | None = None,
    dt_s: float = 1e-3,
    weight_bits: int = 8,
    margin: float = 0.0,
) -> Compiled:
    """Compile `module` for `target`: "loihi" (limits of Loihi 2), "loihi1", "loihi2" or "nir".

    module: a SpikingNet, which knows its input, steps and readout, or an nn.Sequential of torch
    and snnTorch layers. For the latter `steps` is needed and either `input` or `sample`: one
    example [C, H, W] or [n], without time and batch, see `input_of`. weight_bits, margin: see
    `export.quantise`. dt_s: seconds per step; gives NIR's time constants their unit, changes no
    result. Raises ValueError naming the layer or population that the target cannot run.
    """
    from spikeport.export.nir_read import read
    from spikeport.export.nir_write import write
    from spikeport.export.quantise import to_fixed
    from spikeport.export.report import report

    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; allowed are {', '.join(map(repr, TARGETS))}")
    chip = TARGETS[target]
    if chip is not None:
        refuse_subtract(module, target)
    if input is None and getattr(module, "input", None) is None:
        input = input_of(sample)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        write(module, path, dt_s=dt_s, input=input, steps=steps, readout=readout)
        content, float_net = path.read_bytes(), read(path)
    if chip is None:
        return Compiled(target=target, nir=content, float_net=float_net, fixed=None, report=None)
    fixed = to_fixed(
        float_net, chip, weight_bits=weight_bits, margin=margin, provenance={"target": target}
    )
    return Compiled(
        target=target, nir=content, float_net=float_net, fixed=fixed,
        report=report(float_net, fixed),
    )  # fmt: skip


def input_of(sample: Any) -> Input:
    """The input that `sample` is an example of: [C, H, W] or [n], no time, no batch.

    Floats are pixels in [0, 1] and will be sent as 8-bit graded spikes in every step; booleans are
    spikes. Anything else is ambiguous: ValueError asks for an explicit `Input`.
    """
    if sample is None:
        raise ValueError("a plain Sequential does not know its input; give a sample or an Input")
    array = np.asarray(sample.detach().cpu().numpy() if hasattr(sample, "detach") else sample)
    if array.ndim not in (1, 3):
        raise ValueError(
            f"the sample has shape {array.shape}; needed is one example [C, H, W] or [n], without"
            " time and batch"
        )
    if array.dtype == bool:
        return Input(shape=array.shape)
    if array.dtype.kind != "f":
        raise ValueError(
            f"the sample has type {array.dtype}; give floats in [0, 1] for pixels, booleans for"
            " spikes, or an Input"
        )
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"the sample has values {array.min():g}..{array.max():g}; pixels must lie in 0..1,"
            " normalise inside the first layer instead"
        )
    scale = float((1 << PIXEL_BITS) - 1)
    return Input(shape=array.shape, kind="graded", payload_bits=PIXEL_BITS, scale=scale)


def refuse_subtract(module: nn.Module, target: str) -> None:
    """ValueError naming the first layer that resets by subtraction, which no Loihi target does."""
    from spikeport.export.layers import named_layers
    from spikeport.export.neurons import RETRAIN, Unsupported

    for name, layer in named_layers(getattr(module, "layers", module)):
        if getattr(layer, "reset_mechanism", "zero") == "subtract":
            raise Unsupported(
                name, layer,
                f'reset_mechanism is "subtract", but neurons of target {target!r} reset to zero;'
                f" {RETRAIN}",
            )  # fmt: skip
