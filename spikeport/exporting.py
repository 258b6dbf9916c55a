"""The `export` command: a trained run, or a file of others, becomes a checked bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeport import bundling, foreign, handover
from spikeport.bundling import BATCH
from spikeport.export import TARGETS, compile
from spikeport.foreign import Reading, refuse_options
from spikeport.hw import rules
from spikeport.sim import bundle as bundles
from spikeport.sim import engine, fidelity, floating
from spikeport.sim.files import atomic
from spikeport.sim.net import FixedNet, FloatNet
from spikeport.sim.trace import PopulationTrace, Trace
from spikeport.train.config import Config
from spikeport.train.data import Dataset, load_for
from spikeport.train.encode import ENCODERS, stored, to_integers
from spikeport.train.floating import load_float
from spikeport.train.quantised import load_quantised

UNSAID = Reading()
NOISE_SAMPLES = 64  # test vectors of a net that comes without images


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A run on its way into a bundle. float_net: before rounding; rounded_net: the chip's
    parameters in float arithmetic; net: the chip's integers. rungs: torch against each of them."""

    config: Config
    data: Dataset
    float_nir: bytes
    nir: bytes
    float_net: FloatNet
    rounded_net: FloatNet
    net: FixedNet
    rungs: tuple[fidelity.Rung, ...]


def export(
    source: Path,
    folder: Path,
    *,
    target: str,
    vectors: int = 64,
    reading: Reading = UNSAID,
) -> dict[str, Any]:
    """Export run folder, NIR or NetX file `source` for `target` into bundle `folder`; a JSON
    summary.

    vectors: how many test images become test vectors, 0 for all. reading: what a file of others
    does not say. Raises ValueError in one sentence when something does not fit.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}; allowed are {', '.join(TARGETS)}")
    if vectors < 0:
        raise ValueError(f"vectors is {vectors}; give 0 for the whole test set or a number from 1")
    if not source.exists():
        raise ValueError(f"{source}: no such run folder or file; train first or check the path")
    chip = TARGETS[target]
    if source.is_dir() or chip is None:
        refuse_options(source, reading, tuple(reading.given()))
    if chip is None:
        return _export_nir(source, folder, target=target)
    if source.is_dir():
        return _export_run(source, folder, target=target, vectors=vectors)
    float_net, net = foreign.load(source, chip, reading)
    risk = bundling.overflow(net) if reading.allow_overflow else None
    if risk is None:
        bundling.checked(net, chip)
    else:
        rules.enforce(net, chip)
    inputs = bundling.noise(net, samples=vectors or NOISE_SAMPLES)
    rungs = () if float_net is None else (bundling.against_fixed(float_net, net, inputs),)
    kept = {"source.net" if float_net is None else "net.nir": source.read_bytes()}
    if said := {name: value for name, value in reading.given().items() if name in foreign.SAID}:
        kept |= {foreign.READING: json.dumps(said, indent=1).encode()} if float_net else {}
    return bundling.finish(
        net, float_net, folder, target=target, files=kept, rungs=rungs,
        inputs=inputs, labels=None, notes=() if risk is None else (f"allowed: {risk}",),
    )  # fmt: skip


def _export_run(source: Path, folder: Path, *, target: str, vectors: int) -> dict[str, Any]:
    run = run_to_net(source, target=target)
    inputs, labels = run_inputs(run, samples=vectors or len(run.data.y_test))
    files = {"net.nir": run.nir, "float.nir": run.float_nir}
    return bundling.finish(
        run.net, run.rounded_net, folder, target=target, files=files, rungs=run.rungs,
        inputs=inputs, labels=labels,
    )  # fmt: skip


def _export_nir(source: Path, folder: Path, *, target: str) -> dict[str, Any]:
    if not source.is_dir():
        raise ValueError(f"{source}: is no run folder, which is what target {target} exports")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for net.nir")
    if (folder / bundles.CHECKSUMS).exists():
        raise ValueError(
            f"{folder}: holds a bundle, whose net.nir this would replace; name another"
        )
    model, _ = load_quantised(source)
    content = compile(model.spiking_net().eval(), target=target).nir
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "net.nir") as path:
        path.write_bytes(content)
    written = {"folder": str(folder), "target": target, "files": ["net.nir"]}
    if target not in handover.READERS:
        return {"passed": True, **written}
    return {**handover.check(folder, target=target), **written}


def run_to_net(source: Path, *, target: str) -> Exported:
    """The nets of a trained run, each compared with the torch model that it came from on the whole
    test set. Raises ValueError when the integers could overflow or break the chip's rules."""
    run, trained, model = nets_of(source, target=target)
    inputs, _ = run_inputs(run, samples=len(run.data.y_test))
    rungs = (
        floats_rung(run, trained, inputs),
        bundling.against_fixed(run.rounded_net, run.net, inputs),
        integers_rung(run, model, inputs),
    )
    return replace(run, rungs=rungs)


