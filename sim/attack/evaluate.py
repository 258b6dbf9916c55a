"""Several attacks on several models, side by side, with everything a reader needs to judge them.

Ties count as misclassified throughout. Robust accuracy is a share of all samples; attack success
rates are shares of the samples that the model in question gets right without attack. Every robust
figure is the worst case over the attacks listed: an upper bound, not a certificate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeport.sim.attack import search as names
from spikeport.sim.attack.events.shown import Shown
from spikeport.sim.attack.guard import Model
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.norms import rows
from spikeport.sim.attack.oracle import Legality
from spikeport.sim.attack.search import Aimed, Findings, Progress, Search, Spec, Views
from spikeport.sim.memory import keep_freed
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin

POLICY = {
    "ties": "misclassified",
    "robust_accuracy": "share of all samples: right without attack and never fooled",
    "success_rate": "fooled share of the samples that this model gets right without attack",
    "own_accuracy": "robust accuracy, per-sample worst case over the attacks on this model",
    "worst_accuracy": "own_accuracy, and right on the worst images of every other model",
    "meaning": "upper bound over the attacks listed, no certificate",
}

CASCADE = "under this attack and those before it; each takes on what they left standing"

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of margins."""

MIDDLE = QUANTILES.index(0.5)
"""Place of the median among them."""


@dataclass(frozen=True, kw_only=True)
class AttackFigures:
    """One attack on one model. success_rate is None where nothing was right to begin with."""

    settings: Mapping[str, Any]
    robust_accuracy: float
    success_rate: float | None
    queries_mean: float


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """One model under all attacks; the words are defined in POLICY. right, fooled: bool [B] as
    lists, before any attack and under the attacks on this model. margins: quantiles of the margin,
    "clean" and "worst", in units of the logits; settings say what one is worth in integers."""

    settings: Mapping[str, Any]
    clean_accuracy: float
    own_accuracy: float
    worst_accuracy: float
    success_rate: float | None
    attacks: Mapping[str, AttackFigures]
    margins: Mapping[str, tuple[float, ...]]
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
    it; worst_images: of those and of the other models' images. seconds: by model and attack. None
    of these is in the JSON, which is the same in every run."""

    samples: int
    seed: int
    budget: Legality
    models: Mapping[str, ModelFigures]
    transfers: tuple[Transfer, ...]
    cascade: bool
    images: Mapping[str, Tensor] = field(repr=False)
    worst_images: Mapping[str, Tensor] = field(repr=False)
    seconds: Mapping[str, Mapping[str, float]] = field(repr=False)

    def to_json(self) -> str:
        """All figures and settings as indented JSON, images left out."""
        policy = {**POLICY, "attacks": CASCADE} if self.cascade else POLICY
        numbers = {
            "samples": self.samples,
            "seed": self.seed,
            "budget": {
                **asdict(self.budget),  # type: ignore[call-overload]
                "norm": self.budget.norm,
                "radius": self.budget.radius,
            },
            "policy": policy,
            "models": {name: asdict(figures) for name, figures in self.models.items()},
            "transfers": [asdict(t) for t in self.transfers],
        }
        return json.dumps(numbers, indent=2, allow_nan=False)


def evaluate(
    models: Mapping[str, Model | tuple[Model, ...] | Views],
    x: Tensor,
    y: Tensor,
    *,
    specs: Mapping[str, Spec],
    budget: Legality,
    seed: int,
    batch: int = 256,
    cascade: bool = False,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run every attack of `specs` (label -> attack) on every model, then exchange worst images.

    A model may be several views of one network: models of equal logits and different gradients
    (surrogates), with names if attacks are `Aimed` at some of them. Attacks that follow gradients
    climb each view, and a sample's worst case over the views counts. x, y, budget, seed, batch: as
    for `attack`; cascade: see `Search`. notes: what to record about a model besides what a Twin
    says of itself (encoder, batch norm ...), plain JSON values by model name.
    """
    check_names(models, specs, notes)
    keep_freed()
    search = Search(
        models={name: views(model) for name, model in models.items()}, specs=specs, budget=budget,
        seed=seed, batch=batch, cascade=cascade, progress=progress,
    )  # fmt: skip
    return evaluation(search, search.run(x, y), y, notes=notes)


def check_names(
    models: Mapping[str, Any], specs: Mapping[str, Spec], notes: Mapping[str, Any] | None
) -> None:
    """Raise ValueError unless there is something to do, and notes are about models."""
    if not models or not specs:
        raise ValueError("evaluate: models and specs must each name at least one entry")
    if unknown := set(notes or {}) - set(models):
        raise ValueError(f"evaluate: notes name {sorted(unknown)}, which are not among the models")


