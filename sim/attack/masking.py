"""Does a robust accuracy mean robustness, or did the attacks starve?

Twelve checks after Athalye, Carlini and Wagner 2018, Carlini et al. 2019 and Croce and Hein 2020.
Each is a rule on figures, so it can be applied to the figures of any evaluation; `run_checks`
gathers the figures and applies them all. One that fails means "masking suspected: do not claim
robustness"; none that fails is no certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SLACK = 0.005
"""Half a point of accuracy: how much a stronger attack may look weaker by bad luck."""

ZERO_SHARE = 0.01
"""Share of samples without any gradient above which gradients count as masked."""

RISING_SHARE = 0.9
"""Share of attacked samples whose loss must not end below where it began."""

BROKEN = 0.05
"""Accuracy at which an undefended model counts as broken."""


WEAK = "gradients mislead; climb other surrogates, ASSG among them, and the difference of logits"
CAUSES = {
    "C0": "the model is random or keeps state between calls; average its draws, or reset it",
    "C1": f"a long step beats many short ones: {WEAK}",
    "C2": f"an attacker who knows less does better: {WEAK}",
    "C3": "the attack stalls before the budget is used up, as it does on flat or broken gradients",
    "C4": "too few steps, or steps of a wrong length",
    "C5": f"blind chance finds what gradients miss: {WEAK}",
    "C6": "no neuron is within the surrogate's window, or the loss is saturated; widen the window",
    "C7": "steps up the gradient lead down: gradients are noise, or the step is too long",
    "C8": "the attack itself is weak or broken, whatever it is used on",
    "C9": "the gradient points nowhere in particular: the surrogate does not fit this network",
    "C10": "probabilities leave no gradient where the model is sure; give the attack the logits",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """Verdict of one rule. figures: what it was reached with; sentence: for the reader."""

    name: str
    passed: bool
    figures: Mapping[str, float]
    sentence: str

    @property
    def cause(self) -> str:
        """What most often is behind a failure, and what to do."""
        return CAUSES[self.name.split()[0]]


def repeatable(first: Tensor, second: Tensor) -> Check:
    """C0: the same images give the same logits [B, K] twice; these attacks average nothing."""
    change = float((first - second).abs().max())
    return Check(
        name="C0 repeatable",
        passed=change == 0,
        figures={"largest_change": change},
        sentence=f"logits of the same images differ by up to {change:.3g} between two runs",
    )


def iterative(*, fgsm: float, pgd: float) -> Check:
    """C1: many small steps find at least what one large step finds."""
    return Check(
        name="C1 iterative",
        passed=pgd <= fgsm + SLACK,
        figures={"fgsm": fgsm, "pgd": pgd},
        sentence=f"robust accuracy is {pgd:.3f} under PGD and {fgsm:.3f} under FGSM",
    )


def white_box(*, gradient: float, square: float) -> Check:
    """C2: an attacker who sees gradients is at least as strong as one who sees only logits."""
    return Check(
        name="C2 white box",
        passed=gradient <= square,
        figures={"gradient": gradient, "square": square},
        sentence=f"robust accuracy is {gradient:.3f} under gradients and {square:.3f} under Square",
    )


def transferred(*, own: float, transfer: float, source: str) -> Check:
    """C2 once more: attacking a network finds at least what images made on another one find."""
    return Check(
        name="C2 transfer",
        passed=own <= transfer,
        figures={"own": own, "transfer": transfer},
        sentence=f"robust accuracy is {own:.3f} under attack and {transfer:.3f} on the images that"
        f" were made on {source}",
    )


def monotone(epsilons: Sequence[float], accuracies: Sequence[float], *, chance: float) -> Check:
    """C3: more budget never helps the defender, and half the range or more breaks any model.

    epsilons grow; accuracies of separate (not nested) runs; chance: 1 / K.
    """
    if max(epsilons) < 0.5:
        raise ValueError(
            f"check C3: epsilons end at {max(epsilons)}; one of at least 0.5 is needed"
        )
    rise = _largest_rise(accuracies)
    last = accuracies[-1]
    return Check(
        name="C3 monotone",
        passed=rise <= SLACK and last <= chance,
        figures={f"eps_{e:.4f}": a for e, a in zip(epsilons, accuracies, strict=True)},
        sentence=f"over growing eps robust accuracy rises by at most {max(rise, 0):.3f} and ends "
        f"at {last:.3f} for eps {epsilons[-1]:.2f} (chance is {chance:.3f})",
    )


def convergence(steps: Sequence[int], accuracies: Sequence[float]) -> Check:
    """C4: more steps are never weaker, and the last increase no longer matters."""
    rise, fall = _largest_rise(accuracies), accuracies[-2] - accuracies[-1]
    state = "has converged" if fall <= SLACK else "still falls, so use more steps"
    return Check(
        name="C4 convergence",
        passed=rise <= SLACK and fall <= SLACK,
        figures={f"steps_{k}": a for k, a in zip(steps, accuracies, strict=True)},
        sentence=f"over more steps robust accuracy rises by at most {max(rise, 0):.3f}, "
        f"ends at {accuracies[-1]:.3f} and {state}",
    )


def random_search(*, noise: Tensor, gradient: Tensor) -> Check:
    """C5: noise fools no sample that gradients miss. Both bool [B]: fooled."""
    missed = int((noise & ~gradient).sum())
    return Check(
        name="C5 random search",
        passed=missed == 0,
        figures={"missed": missed, "samples": len(noise)},
        sentence=f"noise fools {missed} of {len(noise)} samples that gradient attacks miss",
    )


def gradients(norms: Tensor) -> Check:
    """C6: input gradients exist. norms [B]: L1 norm of each sample's gradient."""
    zero = float((norms == 0).double().mean()) if len(norms) else 0.0
    median = float(norms.median()) if len(norms) else 0.0
    return Check(
        name="C6 gradients",
        passed=zero <= ZERO_SHARE,
        figures={"zero_share": zero, "median_l1": median},
        sentence=f"{zero:.1%} of the samples have no gradient at all, the median L1 norm is "
        f"{median:.3g}",
    )


