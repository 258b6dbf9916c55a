"""What the lab runs: data sets, scales and recipes. All numbers of it stand here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from spikeport.sim.attack import Apgd, Attack, Bim, Fgsm, Noise, Pgd, Square
from spikeport.sim.surrogate import Surrogate
from spikeport.train import config as configs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).parent / "recipes.toml"
MAIN = ("plain", "mpd_sgr", "mp_init_trsg", "mpd_agl", "at", "at_mpd_sgr")
"""Recipes that also run on CIFAR-10 at the lab's scale, there with the first seed only."""
SHORT = ("plain", "mp_init_trsg", "mpd_agl")
"""Recipes that are also trained and tested, not attacked, with 2 steps."""
SHORT_STEPS = 2

BASE = """
[data]
name = "digits"
[model]
name = "dense"
[train]
epochs = 1
batch = 128
lr = 0.01
seed = 0
device = "cpu"
[quantise]
target = "loihi2"
"""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of everything. attacked: test images, fixed and stratified, 0 for all. attacks:
    label -> what both networks are attacked with, through each of `surrogates`. batch: images
    attacked at a time. everything: also run what the lab's scale leaves out on CIFAR-10."""

    attacked: int
    attacks: Mapping[str, Attack]
    surrogates: tuple[Surrogate, ...]
    device: str = "cpu"
    batch: int = 125
    everything: bool = False


@dataclass(frozen=True, kw_only=True)
class Set:
    """A data set. eps: radius of the attacks, pixel units. steps, small, full: configuration of
    the lab's scale, and of the full one, as settings of `--set`."""

    eps: float
    small: tuple[str, ...]
    full: tuple[str, ...] = ()


def _gradients(steps: int, **more: Any) -> dict[str, Attack]:
    """PGD and APGD on both losses, which miss different samples."""
    specs: tuple[Pgd | Apgd, ...] = (Pgd(steps=40, **more), Apgd(steps=steps, **more))
    names = ("pgd-40", f"apgd-{steps}")
    return {
        f"{name}{end}": replace(spec, loss=loss)
        for name, spec in zip(names, specs, strict=True)
        for end, loss in (("", "ce"), ("-dlr", "dlr"))
    }


TRIANGLE, ATAN, SIGMOID = (
    Surrogate("triangle", 1.0), Surrogate("atan", 2.0), Surrogate("sigmoid", 4.0),
)  # fmt: skip
LAB = Scale(
    attacked=500,
    # Of the gradient attacks APGD climbs both losses: tried on a trained net, PGD on the second one
    # as well cost a fifth more time and fooled no sample that these had missed.
    attacks={
        "noise-20": Noise(draws=20), "fgsm": Fgsm(), "pgd-40": Pgd(steps=40),
        "apgd-40": Apgd(steps=40), "apgd-40-dlr": Apgd(steps=40, loss="dlr"),
        "square-200": Square(queries=200),
    },
    surrogates=(TRIANGLE, ATAN),
)  # fmt: skip
FULL = Scale(
    attacked=0,
    attacks={
        "noise-100": Noise(draws=100), "fgsm": Fgsm(), **_gradients(100, restarts=2),
        "square-1000": Square(queries=1000),
    },
    surrogates=(TRIANGLE, ATAN, SIGMOID),
    device="cuda",
    batch=250,
    everything=True,
)  # fmt: skip
SCALES = {
    "lab": LAB,
    "full": FULL,
    "paper": replace(FULL, attacks={}),
    "tiny": Scale(
        attacked=10,
        attacks={"fgsm": Fgsm(), "apgd-2": Apgd(steps=2), "square-3": Square(queries=3)},
        surrogates=(TRIANGLE,),
    ),
}

TRAINED_SHARE = 1 / 4
"""Adversarial training happens at this share of the radius of the test, as in the MPD-SGR paper."""
PAPER_EPS = 8 / 255
PAPER_STEP = 0.01
PAPER_SETTINGS = "eps 8/255, 7 steps of 0.01, gradients of the surrogate that was trained with"
"""MPD-SGR (arXiv 2511.12199) attacks like this, and only like this."""
TARGETS = {
    "plain": {"clean": 0.9249, "fgsm": 0.2518, "pgd-7": 0.0088, "bim-7": 0.0060},
    "mpd_sgr": {"clean": 0.9163, "fgsm": 0.4759, "pgd-7": 0.2055, "bim-7": 0.1685},
    "at_mpd_sgr": {"clean": 0.9069, "fgsm": 0.5927, "pgd-7": 0.3338, "bim-7": 0.3261},
}
"""What that paper reports for CIFAR-10, VGG-11, 8 steps."""

