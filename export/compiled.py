"""The front door: one call from a torch module to integers, report and bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeport.export.samples import input_of
from spikeport.sim import bundle
from spikeport.sim.bundle import Bundle, Content, Vectors
from spikeport.sim.chip import TARGETS as CHIP_TARGETS
from spikeport.sim.chip import Chip
from spikeport.sim.floating import NEVER
from spikeport.sim.net import FixedNet, FloatNet, Input

if TYPE_CHECKING:
    from torch import nn

    from spikeport.export.modules import Recorded
    from spikeport.export.parts import Parts
    from spikeport.export.report import Report
    from spikeport.sim.twin import Twin

# The chips, and None for files without integers: NIR for everybody, NIR for readers of other chips.
TARGETS: Mapping[str, Chip | None] = {
    **CHIP_TARGETS, **dict.fromkeys(("nir", "speck", "xylo", "spinnaker2")),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled network. nir: the bytes of its NIR file. float_net: the same, discretised.
    fixed and report: its integers and what rounding did; None for a target without a chip."""

    target: str
    nir: bytes = field(repr=False)
    float_net: FloatNet = field(repr=False)
    fixed: FixedNet | None = field(repr=False)
    report: Report | None = field(repr=False)

    @property
    def net(self) -> FixedNet:
        """The integers; ValueError for targets that are files alone, which have none."""
        if self.fixed is None:
            raise ValueError(
                f'target "{self.target}" has no integers; compile for loihi, loihi1 or loihi2'
            )
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
    **rounding: Any,
) -> Compiled:
    """Compile `module` for `target`: "loihi" (limits of Loihi 2), "loihi1", "loihi2", "lava" (the
    simulator, whose neurons may reset by subtraction), or a file without integers: "nir", "speck",
    "xylo", "spinnaker2", see `export.nir_dialects`.

    module, in evaluation mode whatever its mode, and left as it is:

    * a SpikingNet, which knows its input, steps and readout;
    * an nn.Sequential of torch and snnTorch layers: give `steps`, and `input` or as `sample` one
      example [C, H, W], [n] without time and batch;
    * any module whose forward takes `sample` as its only argument and calls every layer of neurons
      once a step: [B, ...] where every step sees the same, [T, B, ...] where forward picks
      x[step], [B, T, ...] where x[:, step]. `steps` only where forward does a single step. It is
      run once on a copy; the network must fire as that did on the first 8 samples.

    sample: floats are pixels in [0, 1], sent with 8 bits in every step; booleans are spikes;
    `input` says otherwise. readout: "count" or "first_spike" of spikes, "last_v" or "sum_v" of
    neurons that never reset; None: what forward returns, "count" of a Sequential. dt_s: seconds
    per step, the unit of NIR's time constants; changes no result. rounding: as `quantise.to_fixed`
    says. Raises ValueError naming the layer or function that the target cannot run.
    """
    from spikeport.export.nir_write import parts_of
    from spikeport.export.quantise import to_fixed
    from spikeport.export.report import report

    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; allowed are {', '.join(map(repr, TARGETS))}")
    chip = TARGETS[target]
    input = input_of(sample) if input is None and _is_chain(module) else input
    parts, recorded = parts_of(module, input=input, steps=steps, readout=readout, sample=sample)
    if chip is not None:
        refuse_resets(parts, chip, target=target)
    content, float_net = through_a_file(parts, dt_s=dt_s, target="nir" if chip else target)
    if recorded is not None:
        check_against(recorded, float_net)
    made = Compiled(target=target, nir=content, float_net=float_net, fixed=None, report=None)
    if chip is None:
        return made
    fixed = to_fixed(float_net, chip, provenance={"target": target}, **rounding)
    return replace(made, fixed=fixed, report=report(float_net, fixed))


def through_a_file(parts: Parts, *, dt_s: float, target: str) -> tuple[bytes, FloatNet]:
    """The bytes of the NIR file of `parts` for `target`, and the network read back from them."""
    from spikeport.export.nir_read import read
    from spikeport.export.nir_write import write_parts

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        write_parts(parts, path, dt_s=dt_s, target=target)
        return path.read_bytes(), read(path)


def _is_chain(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Sequential)


def refuse_resets(parts: Parts, chip: Chip, *, target: str) -> None:
    """ValueError naming the first layer whose reset the neurons of `chip` do not have."""
    from spikeport.export.neurons import RETRAIN, Unsupported

    for population in parts.populations:
        if population.reset not in chip.resets:
            raise Unsupported(
                population.name, parts.layers[population.name],
                f'reset_mechanism is "{population.reset}", but neurons of target {target!r} reset'
                f" to {' or '.join(chip.resets)}; {RETRAIN}, or choose target"
                ' "lava"',
            )  # fmt: skip


def check_against(recorded: Recorded, net: FloatNet) -> None:
    """ValueError unless `net` fires as the module did when it was `recorded`."""
    from spikeport.export.agreement import TIE, agreement

    silent = [p.name for p in net.populations if (p.v_th >= NEVER).all()]
    ours = {p.name for p in net.populations} - set(silent)
    found = agreement(
        net, recorded.x, {name: s for name, s in recorded.spikes.items() if name in ours},
        potentials={name: recorded.potentials[name] for name in silent},
    )  # fmt: skip
    if found.differences:
        first = found.differences[0]
        raise ValueError(
            f"layer {first.population!r}: neuron {first.neuron} fires in another way than the"
            f" module in step {first.step} of sample {first.sample}, with its potential"
            f" {first.distance:g} from the threshold; forward does something that it does not show"
            " through its layers and sums"
        )
    if found.off > TIE:
        raise ValueError(
            f"layer {silent[0]!r}: its potential differs from the module's by {found.off:g};"
            " forward does something that it does not show through its layers and sums"
        )
