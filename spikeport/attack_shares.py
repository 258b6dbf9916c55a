"""The search for adversarial images, spread over processes or a cluster in shares of the samples.

What is found of a sample does not depend on the others, and shares have one size whoever works on
them, so the findings are the same for any number of workers. Each share is a task of its own,
`search_share`, that leaves a file; a killed one begins again, and shares that are there are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import spikeport
from spikeport import backends
from spikeport.attack_settings import Settings
from spikeport.sim import apart
from spikeport.sim import bundle as bundles
from spikeport.sim.attack.search import Findings, Search, joined
from spikeport.sim.bundle import Bundle
from spikeport.sim.files import atomic, write_text
from spikeport.sim.memory import keep_freed
from spikeport.sim.twin import Twin
from spikeport.sim.twin_float import FloatTwin
from spikeport.simulating import float_nets

Progress = Callable[[str], None]
INTEGER = "integer"
SHARE = 128  # samples
TRIES = 3  # of a share whose worker is killed
HEADER = "header.json"
PACKAGES = ("numpy", "torch", "numba")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bundle under attack: its labelled test images x [B, ...] in float input units or, where
    the input changes from step to step, its trains x [B, T, ...] of whole counts of events; y int64
    [B], and how many classes there are."""

    bundle: Bundle
    x: Tensor
    y: Tensor
    classes: int
    of_events: bool

    @classmethod
    def of(cls, folder: Path, samples: int) -> Target:
        """The first `samples` (0: all) of a bundle; ValueError where it cannot be attacked."""
        bundle = bundles.read(folder)
        vectors = bundle.vectors
        if vectors.labels is None:
            raise ValueError(
                f"{bundle.folder}: its test vectors have no labels, so nothing can be fooled;"
                " export a trained run"
            )
        count = min(samples or vectors.samples, vectors.samples)
        return cls.showing(bundle, vectors.inputs[:, :count], vectors.labels[:count])

    @classmethod
    def showing(cls, bundle: Bundle, shown: Any, labels: Any) -> Target:
        """Integers `shown` [T, B, *shape] to the network of `bundle`, and their `labels` [B]."""
        source, y = bundle.net.input, torch.tensor(labels)
        of_events = source.kind != "graded" or bool((shown != shown[:1]).any())
        x = torch.tensor(shown.swapaxes(0, 1) if of_events else shown[0]).float()
        x = x if of_events else x / source.scale
        classes: int = bundle.net.population(bundle.net.readout.population).size
        return cls(bundle=bundle, x=x, y=y, classes=classes, of_events=of_events)

    def check(self, *, of_events: bool) -> None:
        """Raise ValueError unless an attack `of_events`, or one of images, fits the input."""
        if self.of_events and not of_events:
            raise ValueError(
                f"{self.bundle.folder}: its input changes from step to step, as rate coded images"
                " and events do, so its events are attacked: give --flips N (and --flips-per-step"
                " N), or --retime shift=N, total_shift=N or moves=N, and neither --eps nor --norm"
            )
        if of_events and not self.of_events:
            raise ValueError(
                f"{self.bundle.folder}: its input is still images, in which there are no events to"
                " flip or to retime; give --eps and --norm"
            )

    def shown(self, x: Tensor) -> Any:
        """What the chip is shown for samples such as `self.x`: integers [T, B, ...]."""
        if self.of_events:
            return x.transpose(0, 1).long().numpy()
        return backends.shown(self.bundle.net, x.numpy())

    def searches(self, settings: Settings) -> list[Search]:
        """One for each radius; ValueError where the budget does not fit the input."""
        self.check(of_events=settings.of_events)
        specs = settings.specs(self.classes, maps=len(self.bundle.net.input.shape) == 3)
        nets = float_nets(self.bundle)
        models = {name: settings.views(FloatTwin(net)) for name, net in nets}
        models[INTEGER] = settings.views(Twin(self.bundle.net))
        return [
            Search(
                models=models, specs=specs, budget=budget,
                seed=settings.seed, batch=SHARE, cascade=settings.standard,
            )
            for budget in settings.budgets(self.bundle.net.input.largest)
        ]  # fmt: skip


