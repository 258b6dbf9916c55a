"""The `attack` command: float, rounded and integer network side by side, the worst replayed.

Attacks climb the gradients of each network; images stay on the grid that the chip is shown. The
images that hurt the integer network most are then played on Lava, which must decide alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeport import backends, tables
from spikeport.sim import bundle as bundles
from spikeport.sim.attack import (
    ATTACKS,
    Apgd,
    Bim,
    Budget,
    Effort,
    Evaluation,
    Fgsm,
    Noise,
    Pgd,
    Square,
    evaluate,
    run_checks,
)
from spikeport.sim.attack.losses import margin
from spikeport.sim.bundle import Bundle
from spikeport.sim.net import FixedNet
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin
from spikeport.simulating import float_nets

Progress = Callable[[str], None]
DLR_CLASSES = 3  # the ratio needs a third logit
REPLAYS = ("lava-inprocess", "lava", "none")
INTEGER = "integer"

# An attack is only as strong as its gradient, and which surrogate serves it best differs from net
# to net (a defence may starve the one it was trained with). Each is tried, the worst case counts.
SURROGATES = (Surrogate("triangle", 1.0), Surrogate("atan", 2.0))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to attack with. attacks: names of ATTACKS, none for all. eps: pixel units. samples: 0
    for all test vectors. replay: one of REPLAYS. checks: also look for gradient masking."""

    attacks: tuple[str, ...] = ()
    eps: float = 8 / 255
    steps: int = 40
    restarts: int = 1
    queries: int = 500
    samples: int = 128
    replay: str = "lava-inprocess"
    seed: int = 0
    checks: bool = True
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown:
            raise ValueError(f"attack is {unknown[0]!r}; allowed are {', '.join(ATTACKS)}")
        if self.replay not in REPLAYS:
            raise ValueError(f"replay is {self.replay!r}; allowed are {', '.join(REPLAYS)}")
        backends.check_timeout(self.timeout_s)
        if self.samples < 0:
            raise ValueError(f"samples is {self.samples}; give 0 for all or a number from 1")

    def specs(self, classes: int) -> dict[str, Any]:
        """Label -> attack, labelled with its effort. PGD climbs cross-entropy and, where there are
        classes enough for it, the difference of logits ratio, which misses other samples; so does
        APGD."""
        pgd = Pgd(steps=self.steps, restarts=self.restarts)
        apgd = Apgd(steps=self.steps, restarts=self.restarts)
        every: dict[str, dict[str, Any]] = {
            "noise": {"noise-100": Noise(draws=100)},
            "fgsm": {"fgsm": Fgsm()},
            "bim": {f"bim-{self.steps}": Bim(steps=self.steps)},
            "pgd": {f"pgd-{self.steps}": pgd},
            "apgd": {f"apgd-{self.steps}": apgd},
            "square": {f"square-{self.queries}": Square(queries=self.queries)},
        }
        if classes >= DLR_CLASSES:
            every["pgd"][f"pgd-{self.steps}-dlr"] = replace(pgd, loss="dlr")
            every["apgd"][f"apgd-{self.steps}-dlr"] = replace(apgd, loss="dlr")
        return {k: v for name in self.attacks or every for k, v in every[name].items()}


def radius(text: str) -> float:
    """A radius as people write it, "0.03" or "8/255"; ValueError when it is no number."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"eps is {text}; write a number such as 0.03 or 8/255") from None


def attack(folder: Path, settings: Settings, *, progress: Progress = lambda _: None) -> Any:
    """Attack the bundle in `folder`; a JSON-able result, whose `passed` says that every replayed
    image was decided alike. Raises ValueError where a bundle cannot be attacked."""
    bundle = bundles.read(folder)
    x, y = _images(bundle, settings.samples)
    models: dict[str, Any] = {
        name: tuple(FloatTwin(net, surrogate=s) for s in SURROGATES)
        for name, net in float_nets(bundle)
    }
    models[INTEGER] = tuple(Twin(bundle.net, surrogate=s) for s in SURROGATES)
    budget = Budget(eps=settings.eps, levels=bundle.net.input.largest)
    evaluation = evaluate(
        models, x, y, specs=settings.specs(_classes(bundle)), budget=budget, seed=settings.seed,
        progress=lambda what, done, of: progress(f"{what} ({min(done + 1, of)} of {of})"),
    )  # fmt: skip
    result: dict[str, Any] = {
        "settings": asdict(settings),
        "digest": bundle.net.digest(),
        "evaluation": json.loads(evaluation.to_json()),
        "replay": replay(bundle.net, evaluation, x, y, settings=settings, progress=progress),
        "checks": None,
    }
    if settings.checks:
        progress("gradient-masking checks on the integer network")
        result["checks"] = masking(models[INTEGER][-1], x, y, budget, settings=settings)
    agreed = result["replay"]["disagreeing"]
    result["passed"] = not agreed
    return result


def _images(bundle: Bundle, samples: int) -> tuple[Tensor, Tensor]:
    """Test images in float input units and their labels, from the bundle's vectors."""
    vectors, source = bundle.vectors, bundle.net.input
    if vectors.labels is None:
        raise ValueError(
            f"{bundle.folder}: its test vectors have no labels, so nothing can be fooled; export a"
            " trained run"
        )
    if source.kind != "graded" or (vectors.inputs != vectors.inputs[:1]).any():
        raise ValueError(
            f"{bundle.folder}: its input changes from step to step, as rate coded images and events"
            " do; attacks are offered on still images only, so use direct coding"
        )
    count = min(samples or vectors.samples, vectors.samples)
    x = torch.tensor(vectors.inputs[0, :count]).float() / source.scale
    return x, torch.tensor(vectors.labels[:count])