def nets_of(source: Path, *, target: str) -> tuple[Exported, Any, Any]:
    """A trained run without rungs, and its torch models before and after the quantised phase."""
    chip = TARGETS[target]
    if chip is None:
        raise ValueError(f"target {target!r} has no integers; choose one of the chips")
    model, config = load_quantised(source)
    trained, _ = load_float(source)
    data = load_for(config)
    before = compile(trained, target="nir")
    after = compile(
        model.spiking_net().eval(), target=target, weight_bits=config.quantise.weight_bits
    )
    run = Exported(
        config=config, data=data, float_nir=before.nir, nir=after.nir, float_net=before.float_net,
        rounded_net=after.float_net, net=bundling.checked(after.net, chip), rungs=(),
    )  # fmt: skip
    return run, trained, model


def floats_rung(run: Exported, trained: Any, inputs: NDArray[Any]) -> fidelity.Rung:
    """The torch model against the FloatNet on integers `inputs` [T, B, *shape]."""

    def rung(part: slice) -> fidelity.Rung:
        x = inputs[:, part] / run.net.input.scale
        record = _record(trained, x)
        return fidelity.compare(
            ("torch float", record),
            ("FloatNet", _of(record, floating.run(run.float_net, x, record=False))),
            run.net.readout, exact=False, potentials=False,
        )  # fmt: skip

    return fidelity.in_batches(rung, samples=inputs.shape[1], batch=BATCH)


def integers_rung(run: Exported, model: Any, inputs: NDArray[Any]) -> fidelity.Rung:
    """The torch model of the quantised phase against the engine; not a spike may differ."""

    def rung(part: slice) -> fidelity.Rung:
        record = _record(model, inputs[:, part] / run.net.input.scale)
        return fidelity.compare(
            ("torch integers", record),
            ("engine", _of(record, engine.run(run.net, inputs[:, part]))),
            run.net.readout, potentials=False,
        )  # fmt: skip

    return fidelity.in_batches(rung, samples=inputs.shape[1], batch=BATCH)


def _of(record: Trace, trace: Trace) -> Trace:
    """The populations of `trace` that `record` has, in its order. Those that exporting adds, which
    start others at their v_init or let spikes wait, have no counterpart in torch."""
    return replace(trace, populations={name: trace[name] for name in record.populations})


def run_inputs(run: Exported, *, samples: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The first test samples as the chip is shown them, integers [T, B, *shape], and labels [B]."""
    name = run.config.encode.name
    generator = torch.Generator().manual_seed(run.config.train.seed)
    x = stored(run.data.x_test[:samples], name)
    encoded = ENCODERS[name](x, run.net.steps, generator)
    return to_integers(encoded, run.net.input), run.data.y_test[:samples]


@torch.no_grad()
def _record(model: Any, x: NDArray[Any]) -> Trace:
    """Spikes of a torch model (SpikingNet or QuantNet) on x [T, B, *shape], float input units.

    A readout that only integrates appears as a population without spikes whose `v_last` holds the
    logits, so that predictions compare; potentials do not.
    """
    found = model.eval()(torch.tensor(x, dtype=torch.float32))
    populations = {}
    for name, part in found.spikes.items():
        spikes = part.flatten(2).to(torch.uint8).numpy()
        populations[name] = PopulationTrace(spikes=spikes, v_last=np.zeros(spikes.shape[1:]))
    if model.readout == "last_v":
        scores = found.logits.numpy()
        silent = np.zeros((len(x), *scores.shape), np.uint8)
        populations["readout"] = PopulationTrace(spikes=silent, v_last=scores)
    return Trace(populations=populations)
