"""Several attacks on several models, side by side, with everything a reader needs to judge them.

Ties count as misclassified throughout. Robust accuracy is a share of all samples; attack success
rates are shares of the samples that the model in question gets right without attack. Every robust
figure is the worst case over the attacks listed: an upper bound, not a certificate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeport.sim.attack.budget import Budget
from spikeport.sim.attack.guard import Model, logits_in_batches
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.run import Result, attack_views
from spikeport.sim.attack.spec import Attack
from spikeport.sim.memory import keep_freed
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin

Progress = Callable[[str, int, int], None]
"""Called as (what runs now, runs finished, runs in all)."""

POLICY = {
    "ties": "misclassified",
    "robust_accuracy": "share of all samples: right without attack and never fooled",
    "success_rate": "fooled share of the samples that this model gets right without attack",
    "own_accuracy": "robust accuracy, per-sample worst case over the attacks on this model",
    "worst_accuracy": "own_accuracy, and right on the worst images of every other model",
    "meaning": "upper bound over the attacks listed, no certificate",
}


@dataclass(frozen=True, kw_only=True)
class AttackFigures:
    """One attack on one model. success_rate is None where nothing was right to begin with."""

    settings: Mapping[str, Any]
    robust_accuracy: float
    success_rate: float | None
    queries_mean: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One model under all attacks; the words are defined in POLICY. right, fooled: bool [B] as
    lists, before any attack and under the attacks on this model."""

    settings: Mapping[str, Any]
    clean_accuracy: float
    own_accuracy: float
    worst_accuracy: float
    success_rate: float | None
    attacks: Mapping[str, AttackFigures]
    right: tuple[bool, ...]
    fooled: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Worst images found on `source`, shown to `target`.

    robust_accuracy: of the target on them. gap: that minus the target's own_accuracy; positive
    means that transfer alone would overstate the target. followed: share of the `candidates`
    (right on both models, fooled on the source) that the target loses too, None without any.
    disagreement: share of all samples on which the two predict different classes.
    """

    source: str
    target: str
    robust_accuracy: float
    gap: float
    followed: float | None
    candidates: int
    disagreement: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluate` found. images: each model's worst legal images [B, ...] of the attacks on
    it; worst_images: of those and of the other models' images. Neither is in the JSON."""

    samples: int
    seed: int
    budget: Budget
    models: Mapping[str, ModelFigures]
    transfers: tuple[Transfer, ...]
    images: Mapping[str, Tensor] = field(repr=False)
    worst_images: Mapping[str, Tensor] = field(repr=False)

    def to_json(self) -> str:
        """All figures and settings as indented JSON, images left out."""
        numbers = {
            "samples": self.samples,
            "seed": self.seed,
            "budget": {**asdict(self.budget), "radius": self.budget.radius},
            "policy": POLICY,
            "models": {name: asdict(figures) for name, figures in self.models.items()},
            "transfers": [asdict(t) for t in self.transfers],
        }
        return json.dumps(numbers, indent=2, allow_nan=False)


