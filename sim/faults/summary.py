"""What a campaign found: accuracy over the number of faults, and what is most critical.

Two things are uncertain. That the images are a sample shows in Wilson's interval of the accuracy
without faults (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212). That the faults are a sample shows in
percentile bootstrap intervals of the mean over trials (Efron and Tibshirani 1993, An Introduction
to the Bootstrap, chapter 13), given the images; they are drawn from the campaign's seed. All
intervals are of 95 %.

Bits, parts and single faults are judged by the trials with one fault: of several together none can
be blamed. Loss is accuracy without faults minus accuracy with them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.faults.result import Result, Trial, place_of
from spikeport.sim.text import aligned

RESAMPLES = 1000
Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
MOST = 10  # rows of the report's tables


@dataclass(frozen=True, kw_only=True)
class Row:
    """One group of trials on one set of images. accuracy: mean, between low and high; loss: mean,
    in accuracy; worst: least accuracy; changed: mean share of decisions that changed."""

    label: str
    trials: int
    accuracy: float
    low: float
    high: float
    loss: float
    worst: float
    changed: float


def wilson(right: int, samples: int) -> tuple[float, float]:
    """95 % interval of a share, `right` of `samples` (at least one)."""
    share, z2 = right / samples, Z_95**2 / samples
    middle = (share + z2 / 2) / (1 + z2)
    half = (z2 * share * (1 - share) + z2**2 / 4) ** 0.5 / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` [n]."""
    rng = np.random.default_rng(seed)
    means = [rng.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def accuracy(result: Result, name: str) -> float:
    """Accuracy on set `name` without faults."""
    return float(result.header["right"][_known(result, name)]) / result.samples


def curve(result: Result, name: str) -> tuple[Row, ...]:
    """Accuracy on set `name` by the number of faults at once, fewest first."""
    rows = _grouped(result, name, result.trials, lambda trial: len(trial.faults))
    return tuple(sorted(rows, key=lambda row: int(row.label)))


def by_kind(result: Result, name: str) -> tuple[Row, ...]:
    """Single faults by their kind, most critical first."""
    return _ranked(_grouped(result, name, singles(result), lambda trial: trial.faults[0].kind))


def by_bit(result: Result, name: str) -> tuple[Row, ...]:
    """Single bit flips by kind and bit, most critical first."""
    flips = [trial for trial in singles(result) if trial.faults[0].bit is not None]
    return _ranked(
        _grouped(
            result, name, flips, lambda t: f"{t.faults[0].kind} bit {t.faults[0].bit}"
        )
    )  # fmt: skip


def by_part(result: Result, name: str) -> tuple[Row, ...]:
    """Single faults by the projection, population or core they sit in, most critical first."""
    return _ranked(_grouped(result, name, singles(result), lambda t: place_of(result, t.faults[0])))


def worst(result: Result, name: str, *, count: int) -> tuple[Trial, ...]:
    """The first trials with the `count` most critical single faults, most critical first."""
    _known(result, name)
    ranked = sorted(singles(result), key=lambda t: (t.right[name], t.trial))
    different = {trial.faults[0].site: trial for trial in reversed(ranked)}
    return tuple(sorted(different.values(), key=lambda t: (t.right[name], t.trial))[:count])


def singles(result: Result) -> tuple[Trial, ...]:
    """The trials with one fault."""
    return tuple(trial for trial in result.trials if len(trial.faults) == 1)


def _known(result: Result, name: str) -> str:
    if name not in result.sets:
        raise ValueError(
            f"campaign: there is no set {name!r}; there are {', '.join(map(repr, result.sets))}"
        )
    return name


def _grouped(
    result: Result, name: str, trials: Sequence[Trial], key: Callable[[Trial], Hashable]
) -> list[Row]:
    usual = accuracy(result, name)
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    rows = []
    for label, members in groups.items():
        found = np.array([trial.right[name] for trial in members]) / result.samples
        low, high = bootstrap(found, seed=result.header["campaign"]["seed"])
        rows.append(
            Row(
                label=str(label), trials=len(members), accuracy=float(found.mean()), low=low,
                high=high, loss=usual - float(found.mean()), worst=float(found.min()),
                changed=float(np.mean([t.changed[name] for t in members])) / result.samples,
            )
        )  # fmt: skip
    return rows


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.loss, row.label)))


def report(result: Result) -> str:
    """The summaries as plain text, all sets side by side; ranks go by the first set."""
    first, sets = result.sets[0], result.sets
    head = ["faults at once", "trials", *(f"{name} %" for name in sets)]
    clean = ["0", "-", *(_wilson_cell(result, name) for name in sets)]
    curves = [curve(result, name) for name in sets]
    lines = [
        f"{len(result.trials)} trials on {result.samples} images; accuracy with 95 % intervals:"
        " without faults Wilson's over images, with faults of the mean over trials",
        aligned([head, clean, *_side_by_side(curves)]),
    ]
    for title, summary in (("kind", by_kind), ("bit", by_bit), ("part", by_part)):
        found = [summary(result, name) for name in sets]
        rows = _side_by_side(_in_order(found))[:MOST]
        if rows:
            head = [f"most critical {title}", "trials", *(f"{name} %" for name in sets)]
            lines += ["", aligned([head, *rows])]
    trials = worst(result, first, count=MOST)
    if trials:
        head = ["most critical single fault", "trial", *(f"{name} %" for name in sets)]
        rows = [
            [f"{t.faults[0]}", f"{t.trial}"]
            + [f"{100 * t.right[name] / result.samples:.1f}" for name in sets]
            for t in trials
        ]
        lines += ["", aligned([head, *rows])]
    return "\n".join(lines) + "\n"


def _wilson_cell(result: Result, name: str) -> str:
    low, high = wilson(result.header["right"][name], result.samples)
    return _cell(accuracy(result, name), low, high)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _in_order(found: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """Rows of every set in the order of the first."""
    by_label = [{row.label: row for row in rows} for rows in found]
    return [[rows[row.label] for row in found[0]] for rows in by_label]


def _side_by_side(found: Sequence[Sequence[Row]]) -> list[list[str]]:
    return [
        [rows[0].label, str(rows[0].trials), *(_cell(r.accuracy, r.low, r.high) for r in rows)]
        for rows in zip(*found, strict=True)
    ]