def header(target: Target, settings: Settings) -> dict[str, Any]:
    """What a result is made from: enough to make it again."""
    return {
        "spikeport": spikeport.__version__,
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "digest": target.bundle.net.digest(),
        "samples": len(target.y),
        "settings": settings.to_json(),
    }


def search(
    target: Target, settings: Settings, *, folder: Path, jobs: int, cluster: str | None,
    progress: Progress,
) -> list[Findings]:  # fmt: skip
    """Findings about all samples, one for each radius. `folder`, made if needed, holds the shares
    while they are worked on; ValueError if it holds those of another search."""
    wanted = {
        "bundle": str(target.bundle.folder.resolve()), "share": SHARE, **header(target, settings),
    }  # fmt: skip
    folder = folder.resolve()  # for workers that run elsewhere
    told = folder / HEADER
    if told.exists() and _header_in(told) != wanted:
        raise ValueError(
            f"{folder}: holds parts of another attack, or by other versions; remove it, or write"
            " elsewhere"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file, where parts of the result are to lie; move it away")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(told, json.dumps(wanted, indent=1) + "\n")
    parts = list(_parts(folder, len(target.x)))
    missing = [str(part) for part in parts if not part.exists()]
    for done, (part, failure) in enumerate(_searched(missing, target, settings, jobs, cluster)):
        if failure:
            raise ValueError(f"{part}: {failure}")
        progress(f"attacked {len(parts) - len(missing) + done + 1} of {len(parts)} shares")
    shares = [_load(part) for part in parts]
    return [joined([_at_radius(share, r) for share in shares]) for r in range(len(settings.eps))]


def _header_in(file: Path) -> Any:
    """What header `file` holds; None if it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _load(part: Path) -> dict[str, Tensor]:
    try:
        return load_file(part)
    except SafetensorError as problem:
        raise ValueError(f"{part}: is damaged ({problem}); remove it and go on") from problem


def remove(folder: Path) -> None:
    """Remove from `folder` what `search` and its killed workers leave there, and the folder if
    nothing else is in it."""
    for name in (HEADER, "[0-9]*.safetensors"):
        for file in [*folder.glob(name), *folder.glob(f".{name}.*")]:  # `atomic` writes the latter
            file.unlink()
    with suppress(OSError):
        folder.rmdir()


def _searched(
    missing: list[str], target: Target, settings: Settings, jobs: int, cluster: str | None
) -> Iterator[apart.Outcome]:
    if cluster is None and (jobs == 1 or len(missing) < 2):
        for part in missing:
            _search_part(Path(part), target, settings, share=SHARE)
            yield part, None
        return
    task = f"{search_share.__module__}:{search_share.__name__}"
    with closing(
        apart.each(task, missing, where="attack", jobs=jobs, cluster=cluster, tries=TRIES)
    ) as done:
        yield from done


def search_share(part: str) -> None:
    """Attack the samples that file `part` is to tell of, as the header beside it says."""
    told: dict[str, Any] = json.loads(Path(part).with_name(HEADER).read_text(encoding="utf-8"))
    settings = Settings.of(told["settings"])
    target = Target.of(Path(told["bundle"]), settings.samples)
    own = header(target, settings)
    if other := [name for name in own if own[name] != told[name]]:
        raise ValueError(
            f"this worker's {' and '.join(other)} are not those of the attack; give both the same"
            " packages and the same bundle"
        )
    _search_part(Path(part), target, settings, share=told["share"])


def _search_part(part: Path, target: Target, settings: Settings, *, share: int) -> None:
    keep_freed()
    first = int(part.stem) * share
    x, y = target.x[first : first + share], target.y[first : first + share]
    found: dict[str, Tensor] = {}
    before: Findings | None = None
    for r, each in enumerate(target.searches(settings)):
        now = each.run(x, y, earlier=before if settings.standard else None)
        found |= {f"{r}:{name}": values.contiguous() for name, values in now.items()}
        before = now
    with atomic(part) as temporary:
        save_file(found, temporary)


def _parts(folder: Path, samples: int) -> Iterator[Path]:
    for i in range(-(-samples // SHARE)):
        yield folder / f"{i:06d}.safetensors"


def _at_radius(share: dict[str, Tensor], r: int) -> Findings:
    return {k.partition(":")[2]: v for k, v in share.items() if k.partition(":")[0] == str(r)}
