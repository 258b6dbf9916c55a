"""Loops, delays and source neurons: engine and twin against the reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spikeport.sim import engine, reference
from spikeport.sim.events import Rows
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, Synapse
from spikeport.sim.topology import blocks, is_loop
from spikeport.sim.trace import Trace, first_difference
from spikeport.sim.twin import Twin

RandomNet = Callable[..., tuple[FixedNet, NDArray[np.int64]]]


def assert_same(wanted: Trace, found: Trace, *, states: bool = True) -> None:
    difference = first_difference(wanted, found)
    assert difference is None, str(difference)
    assert (dict(wanted.wraps), dict(wanted.clips)) == (dict(found.wraps), dict(found.clips))
    for name, part in wanted.populations.items():
        for quantity in ("u", "v", "v_last", "v_sum") if states else ("v_last",):
            left, right = getattr(part, quantity), getattr(found[name], quantity)
            assert left.dtype == right.dtype, quantity
            assert np.array_equal(left, right), quantity


def differentiable(net: FixedNet) -> FixedNet:
    """`net` with a readout that a twin can differentiate."""
    if net.readout.kind != "first_spike":
        return net
    return replace(net, readout=Readout(population=net.readout.population, kind="sum_v"))


def features(net: FixedNet, x: NDArray[Any], trace: Trace) -> dict[str, bool]:
    """What this case covers."""
    names = [p.name for p in net.populations]
    found = blocks(net)
    return {
        "loop": any(is_loop(net, block) for block in found),
        "loop of several": any(len(block) > 1 for block in found),
        "loop fed by another's end": sum(is_loop(net, block) for block in found) > 1,
        "delay": any(p.delay for p in net.projections),
        "delay beyond the run": any(p.delay >= len(x) for p in net.projections),
        "source neuron": any(not net.incoming(name) for name in names),
        "wrap in a loop": any(
            trace.wraps[name] for block in found if is_loop(net, block) for name in block
        ),
        "clip in a loop": any(
            trace.clips[name] for block in found if is_loop(net, block) for name in block
        ),
    }


@pytest.mark.parametrize("lava", [True, False])
def test_random_nets(random_net: RandomNet, lava: bool) -> None:
    seen: dict[str, int] = {}
    for seed in range(60):
        net, x = random_net(seed, kind="recurrent" if seed % 3 else "delay", lava=lava)
        net = differentiable(net)
        wanted = reference.run(net, x)
        assert_same(wanted, engine.run(net, x, record=True))
        assert_same(wanted, engine.run(net, x), states=False)
        assert_same(wanted, Twin(net).run(x, record=True))
        for name, covered in features(net, x, wanted).items():
            seen[name] = seen.get(name, 0) + covered
    assert min(seen.values()) >= 2, seen


def two_loops(**settings: Any) -> tuple[FixedNet, NDArray[np.int64]]:
    """a <-> b over two steps, each also with itself; a late skip path; a source listed last."""
    rng = np.random.default_rng(3)

    def dense(n_out: int, n_in: int, **options: Any) -> Synapse:
        return Dense(w=rng.integers(-40, 61, (n_out, n_in)), **options)

    net = FixedNet(
        input=Input(shape=(6,), kind="graded", payload_bits=3),
        populations=(
            Population(name="a", shape=(5,), v_th=90, dv=700, du=2000, v_init=-9000),
            Population(name="b", shape=(4,), v_th=60, dv=300, reset="subtract"),
            Population(name="clock", shape=(1,), v_th=9, bias=200, v_init=100),
        ),
        projections=tuple(
            Projection(source=source, target=target, synapse=synapse, delay=delay)
            for source, target, synapse, delay in (
                ("input", "a", dense(5, 6), 0),
                ("a", "b", dense(4, 5), 0),
                ("b", "a", dense(5, 4, w_exp=-1), 2),
                ("a", "a", dense(5, 5), 1),
                ("b", "b", dense(4, 4), 3),
                ("input", "b", dense(4, 6, w_exp=-3), 2),
                ("clock", "b", dense(4, 1, w_exp=1), 4),
            )
        ),
        readout=Readout(population="b", kind="sum_v"),
        steps=9,
        **settings,
    )
    return net, rng.integers(0, 8, (9, 3, 6))


def test_plan_tells_what_is_stepped() -> None:
    net, _ = two_loops()
    stepped = {(step.source, step.target) for step in engine.plan(net) if step.stepped}
    assert stepped == {("a", "b"), ("b", "a"), ("a", "a"), ("b", "b")}
    assert [step.target for step in engine.plan(net)] == ["a"] * 3 + ["b"] * 4
    assert str(engine.plan(net)[2]) == (
        "a -> a: sums up to 140 in float32, step by step, neurons in int32"
    )


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_runs_shorter_than_a_delay(steps: int) -> None:
    net, x = two_loops()
    wanted = reference.run(net, x[:steps])
    assert_same(wanted, engine.run(net, x[:steps], record=True))
    assert_same(wanted, Twin(net).run(x[:steps], record=True))
    if steps == 9:
        assert all(0.1 < wanted[p.name].spikes.mean() < 0.9 for p in net.populations)


def test_portions_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = two_loops()
    whole = engine.run(net, x, record=True)
    monkeypatch.setattr(engine, "PORTION_BYTES", 1)
    assert_same(whole, engine.run(net, x, record=True))


def test_the_sum_of_potentials_is_kept_where_it_is_read() -> None:
    net, x = two_loops()
    wanted, found = reference.run(net, x), engine.run(net, x)
    assert found["b"].v is None
    assert found["a"].v_sum is None
    assert np.array_equal(found.logits(net.readout), np.asarray(wanted["b"].v, np.int64).sum(0))
    assert found["b"].v_sum is not None
    assert found["b"].v_sum.dtype == np.int64
    assert np.array_equal(Twin(net).run(x).logits(net.readout), wanted.logits(net.readout))


def test_sums_of_potentials_beyond_32_bits() -> None:
    steps = 600
    population = Population(name="p", shape=(2,), v_th=131071, bias=[4095, -4096], bias_exp=7)
    net = FixedNet(
        input=Input(shape=(1,)), populations=(population,), projections=(),
        readout=Readout(population="p", kind="sum_v"), steps=steps,
    )  # fmt: skip
    x = np.zeros((steps, 2, 1), np.int64)
    wanted = reference.run(net, x)
    sums = wanted["p"].v_sum
    assert sums is not None
    assert abs(sums[:, 1]).min() > 1 << 31
    for found in (engine.run(net, x), Twin(net).run(x)):
        assert np.array_equal(found.logits(net.readout), sums)
    logits = Twin(net)(torch.zeros(2, 1))
    assert logits.dtype == torch.float64
    assert (logits.numpy() * (64 * steps) == sums).all()


@pytest.mark.parametrize("run", [reference.run, engine.run, lambda n, x, **s: Twin(n).run(x, **s)])
def test_strict_refuses_overflow_in_a_loop(run: Callable[..., Trace]) -> None:
    """The input's neuron fires once; its loop then drives u beyond 24 bits in every step."""
    net = FixedNet(
        input=Input(shape=(2,)),
        populations=(
            Population(name="calm", shape=(1,), v_th=1),
            Population(name="a", shape=(2,), v_th=0, du=0),
        ),
        projections=(
            Projection(source="input", target="calm", synapse=Dense(w=[[1, 1]])),
            Projection(source="input", target="a", synapse=Dense(w=[[1, 0], [0, 1]])),
            Projection(
                source="a", target="a", synapse=Dense(w=[[255, 255], [255, 255]], w_exp=7), delay=1
            ),
        ),
        readout=Readout(population="a"),
        steps=9,
    )
    x = np.zeros((9, 1, 2), np.int64)
    x[0] = 1
    trace = run(net, x)
    wraps, clips = trace.wraps["a"], trace.clips["a"]
    assert wraps > 0
    assert (wraps, clips) == (reference.run(net, x).wraps["a"], reference.run(net, x).clips["a"])
    with pytest.raises(
        OverflowError,
        match=rf"^population 'a': u wrapped {wraps} times and v was clipped {clips} times; lower",
    ):
        run(net, x, strict=True)
    assert run(net, x[:1], strict=True).wraps == {"calm": 0, "a": 0}


