"""What a first-divergence report says: where two runs part, why, and what else could be meant."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

CAUSES = {
    "weight": "a weight",
    "threshold": "the threshold",
    "decay": "a decay",
    "bias": "the bias",
    "reset": "the reset",
    "delay": "a delay",
    "overflow": "saturation or wrap",
    "tie": "a tie at the threshold",
    "input": "the input encoding",
    "float": "rounding of the state",
    "start": "the state in which samples start",
    "source": "spikes that already differed before",
    "unknown": "nothing that was tried",
}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One way to explain a difference. cause: a key of `CAUSES`. text: the change, in words with
    numbers. bits: how unlikely a guess it was (less is simpler). numbers: values and intervals.
    differing: entries that still differ with it."""

    cause: str
    text: str
    bits: float
    numbers: dict[str, Any] = field(default_factory=dict)
    differing: int = 0


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Where two runs of a net part, and why.

    quantity: "spikes", "u" or "v". left, right: its values (our run, the other one) at the first
    difference. v_left, v_right: potentials there before the reset, None where not known. v_th: the
    threshold in the same units. differing: entries of the population that differ when it is fed
    the other run's source spikes; spikes: how many of them are spikes. best: the likeliest
    explanation; others: runners-up. also: later populations that differ by themselves too.
    searched: samples in which the cause was looked for where these are not all, else 0.
    rounding: a float network and its integers were compared; potentials are the membrane's.
    """

    population: str
    quantity: str
    step: int
    sample: int
    neuron: int
    left: float
    right: float
    v_left: float | None
    v_right: float | None
    v_th: float
    differing: int
    spikes: int
    neurons: int
    best: Explanation
    others: tuple[Explanation, ...] = ()
    also: tuple[str, ...] = ()
    searched: int = 0
    rounding: bool = False

    @property
    def cause(self) -> str:
        """A key of `CAUSES`."""
        return self.best.cause

    @property
    def distance(self) -> float | None:
        """How far our potential was above its threshold."""
        return None if self.v_left is None else self.v_left - self.v_th

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {**asdict(self), "cause": self.cause, "distance": self.distance, "text": str(self)}

    def __str__(self) -> str:
        lines = [self._where(), self._why()]
        rivals = [f"{e.cause}: {e.text}" for e in self.others]
        if rivals and self.rounding:
            lines.append(f"Beside it: {'; '.join(rivals)}.")
        elif rivals:
            lines.append(f"Other explanations, likeliest first: {'; '.join(rivals)}.")
        if self.also:
            lines.append(f"By themselves differ also: {', '.join(self.also)}.")
        return " ".join(lines)

    def _where(self) -> str:
        fed = "" if self.rounding else " when it is fed the other run's spikes"
        text = (
            f"Population {self.population!r} is the first that differs{fed}: {self.quantity} of"
            f" neuron {self.neuron}, sample {self.sample}, step {self.step}: {self.left:g} against"
            f" {self.right:g}"
        )
        if self.v_left is not None:
            other = "" if self.v_right is None else f" against {self.v_right:.9g}"
            text += (
                f" (v {self.v_left:.9g}{other} at a threshold of {self.v_th:.9g}:"
                f" {self.v_left - self.v_th:+.6g})"
            )
        return f"{text}; {self.spikes} spikes of {self.neurons} neurons differ in it."

    def _why(self) -> str:
        if self.cause == "unknown":
            return f"No single cause explains it; the closest try: {self.best.text}."
        samples = f" of the {self.searched} samples looked at" if self.searched else ""
        after = "" if self.rounding else f"; this explains all differences{samples}"
        return f"Cause: {CAUSES[self.cause]}: {self.best.text}{after}."