SMALL = ("data.train_images=10000", "encode.steps=4", "quantise.epochs=2")
CONV = ("model.name=conv", "model.channels=[8,16]", "train.epochs=6")
LARGE = (
    "train.epochs=200", "train.batch=128", "train.optimiser=sgd", "train.lr=0.1",
    "train.weight_decay=5e-4", "train.device=cuda", "quantise.epochs=20", "encode.steps=8",
)  # fmt: skip
WIDE = ("model.name=conv", "model.channels=[32,64]", *LARGE, "train.epochs=30", "train.shift=2")
SETS = {
    "digits": Set(
        eps=16 / 255,
        small=("encode.steps=3", "model.hidden=16", "quantise.epochs=1"),
    ),
    "mnist": Set(eps=24 / 255, small=(*SMALL, *CONV), full=WIDE),
    "fashion_mnist": Set(eps=12 / 255, small=(*SMALL, *CONV), full=WIDE),
    "cifar10": Set(
        eps=8 / 255,
        small=(*SMALL, "model.name=vgg9", "model.width=0.125", "train.epochs=8"),
        full=("model.name=vgg11", *LARGE, "train.flip=true", "train.crop=4"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: train, export, attack. steps: None for the configuration's own."""

    data: Path
    runs: Path
    scale: str
    set: str
    recipe: str
    seed: int
    steps: int | None = None
    recipe_file: Path = RECIPES

    @property
    def config(self) -> configs.Config:
        """The resolved configuration; ValueError in one sentence if the recipe does not fit."""
        chosen, scale = SETS[self.set], SCALES[self.scale]
        settings = [
            *(chosen.full if scale.everything else chosen.small),
            *recipes(self.recipe_file)[self.recipe],
            f"data.name={self.set}", f"train.seed={self.seed}",
        ]  # fmt: skip
        for method in ("adversarial", "trades"):
            if any(setting.startswith(f"methods.{method}") for setting in settings):
                eps = TRAINED_SHARE * SETS[self.set].eps
                settings += [f"methods.{method}.eps={eps}", f"methods.{method}.alpha={eps / 2}"]
        if self.set != "digits":
            settings.append(f"data.folder={json.dumps(str((self.data / self.set).resolve()))}")
        if self.steps:
            settings.append(f"encode.steps={self.steps}")
        try:
            return configs.override(configs.loads(BASE, "lab"), settings)
        except ValueError as error:
            raise ValueError(f"recipe {self.recipe!r} on {self.set}: {error}") from error

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        place = f"{self.set}-full" if SCALES[self.scale].everything else self.set
        return self.runs / place / f"{self.recipe}-T{self.config.encode.steps}-seed{self.seed}"

    @property
    def result(self) -> Path:
        """Where its figures are written."""
        return self.folder / f"{self.scale}.json"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything its figures depend on, the data folder and the machine apart, as JSON."""
        config = self.config.model_dump(mode="json", exclude={"data": {"folder"}})
        scale = {k: v for k, v in asdict(SCALES[self.scale]).items() if k != "batch"}
        robust = {"eps": SETS[self.set].eps, **scale} if self.steps is None else None
        plain: dict[str, Any] = json.loads(json.dumps({"config": config, "robust": robust}))
        return plain

    def arguments(self) -> list[str]:
        """The options of `lab_run.py` for this job."""
        steps = ["--steps", str(self.steps)] if self.steps else []
        return [
            "--data", str(self.data), "--runs", str(self.runs), "--scale", self.scale,
            "--set", self.set, "--recipe", self.recipe, "--seed", str(self.seed),
            "--recipe-file", str(self.recipe_file), *steps,
        ]  # fmt: skip


def recipes(path: Path = RECIPES) -> dict[str, tuple[str, ...]]:
    """The recipes of a file by name; ValueError if it cannot be read."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is no recipe file ({error})") from error
    return {name: tuple(settings) for name, settings in found.items()}


def jobs(
    first: Job, *, sets: Sequence[str], names: Sequence[str], seeds: Sequence[int]
) -> list[Job]:
    """All jobs like `first`, in an order in which a stop at any time leaves the best table: a seed
    is finished before the next, and of each the important recipes come first."""
    found = []
    for seed in seeds:
        for name in sets:
            few = name == "cifar10" and not SCALES[first.scale].everything
            if few and seed != seeds[0]:
                continue
            run = [n for n in names if n in MAIN or not few]
            found += [replace(first, set=name, recipe=n, seed=seed) for n in run]
            if not few and first.scale in ("lab", "tiny"):
                short = [n for n in run if n in SHORT]
                found += [
                    replace(first, set=name, recipe=n, seed=seed, steps=SHORT_STEPS) for n in short
                ]
    return found


def paper_attacks(eps: float) -> dict[str, Attack]:
    """The paper's attacks; at another radius its step keeps its share of it."""
    step = PAPER_STEP * eps / PAPER_EPS
    return {
        "fgsm": Fgsm(),
        "pgd-7": Pgd(steps=7, step_size=step),
        "bim-7": Bim(steps=7, step_size=step),
    }