def _classes(bundle: Bundle) -> int:
    size: int = bundle.net.population(bundle.net.readout.population).size
    return size


def replay(
    net: FixedNet, evaluation: Evaluation, clean: Tensor, y: Tensor, *, settings: Settings,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Show the clean images and the worst ones found on the integer network to Lava and compare
    every decision with the twin's.

    Returns how many images were replayed (each clean and attacked), how many decisions and spikes
    differ, and Lava's accuracy on both sets (ties count as wrong).
    """
    from spikeport.hw import lava_run
    from spikeport.sim.trace import compared, differing_spikes

    absent = "replay none was asked for" if settings.replay == "none" else lava_run.available()
    if absent:
        nothing = dict.fromkeys(("images", "disagreeing", "spikes", "differing"), 0)
        unknown = dict.fromkeys(("clean_accuracy", "worst_accuracy"))
        return {"backend": settings.replay, "reason": absent, **nothing, **unknown}
    images = torch.cat([clean, evaluation.worst_images[INTEGER]])
    pixels = np.rint(images.double().numpy() * net.input.scale).astype(np.int64)
    x = backends.in_every_step(pixels, net.steps)
    progress(f"replay of {len(clean)} clean and {len(clean)} worst images on {settings.replay}")
    lava = backends.run(net, x, backend=settings.replay, timeout_s=settings.timeout_s)
    twin = backends.run(net, x, backend="twin")
    logits = torch.tensor(lava.logits(net.readout)).double()
    decided = logits.argmax(1) != torch.tensor(twin.logits(net.readout)).argmax(1)
    right = (margin(logits, torch.cat([y, y])) > 0).double()
    return {
        "backend": settings.replay,
        "reason": None,
        "images": len(clean),
        "disagreeing": int(decided.sum()),
        "spikes": compared(twin, lava),
        "differing": differing_spikes(twin, lava),
        "clean_accuracy": float(right[: len(clean)].mean()),
        "worst_accuracy": float(right[len(clean) :].mean()),
    }


def masking(
    model: Any, x: Tensor, y: Tensor, budget: Budget, *, settings: Settings
) -> list[dict[str, Any]]:
    """The gradient-masking checks on at most 64 images, as JSON."""
    effort = Effort(
        pgd=Pgd(steps=settings.steps, restarts=settings.restarts),
        square=Square(queries=settings.queries),
    )
    checks = run_checks(model, x[:64], y[:64], budget=budget, seed=settings.seed, effort=effort)
    return [asdict(check) for check in checks]


def describe_attack(result: dict[str, Any]) -> str:
    """The table for people: one row a network, one column an attack, the worst case last."""
    evaluation, replayed = result["evaluation"], result["replay"]
    labels = list(next(iter(evaluation["models"].values()))["attacks"])
    rows = [["network", "clean", *labels, "worst case"]]
    for name, model in evaluation["models"].items():
        rows.append([
            name, tables.percent(model["clean_accuracy"]),
            *(tables.percent(model["attacks"][label]["robust_accuracy"]) for label in labels),
            tables.percent(model["worst_accuracy"]),
        ])  # fmt: skip
    clean, worst = (tables.percent(replayed[k]) for k in ("clean_accuracy", "worst_accuracy"))
    rows.append([f"Lava ({replayed['backend']})", clean, *[""] * len(labels), worst])
    budget = evaluation["budget"]
    lines = [
        f"accuracy on {evaluation['samples']} images, eps = {budget['eps']:.4f}"
        f" ({round(budget['radius'] * budget['levels'])} grey levels); worst case over all attacks"
        " and transfers",
        tables.aligned(rows),
        describe_replay(replayed),
    ]
    for check in result["checks"] or []:
        if not check["passed"]:
            lines.append(f"warning, {check['name']}: {check['sentence']}")
    return "\n".join(lines)


def describe_replay(replayed: dict[str, Any]) -> str:
    """What the replay on Lava came to, as a line."""
    if replayed["reason"]:
        return f"not replayed on Lava: {replayed['reason']}"
    return (
        f"replayed on {replayed['backend']}: {replayed['images']} images,"
        f" {replayed['disagreeing']} decided otherwise, {replayed['differing']:,} of"
        f" {replayed['spikes']:,} spikes differ"
    )
