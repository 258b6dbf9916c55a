"""Everything that runs a FixedNet, by name, and the ladder that compares them.

Heavy packages (torch, Lava) are imported when a backend that needs them is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import apart, fidelity
from spikeport.sim.net import FixedNet, FloatNet
from spikeport.sim.trace import Trace

Ints = NDArray[Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a run may take; see `run`."""

    timeout_s: float
    jobs: int


def _reference(net: FixedNet, x: Ints, _: Effort) -> Trace:
    from spikeport.sim import reference

    return reference.run(net, x)


def _engine(net: FixedNet, x: Ints, _: Effort) -> Trace:
    from spikeport.sim import engine

    return engine.run(net, x, record=True)


def _twin(net: FixedNet, x: Ints, _: Effort) -> Trace:
    from spikeport.sim.twin import Twin

    return Twin(net).run(x)


def _lava_inprocess(net: FixedNet, x: Ints, effort: Effort) -> Trace:
    from spikeport import lava_shares

    return lava_shares.run(net, x, jobs=effort.jobs, record=True)


def _lava(net: FixedNet, x: Ints, effort: Effort) -> Trace:
    from spikeport.hw import lava_run

    return lava_run.run(net, x, timeout_s=effort.timeout_s, record=True)


BACKENDS: dict[str, Callable[[FixedNet, Ints, Effort], Trace]] = {
    "reference": _reference,
    "engine": _engine,
    "twin": _twin,
    "lava-inprocess": _lava_inprocess,
    "lava": _lava,
}
EXPLAINED = 32  # samples in which the cause of a rounded spike is looked for
NEEDS_LAVA = ("lava-inprocess", "lava")


def run(
    net: FixedNet, x: Any, *, backend: str, timeout_s: float = 600.0, jobs: int | None = None
) -> Trace:
    """Run `net` on integers x [T, B, *shape] with one of BACKENDS; same bits whichever is chosen.

    timeout_s: hard limit of a run on the multi-process Lava runtime. jobs: processes that share
    the samples of in-process Lava, if these are many (None: one a processor). Raises ValueError
    for an unknown backend or jobs below 1, and LavaError when Lava is missing, dies or runs out of
    time.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}; allowed are {', '.join(BACKENDS)}")
    jobs = apart.processes(jobs, where=f"backend {backend}")
    return BACKENDS[backend](net, x, Effort(timeout_s=timeout_s, jobs=jobs))


def as_model(net: FixedNet, *, backend: str, timeout_s: float = 600.0) -> Callable[[Any], Any]:
    """`net` on one of BACKENDS as attacks see a model: torch images [B, *shape] in float units of
    the input -> logits [B, K], the readout's integers as float64. It has no gradient, so only
    attacks that need none can search on it, `Square` for one. Raises as `run` does."""
    import torch

    def logits(images: Any) -> Any:
        x = shown(net, images.detach().cpu().numpy())
        trace = run(net, x, backend=backend, timeout_s=timeout_s, jobs=1)
        return torch.tensor(trace.logits(net.readout)).double()

    return logits


def shown(net: FixedNet, images: NDArray[Any]) -> NDArray[Any]:
    """What the chip is shown for images [B, *shape] in float units: integers [T, B, *shape]."""
    pixels = np.rint(images.astype(np.float64) * net.input.scale).astype(np.int64)
    return in_every_step(pixels, net.steps)


def in_every_step(images: NDArray[Any], steps: int) -> NDArray[Any]:
    """Static integers [B, *shape] as a train [T, B, *shape] (a read-only view)."""
    return np.broadcast_to(images, (steps, *images.shape))


def ladder(
    net: FixedNet,
    x: Any,
    backends: Sequence[str],
    *,
    floats: Sequence[tuple[str, FloatNet]] = (),
    labels: NDArray[np.int64] | None = None,
    lava_samples: int = 64,
    timeout_s: float = 600.0,
    progress: Progress = lambda _: None,
) -> fidelity.FidelityReport:
    """Compare the reference with each of `backends`, and float nets with the reference.

    x: integers [T, B, *shape]; labels: their classes [B], where known. floats: nets before `net`,
    the last of them what was rounded. The multi-process Lava runtime is shown the first
    `lava_samples` samples. Where Lava is missing its rungs are listed with the reason.
    """
    from spikeport.hw import lava_run
    from spikeport.sim import floating

    absent = lava_run.available()
    progress("reference")
    definition = run(net, x, backend="reference")
    rungs, missing = [], []
    right = {"reference": _right(definition, net, labels)}
    traces = {}
    for name, part in floats:
        progress(name)
        traces[name] = floating.run(part, x / part.input.scale, record=False)
        right[name] = _right(traces[name], net, labels)
    for left, other in pairwise([*traces.items(), ("integer", definition)]):
        rungs.append(fidelity.compare(left, other, net.readout, exact=False, potentials=False))
    if floats:
        rungs[-1] = _rounding_explained(rungs[-1], floats[-1][1], net, x)
    for backend in (name for name in backends if name != "reference"):
        if backend in NEEDS_LAVA and absent:
            missing.append((backend, absent))
            continue
        progress(backend)
        count = min(lava_samples, x.shape[1]) if backend == "lava" else x.shape[1]
        start = time.perf_counter()
        trace = run(net, x[:, :count], backend=backend, timeout_s=timeout_s)
        seconds = time.perf_counter() - start
        same = ("reference", first_samples(definition, count))
        rung = fidelity.compare(same, (backend, trace), net.readout, seconds=seconds)
        rungs.append(explained(rung, net, x[:, :count], trace))
        if count == x.shape[1]:
            right[backend] = _right(trace, net, labels)
    known = {name: share for name, share in right.items() if share is not None}
    return fidelity.FidelityReport(rungs=tuple(rungs), missing=tuple(missing), accuracy=known)


def explained(rung: fidelity.Rung, net: FixedNet, x: Ints, observed: Trace) -> fidelity.Rung:
    """`rung`, which compared the reference with `observed`, with the cause of its difference."""
    from spikeport.sim.divergence.diagnose import diagnose

    if rung.first is None:
        return rung
    found = diagnose(net, x, observed)
    return replace(rung, cause=str(found) if found else None)


def _rounding_explained(
    rung: fidelity.Rung, float_net: FloatNet, net: FixedNet, x: Ints
) -> fidelity.Rung:
    """`rung`, which compared `float_net` with its integers, with the cause of its difference."""
    from spikeport.sim.divergence.explain import explain

    found = explain(float_net, net, x[:, :EXPLAINED]) if rung.first else None
    return replace(rung, cause=str(found) if found else None)


def _right(trace: Trace, net: FixedNet, labels: NDArray[np.int64] | None) -> float | None:
    """Share of samples predicted as labelled."""
    if labels is None:
        return None
    return float((fidelity.predict(trace, net.readout) == labels).mean())


def first_samples(trace: Trace, count: int) -> Trace:
    """The first `count` samples of a trace."""
    parts = {
        name: replace(
            part,
            spikes=part.spikes[:, :count],
            v_last=part.v_last[:count],
            u=None if part.u is None else part.u[:, :count],
            v=None if part.v is None else part.v[:, :count],
            v_sum=None if part.v_sum is None else part.v_sum[:count],
        )
        for name, part in trace.populations.items()
    }
    return Trace(populations=parts)
