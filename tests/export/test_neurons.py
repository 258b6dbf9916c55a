"""Which settings of snnTorch's neurons are the chip's, measured; what is refused, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from spikeport.export.agreement import agreement
from spikeport.export.neurons import Unsupported, neurons
from spikeport.export.nir_read import read
from spikeport.export.nir_write import write
from spikeport.sim.net import FloatNet, Input
from spikeport.train.norm import TdBatchNorm1d

SIZE, STEPS, BATCH = 8, 25, 12
GRADED = Input(shape=(2, 8, 8), kind="graded", payload_bits=8, scale=255.0)
RETRAIN = 'set reset_mechanism="zero" and retrain (a few epochs from the present weights do)'
LOST = "with reset to zero snnTorch loses the input of the step after a spike; "


def fires(distance: torch.Tensor) -> torch.Tensor:
    return (distance > 0).to(distance.dtype)


def layer(kind: str, keep: Any = 0.8, *, size: int = SIZE, **options: Any) -> Any:
    """Neurons of `kind`, float64 in spikes too."""
    torch.manual_seed(1)
    options = {"threshold": 0.4, "spike_grad": fires, **options}
    if kind == "Lapicque":
        return snntorch.Lapicque(R=2.5, C=4.0, time_step=2.0, **options).double()
    if kind[0] == "R" and options.get("all_to_all", True):
        options["linear_features"] = size
    keeps = (0.6, keep) if "Synaptic" in kind else (keep,)
    return getattr(snntorch, kind)(*keeps, **options).double()


def answers(neuron: Any, currents: torch.Tensor) -> Any:
    """Spikes [T, B, n] of a layer called as users call it, every state passed by hand."""
    states: tuple[Any, ...] = ()
    if neuron.__class__.__name__[0] == "R":
        states = tuple(torch.zeros_like(currents[0]) for _ in neuron.reset_mem())
    spikes = []
    with torch.no_grad():
        for current in currents:
            s, *rest = neuron(current, *states)
            states = (s, *rest) if neuron.__class__.__name__[0] == "R" else tuple(rest)
            spikes.append(s)
    return torch.stack(spikes).numpy()


def as_net(neuron: Any, folder: Path) -> tuple[FloatNet, Any, Any]:
    """The layer behind a Linear, read back from its file; an input and the module's spikes."""
    torch.manual_seed(2)
    linear = nn.Linear(6, SIZE).double()
    linear.weight.data *= 1.5
    write(
        nn.Sequential(linear, neuron), folder / "n.nir", input=Input(shape=(6,)), steps=STEPS,
        dt_s=1e-3,
    )  # fmt: skip
    x = torch.rand(STEPS, BATCH, 6, dtype=torch.float64)
    with torch.no_grad():
        spikes = answers(neuron, linear(x))
    return read(folder / "n.nir"), x.numpy(), spikes


EXACT = [
    ("Leaky", {"reset_mechanism": "zero"}),
    ("Leaky", {"reset_mechanism": "zero", "reset_delay": False}),
    ("Leaky", {"reset_mechanism": "subtract"}),
    ("Leaky", {"reset_mechanism": "subtract", "keep": 1.0}),
    ("Synaptic", {"reset_mechanism": "zero", "reset_delay": False}),
    ("Synaptic", {"reset_mechanism": "subtract"}),
    ("Synaptic", {"reset_mechanism": "subtract", "keep": 1.0}),
    ("RLeaky", {"reset_mechanism": "zero", "reset_delay": False}),
    ("RLeaky", {"reset_mechanism": "subtract"}),
    ("RLeaky", {"reset_mechanism": "subtract", "all_to_all": False, "V": -0.3}),
    ("RLeaky", {"all_to_all": False, "V": torch.linspace(-1, 1, SIZE)}),
    ("RSynaptic", {"reset_mechanism": "subtract"}),
    ("RSynaptic", {"reset_mechanism": "subtract", "all_to_all": False, "V": 0.2}),
    ("Lapicque", {"reset_mechanism": "subtract"}),
]


