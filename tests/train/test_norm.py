"""tdBN over merged time and batch, and folding it away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d, fold


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 1.7 + 0.4


def settled(norm: nn.Module, channels: int) -> nn.Module:
    """`norm` with non-trivial weight, bias and statistics, in evaluation mode."""
    if norm.weight is not None:
        norm.weight.data = random(channels, seed=1)
        norm.bias.data = random(channels, seed=2)
    norm.running_mean = random(channels, seed=3)
    norm.running_var = random(channels, seed=4).abs() + 0.1
    return norm.eval()


def test_statistics_run_over_time_batch_and_space() -> None:
    out = TdBatchNorm2d(3, v_th=0.8, alpha=0.5)(random(4, 5, 3, 6, 7))
    merged = out.transpose(0, 2).flatten(1)
    torch.testing.assert_close(merged.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(merged.std(1, correction=0), torch.full((3,), 0.4))


def test_vectors_are_time_batch_feature() -> None:
    x = random(4, 5, 3)
    out = TdBatchNorm1d(3, v_th=2.0)(x)
    torch.testing.assert_close(out.flatten(0, 1).std(0, correction=0), torch.full((3,), 2.0))
    torch.testing.assert_close(out, TdBatchNorm1d(3, v_th=2.0)(x.flatten(0, 1)).view(4, 5, 3))


CASES = {
    "conv, tdBN": (nn.Conv2d(2, 4, 3, padding=1, stride=2), TdBatchNorm2d(4, v_th=0.7)),
    "grouped conv without bias": (nn.Conv2d(2, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4)),
    "norm without weight": (nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, affine=False, eps=0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_fold_equals_the_pair(case: str) -> None:
    layer, norm = CASES[case]
    settled(norm, 4)
    x = random(6, 2, 8, 8, seed=5)
    weight, bias = fold(layer, norm)
    assert weight.dtype == bias.dtype == torch.float64
    folded = nn.functional.conv2d(
        x.double(), weight, bias, layer.stride, layer.padding, groups=layer.groups
    )
    assert float((folded - norm(layer(x))).detach().abs().max()) < 1e-5


def test_fold_of_a_linear_layer() -> None:
    layer, norm = nn.Linear(5, 3), settled(TdBatchNorm1d(3), 3)
    weight, bias = fold(layer, norm)  # type: ignore[arg-type]
    x = random(9, 5)
    assert float((x.double() @ weight.T + bias - norm(layer(x))).detach().abs().max()) < 1e-5


def test_fold_refuses_missing_statistics_and_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"^fold: the batch norm keeps no running statistics; "):
        fold(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    with pytest.raises(ValueError, match=r"^fold: the batch norm has 4 channels, the layer .* 3$"):
        fold(nn.Linear(2, 3), nn.BatchNorm1d(4))


def test_refuses_a_threshold_of_zero() -> None:
    with pytest.raises(ValueError, match=r"^tdBN: v_th is 0 and alpha 1\.0; both must be pos"):
        TdBatchNorm2d(3, v_th=0)
