"""The front door: module in, integers, report and bundle out; refusals name what to change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from spikeport.export import compile as compile_net
from spikeport.export import input_of
from spikeport.sim import reference
from spikeport.sim.bundle import Vectors
from spikeport.sim.net import Input


def module(reset: str = "zero") -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(32, 20), snntorch.Leaky(0.9, reset_mechanism=reset),
        nn.Linear(20, 6), snntorch.Leaky(0.8, 0.5, reset_mechanism=reset),
    )  # fmt: skip


SAMPLE = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(3))


def test_the_package_imports_without_torch() -> None:
    code = "import sys, spikeport.export; print([m for m in ('torch', 'nir') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_compile_report_and_bundle(tmp_path: Path) -> None:
    compiled = compile_net(module(), SAMPLE, target="loihi", steps=5, weight_bits=6)
    net, report = compiled.net, compiled.report
    assert net.chip.name == "loihi2"
    assert (net.input.kind, net.input.payload_bits, net.input.scale) == ("graded", 8, 255.0)
    assert report is not None
    assert report.proven
    assert report.weight_bits == 6
    weights = next(r for r in report.rows if r.part == "input -> 2")
    exact = module()[1].weight.detach().double().numpy()
    assert weights.value in exact
    assert weights.bits == 5
    assert weights.error == pytest.approx(abs(weights.effective - weights.value))
    assert weights.error <= 1.02 * abs(exact).max() / 31 / 2 / 0.95
    assert "proven: no input can wrap u or clip v" in report.as_text()
    assert json.loads(report.as_json())["digest"] == net.digest()
    x = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 4, 4))
    trace = reference.run(net, x)
    vectors = Vectors(
        inputs=x,
        spikes={name: p.spikes for name, p in trace.populations.items()},
        logits=trace.logits(net.readout),
    )
    saved = compiled.save(tmp_path / "bundle", vectors, files={"note.txt": "hello"})
    assert saved.net == net
    assert saved.path("net.nir").read_bytes() == compiled.nir
    assert "note.txt" in saved.files


def test_target_nir_has_no_integers() -> None:
    compiled = compile_net(module(), SAMPLE, target="nir", steps=5)
    assert compiled.float_net.steps == 5
    with pytest.raises(
        ValueError, match=r'^target "nir" has no integers; compile for loihi, loihi'
    ):
        _ = compiled.net


def test_subtraction_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"subtract") as error:
        compile_net(module("subtract"), SAMPLE, target="loihi", steps=5)
    assert str(error.value) == (
        "layer '2' (Leaky): reset_mechanism is \"subtract\", but neurons of target 'loihi' reset to"
        ' zero; set reset_mechanism="zero" and retrain (a few epochs from the present weights do),'
        ' or choose target "lava"'
    )


def test_loihi1_needs_spikes() -> None:
    with pytest.raises(
        ValueError, match=r"^the input is graded with 8 payload bits, but spikes of"
    ):
        compile_net(module(), SAMPLE, target="loihi1", steps=5)
    done = compile_net(module(), SAMPLE > 0.5, target="loihi1", steps=5)
    assert done.net.input == Input(shape=(2, 4, 4))


def test_unknown_target() -> None:
    with pytest.raises(
        ValueError, match=r"^target is 'tpu'; allowed are 'loihi', 'loihi1', 'loihi2"
    ):
        compile_net(module(), SAMPLE, target="tpu", steps=5)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (None, "a plain Sequential does not know its input; give a sample or an Input"),
        (torch.rand(1, 2, 4, 4), "the sample has shape (1, 2, 4, 4); needed is one example"
         " [C, H, W] or [n], without time and batch"),
        (torch.ones(4, dtype=torch.int64), "the sample has type int64; give floats in [0, 1] for"
         " pixels, booleans for spikes, or an Input"),
        (torch.tensor([-1.0, 2.0]), "the sample has values -1..2; pixels must lie in 0..1,"
         " normalise inside the first layer instead"),
    ],
)  # fmt: skip
def test_an_ambiguous_sample_is_refused(sample: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        input_of(sample)
    assert str(error.value) == message
