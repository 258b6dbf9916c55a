"""Campaigns: faults drawn from a seed, one trial after another, each judged on the same images.

    campaign = Campaign(seed=0, kinds={"weight": 1, "v": 1}, at_once=(1, 4, 16))
    result = run(net, {"clean": x, "worst": x_adv}, labels, campaign=campaign, trials=3000)
    write("faults.json", result)

What trial i draws depends on the seed and i alone: more trials later, or trials spread over
processes, give the same file. Accuracy counts ties as wrong, as attacks do
(`spikeport.sim.attack.losses.margin`).
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim import checks, engine
from spikeport.sim.digest import digest
from spikeport.sim.faults.fault import (
    BITS,
    KINDS,
    SPIKE,
    Cores,
    Fault,
    checked_rate,
    places,
    resolved,
)
from spikeport.sim.faults.replay import Replay, bytes_of
from spikeport.sim.faults.result import VERSION, Result, Trial
from spikeport.sim.faults.stored import format_of
from spikeport.sim.net import FixedNet

PORTION_BYTES = 256 << 20  # of one replay
Sets = Mapping[str, Any]
"""Images by name, each [T, B, *input.shape]: the same B samples, attacked or not."""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What to draw. kinds: chance of each kind, in any unit. at_once: how many faults a trial has;
    trial i takes number i modulo the length. rate: share of spikes that dropping and duplicating
    faults hit, above 0 and at most 1, None where neither is drawn. cores: neurons by core, needed
    for kind "core". Within a kind every bit of every place is equally likely."""

    seed: int
    kinds: Mapping[str, float]
    at_once: tuple[int, ...]
    rate: float | None = None
    cores: Cores | None = None

    def __post_init__(self) -> None:
        seed = checks.whole(self.seed, where="campaign seed", low=0, high=(1 << 63) - 1)
        object.__setattr__(self, "seed", seed)
        if not self.kinds or not self.at_once:
            raise ValueError("campaign: kinds and at_once must not be empty; name what to draw")
        for kind in self.kinds:
            checks.choice(kind, tuple(KINDS), where="campaign kind")
        chances = {
            kind: checks.positive(self.kinds[kind], where=f"campaign kind {kind!r}: its chance")
            for kind in KINDS
            if kind in self.kinds
        }
        object.__setattr__(self, "kinds", chances)
        counts = tuple(
            checks.whole(n, where="campaign at_once", low=1, high=1 << 20) for n in self.at_once
        )
        object.__setattr__(self, "at_once", counts)
        if (self.rate is None) == any(kind in SPIKE for kind in chances):
            raise ValueError(
                f"campaign: rate is {self.rate} and kinds are {', '.join(chances)}; give a rate"
                " where spikes are dropped or duplicated, and only there"
            )
        if self.rate is not None:
            object.__setattr__(self, "rate", checked_rate(self.rate, where="campaign"))
        if self.cores is not None:
            cores: Cores = {
                int(core): {name: tuple(map(int, held[name])) for name in sorted(held)}
                for core, held in sorted(self.cores.items())
            }
            object.__setattr__(self, "cores", cores)

    def draw(self, net: FixedNet, trial: int, *, steps: int) -> tuple[Fault, ...]:
        """The faults of `trial` in a run of `steps` steps, all at different places.

        Raises ValueError where the network has fewer places than the trial needs.
        """
        count = self.at_once[trial % len(self.at_once)]
        rng = np.random.default_rng([self.seed, trial])
        sizes = {kind: places(net, kind, cores=self.cores) for kind in self.kinds}
        room = {
            kind: sum(found.values()) * BITS.get(kind, 1) * (steps if "step" in KINDS[kind] else 1)
            for kind, found in sizes.items()
        }
        if sum(room.values()) < count:
            raise ValueError(
                f"campaign: trial {trial} needs {count} different faults, the network has places"
                f" for {sum(room.values())}; draw fewer at once or more kinds"
            )
        chances = np.array(list(self.kinds.values())) / sum(self.kinds.values())
        found: dict[tuple[Any, ...], Fault] = {}
        while len(found) < count:
            kind = list(self.kinds)[int(rng.choice(len(chances), p=chances))]
            fault = self._one(rng, kind, sizes[kind], steps=steps)
            found.setdefault(fault.site, fault)
        return tuple(found.values())

    def _one(
        self, rng: np.random.Generator, kind: str, sizes: Mapping[Any, int], *, steps: int
    ) -> Fault:
        ends = np.cumsum(list(sizes.values()))
        place = int(rng.integers(ends[-1]))
        part = list(sizes)[int(np.searchsorted(ends, place, side="right"))]
        before = int(ends[list(sizes).index(part)]) - sizes[part]
        values: dict[str, Any] = {"index": place - before, "rate": self.rate}
        for name, high in (("bit", BITS.get(kind, 1)), ("step", steps), ("seed", 1 << 32)):
            if name in KINDS[kind]:
                values[name] = int(rng.integers(high))
        return Fault(kind=kind, part=part, **{name: values[name] for name in KINDS[kind]})

    def to_json(self) -> dict[str, Any]:
        """The settings, cores by their numbers spelled out, as JSON has them."""
        cores = {str(core): dict(held) for core, held in (self.cores or {}).items()}
        return {
            "seed": self.seed, "kinds": dict(self.kinds), "at_once": list(self.at_once),
            "rate": self.rate, "cores": cores or None,
        }  # fmt: skip


