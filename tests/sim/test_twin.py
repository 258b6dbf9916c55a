"""The twin: the chip's integers forward, and the gradient of a plainly written loop backward."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.surrogate import Surrogate
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense
from spikeport.sim.trace import Trace, first_difference
from spikeport.sim.twin import Twin, to_grid
from spikeport.sim.twin_lif import Neurons, integrate
from spikeport.sim.twin_stretch import State, Stretch, read

NETS = 100


def differentiable(net: FixedNet) -> FixedNet:
    """`net`, read as spike counts where it was read by first spikes."""
    if net.readout.kind != "first_spike":
        return net
    return replace(net, readout=Readout(population=net.readout.population))


def differing(left: Trace, right: Trace) -> int:
    assert list(left.populations) == list(right.populations)
    return sum(
        int((part.spikes != right[name].spikes).sum() + (part.v_last != right[name].v_last).sum())
        for name, part in left.populations.items()
    )


@pytest.mark.parametrize("lava", [True, False])
def test_runs_random_nets_as_the_reference_does(random_net: Any, lava: bool) -> None:
    """Resets, exponents, wraps, clips, start potentials, skip paths, graded input: whatever."""
    seen = {"wrap": 0, "clip": 0, "subtract": 0, "v_init": 0, "each": 0, "graded": 0, "fan-in": 0}
    for seed in range(NETS):
        net, x = random_net(seed, lava=lava)
        net = differentiable(net)
        wanted = reference.run(net, x)
        assert differing(wanted, Twin(net).run(x)) == 0, f"seed {seed}"
        seen["wrap"] += any(wanted.wraps.values())
        seen["clip"] += any(wanted.clips.values())
        seen["graded"] += net.input.kind == "graded"
        seen["fan-in"] += len(net.projections) > len(net.populations)
        for p in net.populations:
            seen["subtract"] += p.reset == "subtract"
            seen["v_init"] += bool(p.v_init.any())
            seen["each"] += p.v_th.ndim + p.du.ndim + p.dv.ndim + p.bias.ndim > 0
    rare = [name for name, count in seen.items() if count < 3]
    assert rare == (["subtract", "v_init"] if lava else [])


def test_autocast_leaves_the_integers_alone(random_net: Any) -> None:
    for seed in range(20):
        net, x = random_net(seed, lava=True)
        net = differentiable(net)
        with torch.autocast("cpu"):
            found = Twin(net).run(x)
        assert differing(reference.run(net, x), found) == 0, f"seed {seed}"


def test_logits_are_those_of_the_trace_over_their_unit(random_net: Any) -> None:
    for seed in range(20):
        net, x = random_net(seed, lava=False)
        for kind in ("count", "last_v"):
            name = net.populations[-1].name
            populations = (*net.populations[:-1], replace(net.populations[-1], scale=12.5))
            read = replace(
                net, populations=populations, readout=Readout(population=name, kind=kind)
            )
            twin = Twin(read)
            assert twin.logit_unit == (1 if kind == "count" else 12.5 * 64 * net.steps)
            pixels = torch.from_numpy(x).double() / net.input.scale
            wanted = reference.run(read, x).logits(read.readout)
            with torch.no_grad():
                found = twin(pixels) * twin.logit_unit
            assert found.numpy() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_a_static_image_is_a_train_of_itself(random_net: Any, seed: int) -> None:
    net, x = random_net(seed, lava=False)
    net = differentiable(net)
    twin = Twin(net)
    image = (torch.from_numpy(x[0]).float() / net.input.scale).requires_grad_()
    train = image.detach().expand(net.steps, *image.shape).clone().requires_grad_()
    once, again = twin(image), twin(train)
    assert torch.equal(once, again)
    weights = torch.arange(1.0, 1 + once.numel()).reshape(once.shape).to(once)
    (once * weights).sum().backward()
    (again * weights).sum().backward()
    assert image.grad is not None
    assert train.grad is not None
    torch.testing.assert_close(image.grad, train.grad.sum(0), rtol=1e-4, atol=1e-6)


def net_of(
    *synapses: Dense | Conv2d, readout: str = "count", source: Input | None = None, **p: Any
) -> FixedNet:
    """One population behind `synapses` from the input, four steps."""
    size = len(synapses[0].w)
    population = Population(**{"name": "p", "shape": (size,), "v_th": 10, **p})
    return FixedNet(
        input=source or Input(shape=(synapses[0].w.shape[1],)),
        populations=(population,),
        projections=tuple(Projection(source="input", target="p", synapse=s) for s in synapses),
        readout=Readout(population="p", kind=readout),
        steps=4,
    )


def test_sums_beyond_float32_stay_exact() -> None:
    """Each sum fits 24 bits, but not behind its exponent beside a small one; what is large cancels,
    so that the low bits decide."""
    rng = np.random.default_rng(1)
    w = rng.integers(0, 256, (5, 300))
    small = Dense(w=rng.integers(0, 8, (5, 300)), w_exp=-5)
    source = Input(shape=(300,), kind="graded", payload_bits=6, scale=63.0)
    net = net_of(Dense(w=w, w_exp=7), small, Dense(w=-w, w_exp=7), source=source, v_th=1050)
    x = rng.integers(0, 64, (4, 30, 300))
    assert reference.synapse_sum(net.projections[0].synapse, x).max() > 1 << 24
    wanted = reference.run(net, x)
    assert not any(wanted.wraps.values())
    assert 0.1 < wanted["p"].spikes.mean() < 0.9
    assert differing(wanted, Twin(net).run(x)) == 0


def test_sums_beyond_int32_wrap() -> None:
    rng = np.random.default_rng(2)
    source = Input(shape=(300,), kind="graded", payload_bits=24)
    dense = Dense(w=rng.integers(-256, 256, (5, 300)), w_exp=-3)
    net = net_of(dense, source=source)
    x = rng.integers(0, 1 << 24, (4, 30, 300))
    assert abs(x @ dense.w_chip.T).max() > 1 << 31
    assert differing(reference.run(net, x), Twin(net).run(x)) == 0


def test_a_convolution_wraps_exactly_just_below_24_bits() -> None:
    """Odd sums above 2**23: float32 holds them, but not with half the range of the wrap added."""
    source = Input(shape=(1, 1, 1), kind="graded", payload_bits=16)
    net = net_of(Conv2d(w=np.full((1, 1, 1, 1), 129)), source=source, shape=(1, 1, 1))
    x = np.arange(65500, 65536).reshape(4, -1, 1, 1, 1)
    wanted, found = reference.run(net, x), Twin(net).run(x, record=True)
    assert wanted.wraps["p"] == 36
    assert first_difference(wanted, found) is None


def test_large_convolutions_are_exact_without_onednn() -> None:
    """As where torch was built without it: NNPACK's Winograd gets some of these sums wrong."""
    rng = np.random.default_rng(3)
    conv = Conv2d(w=rng.integers(100, 256, (4, 512, 3, 3)), geometry=ConvGeometry(padding=(1, 1)))
    net = net_of(conv, source=Input(shape=(512, 8, 8)), shape=(4, 8, 8), v_th=131071)
    x = rng.integers(0, 2, (4, 8, 512, 8, 8))
    with torch.backends.mkldnn.flags(enabled=False):
        assert differing(reference.run(net, x), Twin(net).run(x)) == 0


