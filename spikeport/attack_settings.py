"""What the `attack` command attacks with, and which views of a network it climbs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from spikeport import backends
from spikeport.sim.attack import ATTACKS, Budget, standard, standard_views
from spikeport.sim.attack.norms import NORMS
from spikeport.sim.attack.search import Spec, Views
from spikeport.sim.attack.standard import RATIO_CLASSES, TARGET_CLASSES
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin_base import TwinBase

REPLAYS = ("lava-inprocess", "lava", "none")
NOISE_DRAWS = 100

# An attack is only as strong as its gradient, and which surrogate serves it best differs from net
# to net (a defence may starve the one it was trained with). Each is tried, the worst case counts.
SURROGATES = {"triangle-1": Surrogate("triangle", 1.0), "atan-2": Surrogate("atan", 2.0)}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to attack with; everything here changes the result and stands in its header.

    attacks: names of ATTACKS, none for all that search the `norm`. eps: radii, growing, pixel units
    (l0: pixels). steps, restarts: of the iterative attacks; queries: of the searches. standard:
    the published minimum instead (`sim.attack.standard`). samples: 0 for all test vectors. replay:
    one of REPLAYS. checks: also look for gradient masking.
    """

    attacks: tuple[str, ...] = ()
    eps: tuple[float, ...] = (8 / 255,)
    norm: str = "linf"
    steps: int = 40
    restarts: int = 1
    queries: int = 500
    standard: bool = False
    samples: int = 128
    replay: str = "lava-inprocess"
    seed: int = 0
    checks: bool = True

    def __post_init__(self) -> None:
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown:
            raise ValueError(f"attack is {unknown[0]!r}; allowed are {', '.join(ATTACKS)}")
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; allowed are {', '.join(NORMS)}")
        if self.standard and (self.attacks or self.norm != "linf"):
            raise ValueError(
                "the standard names its own attacks, all of them in linf; leave --attack and --norm"
            )
        if self.replay not in REPLAYS:
            raise ValueError(f"replay is {self.replay!r}; allowed are {', '.join(REPLAYS)}")
        if self.samples < 0:
            raise ValueError(f"samples is {self.samples}; give 0 for all or a number from 1")
        if not self.eps or any(a >= b for a, b in pairwise(self.eps)):
            raise ValueError(f"eps is {self.eps}; give one radius or more, growing")
        for eps in self.eps:
            Budget(eps=self._size(eps), norm=self.norm)

    def budgets(self, levels: int) -> tuple[Budget, ...]:
        """One for each radius, on the grid of inputs 0..levels."""
        return tuple(Budget(eps=self._size(e), norm=self.norm, levels=levels) for e in self.eps)

    def _size(self, eps: float) -> float:
        return int(eps) if self.norm == "l0" and eps == int(eps) else eps

    def specs(self, classes: int) -> dict[str, Spec]:
        """Label -> attack, labelled with its effort, for networks with that many classes. Gradient
        attacks climb cross-entropy and, where there are classes enough for it, the difference of
        logits ratio, which misses other samples."""
        if self.standard:
            return standard(classes, steps=max(self.steps, 100), queries=max(self.queries, 1000))
        found: dict[str, Spec] = {}
        for name in self.attacks or ATTACKS:
            if self.attacks or self.norm in ATTACKS[name].norms:
                found |= self._labelled(name, classes)
        return found

    def _labelled(self, name: str, classes: int) -> dict[str, Spec]:
        """One attack of ATTACKS, with and without the ratio of logits."""
        kind: type[Any] = ATTACKS[name]
        efforts = {
            "draws": NOISE_DRAWS, "steps": self.steps, "queries": self.queries,
            "restarts": self.restarts,
        }  # fmt: skip
        given = {k: v for k, v in efforts.items() if k in kind.__dataclass_fields__}
        effort = [str(given[k]) for k in ("draws", "steps", "queries") if k in given]
        label = "-".join([name, *effort])
        if name == "apgd-t" and classes < TARGET_CLASSES:
            return {}
        found: dict[str, Spec] = {label: kind(**given)}
        if name in ("pgd", "apgd") and classes >= RATIO_CLASSES:
            found[f"{label}-dlr"] = kind(**given, loss="dlr")
        return found

    def views(self, twin: TwinBase) -> Views:
        """The views of a network that attacks climb, by name."""
        if self.standard:
            return standard_views(twin)
        return {name: twin.through(s, detach_reset=True) for name, s in SURROGATES.items()}

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


def radius(text: str) -> float:
    """A radius as people write it, "0.03" or "8/255"; ValueError when it is no number."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"eps is {text}; write a number such as 0.03 or 8/255") from None


def check_effort(*, jobs: int, timeout_s: float) -> None:
    """Raise ValueError unless an attack can be carried out so; neither changes its result."""
    backends.check_timeout(timeout_s)
    if jobs < 1:
        raise ValueError(f"attack: jobs is {jobs}; it must be at least 1")
