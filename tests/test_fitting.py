"""What a network made for one chip breaks on another: rules, and sums in fewer bits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeport import checking, costing, deploying, fitting
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.bundle import Vectors
from spikeport.sim.chip import CHIPS, LOIHI_1, LOIHI_2, Chip
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense

TEXT = (
    "population 'out', neuron 1 (1 in all): what arrives in one step may reach {bound}, but {chip}"
    " wraps what is beyond +-32767, which Lava does not show; export for that chip, which chooses"
    " scales that fit, or lower its scale by {factor}"
)


def network(w_exp: int = 5, sign: int = 1, *, chip: Chip = LOIHI_2) -> FixedNet:
    """Neuron 1 gets 5 * 250 in weights, neuron 0 less; `w_exp` 4 fits Loihi 1, 5 does not."""
    w = np.array([[2, -4, 6, 0, 2], [250] * 5]) * sign
    return FixedNet(
        input=Input(shape=(5,)),
        populations=(Population(name="out", shape=(2,), v_th=100_000, du=4095, dv=100),),
        projections=(Projection(source="input", target="out", synapse=Dense(w=w, w_exp=w_exp)),),
        readout=Readout(population="out"),
        steps=4,
        chip=chip,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    net = network()
    x = np.ones((net.steps, 2, 5), np.int64)
    trace = engine.run(net, x)
    vectors = Vectors(
        inputs=x, spikes={"out": trace["out"].spikes}, logits=trace.logits(net.readout)
    )
    bundles.write(tmp_path / "bundle", net, files={}, vectors=vectors)
    return tmp_path / "bundle"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("made_for", CHIPS.values(), ids=list(CHIPS))
def test_sums_are_proven_for_fewer_bits_than_lavas(sign: int, made_for: Chip) -> None:
    """Also of a network made for that chip, whose export may have been allowed to overflow."""
    (issue,) = fitting.issues(network(sign=sign, chip=made_for), LOIHI_1)
    assert (issue.rule, issue.severity) == ("overflow", "error")
    assert str(issue) == TEXT.format(bound=sign * 40000, chip="loihi1", factor=1.22)
    assert fitting.issues(network(4, sign, chip=made_for), LOIHI_1) == []
    for name in ("loihi2", "lava"):
        assert fitting.issues(network(sign=sign), CHIPS[name]) == []


def test_a_chip_of_ones_own_may_have_any_number_of_bits() -> None:
    net = network()
    narrower = replace(LOIHI_1, name="ours", sum_bits=21)
    (issue,) = fitting.issues(net, narrower)
    assert issue.limit.startswith("ours wraps what is beyond +-16383,")
    (issue,) = fitting.issues(net, replace(narrower, sum_bits=5))  # room for no sum at all
    assert issue.advice.endswith("lower its scale by 4e+04")


def test_rules_and_sums_are_refused_in_one_sentence() -> None:
    both = replace(network(), input=Input(shape=(5,), kind="graded", payload_bits=8))
    with pytest.raises(
        ValueError,
        match=r"^the network does not fit loihi1: input: spikes carry 8 bits, .*; also population"
        r" 'out', neuron 1 \(2 in all\): what arrives in one step may reach 10200000, but",
    ):
        fitting.enforce(both, LOIHI_1)
    fitting.enforce(both, LOIHI_2)
    fitting.enforce(replace(network(), steps=5), LOIHI_2)  # advice passes


def test_every_command_that_knows_the_chip_says_so(bundle: Path, tmp_path: Path) -> None:
    wanted = TEXT.format(bound=40000, chip="kapoho-bay", factor=1.22)
    found: Any = checking.check(bundle, target="kapoho-bay")
    assert not found["passed"]
    assert [issue["text"] for issue in found["issues"]] == [wanted]
    assert costing.cost(bundle, target="kapoho-bay")["issues"] == [wanted]
    refusal = f"^the network does not fit kapoho-bay: {re.escape(wanted)}$"
    with pytest.raises(ValueError, match=refusal):
        deploying.deploy(bundle, tmp_path / "out", board="kapoho-bay")
    assert not (tmp_path / "out").exists()
    assert checking.check(bundle, target="oheo-gulch")["passed"]
