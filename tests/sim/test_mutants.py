"""Goldens recorded from Lava, and wrong semantics that at least one of them must catch.

A mutant replaces one function of `sim`; everything else runs as it is. A new branch in the
simulator needs a new mutant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.sim import arith, engine, lif, net, reference, synapse
from spikeport.sim.trace import PopulationTrace, Trace, first_difference

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.npz"))


@pytest.fixture(scope="module")
def cases(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(GOLDEN / "golden_nets.py")


def recorded(name: str) -> tuple[dict[str, str], NDArray[Any], Trace]:
    """Header, input and trace of a golden file."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        names = dict.fromkeys(key.split(".")[0] for key in arrays if "." in key)
        trace = Trace(
            populations={
                p: PopulationTrace(
                    spikes=arrays[f"{p}.spikes"],
                    u=arrays[f"{p}.u"],
                    v=arrays[f"{p}.v"],
                    v_last=arrays[f"{p}.v"][-1],
                )
                for p in names
            }
        )
        return json.loads(str(arrays["header"])), arrays["x"], trace


def test_every_case_is_recorded(cases: ModuleType) -> None:
    assert sorted(cases.CASES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_golden_belongs_to_its_network(cases: ModuleType, name: str) -> None:
    header, x, trace = recorded(name)
    why, fixed, again = cases.golden(name)
    assert (x == again).all()
    assert header["digest"] == cases.fingerprint(fixed, x)
    assert (header["why"], header["lava"]) == (why, "0.10.0")
    assert trace.spike_total() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", [reference.run, engine.run], ids=["reference", "engine"])
def test_equals_lava(cases: ModuleType, run: Callable[..., Trace], name: str) -> None:
    _, x, lava = recorded(name)
    settings = {"record": True} if run is engine.run else {}
    trace = run(cases.golden(name)[1], x, **settings)
    assert first_difference(trace, lava) is None


# Mutants: (name of the function that is replaced, where it lives, the wrong one, who must see it)


def floor_shift(x: Any, keep: Any) -> Any:
    return (x * keep) >> 12


def no_hidden_one(x: Any, keep: Any) -> Any:
    return arith.shift_to_zero(x, keep + (np.asarray(keep) < 4096))


def rounded_shift(x: Any, keep: Any) -> Any:
    return (x * keep + 2048) >> 12


def same(x: Any) -> Any:
    return x


def symmetric_wrap(x: Any) -> Any:
    return ((x + arith.U_LIMIT) & (2 * arith.U_LIMIT - 1)) - arith.U_LIMIT


def clipped_u(x: Any) -> Any:
    return np.clip(x, -arith.U_LIMIT, arith.U_LIMIT)


def twice_wrapped(x: Any) -> Any:
    return arith.wrap_u(arith.wrap_u(x))


def clip_one_further(x: Any) -> Any:
    return np.clip(x, -arith.U_LIMIT, arith.V_LIMIT)


def odd_weights_kept(w: Any) -> Any:
    return np.asarray(w, np.int64)


def odd_weights_lost_by_all(w: Any) -> Any:
    return (np.asarray(w, np.int64) >> 1) << 1


def odd_weights_toward_zero(w: Any) -> Any:
    exact = arith.weight_on_chip(w)
    mixed = np.min(w) < 0 < np.max(w)
    return exact + 2 * ((exact < 0) & (np.asarray(w) % 2 == 1)) if mixed else exact


def exponent_toward_zero(total: Any, w_exp: int) -> Any:
    return arith.shift_sum(abs(total), w_exp) * np.sign(total)


def exponent_on_weights(part: synapse.Synapse, s: Any) -> Any:
    if isinstance(part, synapse.Dense):
        w = part.w_chip << part.w_exp if part.w_exp >= 0 else part.w_chip >> -part.w_exp
        return arith.wrap_int32(s.reshape(*s.shape[:2], -1) @ w.T)
    return SYNAPSE_SUM(part, s)


def flattened_last_axis_first(part: synapse.Synapse, s: Any) -> Any:
    turned = s.transpose(0, 1, 4, 3, 2) if s.ndim == 5 and isinstance(part, synapse.Dense) else s
    return SYNAPSE_SUM(part, turned)


def payloads_counted(part: synapse.Synapse, s: Any) -> Any:
    return SYNAPSE_SUM(part, np.minimum(s, 1))


def one_step_late(part: synapse.Synapse, s: Any) -> Any:
    a = SYNAPSE_SUM(part, s)
    return np.concatenate([np.zeros_like(a[:1]), a[:-1]])


def kernel_flipped(conv: synapse.Conv2d, s: Any) -> Any:
    return CONV_SUM(replace(conv, w=conv.w[:, :, ::-1, ::-1]), s)


def _delays(changed: Callable[[int], int]) -> Callable[..., Any]:
    """The incoming projections with other delays."""

    def mutant(self: Any, name: str) -> Any:
        return tuple(replace(p, delay=changed(p.delay)) for p in INCOMING(self, name))

    return mutant


def loops_open(self: Any, name: str) -> Any:
    return tuple(p for p in INCOMING(self, name) if p.source != name)


def _tick_with(**wrong: Any) -> Callable[..., Any]:
    """The tick with parameters or its comparison changed."""

    def mutant(u: Any, v: Any, a: Any, p: Any) -> Any:
        return TICK(u, v, a, replace(p, **{k: f(getattr(p, k)) for k, f in wrong.items()}))

    return mutant


def fires_at_threshold(u: Any, v: Any, a: Any, p: Any) -> Any:
    new = TICK(u, v, a, p)
    s = new.v_fired >= p.v_th << 6
    return replace(new, s=s, v=new.v_fired * (s == 0))


def spike_keeps_v(u: Any, v: Any, a: Any, p: Any) -> Any:
    new = TICK(u, v, a, p)
    return replace(new, v=new.v_fired)


def spike_clears_u(u: Any, v: Any, a: Any, p: Any) -> Any:
    new = TICK(u, v, a, p)
    return replace(new, u=new.u * (new.s == 0))


def threshold_not_shifted(u: Any, v: Any, a: Any, p: Any) -> Any:
    new = TICK(u, v, a, p)
    s = new.v_fired > p.v_th
    return replace(new, s=s, v=new.v_fired * (s == 0))


def input_not_shifted(u: Any, v: Any, a: Any, p: Any) -> Any:
    return TICK(u, v, a >> 6, p)


TICK, SYNAPSE_SUM, CONV_SUM = lif.tick, reference.synapse_sum, reference.conv_sum
INCOMING = net.FixedNet.incoming

MUTANTS: dict[str, tuple[ModuleType, str, Any, str]] = {
    "floor for truncation": (lif, "shift_to_zero", floor_shift, "small_states"),
    "rounding for truncation": (lif, "shift_to_zero", rounded_shift, "small_states"),
    "du without the hidden one": (lif, "DU_OFFSET", 0, "typical"),
    "hidden one on dv too": (lif, "tick", _tick_with(dv=lambda dv: dv + 1), "typical"),
    "u not wrapped": (lif, "wrap_u", same, "one_wrap"),
    "u wrapped symmetrically": (lif, "wrap_u", symmetric_wrap, "wrap_edge"),
    "u clipped": (lif, "wrap_u", clipped_u, "one_wrap"),
    "u wrapped until it fits": (lif, "wrap_u", twice_wrapped, "far_wrap"),
    "u wider than 32 bits": (lif, "wrap_int32", same, "far_wrap"),
    "v not clipped": (lif, "saturate_v", same, "inhibited"),
    "v clipped one lower": (lif, "saturate_v", clip_one_further, "inhibited"),
    ">= for >": (lif, "tick", fires_at_threshold, "on_threshold"),
    "reset by subtraction": (lif, "tick", _tick_with(reset=lambda _: "subtract"), "typical"),
    "no reset": (lif, "tick", spike_keeps_v, "typical"),
    "reset clears u": (lif, "tick", spike_clears_u, "typical"),
    "threshold not shifted": (lif, "tick", threshold_not_shifted, "typical"),
    "input not shifted": (lif, "tick", input_not_shifted, "typical"),
    "bias shifted by 6": (lif, "tick", _tick_with(bias=lambda b: b << 6), "typical"),
    "bias_exp forgotten": (net, "Population.bias_shifted", property(lambda p: p.bias), "typical"),
    "odd mixed weights kept": (synapse, "weight_on_chip", odd_weights_kept, "odd_weights"),
    "odd weights of one sign lost": (
        synapse, "weight_on_chip", odd_weights_lost_by_all, "odd_weights",
    ),
    "odd weights toward zero": (synapse, "weight_on_chip", odd_weights_toward_zero, "odd_weights"),
    "exponent on the weights": (reference, "synapse_sum", exponent_on_weights, "exponents"),
    "exponent toward zero": (reference, "shift_sum", exponent_toward_zero, "exponents"),
    "convolution flipped": (reference, "conv_sum", kernel_flipped, "conv_flatten"),
    "convolution not wrapped": (reference, "wrap_int24", same, "conv_wrap"),
    "wrong flatten order": (reference, "synapse_sum", flattened_last_axis_first, "conv_flatten"),
    "payloads counted": (reference, "synapse_sum", payloads_counted, "graded"),
    "one step late": (reference, "synapse_sum", one_step_late, "typical"),
    "delays one longer": (net, "FixedNet.incoming", _delays(lambda d: d + (d > 0)), "loops"),
    "delays one shorter": (net, "FixedNet.incoming", _delays(lambda d: max(d - 1, 0)), "loops"),
    "every delay is one": (net, "FixedNet.incoming", _delays(lambda d: min(d, 1)), "loops"),
    "no population feeds itself": (net, "FixedNet.incoming", loops_open, "loops"),
}  # fmt: skip


def caught_by(cases: ModuleType) -> set[str]:
    """Names of the goldens that the reference, as it stands now, does not reproduce."""
    differing = set()
    for name in NAMES:
        _, x, lava = recorded(name)
        _, fixed, _ = cases.golden(name)
        if first_difference(reference.run(fixed, x), lava) is not None:
            differing.add(name)
    return differing


def plant(monkeypatch: pytest.MonkeyPatch, mutant: str) -> str:
    """Replace the function; returns the name of the golden that must notice."""
    module, name, wrong, witness = MUTANTS[mutant]
    owner, _, attribute = name.rpartition(".")
    monkeypatch.setattr(getattr(module, owner) if owner else module, attribute, wrong)
    if name == "tick":  # the reference holds its own name for it
        monkeypatch.setattr(reference, "tick", wrong)
    return witness


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(cases: ModuleType, monkeypatch: pytest.MonkeyPatch, mutant: str) -> None:
    witness = plant(monkeypatch, mutant)
    assert witness in caught_by(cases)


def test_without_a_mutant_nothing_is_caught(cases: ModuleType) -> None:
    assert caught_by(cases) == set()


@pytest.mark.parametrize("mutant", [">= for >", "u wrapped symmetrically", "v not clipped"])
def test_typical_traces_miss_the_edges(
    cases: ModuleType, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """The reason why the edge cases exist."""
    plant(monkeypatch, mutant)
    assert "typical" not in caught_by(cases)