def evaluate(
    models: Mapping[str, Model | tuple[Model, ...]],
    x: Tensor,
    y: Tensor,
    *,
    specs: Mapping[str, Attack],
    budget: Budget,
    seed: int,
    batch: int = 256,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run every attack of `specs` (label -> spec) on every model, then exchange worst images.

    A model may be several views of one network: models of equal logits and different gradients
    (surrogates). Attacks that follow gradients climb each view, and a sample's worst case over the
    views counts. x, y, budget, seed, batch: as for `attack`. notes: what to record about a model
    besides what a Twin says of itself (encoder, batch norm ...), plain JSON values by model name.
    """
    _check_names(models, specs, notes)
    keep_freed()
    worst: dict[str, _Worst] = {}
    for m, (name, model) in enumerate(models.items()):
        worst[name] = _Worst()
        for a, (label, spec) in enumerate(specs.items()):
            if progress:
                progress(f"{label} on {name}", m * len(specs) + a, len(models) * len(specs))
            start = time.perf_counter()
            views = _views(model)[:1] if spec.blind else _views(model)
            found = attack_views(views, x, y, spec, budget=budget, seed=seed, batch=batch)
            worst[name].add(label, found, seconds=time.perf_counter() - start)
    if progress:
        progress("transfer", len(models) * len(specs), len(models) * len(specs))
    shown = {name: _views(model)[0] for name, model in models.items()}
    exchange = _Exchange(shown, y, worst=worst, batch=batch)
    return Evaluation(
        samples=len(x),
        seed=seed,
        budget=budget,
        models={
            name: worst[name].figures(
                {"views": [described(v, (notes or {}).get(name, {})) for v in _views(model)]},
                withstood=exchange.withstood(name),
            )
            for name, model in models.items()
        },
        transfers=tuple(exchange.transfer(a, b) for a in models for b in models if a != b),
        images={name: w.x_adv for name, w in worst.items()},
        worst_images={name: exchange.worst_images(name) for name in models},
    )


def _check_names(
    models: Mapping[str, Any], specs: Mapping[str, Attack], notes: Mapping[str, Any] | None
) -> None:
    if not models or not specs:
        raise ValueError("evaluate: models and specs must each name at least one entry")
    if unknown := set(notes or {}) - set(models):
        raise ValueError(f"evaluate: notes name {sorted(unknown)}, which are not among the models")


def _views(model: Model | tuple[Model, ...]) -> tuple[Model, ...]:
    return model if isinstance(model, tuple) else (model,)


class _Worst:
    """The worst images of one model, gathered attack by attack."""

    def __init__(self) -> None:
        self.attacks: dict[str, AttackFigures] = {}

    def add(self, label: str, result: Result, *, seconds: float) -> None:
        """Keep, for each sample, the image with the smaller margin."""
        if not self.attacks:
            self.x_adv, self.margin = result.x_adv, result.margin
            self.right = result.clean_margin > 0
        worse = result.margin < self.margin
        self.x_adv = torch.where(_as_rows(worse, self.x_adv), result.x_adv, self.x_adv)
        self.margin = torch.where(worse, result.margin, self.margin)
        self.attacks[label] = AttackFigures(
            settings=result.spec.settings(result.budget),
            robust_accuracy=result.robust_accuracy,
            success_rate=_share(result.fooled[self.right]),
            queries_mean=float(result.queries.double().mean()),
            seconds=seconds,
        )

    @property
    def fooled(self) -> Tensor:
        return self.margin <= 0

    def figures(self, described: Mapping[str, Any], *, withstood: Tensor) -> ModelFigures:
        """The report; `withstood` bool [B]: right on the worst images of every other model."""
        return ModelFigures(
            settings=described,
            clean_accuracy=float(self.right.double().mean()),
            own_accuracy=float((~self.fooled).double().mean()),
            worst_accuracy=float((~self.fooled & withstood).double().mean()),
            success_rate=_share(self.fooled[self.right]),
            attacks=self.attacks,
            right=tuple(self.right.tolist()),
            fooled=tuple(self.fooled.tolist()),
        )


class _Exchange:
    """Logits of every model on the worst images of every model."""

    def __init__(
        self, models: Mapping[str, Model], y: Tensor, *, worst: Mapping[str, _Worst], batch: int
    ) -> None:
        self.y, self.worst = y, worst
        self.logits = {
            (source, target): logits_in_batches(model, w.x_adv, batch=batch)
            for source, w in worst.items()
            for target, model in models.items()
            if len(models) > 1
        }

    def right(self, source: str, target: str) -> Tensor:
        """bool [B]: the target is right without attack and on the source's worst images."""
        holds = margin(self.logits[source, target], self.y) > 0
        return holds & self.worst[target].right

    def withstood(self, target: str) -> Tensor:
        """bool [B]: the target is right on the worst images of every other model."""
        others = [self.right(s, target) for s in self.worst if s != target]
        return torch.stack([torch.ones_like(self.y, dtype=torch.bool), *others]).all(0)

    def worst_images(self, target: str) -> Tensor:
        """Per sample the image on which the target's margin is smallest, whoever found it."""
        own = self.worst[target]
        images, least = own.x_adv, own.margin
        for source, other in self.worst.items():
            if source != target:
                found = margin(self.logits[source, target], self.y)
                images = torch.where(_as_rows(found < least, images), other.x_adv, images)
                least = torch.minimum(found, least)
        return images

    def transfer(self, source: str, target: str) -> Transfer:
        """The figures of one direction."""
        a, b, right = self.worst[source], self.worst[target], self.right(source, target)
        candidates = a.right & b.right & a.fooled
        classes_a = self.logits[source, source].argmax(1)
        classes_b = self.logits[source, target].argmax(1)
        accuracy = float(right.double().mean())
        return Transfer(
            source=source,
            target=target,
            robust_accuracy=accuracy,
            gap=accuracy - float((~b.fooled).double().mean()),
            followed=_share(~right[candidates]),
            candidates=int(candidates.sum()),
            disagreement=float((classes_a != classes_b).double().mean()),
        )


def described(model: Model, notes: Mapping[str, Any]) -> dict[str, Any]:
    """How the model was attacked: eval mode, what a Twin knows of itself, then `notes`."""
    known: dict[str, Any] = {"mode": "eval", "gradient": "of the model as given"}
    if isinstance(model, (Twin, FloatTwin)):
        known = {
            "mode": "eval",
            "gradient": "surrogate",
            "surrogate": {"name": model.surrogate.name, **asdict(model.surrogate)},
            "detach_reset": model.detach_reset,
            "steps": model.net.steps,
            "input": model.net.input.kind,
            "readout": model.net.readout.kind,
            "digest": model.net.digest(),
        }
    return {**known, **notes}


def _as_rows(flags: Tensor, like: Tensor) -> Tensor:
    """bool [B] -> [B, 1, ...], to broadcast against `like`."""
    return flags.reshape(-1, *[1] * (like.ndim - 1))


def _share(flags: Tensor) -> float | None:
    """Share of true entries, None if there are none to share."""
    return float(flags.double().mean()) if len(flags) else None