def test_to_grid_rounds_clips_and_passes_the_gradient() -> None:
    source = Input(shape=(6,), kind="graded", payload_bits=4, scale=15.0)
    x = torch.tensor([-0.3, 0.0, 0.1, 0.49, 1.0, 1.7], requires_grad=True)
    grid = to_grid(x, source)
    assert grid.tolist() == [0, 0, 2, 7, 15, 15]
    grid.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [15.0] * 6


def test_runs_without_a_graph() -> None:
    net = net_of(Dense(w=[[20, 30], [6, -8]]))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    with torch.no_grad():
        logits = Twin(net)(x)
    assert not logits.requires_grad
    assert logits.tolist() == [[4, 2], [4, 0]]  # 6 + 6 passes 10, -8 never


def test_surrogate_and_reset_reach_the_gradient() -> None:
    net = net_of(Dense(w=[[20, 30], [7, -8]]))

    def gradient(**options: Any) -> Tensor:
        x = torch.tensor([[0.5, 1.0]], requires_grad=True)
        Twin(net, **options)(x).sum().backward()
        assert x.grad is not None
        return x.grad

    atan = {"surrogate": Surrogate("atan", 2.0)}
    assert gradient(**atan).abs().min() > 0
    assert not torch.equal(gradient(**atan), gradient())
    assert not torch.equal(gradient(**atan), gradient(**atan, detach_reset=False))


def test_refusals() -> None:
    net = net_of(Dense(w=[[20, 30], [7, -8]]))
    late = replace(net, readout=Readout(population="p", kind="first_spike"))
    with pytest.raises(
        ValueError,
        match=r"^the twin cannot differentiate a first_spike readout; use count, last_v or sum_v$",
    ):
        Twin(late)
    allowed = r"allowed are \[B, \*\(2,\)\] and \[T, B, \*\(2,\)\], none empty$"
    for shape in ((3, 5), (0, 2), (0, 3, 2)):
        given = re.escape(str(shape))
        with pytest.raises(ValueError, match=rf"^twin input has shape {given}; {allowed}"):
            Twin(net)(torch.zeros(shape))


def straight(x: Tensor, value: Tensor) -> Tensor:
    """`value` forward, `x` backward."""
    return x + (value - x).detach()


