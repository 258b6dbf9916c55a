"""Wrong handling of delays, loops and sums, planted in the text of the engine and the twin.

Each mutant must differ from the reference on one of a few networks; without a mutant none may. What
the twin's passes do wrong is in `test_twin_mutants.py`, population by population.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spikeport.sim import reference
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import first_difference
from spikeport.sim.twin import Twin

Planted = Callable[..., ModuleType]
Case = tuple[FixedNet, NDArray[np.int64]]
ENGINE = (
    "sim.events_kernel", "sim.events", "sim.product_torch", "sim.product", "sim.neurons",
    "sim.engine",
)  # fmt: skip
TWIN = (
    "sim.twin_kernel", "sim.twin_adjoint", "sim.twin_stretch", "sim.twin_segments",
    "sim.twin_base", "sim.twin_lif", "sim.twin",
)  # fmt: skip
STEPPED = ('return a.device.type == "cpu" and', "return False and")

# What is wrong: (text, wrong text).
ENGINE_MUTANTS = {
    "a loop hears one step late": (
        "if t >= p.delay:\n"
        "                        s = values[p.source][t - p.delay : t - p.delay + 1]",
        "if t > p.delay:\n"
        "                        s = values[p.source][t - p.delay - 1 : t - p.delay]",
    ),
    "a loop does not hear its first step": ("if t >= p.delay:", "if t > p.delay:"),
    "a loop reads the same step": (
        "s = values[p.source][t - p.delay : t - p.delay + 1]",
        "s = values[p.source][t : t + 1]",
    ),
    "a loop runs all at once": ("loop=is_loop(net, names)", "loop=len(names) > 1"),
    "nothing comes from outside a loop": (
        "totals = {layer.name: layer.total(values) for",
        "totals = {layer.name: 0 * layer.total(values) for",
    ),
    "delay forgotten": (
        "total[p.delay :] += p.delivered(values[p.source][: steps - p.delay])",
        "total += p.delivered(values[p.source])",
    ),
    "delay of the only projection forgotten": ("only.plain and not only.delay", "only.plain"),
    "delay one less": (
        "total[p.delay :] += p.delivered(values[p.source][: steps - p.delay])",
        "late = max(p.delay - 1, 0)\n"
        "                total[late:] += p.delivered(values[p.source][: steps - late])",
    ),
    "u not carried": ("u[:] = u_last[row]", "u[:] = 0"),
    "v not carried": ("v[:] = v_last[row]", "v[:] = v_init"),
    "wraps of one step only": ("counts[first + b, 0] += wraps", "counts[first + b, 0] = wraps"),
    "clips of one step only": ("counts[first + b, 1] += clips", "counts[first + b, 1] = clips"),
    "the sum misses the last step": (
        "if v_sum.size:\n                v_sum[first + b] += v",
        "if v_sum.size and t + 1 < len(a):\n                v_sum[first + b] += v",
    ),
    "the sum is of one step": ("v_sum[first + b] += v", "v_sum[first + b] = v"),
}  # fmt: skip
TWIN_MUTANTS = {
    "a loop does not hear its first step": (
        "t + known[p.source] >= p.delay", "t + known[p.source] > p.delay",
    ),
    "a loop hears one step late": (
        "[t + known[p.source] - p.delay]", "[max(t + known[p.source] - p.delay - 1, 0)]",
    ),
    "a loop runs all at once": ("= loop or every_step", "= len(names) > 1 or every_step"),
    "state not carried": ("(life[-1].u, life[-1].v) if life else passage.state(name)", "None"),
    "u not carried": ("(life[-1].u, life[-1].v)", "(0 * life[-1].u, life[-1].v)"),
    "delay forgotten": ("        if not delay:\n            return a", "        return a"),
    "what comes late comes early": (
        "cat([before, a.expand(steps, *a.shape[1:])])",
        "cat([a.expand(steps, *a.shape[1:]), before])",
    ),
    "the sum misses the last stretch": (
        'part.v_sum for part in life', 'part.v_sum for part in life[: max(len(life) - 1, 1)]',
    ),
    "the last potential is the first": ("return life[-1].v", "return life[0].v"),
    "the sum is of v before the reset": (
        "fired[t, b, part])\n                add(v[:size]",
        "fired[t, b, part])\n                add(y[:size]",
    ),
    "wraps not counted": ("counts[0] += wraps", "counts[0] += 0"),
    "clips not counted": ("counts[1] += clips", "counts[1] += 0"),
}  # fmt: skip
STEPPED_TWIN_MUTANTS = {
    "the sum is of v before the reset": ("v_sum += v\n", "v_sum += new.v_fired\n"),
    "wraps not counted": ("wraps += new.wrapped", "wraps += 0"),
    "clips not counted": ("clips += new.clipped", "clips += 0"),
}
GRADIENT_MUTANTS = {
    "no gradient through u": ("(g.u if ctx.needs_input_grad[1] else None,", "(None,"),
    "no gradient through v": ("g.v if ctx.needs_input_grad[2] else None)", "None)"),
    "no gradient of the sum": ("gv[j] += g_v_sum[b, low + j]", "gv[j] += zero"),
    "u decays once too often": ("g_u[j] += g[j]\n", "g_u[j] = g[j] + keep_u[j] * g_u[j]\n"),
    "loops are cut": (
        "[t + known[p.source] - p.delay]",
        "[t + known[p.source] - p.delay].detach()",
    ),
}
STEPPED_GRADIENT_MUTANTS = {
    "no gradient of the sum": ("g_v = g_v + g_sum", "g_v = g_v"),
    "u decays once too often": ("g_u = g_fired + g_u\n", "g_u = g_fired + p.keep_u * g_u\n"),
}


def chain() -> Case:
    """One late projection each, read as a sum: what engines treat as their plainest case."""
    rng = np.random.default_rng(2)
    names, sizes = ("input", "a", "b"), (4, 6, 3)
    net = FixedNet(
        input=Input(shape=(4,)),
        populations=tuple(
            Population(name=name, shape=(n,), v_th=70, dv=500)
            for name, n in zip(names[1:], sizes[1:], strict=True)
        ),
        projections=tuple(
            Projection(
                source=names[i], target=names[i + 1], delay=i + 1,
                synapse=Dense(w=rng.integers(-50, 90, (sizes[i + 1], sizes[i]))),
            )
            for i in range(2)
        ),
        readout=Readout(population="b", kind="sum_v"),
        steps=8,
    )  # fmt: skip
    return net, rng.integers(0, 2, (8, 3, 4))


def overflowing() -> Case:
    """A loop whose u wraps and whose v is clipped in several steps."""
    loop = Dense(w=[[255, 200], [-255, -256]], w_exp=7)
    net = FixedNet(
        input=Input(shape=(2,)),
        populations=(Population(name="a", shape=(2,), v_th=300, du=20, dv=5),),
        projections=(
            Projection(source="input", target="a", synapse=Dense(w=[[255, 9], [7, 255]], w_exp=3)),
            Projection(source="a", target="a", synapse=loop, delay=1),
        ),
        readout=Readout(population="a", kind="last_v"),
        steps=9,
    )
    x = np.zeros((9, 1, 2), np.int64)
    x[:6] = 1
    return net, x


@pytest.fixture(scope="module")
def cases(load_file: Callable[[Path], ModuleType]) -> list[Case]:
    return [
        load_file(Path(__file__).with_name("test_loops.py")).two_loops(),
        chain(),
        overflowing(),
    ]


def results(net: FixedNet, x: Any, runs: list[Any]) -> Iterator[bool]:
    """For each trace of `runs` whether it agrees with the reference."""
    wanted = reference.run(net, x)
    for found in runs:
        yield (
            first_difference(wanted, found) is None
            and np.array_equal(wanted.logits(net.readout), found.logits(net.readout))
            and (dict(wanted.wraps), dict(wanted.clips)) == (dict(found.wraps), dict(found.clips))
        )


def engine_agrees(module: ModuleType, cases: list[Case]) -> bool:
    with np.errstate(all="ignore"):  # numbers of one entry warn where they wrap
        return all(
            all(results(net, x, [module.run(net, x), module.run(net, x, record=True)]))
            for net, x in cases
        )


def twin_agrees(module: ModuleType, cases: list[Case]) -> bool:
    with np.errstate(all="ignore"):
        return all(
            all(results(net, x, [module.Twin(net).run(x), module.Twin(net).run(x, record=True)]))
            for net, x in cases
        )


def gradient(twin: Any, x: NDArray[np.int64]) -> torch.Tensor:
    spikes = torch.from_numpy(x).double().requires_grad_()
    with np.errstate(all="ignore"):
        logits = twin(spikes)
    (logits * torch.arange(1.0, 1 + logits.numel()).reshape(logits.shape)).sum().backward()
    assert spikes.grad is not None
    return spikes.grad


def test_cases_reach_what_mutants_change(cases: list[Case]) -> None:
    net, x = cases[-1]
    trace = reference.run(net, x)
    v = trace["a"].v
    assert v is not None
    assert trace.wraps["a"] > 1
    assert trace.clips["a"] > 1
    for net, x in cases:
        trace = reference.run(net, x)
        assert all(trace[p.name].spikes.any() for p in net.populations)


@pytest.mark.parametrize("way", [(), (STEPPED,)], ids=["compiled", "stepped"])
def test_without_a_mutant_all_agree(planted: Planted, cases: list[Case], way: Any) -> None:
    assert engine_agrees(planted(ENGINE), cases)
    module, (net, x) = planted(TWIN, *way), cases[0]
    assert twin_agrees(module, cases)
    torch.testing.assert_close(gradient(module.Twin(net), x), gradient(Twin(net), x))


@pytest.mark.parametrize("mutant", ENGINE_MUTANTS)
def test_engine_mutant_is_caught(planted: Planted, cases: list[Case], mutant: str) -> None:
    assert not engine_agrees(planted(ENGINE, ENGINE_MUTANTS[mutant]), cases)


@pytest.mark.parametrize("mutant", TWIN_MUTANTS)
def test_twin_mutant_is_caught(planted: Planted, cases: list[Case], mutant: str) -> None:
    assert not twin_agrees(planted(TWIN, TWIN_MUTANTS[mutant]), cases)


@pytest.mark.parametrize("mutant", STEPPED_TWIN_MUTANTS)
def test_stepped_twin_mutant_is_caught(planted: Planted, cases: list[Case], mutant: str) -> None:
    module = planted(TWIN, STEPPED, STEPPED_TWIN_MUTANTS[mutant])
    assert not twin_agrees(module, cases)


@pytest.mark.parametrize(
    "changes",
    [
        *((change,) for change in GRADIENT_MUTANTS.values()),
        *((STEPPED, change) for change in STEPPED_GRADIENT_MUTANTS.values()),
    ],
    ids=[*GRADIENT_MUTANTS, *(f"stepped: {name}" for name in STEPPED_GRADIENT_MUTANTS)],
)
def test_gradient_mutant_is_caught(
    planted: Planted, cases: list[Case], changes: tuple[tuple[str, str], ...]
) -> None:
    """Against the true twin, whose gradient `test_loop_gradients.py` holds to the equations."""
    net, x = cases[0]
    module = planted(TWIN, *changes)
    assert not torch.allclose(gradient(module.Twin(net), x), gradient(Twin(net), x))
