"""Several attacks on several models, sample by sample: the raw findings behind an evaluation.

Findings are tensors by name, each with one row a sample, so that shares of the samples can be
searched apart (by other processes, on other machines, some again after a crash) and joined: what is
found of a sample does not depend on the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikeport.sim.attack.guard import Model, check_batch, check_labels, logits_in_batches
from spikeport.sim.attack.losses import margin
from spikeport.sim.attack.oracle import Legality
from spikeport.sim.attack.run import attack_views
from spikeport.sim.attack.spec import Attack

Progress = Callable[[str, int, int], None]
"""Called as (what runs now, runs finished, runs in all)."""

Views = Mapping[str, Model]
"""Views of one network: models of equal logits and different gradients, by name."""

Findings = dict[str, Tensor]
"""Names are those of `clean`, `worst`, `under` and `shown`, below."""


@dataclass(frozen=True, kw_only=True)
class Aimed:
    """An attack that climbs only those `views` of a network."""

    attack: Attack
    views: tuple[str, ...]


Spec = Attack | Aimed


def clean(model: str) -> str:
    """Margins [B] without attack."""
    return f"{model}/clean"


def worst(model: str, what: str) -> str:
    """what: "images" [B, ...] and "margin" [B], the least over the attacks on this model."""
    return f"{model}/worst/{what}"


def under(model: str, label: str, what: str) -> str:
    """what: "margin" [B], the least under one attack (in a cascade: or an earlier one), and
    "queries" int64 [B]."""
    return f"{model}/{label}/{what}"


def shown(source: str, target: str) -> str:
    """Logits [B, K] of `target` on the worst images of `source`."""
    return f"{source}>{target}"


def joined(shares: Sequence[Findings]) -> Findings:
    """Findings of all samples from those of consecutive shares."""
    return {name: torch.cat([share[name] for share in shares]) for name in shares[0]}


@dataclass
class Search:
    """Runs attacks. cascade: an attack takes on only the samples that the ones before it left
    standing; the worst case is then the same, but for samples that are lost anyway. earlier:
    findings at a smaller radius, whose lost samples are lost here too. seconds: filled, by model
    and attack."""

    models: Mapping[str, Views]
    specs: Mapping[str, Spec]
    budget: Legality
    seed: int
    batch: int = 256
    cascade: bool = False
    progress: Progress | None = None
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    def run(self, x: Tensor, y: Tensor, *, earlier: Findings | None = None) -> Findings:
        """Findings about samples x [B, ...] with labels int64 [B]."""
        check_batch(x, y, norm=self.budget.norm)
        self.budget.check(x)
        found: Findings = {}
        for model in self.models:
            self._attack(model, x, y, found, earlier=earlier)
        self._say("transfer", len(self.models) * len(self.specs))
        for source in self.models:
            for target, views in self.models.items():
                if len(self.models) > 1:
                    found[shown(source, target)] = logits_in_batches(
                        first(views), found[worst(source, "images")], batch=self.batch
                    )
        return found

    def _attack(
        self, model: str, x: Tensor, y: Tensor, found: Findings, *, earlier: Findings | None
    ) -> None:
        views = self.models[model]
        logits = logits_in_batches(first(views), x, batch=self.batch)
        check_labels(y, logits.shape[1])
        least = found[clean(model)] = margin(logits, y)
        images = x
        if earlier is not None:
            least, images = earlier[worst(model, "margin")], earlier[worst(model, "images")]
        done = list(self.models).index(model) * len(self.specs)
        for i, (label, spec) in enumerate(self.specs.items()):
            self._say(f"{label} on {model}", done + i)
            start = time.perf_counter()
            wanted = least > 0 if self.cascade else torch.ones_like(least, dtype=torch.bool)
            rows = wanted.nonzero().squeeze(1)
            margins, queries = least.clone(), torch.zeros_like(y)
            if len(rows):
                result = attack_views(
                    _aimed(spec, views), x[rows], y[rows], _attack_of(spec), budget=self.budget,
                    seed=self.seed, batch=self.batch,
                )  # fmt: skip
                margins[rows], queries[rows] = result.margin.to(least), result.queries
                worse = (margins < least)[rows]
                images = images.clone()
                images[rows[worse]] = result.x_adv[worse]
            found[under(model, label, "margin")] = margins
            found[under(model, label, "queries")] = queries
            least = torch.minimum(least, margins)
            self.seconds.setdefault(model, {})[label] = time.perf_counter() - start
        found[worst(model, "margin")], found[worst(model, "images")] = least, images

    def _say(self, what: str, done: int) -> None:
        if self.progress:
            self.progress(what, done, len(self.models) * len(self.specs))


def first(views: Views) -> Model:
    """The view that is asked where any will do."""
    return next(iter(views.values()))


def _attack_of(spec: Spec) -> Attack:
    return spec.attack if isinstance(spec, Aimed) else spec


def _aimed(spec: Spec, views: Views) -> list[Model]:
    """The views that an attack climbs."""
    if _attack_of(spec).blind:
        return [first(views)]
    if not isinstance(spec, Aimed):
        return list(views.values())
    if unknown := set(spec.views) - set(views):
        raise ValueError(
            f"evaluate: an attack aims at views {sorted(unknown)}; there are {', '.join(views)}"
        )
    return [views[name] for name in spec.views]
