"""Our attacks beside those of torchattacks 3.5.1, which is not among our requirements: the same
model, the same images, no grid, and robust accuracies that agree to half a percentage point.

    pip install torchattacks==3.5.1

Its square attack never puts a square on the last row or column, and so finds less: on images of
8 x 8 pixels 39.3 % stand at eps 0.06 where ours leaves 9.8 %. The model here does not look at them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeport.sim.attack import Apgd, Bim, Budget, Fgsm, MiFgsm, Square, attack

torchattacks = pytest.importorskip("torchattacks")

COUNT, CLASSES, EPS = 400, 5, 0.03


class Cropped(nn.Module):
    """Drops the last row and column."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H - 1, W - 1]."""
        return x[:, :, :-1, :-1]


class Witness(nn.Module):
    """Remembers which of all samples were ever misclassified, where all are shown at once."""

    def __init__(self, model: nn.Module, y: Tensor) -> None:
        super().__init__()
        self.model, self.y = model, y
        self.fooled = torch.zeros(len(y), dtype=torch.bool)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the model."""
        logits: Tensor = self.model(x)
        if len(x) == len(self.y):
            self.fooled |= logits.argmax(1) != self.y
        return logits


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small convolutional network trained on blurred templates, and 400 test images."""
    g = torch.Generator().manual_seed(0)
    templates = F.interpolate(torch.rand(CLASSES, 2, 4, 4, generator=g), scale_factor=2.0)

    def images(count: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(0, CLASSES, (count,), generator=g)
        x = 0.35 * templates[y] + 0.4 * torch.rand(count, 2, 8, 8, generator=g) + 0.15
        return F.pad(x.clamp(0, 1), (0, 1, 0, 1), value=0.5), y

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            Cropped(), nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(8 * 16, 32), nn.ReLU(), nn.Linear(32, CLASSES),
        )  # fmt: skip
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        x, y = images(128)
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval(), *images(COUNT)


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of samples that are right."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


OURS: dict[str, Any] = {
    "fgsm": Fgsm(),
    "bim": Bim(steps=10, step_size=0.01),
    "mi-fgsm": MiFgsm(steps=10, step_size=0.01),
    "apgd-ce": Apgd(steps=50),
    "apgd-dlr": Apgd(steps=50, loss="dlr"),
    "square": Square(queries=1000, sideways=False),
}


def theirs(name: str, model: nn.Module) -> Any:
    """The same attack of torchattacks."""
    return {
        "fgsm": lambda: torchattacks.FGSM(model, eps=EPS),
        "bim": lambda: torchattacks.PGD(model, eps=EPS, alpha=0.01, steps=10, random_start=False),
        "mi-fgsm": lambda: torchattacks.MIFGSM(model, eps=EPS, alpha=0.01, steps=10, decay=1.0),
        "apgd-ce": lambda: torchattacks.APGD(model, eps=EPS, steps=50, loss="ce"),
        "apgd-dlr": lambda: torchattacks.APGD(model, eps=EPS, steps=50, loss="dlr"),
        "square": lambda: torchattacks.Square(model, eps=EPS, n_queries=1000),
    }[name]()


@pytest.mark.parametrize("name", OURS)
def test_robust_accuracies_agree(name: str, trained: Any) -> None:
    model, x, y = trained
    clean = accuracy(model, x, y)
    budget = Budget(eps=EPS, levels=None)
    found = attack(model, x, y, OURS[name], budget=budget, seed=0)
    witness = Witness(model, y).eval()
    with torch.random.fork_rng():
        shown = theirs(name, witness)(x, y)
        assert (shown - x).abs().max() <= EPS + 1e-6
        witness(shown)
    other = float((~witness.fooled).double().mean())
    print(f"{name}: clean {clean:.4f}, ours {found.robust_accuracy:.4f}, theirs {other:.4f}")
    assert 0.05 < other < clean - 0.08
    assert abs(found.robust_accuracy - other) <= 0.005 + 1e-9
