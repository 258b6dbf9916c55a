"""The reproduction of the MPD-SGR paper, all of its way, on a VGG-11 and images that are tiny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SHRUNK = (
    "train.epochs=1", "quantise.epochs=1", "model.width=0.03", "encode.steps=2", "train.batch=20",
    "train.device=cpu", "quantise.start_images=8",
)  # fmt: skip


def write_cifar(folder: Path, *, images: int) -> None:
    """The files of CIFAR-10's binary version, with a few random images each."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = rng.integers(0, 256, (images, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(images) % 10
        (folder / name).write_bytes(records.tobytes())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mpd_sgr", "at_mpd_sgr"])
def test_the_paper_s_setting_runs_to_its_table(
    script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
) -> None:
    plan, runner, summary = script("lab_plan"), script("lab_run"), script("lab_summary")
    write_cifar(tmp_path / "cifar10", images=20)
    full = plan.SETS["cifar10"]
    monkeypatch.setitem(plan.SETS, "cifar10", replace(full, full=(*full.full, *SHRUNK)))
    paper = replace(plan.SCALES["paper"], device="cpu", attacked=10)
    monkeypatch.setitem(plan.SCALES, "paper", paper)
    job = plan.Job(
        data=tmp_path, runs=tmp_path / "runs", scale="paper", set="cifar10", recipe=recipe, seed=0
    )
    assert (job.config.model.name, job.config.train.optimiser) == ("vgg11", "sgd")
    found = runner.run(job)
    assert found["differing_spikes_torch_chip"] == 0
    assert set(found["paper"]["float"]) >= {"clean", "fgsm", "pgd-7", "bim-7"}
    beside = summary.paper_targets([script("lab_rows").of(job, {})])[recipe]
    assert beside["published"] == plan.TARGETS[recipe]
    assert 0 <= beside["measured"]["pgd-7"]["mean"] <= beside["measured"]["clean"]["mean"] <= 1