def views(model: Model | tuple[Model, ...] | Views) -> Views:
    """Named views, whatever form a model came in."""
    if isinstance(model, Mapping):
        return model
    each = model if isinstance(model, tuple) else (model,)
    return {str(i): view for i, view in enumerate(each)}


def evaluation(
    search: Search,
    found: Findings,
    y: Tensor,
    *,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Evaluation:
    """The figures of `found`, which may have been joined from shares; y int64 [B]."""
    told, each = notes or {}, search.models
    return Evaluation(
        samples=len(y),
        seed=search.seed,
        budget=search.budget,
        models={name: _figures(search, found, y, name, told.get(name, {})) for name in each},
        transfers=tuple(_transfer(found, y, a, b) for a in each for b in each if a != b),
        cascade=search.cascade,
        images={name: found[names.worst(name, "images")] for name in each},
        worst_images={name: _worst_images(found, y, name, each) for name in each},
        seconds=search.seconds,
    )


def _figures(
    search: Search, found: Findings, y: Tensor, name: str, notes: Mapping[str, Any]
) -> ModelFigures:
    clean, least = found[names.clean(name)], found[names.worst(name, "margin")]
    right, fooled = clean > 0, least <= 0
    others = [_right(found, y, s, name) for s in search.models if s != name]
    withstood = torch.stack([torch.ones_like(right), *others]).all(0)
    attacks = {}
    for label, spec in search.specs.items():
        lost = found[names.under(name, label, "margin")] <= 0
        used = spec.attack if isinstance(spec, Aimed) else spec
        aimed = {"views": list(spec.views)} if isinstance(spec, Aimed) else {}
        attacks[label] = AttackFigures(
            settings={**used.settings(search.budget), **aimed},
            robust_accuracy=float((~lost).double().mean()),
            success_rate=_share(lost[right]),
            queries_mean=float(found[names.under(name, label, "queries")].double().mean()),
        )
    seen = [{"view": v, **described(m, notes)} for v, m in search.models[name].items()]
    return ModelFigures(
        settings={"views": seen},
        clean_accuracy=float(right.double().mean()),
        own_accuracy=float((~fooled).double().mean()),
        worst_accuracy=float((~fooled & withstood).double().mean()),
        success_rate=_share(fooled[right]),
        attacks=attacks,
        margins={"clean": _quantiles(clean), "worst": _quantiles(least)},
        right=tuple(right.tolist()),
        fooled=tuple(fooled.tolist()),
    )


def _right(found: Findings, y: Tensor, source: str, target: str) -> Tensor:
    """bool [B]: the target is right without attack and on the source's worst images."""
    return (margin(found[names.shown(source, target)], y) > 0) & (found[names.clean(target)] > 0)


def _worst_images(found: Findings, y: Tensor, target: str, each: Mapping[str, Any]) -> Tensor:
    """Per sample the image on which the target's margin is smallest, whoever found it."""
    images, least = found[names.worst(target, "images")], found[names.worst(target, "margin")]
    for source in each:
        if source != target:
            margins = margin(found[names.shown(source, target)], y)
            other = found[names.worst(source, "images")]
            images = torch.where(rows(margins < least, images), other, images)
            least = torch.minimum(margins, least)
    return images


def _transfer(found: Findings, y: Tensor, source: str, target: str) -> Transfer:
    fooled = found[names.worst(source, "margin")] <= 0
    right = _right(found, y, source, target)
    candidates = (found[names.clean(source)] > 0) & (found[names.clean(target)] > 0) & fooled
    classes_a = found[names.shown(source, source)].argmax(1)
    classes_b = found[names.shown(source, target)].argmax(1)
    accuracy = float(right.double().mean())
    own = found[names.worst(target, "margin")] > 0
    return Transfer(
        source=source,
        target=target,
        robust_accuracy=accuracy,
        gap=accuracy - float(own.double().mean()),
        followed=_share(~right[candidates]),
        candidates=int(candidates.sum()),
        disagreement=float((classes_a != classes_b).double().mean()),
    )


def described(model: Model, notes: Mapping[str, Any]) -> dict[str, Any]:
    """How the model was attacked: eval mode, what a Twin knows of itself, then `notes`."""
    known: dict[str, Any] = {"mode": "eval", "gradient": "of the model as given"}
    if isinstance(model, Shown):
        model = model.model
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
    if isinstance(model, Twin):
        known["integers_per_logit"] = model.logit_unit
    return {**known, **notes}


def _quantiles(margins: Tensor) -> tuple[float, ...]:
    at = torch.tensor(QUANTILES, dtype=torch.float64, device=margins.device)
    return tuple(margins.double().quantile(at).tolist())


def _share(flags: Tensor) -> float | None:
    """Share of true entries, None if there are none to share."""
    return float(flags.double().mean()) if len(flags) else None
