"""What the `attack` command attacks with, and which views of a network it climbs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any

from spikeport.sim.attack import ATTACKS, ApgdTargeted, Budget, standard, standard_views
from spikeport.sim.attack.events import EVENT_ATTACKS, RETIMINGS, FlipBudget, RetimingBudget
from spikeport.sim.attack.events.patterns import Pattern
from spikeport.sim.attack.events.sda import Sda, rounds_within
from spikeport.sim.attack.events.shown import Shown
from spikeport.sim.attack.guard import EVENT_NORMS
from spikeport.sim.attack.norms import NORMS
from spikeport.sim.attack.oracle import Legality
from spikeport.sim.attack.search import Spec, Views
from spikeport.sim.attack.spec import Attack
from spikeport.sim.attack.standard import (
    QUERIES,
    RATIO_CLASSES,
    STEPS,
    TARGET_CLASSES,
    WINDOWS,
)
from spikeport.sim.twin_base import TwinBase

REPLAYS = ("lava-inprocess", "lava", "none")
NOISE_DRAWS = 100
KEPT = 0.8  # chance of each flip to stay where random flips search
EPS = (8 / 255,)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to attack with; everything here changes the result and stands in its header.

    attacks: names of ATTACKS (of EVENT_ATTACKS where a norm of events is meant), none for all that
    search the `norm`. eps: radii, growing, pixel units (l0: pixels; flips: cells; shift,
    total_shift: steps; moves: events). per_step: flips in one step at most, None for no limit.
    steps, restarts: of the iterative attacks; queries: of the searches, and what sda's rounds may
    take; None for 40 and 500. standard: the published minimum instead (`sim.attack.standard`), in
    which None stands for the least. samples: 0 for all test vectors. replay: one of REPLAYS.
    checks: also look for gradient masking.
    """

    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = EPS
    norm: str = "linf"
    per_step: int | None = None
    steps: int | Any = None
    restarts: int = 1
    queries: int | Any = None
    standard: bool = False
    samples: int = 128
    replay: str = "lava-inprocess"
    seed: int = 0
    checks: bool = True

    def __post_init__(self) -> None:
        for effort, usual, least in (("steps", 40, STEPS), ("queries", 500, QUERIES)):
            if getattr(self, effort) is None:
                object.__setattr__(self, effort, least if self.standard else usual)
            elif self.standard and getattr(self, effort) < least:
                raise ValueError(
                    f"{effort} is {getattr(self, effort)}; the standard takes {least} at least"
                )
        if self.norm not in NORMS + EVENT_NORMS:
            raise ValueError(f"norm is {self.norm!r}; allowed are {', '.join(NORMS + EVENT_NORMS)}")
        unknown = [name for name in self.attacks if name not in self._kinds]
        if unknown:
            raise ValueError(
                f"attack is {unknown[0]!r}; allowed on {self.victims} are {', '.join(self._kinds)}"
            )
        if self.per_step is not None and self.norm != "flips":
            raise ValueError("flips per step are a limit of flips; give the number of flips too")
        if self.standard and (self.attacks or self.norm != "linf"):
            raise ValueError(
                "the standard names its own attacks, all of them in linf; leave --attack and every"
                " budget but --eps"
            )
        if self.standard and self.restarts != 1:
            raise ValueError(
                f"restarts is {self.restarts}; the attacks of the standard begin once, so leave it"
            )
        if self.replay not in REPLAYS:
            raise ValueError(f"replay is {self.replay!r}; allowed are {', '.join(REPLAYS)}")
        if self.samples < 0:
            raise ValueError(f"samples is {self.samples}; give 0 for all or a number from 1")
        if not self.eps or any(a >= b for a, b in pairwise(self.eps)):
            raise ValueError(f"eps is {self.eps}; give one radius or more, growing")
        for name, budget in product(self.attacks, self.budgets(1)):
            self._kinds[name]().check(budget)

    @property
    def of_events(self) -> bool:
        """Whether trains of events are attacked, not images."""
        return self.norm in EVENT_NORMS

    @property
    def victims(self) -> str:
        """What is attacked, in words."""
        return "trains" if self.of_events else "images"

    @property
    def _kinds(self) -> dict[str, type[Attack]]:
        return EVENT_ATTACKS if self.of_events else ATTACKS

    def budgets(self, levels: int) -> tuple[Legality, ...]:
        """One for each radius, on the grid of inputs 0..levels."""
        return tuple(self._budget(eps, levels) for eps in self.eps)

    def _budget(self, eps: Any, levels: int) -> Legality:
        if self.norm not in ("linf", "l2") and float(eps).is_integer():
            eps = int(eps)
        if self.norm == "flips":
            return FlipBudget(flips=eps, per_step=self.per_step, largest=levels)
        if self.norm in RETIMINGS:
            return RetimingBudget(eps=eps, norm=self.norm)
        return Budget(eps=eps, norm=self.norm, levels=levels)

    def specs(self, classes: int, *, maps: bool = True) -> dict[str, Spec]:
        """Label -> attack, labelled with its effort, for networks with that many classes, whose
        input has `maps` (C, H, W) or not: ValueError for an attack asked for that needs others.
        Gradient attacks of images climb cross-entropy and, where there are classes enough for it,
        the difference of logits ratio, which misses other samples."""
        if self.standard:
            return standard(classes, steps=self.steps, queries=self.queries)
        found: dict[str, Spec] = {}
        for name in self.attacks or self._kinds:
            kind = self._kinds[name]
            lacking = _lacking(kind, classes=classes, maps=maps)
            if lacking and self.attacks:
                raise ValueError(f"{name}: {lacking}, so choose another attack")
            if not lacking and self.norm in kind.norms:
                found |= self._labelled(name, classes)
        return found

    def _labelled(self, name: str, classes: int) -> dict[str, Spec]:
        """One attack, with and without the ratio of logits; random flips also as a search."""
        kind: type[Any] = self._kinds[name]
        efforts = {
            "draws": NOISE_DRAWS, "steps": self.steps, "queries": self.queries,
            "restarts": self.restarts,
        }  # fmt: skip
        if kind is Sda:
            efforts["steps"] = rounds_within(self.queries)
        given = {k: v for k, v in efforts.items() if k in kind.__dataclass_fields__}
        effort = [str(given[k]) for k in ("draws", "steps", "queries") if k in given]
        label = "-".join([name, *effort])
        found: dict[str, Spec] = {label: kind(**given)}
        if name in ("pgd", "apgd") and classes >= RATIO_CLASSES:
            found[f"{label}-dlr"] = kind(**given, loss="dlr")
        if name == "random-flips":
            found[f"{name}-{self.queries}-kept"] = kind(draws=self.queries, keep=KEPT)
        return found

    def views(self, twin: TwinBase) -> Views:
        """The views of a network that attacks climb, by name."""
        if self.standard:
            return standard_views(twin)
        views = {name: twin.through(s, detach_reset=True) for name, s in WINDOWS.items()}
        if not self.of_events:
            return views
        return {name: Shown(view, unit=twin.net.input.scale) for name, view in views.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, from which `of` makes equal settings."""
        return {**asdict(self), "attacks": list(self.attacks), "eps": list(self.eps)}

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Settings:
        """Settings from `to_json`; ValueError for anything else."""
        try:
            each = {"attacks": tuple(numbers["attacks"]), "eps": tuple(numbers["eps"])}
            return cls(**{**numbers, **each})
        except (KeyError, TypeError):
            raise ValueError(
                f"attack settings are {numbers!r}; needed are those of a result's header"
            ) from None


def _lacking(kind: type[Attack], *, classes: int, maps: bool) -> str:
    """What an attack needs and a network does not have, "" if nothing."""
    if issubclass(kind, Pattern) and not maps:
        return "draws on maps (C, H, W); the input has none"
    if kind is ApgdTargeted and classes < TARGET_CLASSES:
        return f"needs {TARGET_CLASSES} classes or more; the network has {classes}"
    return ""


def measured(
    eps: Sequence[str], norm: str | None, flips: Sequence[int], retime: Sequence[str]
) -> dict[str, Any]:
    """`norm` and `eps` of Settings, from what the options of the command say; ValueError where they
    measure changes in two ways."""
    if sum(map(bool, (eps or norm, flips, retime))) > 1:
        raise ValueError(
            "--eps and --norm, --flips, and --retime are three ways to measure a change; give one"
        )
    if flips:
        return {"norm": "flips", "eps": tuple(flips)}
    if not retime:
        return {"norm": norm or "linf", "eps": tuple(map(radius, eps)) or EPS}
    pairs = [text.partition("=") for text in retime]
    norms, sizes = {norm for norm, _, _ in pairs}, [size for _, _, size in pairs]
    if len(norms) > 1 or not norms <= set(RETIMINGS) or not all(map(str.isdecimal, sizes)):
        raise ValueError(
            f"--retime is {' and '.join(retime)}; write {', '.join(f'{n}=N' for n in RETIMINGS)}"
            " with a whole N, and one of the names only"
        )
    return {"norm": norms.pop(), "eps": tuple(map(int, sizes))}


def radius(text: str, *, where: str = "eps") -> float:
    """A radius as people write it, "0.03" or "8/255"; ValueError, which names `where` it stands,
    when it is no finite number."""
    above, slash, below = text.partition("/")
    try:
        found = int(above) / int(below) if slash else float(text)
    except (ValueError, ArithmeticError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{where} is {text}; write a number such as 0.03 or 8/255")
    return found
