"""What the `attack` command attacks with."""

from __future__ import annotations

import pytest

from spikeport.attack_settings import Settings
from spikeport.sim.attack import Apgd


def test_every_attack_is_labelled_with_its_effort() -> None:
    settings = Settings(steps=7, restarts=2, queries=9)
    labels = [
        "noise-100", "fgsm", "bim-7", "pgd-7", "pgd-7-dlr", "apgd-7", "apgd-7-dlr", "square-9",
        "rfgsm", "mi-fgsm-7", "sa-pgd-7", "apgd-t-7",
    ]  # fmt: skip
    assert list(settings.specs(10)) == labels
    assert settings.specs(10)["apgd-7-dlr"] == Apgd(steps=7, restarts=2, loss="dlr")
    # The ratio of logits needs a third class, the targeted one a fourth.
    few = [label for label in labels if "dlr" not in label and label != "apgd-t-7"]
    assert list(settings.specs(2)) == few
    assert "sparse-rs-9" in Settings(norm="l0", eps=(4,), queries=9).specs(10)


def test_apgd_can_be_asked_for_alone() -> None:
    assert list(Settings(attacks=("apgd",), steps=3).specs(2)) == ["apgd-3"]
    with pytest.raises(ValueError, match="attack is 'cw'; allowed are noise, fgsm, bim, pgd, apgd"):
        Settings(attacks=("cw",))
