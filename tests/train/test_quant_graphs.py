"""Shortcuts, loops and start potentials on the chip's integers: the export is the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeport.export import bounds
from spikeport.export import compile as compile_net
from spikeport.hw import netx_file, rules
from spikeport.sim import engine, floating, reference
from spikeport.sim.chip import LAVA, LOIHI_2, Chip
from spikeport.sim.net import Input
from spikeport.sim.trace import first_difference
from spikeport.train.blocks import Recurrent, Residual
from spikeport.train.encode import source
from spikeport.train.model import SpikingNet
from spikeport.train.neuron import Integrator, Lif
from spikeport.train.norm import TdBatchNorm1d, TdBatchNorm2d
from spikeport.train.quant import QuantNet

STEPS, SAMPLES = 5, 12
PIXELS = source("direct", (1, 8, 8))


def spiking(carrier: Input, readout: str, **layers: nn.Module) -> SpikingNet:
    """A network of `layers` whose norms have seen enough to settle."""
    sequential = nn.Sequential(OrderedDict(layers))
    net = SpikingNet(sequential, input=carrier, steps=STEPS, readout=readout)
    with torch.no_grad():
        for _ in range(60):
            net(units(shown(carrier), carrier))
    return net.eval()


def shown(carrier: Input) -> NDArray[np.int64]:
    rng = np.random.default_rng(3)
    return rng.integers(0, carrier.largest + 1, (STEPS, SAMPLES, *carrier.shape))


def units(x: NDArray[np.int64], carrier: Input) -> Tensor:
    return torch.from_numpy(x / carrier.scale).float()


def convolved(
    before: int, channels: int, *, stride: int = 1, size: int = 3
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(before, channels, size, stride=stride, padding=size // 2, bias=False)
    return OrderedDict(conv=conv, norm=TdBatchNorm2d(channels, v_th=0.4), lif=Lif(0.6, v_th=0.3))


def residual_net() -> SpikingNet:
    """Two identities in a row, so that three populations add up, then one of another shape; the
    global mean of a sum is read."""
    down = nn.Sequential(convolved(4, 6, stride=2, size=1))
    return spiking(
        PIXELS, "last_v",
        **convolved(1, 4), a=Residual(convolved(4, 4)), b=Residual(convolved(4, 4)),
        c=Residual(convolved(4, 6, stride=2), down),
        pool=nn.AvgPool2d(4), flat=nn.Flatten(), fc=nn.Linear(6, 4), out=Integrator(),
    )  # fmt: skip


def summed_net() -> SpikingNet:
    """Currents of branch and shortcut add up before the neurons; sums are pooled; counts."""
    branch = convolved(3, 3)
    branch["conv2"], branch["norm2"] = nn.Conv2d(3, 4, 3, padding=1), TdBatchNorm2d(4, alpha=0.7)
    around = OrderedDict(conv=nn.Conv2d(3, 4, 1), norm=TdBatchNorm2d(4, alpha=0.7))
    return spiking(
        PIXELS, "count",
        **convolved(1, 3), add=Residual(branch, nn.Sequential(around)), last=Lif(0.5, v_th=0.6),
        pool=nn.AvgPool2d(2, divisor_override=1), flat=nn.Flatten(),
        fc=nn.Linear(64, 4), lif_out=Lif(0.7, v_th=0.5),
    )  # fmt: skip


def recurrent_net(carrier: Input) -> SpikingNet:
    return spiking(
        carrier, "last_v",
        flat=nn.Flatten(), fc=nn.Linear(carrier.size, 24, bias=False),
        norm=TdBatchNorm1d(24, v_th=0.5), rec=Recurrent(nn.Linear(24, 24, bias=False), Lif(0.8)),
        fc2=nn.Linear(24, 4), out=Integrator(),
    )  # fmt: skip


def dense_sum_net() -> SpikingNet:
    """So many inputs that a dense sum is shifted, which every projection does by itself."""

    def layer(n: int) -> dict[str, nn.Module]:
        return OrderedDict(fc=nn.Linear(n, 600), norm=TdBatchNorm1d(600), lif=Lif(0.9, v_th=0.8))

    return spiking(
        Input(shape=(16,)), "last_v", **layer(16), more=Residual(layer(600)),
        last=nn.Linear(600, 4), out=Integrator(),
    )  # fmt: skip


NETS: dict[str, Callable[[], SpikingNet]] = {
    "residual": residual_net,
    "summed": summed_net,
    "recurrent": lambda: recurrent_net(PIXELS),
    "recurrent, spikes": lambda: recurrent_net(Input(shape=(1, 6, 4))),
    "dense sum": dense_sum_net,
}


def started(net: SpikingNet, share: float) -> SpikingNet:
    """`net` whose neurons start at a share of their threshold."""
    for _, layer in net.named_layers():
        if isinstance(layer, Lif):
            layer.v_init.fill_(share * float(layer.v_th))
    return net


def learn(model: QuantNet, *, steps: int = 3) -> None:
    x = units(shown(model.input), model.input)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).logits, torch.arange(SAMPLES) % 4)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model(x)  # holds thresholds at their least


def check_export(model: QuantNet, chip: Chip, *, bits: int = 8, rates: bool = True) -> None:
    compiled = compile_net(model.spiking_net().eval(), target=chip.name, weight_bits=bits)
    net, x = compiled.net, shown(model.input)
    assert bounds.prove(net) == []
    rules.enforce(net, chip)
    trace = engine.run(net, x)
    assert first_difference(trace, reference.run(net, x)) is None
    assert not any(trace.wraps.values())
    with torch.no_grad():
        record = model.eval()(units(x, net.input))
    for name, spikes in record.spikes.items():
        assert np.array_equal(spikes.flatten(2).numpy(), trace[name].spikes), name
        assert not rates or 0.01 < trace[name].spikes.mean() < 0.99, name
    for name, layer in model.populations().items():
        assert net.population(name).v_th == int(layer.threshold())
        assert (net.population(name).v_init == int(layer.start()[0])).all()
    unit = 64 * net.populations[-1].scale * STEPS if model.readout == "last_v" else 1.0
    logits = trace.logits(net.readout) / unit
    assert record.logits.numpy() == pytest.approx(logits, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("name", NETS)
def test_the_export_is_the_model(name: str, bits: int) -> None:
    torch.manual_seed(1)
    model = QuantNet(NETS[name](), LOIHI_2, weight_bits=bits)
    check_export(model, LOIHI_2, bits=bits, rates=bits == 8)
    learn(model.train())
    check_export(model, LOIHI_2, bits=bits, rates=False)


@pytest.mark.parametrize("name", NETS)
def test_it_answers_as_the_float_network(name: str) -> None:
    """Behind pools, sums and loops too, up to what rounding to 8 bits does."""
    torch.manual_seed(1)
    net = NETS[name]()
    x = units(shown(net.input), net.input)
    with torch.no_grad():
        wanted, found = net(x).logits, QuantNet(net, LOIHI_2)(x).logits
    assert float((found - wanted).norm() / wanted.norm()) < 0.3


def test_leaks_are_rounded_to_the_nearest() -> None:
    net = spiking(Input(shape=(3,)), "count", fc=nn.Linear(3, 2), lif=Lif(0.7))
    model = QuantNet(net, LOIHI_2)
    assert model.populations()["lif"].dv == 1229  # 4096 * 0.3 = 1228.8


@pytest.mark.parametrize("share", [0.6, -0.9])
@pytest.mark.parametrize("chip", [LAVA, LOIHI_2], ids=lambda chip: chip.name)
@pytest.mark.parametrize("name", ["summed", "recurrent"])
def test_neurons_start_where_they_are_told(name: str, chip: Chip, share: float) -> None:
    torch.manual_seed(2)
    net = started(NETS[name](), share)
    plain = QuantNet(NETS[name](), chip)
    model = QuantNet(net, chip)
    x = units(shown(net.input), net.input)
    first = next(iter(model.populations()))
    both = [m(x).spikes[first][0].detach().mean() for m in (model, plain)]
    assert (both[0] > both[1]) == (share > 0)
    float_spikes = net(x).spikes[first]
    assert float((model(x).spikes[first] != float_spikes).double().mean()) < 0.02
    check_export(model, chip, rates=False)
    learn(model.train())
    check_export(model, chip, rates=False)


def test_a_start_is_the_integer_that_the_chip_can_hold() -> None:
    torch.manual_seed(3)
    lif = Lif(0.8, v_th=0.5, v_init=0.4)
    net = spiking(Input(shape=(6,)), "count", fc=nn.Linear(6, 4), lif=lif)
    layer = QuantNet(net, LOIHI_2).populations()["lif"]
    with torch.no_grad():
        layer.log_scale.fill_(float(np.log(1000.0)))  # 0.8 * 0.4 * 1000 = 320 = 80 << 2
        v_init, current = map(float, layer.start())
    assert v_init == 0
    assert current == pytest.approx(320, abs=4)
    assert current % 4 == 0
    exact = QuantNet(net, LAVA).populations()["lif"]
    with torch.no_grad():
        exact.log_scale.fill_(float(np.log(1000.0)))
        v_init, current = map(float, exact.start())
    assert v_init == pytest.approx(64 * 400, abs=1)
    assert current == 0
    lif.v_init.fill_(1e4)  # what 127 << 8 stands for is the most
    far = QuantNet(net, LOIHI_2).populations()["lif"]
    with torch.no_grad():
        assert abs(float(far.start()[1])) <= 127 << 8
        assert float(far.scale()) <= (127 << 8) / (0.8 * 1e4) * 1.001


def test_limits_count_every_source() -> None:
    """A sum of three sources reaches three times as far, a loop adds its own."""
    torch.manual_seed(4)
    model = QuantNet(residual_net(), LOIHI_2)
    reach = {name: layer.synapses[0].largest for name, layer in model.populations().items()}
    assert [reach[name] for name in ("lif", "a.lif", "b.lif", "c.lif", "c.shortcut.lif")] == [
        1, 1, 2, 3, 3
    ]  # fmt: skip
    assert reach["out"] == 2 * 16
    rec = QuantNet(recurrent_net(PIXELS), LOIHI_2).populations()["rec.lif"]
    assert rec.loop is not None
    with torch.no_grad():
        before = rec._filled()
        rec.loop.weight.mul_(3)
        assert rec._filled() > before


def test_a_dense_sum_is_shifted_projection_by_projection() -> None:
    torch.manual_seed(5)
    model = QuantNet(dense_sum_net(), LOIHI_2, weight_bits=8)
    last = model.populations()["out"].synapses[0]
    assert last.sources == ("more.lif", "lif")
    last.shift = 3
    check_export(model, LOIHI_2, rates=False)


@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_a_still_image_is_summed_up_once(name: str) -> None:
    torch.manual_seed(8)
    model = QuantNet(started(NETS[name](), 0.5), LOIHI_2)
    synapse = next(iter(model.populations().values())).synapses[0]
    seen: list[int] = []
    synapse.register_forward_hook(lambda _, given, __: seen.append(len(given[0][0])))
    still = units(shown(PIXELS)[:1], PIXELS).expand(STEPS, SAMPLES, *PIXELS.shape)
    one, every = model(still), model(still.clone())
    assert seen == [1, STEPS]
    assert torch.equal(one.logits, every.logits)
    assert all(torch.equal(one.spikes[layer], s) for layer, s in every.spikes.items())


def test_names_are_those_of_the_float_network() -> None:
    net = residual_net()
    model = QuantNet(net, LOIHI_2)
    x = units(shown(PIXELS), PIXELS)
    names = list(net(x).spikes)
    assert list(model(x).spikes) == list(model.thresholds()) == names
    plain = model.spiking_net()
    assert list(plain(x.double()).spikes) == names
    assert [type(layer) for _, layer in plain.named_layers() if isinstance(layer, nn.Identity)]
    assert "c.shortcut.conv" in dict(plain.named_layers())
    assert model.state_dict().keys() == QuantNet(net, LOIHI_2).state_dict().keys()


@pytest.mark.parametrize("name", NETS)
def test_a_nir_file_holds_the_network(name: str) -> None:
    torch.manual_seed(6)
    net = started(NETS[name](), 0.25).double()
    found = compile_net(net, target="nir").float_net
    x = shown(net.input)[:, :4]
    with torch.no_grad():
        record = net(torch.from_numpy(x / net.input.scale))
    trace = floating.run(found, x / net.input.scale)
    for layer, spikes in record.spikes.items():
        assert (spikes.flatten(2).numpy() != trace[layer].spikes).mean() < 1e-3, layer
        assert trace[layer].spikes.any(), layer


def test_netx_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    chain = r".* but NetX holds chains, in which it is fed by"
    for net, chip, message in (
        (
            residual_net(),
            LAVA,
            r"^projection 'lif' -> 'b\.lif': on a chip this convolution comes 1",
        ),
        (residual_net(), LOIHI_2, r"^population 'a\.lif' is fed by \['lif'\]," + chain),  # relays
        (started(recurrent_net(PIXELS), 0.5), LOIHI_2, r"^population 'rec\.lif\.start' is" + chain),
    ):
        compiled = compile_net(QuantNet(net, chip).spiking_net().eval(), target=chip.name)
        with pytest.raises(ValueError, match=message):
            netx_file.write(compiled.net, tmp_path / "net.net")
    loop = Recurrent(nn.Linear(9, 9, bias=False), Lif(0.7, v_th=0.2))
    layers = {"fc": nn.Linear(16, 9, bias=False), "rec": loop, "fc2": nn.Linear(9, 4)}
    net = spiking(Input(shape=(16,)), "last_v", **layers, out=Integrator())
    held = compile_net(QuantNet(net, LOIHI_2).spiking_net(), target="loihi2", for_netx=True).net
    netx_file.write(held, tmp_path / "net.net")
    assert {p.source for p in held.incoming("rec.lif")} == {"input", "rec.lif"}
    assert (tmp_path / "net.net").stat().st_size > 0


@pytest.mark.lava
@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_lava_runs_the_trained_network(name: str) -> None:
    from spikeport.hw import lava_inprocess

    torch.manual_seed(7)
    model = QuantNet(started(NETS[name](), 0.3), LOIHI_2)
    net = compile_net(model.spiking_net().eval(), target="loihi2").net
    x = shown(net.input)[:, :2]
    trace = lava_inprocess.run(net, x)
    assert first_difference(reference.run(net, x), trace) is None
    with torch.no_grad():
        record = model.eval()(units(x, net.input))
    for layer, spikes in record.spikes.items():
        assert np.array_equal(spikes.flatten(2).numpy(), trace[layer].spikes), layer