@pytest.mark.parametrize(("kind", "options"), EXACT)
def test_the_same_spikes(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    net, x, spikes = as_net(layer(kind, **options), tmp_path)
    found = agreement(net, x, {"1": spikes})
    assert (found.differences, found.ties, found.compared) == ((), 0, spikes.size)
    assert 0.1 < spikes.mean() < 0.95


def test_each_neuron_has_its_own(tmp_path: Path) -> None:
    v_th, keep = torch.linspace(0.2, 0.9, SIZE), torch.linspace(0.3, 1.2, SIZE)
    net, x, spikes = as_net(layer("RLeaky", keep, threshold=v_th), tmp_path)
    assert agreement(net, x, {"1": spikes}).differences == ()
    assert net.populations[0].keep_v[-1] == 1.0  # snnTorch clips it
    assert net.populations[0].v_th == pytest.approx(v_th.numpy())


def test_lapicque_is_a_leak_and_a_gain() -> None:
    found = neurons("rc", layer("Lapicque"), (SIZE,))
    assert found.population.keep_v == pytest.approx(1 - 2 / 10)
    assert found.gain == pytest.approx(2 / 4)
    from_beta = neurons("rc", snntorch.Lapicque(beta=0.8), (SIZE,))
    assert from_beta.population.keep_v == pytest.approx(1 + np.log(0.8))  # not 0.8


def test_what_reset_by_subtraction_needs() -> None:
    found = neurons("n", layer("RSynaptic"), (SIZE,))
    assert [(loop.name, loop.delay) for loop in found.loops] == [
        ("n.recurrent", 1), ("n.reset", 1), ("n.reset2", 2),
    ]  # fmt: skip
    assert found.loops[1].synapse == pytest.approx(-0.2 * 0.4)
    assert found.loops[2].synapse == pytest.approx(0.6 * 0.2 * 0.4)


def changed(neuron: Any, reset: str) -> Any:
    neuron.reset_mechanism = reset
    return neuron


def graded(neuron: Any, factor: Any) -> Any:
    neuron.graded_spikes_factor = factor
    return neuron


TWICE = (
    "with reset_delay=False snnTorch subtracts a second time where a spike left the potential above"
    ' the threshold; use reset_delay=True or reset_mechanism="zero", and retrain'
)
PARTLY = (
    "its reset_mechanism was changed to 'zero' after it was built, which snnTorch follows in part"
    " only; build the layer with it"
)
NO_EXACT: list[tuple[Any, str]] = [
    (layer("Leaky", reset_delay=False), TWICE),
    (layer("Synaptic", reset_delay=False), TWICE),
    (layer("RLeaky", reset_delay=False), TWICE),
    (layer("RSynaptic", reset_delay=False), "reset_delay=False has no effect in snnTorch 1.0.0; set"
     " reset_delay=True"),
    (layer("Synaptic", reset_mechanism="zero"), f"{LOST}use reset_delay=False, and retrain"),
    (layer("RLeaky", reset_mechanism="zero"), f"{LOST}use reset_delay=False, and retrain"),
    (layer("RSynaptic", reset_mechanism="zero"), f"{LOST}feed the spikes of a"
     " Synaptic(reset_delay=False) back through a Linear in forward, and retrain"),
    (layer("Lapicque", reset_mechanism="zero"), f"{LOST}use Leaky with beta = 1 - time_step /"
     " (R * C), and retrain"),
    (layer("RLeaky", reset_mechanism="none"), 'reset_mechanism is "none", but its spikes are fed'
     f" back and chips reset; {RETRAIN}"),
    (graded(layer("RLeaky"), torch.tensor(0.5)), "its graded_spikes_factor would scale the"
     " recurrence too; set it to 1"),
    (changed(layer("Leaky"), "zero"), PARTLY),
    (snntorch.Lapicque(beta=0.2), "a step of 1 is longer than R * C = 0.621335, so that the"
     " potential would swing; use a smaller time_step or a beta above 0.37"),
]  # fmt: skip


@pytest.mark.parametrize(("neuron", "reason"), NO_EXACT)
def test_a_setting_that_no_chip_repeats(neuron: Any, reason: str) -> None:
    with pytest.raises(Unsupported, match=r"^layer 'n' ") as error:
        neurons("n", neuron, (SIZE,))
    assert str(error.value) == f"layer 'n' ({type(neuron).__name__}): {reason}"


# What differs upstream; these fail loudly when it changes.


@pytest.mark.parametrize(
    ("kind", "reset", "delay"),
    [
        ("Leaky", "subtract", False),
        ("Synaptic", "zero", True),
        ("RLeaky", "zero", True),
        ("RSynaptic", "zero", True),
        ("Lapicque", "zero", None),
    ],
)
def test_snntorch_really_differs_there(kind: str, reset: str, delay: bool | None) -> None:
    options = {} if delay is None else {"reset_delay": delay}
    neuron = layer(kind, reset_mechanism=reset, **options)
    currents = torch.rand(STEPS, BATCH, SIZE, dtype=torch.float64) * 1.2
    ours = np.zeros((BATCH, SIZE))
    u, v = ours.copy(), ours.copy()
    recorded = []
    rc = (0.8, 0.5) if kind == "Lapicque" else (0.8, 1.0)
    for current in currents.numpy():
        a = rc[1] * current
        if kind[0] == "R":
            with torch.no_grad():
                a = a + neuron.recurrent(torch.from_numpy(ours)).numpy()
        u = (0.6 if "Synaptic" in kind else 0.0) * u + a
        v = rc[0] * v + u
        ours = (v > 0.4).astype(np.float64)
        v = np.where(ours, v - 0.4 if reset == "subtract" else 0.0, v)
        recorded.append(ours)
    assert (answers(neuron, currents) != np.stack(recorded)).mean() > 0.005


def test_reset_delay_of_rsynaptic_does_nothing() -> None:
    currents = torch.rand(STEPS, BATCH, SIZE, dtype=torch.float64)
    for reset in ("zero", "subtract"):
        now = answers(layer("RSynaptic", reset_mechanism=reset, reset_delay=False), currents)
        late = answers(layer("RSynaptic", reset_mechanism=reset, reset_delay=True), currents)
        assert np.array_equal(now, late)
    alone = layer("RSynaptic", reset_delay=False, init_hidden=True)
    with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for /: 'NoneType'"):
        alone(currents[0])


def test_chain_with_norm_over_time(tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = TdBatchNorm1d(4)
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    module = nn.Sequential(nn.Linear(3, 4), norm, layer("Leaky", reset_mechanism="zero")).double()
    write(module.eval(), tmp_path / "n.nir", input=Input(shape=(3,)), steps=4, dt_s=1e-3)
    net = read(tmp_path / "n.nir")
    assert [p.name for p in net.populations] == ["2"]
    x = torch.rand(4, 5, 3).double()
    with torch.no_grad():
        spikes = answers(module[2], norm(module[0](x)))
    assert agreement(net, x.numpy(), {"2": spikes}).differences == ()