def rising_loss(path: Tensor, *, fooled: Tensor) -> Check:
    """C7: following the gradient raises the loss.

    path [steps, B]: loss along one climb, NaN once a sample is fooled. Samples that were fooled
    count as risen; of the others the loss must not end below its start, and must rise on average.
    """
    begun = ~path[:1].isnan().all(0) if len(path) else torch.zeros_like(fooled)
    stayed = begun & ~fooled
    rise = path[-1, stayed] - path[0, stayed] if len(path) else path.new_zeros(0)
    total = max(int(begun.sum()), 1)
    share = (int((begun & fooled).sum()) + int((rise >= 0).sum())) / total
    mean = float(rise.mean()) if len(rise) else 0.0
    return Check(
        name="C7 rising loss",
        passed=share >= RISING_SHARE and (len(rise) == 0 or mean > 0) if begun.any() else True,
        figures={"not_falling_share": share, "mean_rise": mean, "never_fooled": len(rise)},
        sentence=f"the loss of {share:.1%} of the attacked samples ends no lower than it began; "
        f"it rises by {mean:.3g} on average where the attack fails",
    )


def breaks_undefended(*, accuracy: float, eps: float) -> Check:
    """C8: the same attack breaks an undefended model, so it does work."""
    return Check(
        name="C8 breaks undefended",
        passed=accuracy <= BROKEN,
        figures={"undefended": accuracy, "eps": eps},
        sentence=f"the same attack leaves an undefended model {accuracy:.3f} accuracy at eps "
        f"{eps:.4f}",
    )


def slice_of_loss(along: Tensor, across: Tensor) -> Check:
    """C9: the loss rises more along the gradient than across it.

    along, across [points, samples]: rise of the loss over the start, at growing shares of the
    radius, in the direction of the gradient's sign and in that of random signs.
    """
    climb = float(along.amax(0).mean()) if along.numel() else 0.0
    drift = float(across.amax(0).mean()) if across.numel() else 0.0
    return Check(
        name="C9 slice",
        passed=climb > drift or not along.numel(),
        figures={"along": climb, "across": drift},
        sentence=f"within the radius the loss rises by {climb:.3g} along the gradient and by"
        f" {drift:.3g} along random signs, in the mean",
    )


def raw_logits(logits: Tensor, *, accuracy: float) -> Check:
    """C10: the model gives logits [B, K], not probabilities, whose gradients vanish."""
    sums = logits.sum(1)
    softmax = bool((logits >= 0).all() and ((sums - 1).abs() < 1e-4).all())
    confidence = float(logits.softmax(1).amax(1).mean())
    return Check(
        name="C10 raw logits",
        passed=not softmax,
        figures={"clean_accuracy": accuracy, "confidence": confidence},
        sentence=f"rows of the model's output {'all' if softmax else 'do not all'} sum to 1; "
        f"clean accuracy is {accuracy:.3f} at mean confidence {confidence:.3f}",
    )


def _largest_rise(values: Sequence[float]) -> float:
    """Largest amount by which a value exceeds an earlier one; -inf for a single value."""
    lowest, rise = float("inf"), float("-inf")
    for value in values:
        rise, lowest = max(rise, value - lowest), min(lowest, value)
    return rise