def decisions(logits: NDArray[Any]) -> NDArray[np.int64]:
    """The class with the largest of logits [B, K], -1 where several share it; int64 [B]."""
    top = logits == logits.max(1, keepdims=True)
    return np.where(top.sum(1) == 1, top.argmax(1), -1)


def run(
    net: FixedNet, sets: Sets, labels: Any, *, campaign: Campaign, trials: int,
    done: Result | None = None, processes: int = 1,
) -> Result:  # fmt: skip
    """Trials 0 .. `trials` - 1 of `campaign` on images `sets` with `labels` [B].

    done: an earlier result, whose trials are taken over. The number of processes changes nothing
    but the time. Raises ValueError for images, labels or weights that do not fit, and for an
    earlier result of something else.
    """
    trials = checks.whole(trials, where="campaign trials", low=0, high=1 << 30)
    processes = checks.whole(processes, where="campaign processes", low=1, high=1024)
    begun = _begin(net, sets, labels, campaign)
    if done is not None:
        if json.loads(done.to_json()) | {"trials": []} != json.loads(begun.to_json()):
            raise ValueError(
                "campaign: the earlier result is of another network, campaign or images; begin a"
                " new one or repeat its settings"
            )
        begun = done
    numbers = range(len(begun.trials), trials)
    if not numbers:
        return begun
    shares = [numbers[i::processes] for i in range(processes)]
    if processes == 1:
        found = run_trials(net, sets, labels, campaign=campaign, numbers=numbers)
    else:
        context = multiprocessing.get_context("spawn")  # forks of threaded libraries can hang
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            futures = [
                pool.submit(run_trials, net, sets, labels, campaign=campaign, numbers=share)
                for share in shares
            ]
            found = tuple(trial for future in futures for trial in future.result())
    merged = (*begun.trials, *sorted(found, key=lambda trial: trial.trial))
    return replace(begun, trials=merged)


def run_trials(
    net: FixedNet, sets: Sets, labels: Any, *, campaign: Campaign, numbers: Sequence[int]
) -> tuple[Trial, ...]:
    """The trials with these `numbers`, in that order.

    Large sets are shown in portions, one after another, so that the memory stays bounded.
    """
    labels = np.asarray(labels)
    right = {name: np.zeros(len(numbers), np.int64) for name in sorted(sets)}
    changed = {name: np.zeros(len(numbers), np.int64) for name in right}
    arrays = {name: np.asarray(sets[name]) for name in right}
    steps, batch = next(iter(arrays.values())).shape[:2]
    drawn = [campaign.draw(net, number, steps=steps) for number in numbers]
    for name, x in arrays.items():
        portion = max(1, PORTION_BYTES // (steps * bytes_of(net)))
        for first in range(0, batch, portion):
            there = slice(first, first + portion)
            replay = Replay(net, x[:, there], first=first)
            usual = decisions(replay.baseline.logits(net.readout))
            for i, faults in enumerate(drawn):
                decided = decisions(replay.logits(faults, cores=campaign.cores))
                right[name][i] += (decided == labels[there]).sum()
                changed[name][i] += (decided != usual).sum()
    return tuple(
        Trial(
            trial=number, faults=faults, right={name: int(right[name][i]) for name in right},
            changed={name: int(changed[name][i]) for name in changed},
        )
        for i, (number, faults) in enumerate(zip(numbers, drawn, strict=True))
    )  # fmt: skip


def _begin(net: FixedNet, sets: Sets, labels: Any, campaign: Campaign) -> Result:
    """A result without trials; refuses what no trial could run."""
    classes = net.population(net.readout.population).size
    if not sets:
        raise ValueError("campaign: there are no images; give {'clean': x}")
    arrays = {name: net.input.check(sets[name]) for name in sorted(sets)}
    shapes = {array.shape[:2] for array in arrays.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"campaign: sets have shapes [T, B] of {sorted(shapes)}; all must show the same samples"
            " for the same steps"
        )
    ((steps, batch),) = shapes
    labels = checks.frozen_ints(
        labels, where="campaign labels", low=0, high=classes - 1, dtype=np.int64
    )
    if labels.shape != (batch,):
        raise ValueError(f"campaign: labels have shape {labels.shape}; needed is ({batch},)")
    if "weight" in campaign.kinds:
        for projection in net.projections:
            format_of(projection)
    if "core" in campaign.kinds:
        cores = [Fault(kind="core", part=c) for c in places(net, "core", cores=campaign.cores)]
        resolved(net, cores, steps=steps, cores=campaign.cores)
    decided = {
        name: decisions(engine.run(net, x).logits(net.readout)) for name, x in arrays.items()
    }
    header = {
        "version": VERSION,
        "campaign": campaign.to_json(),
        "network": net.digest(),
        "images": {name: digest(array) for name, array in arrays.items()},
        "labels": digest(labels),
        "samples": batch,
        "steps": steps,
        "right": {name: int((d == labels).sum()) for name, d in decided.items()},
        "parts": [f"{p.source} -> {p.target}" for p in net.projections],
    }
    return Result(header=header)