def wide_loop(n: int, **dense: Any) -> tuple[FixedNet, NDArray[np.int64]]:
    """One population of `n` neurons that feeds itself, on a grid of one row."""
    rng = np.random.default_rng(4)
    synapse = Dense(w=rng.integers(-255, 256, (n, n)), **dense)
    net = FixedNet(
        input=Input(shape=(3,)),
        populations=(Population(name="a", shape=(1, 1, n), v_th=400, dv=100, du=3000),),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=rng.integers(0, 256, (n, 3)))),
            Projection(source="a", target="a", synapse=synapse, delay=1),
            Projection(
                source="a", target="a", delay=2,
                synapse=Conv2d(w=rng.integers(-255, 256, (1, 1, 1, 5)),
                               geometry=ConvGeometry(padding=(0, 2))),
            ),
        ),
        readout=Readout(population="a"),
        steps=8,
    )  # fmt: skip
    return net, rng.integers(0, 2, (8, 2, 3))


def test_sparse_loops_are_summed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = wide_loop(80)
    calls: list[int] = []
    exact = Rows.__call__

    def counted(rows: Rows, s: NDArray[Any]) -> NDArray[Any]:
        calls.append(len(s))
        return exact(rows, s)

    monkeypatch.setattr(Rows, "__call__", counted)
    wanted = reference.run(net, x)
    assert wanted["a"].spikes.any()
    assert_same(wanted, engine.run(net, x, record=True))
    assert 2 in calls  # both samples of one step


@pytest.mark.parametrize(("n", "w_exp", "dtype"), [(80, -2, "float32"), (2100, 7, "float64")])
def test_the_twin_of_a_loop_is_as_wide_as_its_sums_need(n: int, w_exp: int, dtype: str) -> None:
    net, x = wide_loop(n, w_exp=w_exp)
    twin = Twin(net)
    assert str(twin.get_buffer("w1").dtype) == f"torch.{dtype}"
    wanted = reference.run(net, x[:4])
    assert wanted["a"].spikes.any()
    assert_same(wanted, twin.run(x[:4], record=True))
    assert_same(wanted, engine.run(net, x[:4], record=True))


def test_a_static_image_arrives_late_too() -> None:
    """Its sums are made once, but the first steps behind a delay see none of them."""
    net, x = two_loops()
    twin = Twin(net)
    image = torch.from_numpy(x[0]).double()
    train = image.expand(9, *image.shape)
    assert torch.equal(twin(image), twin(train))
    wanted = reference.run(net, np.broadcast_to(x[0], x.shape)).logits(net.readout)
    assert (twin(image).detach().numpy() * twin.logit_unit).round() == pytest.approx(wanted)
    alone = replace(
        net,
        populations=(Population(name="b", shape=(4,), v_th=60),),
        projections=tuple(p for p in net.projections if (p.source, p.target) == ("input", "b")),
    )
    image = torch.full((1, 6), 7.0)
    silent = Twin(replace(alone, steps=2))(image)
    heard = Twin(replace(alone, steps=3))(image)
    assert silent.abs().max() == 0
    assert heard.abs().max() > 0