def plain_loop(
    a: Tensor, v_th: Tensor, bias: Tensor, n: Neurons, *, state: State | None = None
) -> Stretch:
    """The equations in float64 under torch's own differentiation, every rounding bypassed."""
    assert isinstance(n.surrogate, Surrogate)
    threshold = 64 * v_th
    u, v = state or (torch.zeros_like(a[0]), n.v_init.double().expand_as(a[0]))
    spikes, seen, v_sum = [], [], torch.zeros_like(v)
    for current in a:
        leaked_u, leaked_v = u * (4095 - n.du) / 4096, v * (4096 - n.dv) / 4096
        u = straight(leaked_u, leaked_u.trunc()) + 64 * current
        fired = straight(leaked_v, leaked_v.trunc()) + u + bias
        positive = torch.where(threshold > 0, threshold, torch.ones_like(threshold))
        d = torch.where(threshold > 0, fired / positive - 1, (fired - threshold) / n.unit)
        s = straight(d * n.surrogate(d).detach(), (fired > threshold).double())
        r, lowered = (s.detach(), threshold.detach()) if n.detach_reset else (s, threshold)
        v = fired * (1 - r) if n.reset == "zero" else fired - r * lowered
        v_sum = v_sum + v
        spikes.append(s)
        seen.append(fired)
    return Stretch(spikes=torch.stack(spikes), fired=torch.stack(seen), u=u, v=v, v_sum=v_sum)


def gradients(
    run: Callable[..., Stretch], neurons: Neurons, *, each: bool, zeros: bool = False,
    pieces: tuple[int, ...] = (9,),
) -> list[Tensor]:  # fmt: skip
    """Forward results of nine steps in `pieces`, each carrying the last one's state on, then
    gradients of one random loss of all of them wrt a, the first state, v_th, bias."""
    generator = torch.Generator().manual_seed(7)
    size = (4,) if each else ()

    def whole(low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).double().requires_grad_()

    a, v_th, bias = whole(-40, 60, (9, 3, 4)), whole(20, 60, size), whole(-500, 900, size)
    u, v = whole(-999, 999, (3, 4)), whole(-999, 999, (3, 4))
    if zeros:
        v_th = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    unit = torch.where(v_th.detach() > 0, v_th.detach() * 64, torch.tensor(2e3).double())
    life, state = [], (u, v)
    for piece in a.split(list(pieces)):
        life.append(run(piece, v_th, bias, replace(neurons, unit=unit), state=state))
        state = life[-1].u, life[-1].v
    results = [
        torch.cat([part.spikes for part in life]), torch.cat([part.fired for part in life]),
        *state, read(life, "sum_v"),
    ]  # fmt: skip
    loss = torch.zeros(()).double()
    for result in results:
        loss = loss + (result * torch.rand(result.shape, generator=generator).double()).sum()
    loss.backward()
    grads = [t.grad for t in (a, u, v, v_th, bias)]
    assert all(g is not None for g in grads)
    return [*(result.detach() for result in results), *(g for g in grads if g is not None)]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("name", ["triangle", "atan"])
def test_the_gradient_is_that_of_a_plain_loop(
    name: str, reset: str, detach: bool, each: bool, zeros: bool
) -> None:
    one = Neurons(
        du=torch.tensor([1000, 4095, 0, 2500] if each else 1700),
        dv=torch.tensor([500, 0, 4095, 2048] if each else 900),
        v_init=torch.tensor([300, -500, 0, 7000] if each else 250),
        unit=torch.tensor(1.0),
        reset=reset,
        surrogate=Surrogate(name, 1.5),
        detach_reset=detach,
    )
    wanted = gradients(plain_loop, one, each=each, zeros=zeros)
    assert 0.1 < wanted[0].mean() < 0.9
    assert all(g.abs().max() > 0 for g in wanted)
    for pieces in ((9,), (4, 1, 4)):
        found = gradients(integrate, one, each=each, zeros=zeros, pieces=pieces)
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_the_window_is_relative_to_the_threshold() -> None:
    """The vector of TrSG (arXiv 2511.08708) with amplitude A = V_th s, V_th = 0.8 as 80."""
    a = torch.tensor([-20.0, 39, 41, 79, 80, 81, 119, 121, 200]).reshape(1, 1, 9).requires_grad_()
    v_th = torch.tensor(80.0, requires_grad=True)
    neurons = Neurons(
        du=torch.tensor(4095), dv=torch.tensor(4095), v_init=torch.tensor(0),
        unit=torch.tensor(80.0 * 64), surrogate=Surrogate("rectangle", 1.0),
    )  # fmt: skip

    def amplitude(threshold: Tensor) -> Tensor:
        return threshold * integrate(a, threshold, torch.tensor(0.0), neurons).spikes

    assert amplitude(v_th).tolist() == [[[0, 0, 0, 0, 0, 80, 80, 80, 80]]]
    amplitude(v_th).sum().backward()
    assert a.grad is not None
    assert a.grad.flatten().tolist() == pytest.approx([0, 0, 1, 1, 1, 1, 1, 0, 0])
    alone = [
        torch.autograd.grad(amplitude(v_th)[0, 0, i], v_th)[0].item() for i in range(a.numel())
    ]
    wanted = [0, 0, -0.5125, -0.9875, -1, -0.0125, -0.4875, 1, 1]
    assert alone == pytest.approx(wanted, abs=1e-6)
