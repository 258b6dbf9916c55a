"""Compile and run supported graphs and modules of every kind; with -W error nothing may be said.

python -W error tests/quiet_graphs.py FOLDER
"""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

# Lines of other packages that only look deprecated on newer Pythons are not ours to change.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nir
    import numpy as np
    import snntorch
    import torch
    from torch import Tensor, nn

from spikeport.export import compile, nir_read, nir_write, quantise
from spikeport.export.prepare import prepare
from spikeport.export.report import report
from spikeport.sim import describe, engine, floating
from spikeport.sim.chip import CHIPS
from spikeport.sim.net import Input

ONE = np.ones(3)
LIF: dict[str, Any] = {"tau": 4e-3 * ONE, "r": 4 * ONE, "v_leak": 0 * ONE, "v_threshold": ONE}
CUBA: dict[str, Any] = {"tau_mem": 4e-3 * ONE, "tau_syn": 2e-3 * ONE, "r": 4 * ONE,
                        "v_leak": 0 * ONE, "w_in": 2 * ONE}  # fmt: skip
FC = nir.Affine(weight=np.arange(6.0).reshape(3, 2) / 4, bias=np.array([0.1, 0.2, 0.3]))
GRAPHS: dict[str, dict[str, Any]] = {
    "lif": {"fc": FC, "a": nir.LIF(**LIF)},
    "if": {"fc": FC, "a": nir.IF(r=ONE, v_threshold=ONE)},
    "cubalif": {"fc": FC, "a": nir.CubaLIF(**CUBA, v_threshold=ONE)},
    "threshold": {"fc": FC, "a": nir.Threshold(ONE)},
    "li": {"fc": FC, "a": nir.LI(tau=4e-3 * ONE, r=ONE, v_leak=0 * ONE)},
    "integrator": {"fc": FC, "a": nir.I(r=ONE)},
    "scale": {"fc": FC, "s": nir.Scale(np.array([1.0, 2.0, 4.0])), "a": nir.LIF(**LIF)},
    "delay": {"fc": FC, "d": nir.Delay(2e-3 * ONE), "a": nir.LIF(**LIF)},
    "linear": {"fc": nir.Linear(np.ones((3, 2))), "a": nir.LIF(**LIF)},
}


def run_graphs(folder: Path) -> None:
    for name, nodes in GRAPHS.items():
        whole = {
            "input": nir.Input(input_type={"input": np.array([2])}),
            **nodes,
            "output": nir.Output(output_type={"output": np.array([3])}),
        }
        with warnings.catch_warnings():  # nir's own
            warnings.simplefilter("ignore")
            nir.write(folder / f"{name}.nir", nir.NIRGraph(whole, list(pairwise(whole))))
        net = nir_read.read(folder / f"{name}.nir", steps=6, dt_s=1e-3)
        run(net)


def run(net: Any) -> None:
    for chip in CHIPS.values():
        fixed = quantise.to_fixed(prepare(net, chip), chip)
        x = np.random.default_rng(0).integers(0, 2, (6, 2, *net.input.shape))
        engine.run(fixed, x)
        floating.run(net, x / net.input.scale)
        report(net, fixed).as_text()
        describe.describe(fixed)


def leaky(**rest: Any) -> Any:
    return snntorch.Leaky(0.5, reset_mechanism="zero", **rest)


class Stepped(nn.Module):
    """A forward loop over time."""

    def __init__(self, **rest: Any) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 3), leaky(**rest)

    def forward(self, x: Tensor) -> Tensor:
        mem = self.lif.init_leaky()
        spikes = []
        for step in x:
            out, mem = self.lif(self.fc(step), mem)
            spikes.append(out)
        return torch.stack(spikes)


def run_modules(folder: Path) -> None:
    torch.manual_seed(0)
    rows = (torch.rand(6, 2, 4) < 0.5).float()
    conv = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), leaky(), nn.AvgPool2d(2), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(8, 3), leaky(),
    ).eval()  # fmt: skip
    nir_write.write(conv, folder / "conv.nir", input=Input(shape=(1, 6, 6)), steps=6, dt_s=1e-3)
    run(nir_read.read(folder / "conv.nir"))
    for target in CHIPS:
        compile(Stepped().eval(), rows, target=target, input=Input(shape=(4,)))


if __name__ == "__main__":
    run_graphs(Path(sys.argv[1]))
    run_modules(Path(sys.argv[1]))
