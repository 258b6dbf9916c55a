"""The `doctor` command: what is installed, and a small self-test of what runs networks here."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np

import spikeport
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense

PACKAGES = (
    "numpy", "numba", "h5py", "torch", "snntorch", "nir", "safetensors", "lava-nc", "lava-dl",
)  # fmt: skip


def doctor() -> dict[str, Any]:
    """Versions, what is missing and why, and whether every backend that is here gives the
    reference's bits on a small network; JSON-able."""
    from spikeport.backends import BACKENDS, ladder
    from spikeport.hw import deploy

    net, x = _small_net()
    report = ladder(net, x, list(BACKENDS), lava_samples=2)
    return {
        "passed": report.passed,
        "spikeport": spikeport.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": _cuda(),
        "backends": {
            **{r.right: "ok" if r.passed else str(r.first) for r in report.rungs},
            **dict(report.missing),
        },
        "board": deploy.board_status() or "ready",
    }


def _small_net() -> tuple[FixedNet, Any]:
    """A convolution, a dense layer, biases, and graded input that makes both fire."""
    rng = np.random.default_rng(0)
    net = FixedNet(
        input=Input(shape=(1, 4, 4), kind="graded", payload_bits=8, scale=255.0),
        populations=(
            Population(name="conv", shape=(2, 4, 4), v_th=9000, dv=400, bias=50, bias_exp=6),
            Population(name="dense", shape=(3,), v_th=100, du=2000, dv=1000),
        ),
        projections=(
            Projection(
                source="input", target="conv",
                synapse=Conv2d(
                    w=rng.integers(-100, 128, (2, 1, 3, 3)), geometry=ConvGeometry(padding=(1, 1))
                ),
            ),
            Projection(
                source="conv", target="dense",
                synapse=Dense(w=2 * rng.integers(-100, 128, (3, 32)), w_exp=-1),
            ),
        ),
        readout=Readout(population="dense"),
        steps=5,
    )  # fmt: skip
    return net, rng.integers(0, 256, (5, 3, 1, 4, 4))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cuda() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def describe_doctor(result: dict[str, Any]) -> str:
    """The findings for people."""
    lines = [f"spikeport {result['spikeport']} on Python {result['python']}"]
    lines += [f"  {name} {version}" for name, version in result["packages"].items()]
    lines.append(f"CUDA device: {result['cuda']}")
    lines += [f"backend {name}: {word}" for name, word in result["backends"].items()]
    lines.append(f"board: {result['board']}")
    return "\n".join(lines)
