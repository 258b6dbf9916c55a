"""Networks: what is refused and with which words, frozen arrays, identity."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeport.sim.chip import LOIHI_1, LOIHI_2
from spikeport.sim.net import (
    FixedNet,
    FloatNet,
    FloatPopulation,
    FloatProjection,
    Input,
    Population,
    Projection,
    Readout,
)
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, FloatDense, SumPool2d

ONES = np.ones((3, 4))


def net(**changed: Any) -> FixedNet:
    """input 4 -> a (3) -> b (2), with a direct projection input -> b that is one step longer."""
    parts: dict[str, Any] = {
        "input": Input(shape=(4,), kind="graded", payload_bits=3, scale=7.0),
        "populations": (
            Population(name="a", shape=(3,), v_th=5, du=[1, 2, 3], dv=7, bias=2, bias_exp=1),
            Population(name="b", shape=(2,), v_th=[6, 7], v_init=3, reset="subtract", scale=2.0),
        ),
        "projections": (
            Projection(source="input", target="a", synapse=Dense(w=ONES, w_exp=2)),
            Projection(source="a", target="b", synapse=Dense(w=[[1, 2, 3], [4, 5, 6]])),
            Projection(source="input", target="b", synapse=Dense(w=np.ones((2, 4)))),
        ),
        "readout": Readout(population="b", kind="first_spike"),
        "steps": 5,
    }
    return FixedNet(**parts | changed)


def population(**changed: Any) -> Population:
    parts: dict[str, Any] = {"name": "a", "shape": (3,), "v_th": 5}
    return Population(**parts | changed)


def first(projections: tuple[Projection, ...], **changed: Any) -> tuple[Projection, ...]:
    return (replace(projections[0], **changed), *projections[1:])


P, J = net().populations, net().projections

REFUSED: list[tuple[Callable[[], Any], str]] = [
    # numbers and ranges
    (lambda: population(v_th=131072), "population 'a': v_th is 131072; allowed are 0..131071"),
    (lambda: population(v_th=-1), "population 'a': v_th is -1; allowed are 0..131071"),
    (lambda: population(du=4096), "population 'a': du is 4096; allowed are 0..4095"),
    (lambda: population(dv=[0, -2, 1]), "population 'a': dv is -2; allowed are 0..4095"),
    (lambda: population(bias=4096), "population 'a': bias is 4096; allowed are -4096..4095"),
    (lambda: population(bias_exp=8), "population 'a': bias_exp is 8; allowed are 0..7"),
    (
        lambda: population(v_init=-(1 << 23)),
        "population 'a': v_init is -8388608; allowed are -8388607..8388607",
    ),
    (
        lambda: population(v_th=0.5),
        "population 'a': v_th must hold integers, but some entries are fractions or NaN",
    ),
    (
        lambda: population(bias=np.nan),
        "population 'a': bias must hold integers, but some entries are fractions or NaN",
    ),
    (lambda: population(v_th="x"), "population 'a': v_th has type <U1; it must hold integers"),
    (
        lambda: population(du=[1, 2]),
        "population 'a': du has shape (2,); allowed are () and (3,)",
    ),
    (
        lambda: population(shape=(3, 1)),
        "population 'a' has shape (3, 1); allowed are (n,) and (C, H, W), all positive",
    ),
    (
        lambda: population(reset="soft"),
        "population 'a': reset is 'soft'; allowed are 'zero', 'subtract'",
    ),
    (lambda: population(scale=0), "population 'a': scale is 0; it must be a positive number"),
    (lambda: population(bias_exp=1.5), "population 'a': bias_exp is 1.5; it must be a whole "
     "number"),
    # input and readout
    (lambda: Input(shape=()), "input has shape (); allowed are (n,) and (C, H, W), all positive"),
    (lambda: Input(shape=(2,), kind="rate"), "input kind is 'rate'; allowed are 'spike', 'graded'"),
    (
        lambda: Input(shape=(2,), payload_bits=2),
        "spike input payload_bits is 2; allowed are 1..1",
    ),
    (
        lambda: Input(shape=(2,), kind="graded", payload_bits=25),
        "graded input payload_bits is 25; allowed are 1..24",
    ),
    (
        lambda: Input(shape=(2,), scale=float("inf")),
        "input scale is inf; it must be a positive number",
    ),
    (
        lambda: Readout(population="a", kind="max"),
        "readout kind is 'max'; allowed are 'count', 'last_v', 'sum_v', 'first_spike'",
    ),
    # synapses
    (lambda: Dense(w=[[256]]), "dense weight is 256; allowed are -256..255"),
    (lambda: Dense(w=[1]), "dense weight has shape (1,); 2 dimensions, none empty, are needed"),
    (lambda: Dense(w=[[1]], w_exp=-9), "dense w_exp is -9; allowed are -8..7"),
    (lambda: Conv2d(w=np.full((1, 1, 1, 1), -257)), "conv weight is -257; allowed are -256..255"),
    (
        lambda: ConvGeometry(stride=0),  # type: ignore[arg-type]
        "convolution stride is 0; allowed are one or two whole numbers from 1",
    ),
    (
        lambda: SumPool2d(kernel=(2, 0), stride=(1, 1)),
        "pool kernel is (2, 0); allowed are one or two whole numbers from 1",
    ),
    (
        lambda: Projection(source="a", target="b", synapse=Dense(w=[[1]]), delay=1.5),  # type: ignore[arg-type]
        "projection 'a' -> 'b': delay is 1.5; it must be a whole number",
    ),
    # topology
    (lambda: net(steps=0), "network steps is 0; allowed are 1..1048576"),
    (
        lambda: net(readout=Readout(population="c")),
        "readout names 'c', which is no population",
    ),
    (
        lambda: net(populations=(P[0], replace(P[1], name="a"))),
        "two parts of the network are called 'a'; rename one",
    ),
    (
        lambda: net(populations=(P[0], replace(P[1], bias=0, v_init=0)), projections=J[:1]),
        "population 'b' has no incoming projection, bias or v_init; connect or drop it",
    ),
    (
        lambda: net(populations=P[::-1]),
        "projection 'a' -> 'b': 'a' is not listed before 'b', so its spikes of the same step"
        " are not known yet; list it earlier, or give the projection that closes a loop a delay of"
        " at least 1",
    ),
    (
        lambda: net(projections=(*J, replace(J[1], source="d"))),
        "projection 'd' -> 'b': there is no population 'd'; name one that exists",
    ),
    (
        lambda: net(projections=(*J, replace(J[2], delay=64))),
        "projection 'input' -> 'b' would need a delay of 65 chip steps, 62 are the most; shorten it"
        " or the path beside it",
    ),
    (
        lambda: net(
            projections=(
                *J,
                Projection(source="b", target="a", synapse=Dense(w=np.ones((3, 2))), delay=1),
            )
        ),
        "the loop a -> b -> a has 2 synapses, each of which costs a chip step, but its delays make"
        " 1 only; add 1 to the delay of one of them and retrain",
    ),
    (
        lambda: net(projections=first(J, synapse=Dense(w=np.ones((2, 4))))),
        "projection 'input' -> 'a' delivers (2,), but the population has shape (3,)",
    ),
    (
        lambda: net(projections=first(J, synapse=Dense(w=np.ones((3, 5))))),
        "dense weights (3, 5) need 5 inputs, got (4,)",
    ),
    (
        lambda: net(projections=first(J, synapse=Conv2d(w=np.ones((3, 1, 1, 1))))),
        "convolution weights (3, 1, 1, 1) with groups=1 need a source of shape (1, H, W), got (4,)",
    ),
    (
        lambda: net(projections=(*J, replace(J[0], target="c"))),
        "projections lead to ['c'], which are no populations",
    ),
    # floats
    (
        lambda: FloatProjection(source="a", target="b", synapse=FloatDense(w=[[1]]), delay=-1),
        "projection 'a' -> 'b': delay is -1; allowed are 0..1048576",
    ),
    (
        lambda: FloatDense(w=[[np.inf]]),
        "dense weight holds NaN or infinity; retrain or repair it before export",
    ),
    (
        lambda: FloatPopulation(name="f", shape=(2,), v_th=-0.5),
        "population 'f': v_th is -0.5; thresholds must not be negative",
    ),
    (
        lambda: FloatPopulation(name="f", shape=(2,), v_th=1, keep_v=[0.5, 1.5]),
        "population 'f': keep_v must lie in [0, 1], got 0.5..1.5",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("build", "sentence"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused(build: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        build()


def test_kernel_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^kernel \(3, 3\) does not fit a map of \(2, 2\) with "):
        Conv2d(w=np.ones((1, 1, 3, 3))).output_shape((1, 2, 2))


def test_arrays_are_copied_and_read_only() -> None:
    w, v_th = np.ones((3, 4), np.int16), np.array([5, 6, 7], np.int32)
    dense, layer = Dense(w=w), population(v_th=v_th)
    w[:], v_th[:] = 9, 9
    assert (dense.w.max(), layer.v_th.tolist()) == (1, [5, 6, 7])
    for array in (dense.w, layer.v_th, layer.du, FloatDense(w=[[0.5]]).w):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        dense.w_exp = 3  # type: ignore[misc]


CHANGES: dict[str, Callable[[], FixedNet]] = {
    "steps": lambda: net(steps=6),
    "chip": lambda: net(chip=LOIHI_1),
    "readout kind": lambda: net(readout=Readout(population="b")),
    "readout population": lambda: net(readout=Readout(population="a", kind="first_spike")),
    **{
        f"input {k}": lambda k=k, v=v: net(input=replace(net().input, **{k: v}))  # type: ignore[misc]
        for k, v in {"payload_bits": 4, "scale": 8.0}.items()
    },
    **{
        f"population {k}": lambda k=k, v=v: net(populations=(replace(P[0], **{k: v}), P[1]))  # type: ignore[misc]
        for k, v in {
            "v_th": 6, "du": [1, 2, 4], "dv": 8, "bias": 3, "bias_exp": 2, "v_init": 1,
            "reset": "subtract", "scale": 3.0,
        }.items()
    },
    "weight": lambda: net(projections=first(J, synapse=Dense(w=2 * ONES, w_exp=2))),
    "w_exp": lambda: net(projections=first(J, synapse=Dense(w=ONES, w_exp=3))),
    "scalar spelled out": lambda: net(populations=(replace(P[0], dv=[7, 7, 7]), P[1])),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_digest(change: str) -> None:
    other = CHANGES[change]()
    assert other.digest() != net().digest()
    assert other != net()


def test_equal_nets_are_equal() -> None:
    other = net(provenance={"from": "elsewhere"})
    assert other == net()
    assert hash(other) == hash(net())
    assert net() != "net"


def test_where_a_chips_limits_are_cited_takes_no_part_in_the_identity() -> None:
    other = net(chip=replace(LOIHI_2, sources={"name": "elsewhere"}))
    assert other == net()
    assert replace(LOIHI_2, cores=3) != LOIHI_2
    assert net(chip=replace(LOIHI_2, cores=3)) != net()


def test_numbers_of_numpy_and_of_python_make_the_same_net() -> None:
    scale: Any = np.float64(7)
    bits: Any = np.int64(3)
    shown = Input(shape=(4,), kind="graded", payload_bits=bits, scale=scale)
    populations = (P[0], replace(P[1], scale=scale - 5))
    other = net(input=shown, populations=populations, steps=bits + 2)
    assert other == net()
    assert (type(other.input.scale), type(other.populations[1].scale)) == (float, float)
    assert (type(other.input.payload_bits), type(other.steps)) == (int, int)
    whole = FloatPopulation(name="a", shape=(2,), v_th=1, scale=3)
    assert type(whole.scale) is float
    assert FloatPopulation(name="a", shape=(2,), v_th=1).scale is None


def test_lookup() -> None:
    one = net()
    assert one.depths == {"input": 0, "a": 1, "b": 2}
    assert [p.source for p in one.incoming("b")] == ["a", "input"]
    assert (one.shape_of("input"), one.shape_of("b")) == ((4,), (2,))
    assert one.population("a").bias_shifted == 4


def test_float_net_is_no_fixed_net() -> None:
    floating = FloatNet(
        input=Input(shape=(1,)),
        populations=(FloatPopulation(name="a", shape=(1,), v_th=1.0, keep_u=0.5),),
        projections=(FloatProjection(source="input", target="a", synapse=FloatDense(w=[[0.5]])),),
        readout=Readout(population="a"),
        steps=2,
    )
    assert floating == replace(floating)
    assert floating != net()
    with pytest.raises(ValueError, match=r"^dense weight must hold integers, but some entries"):
        Dense(w=floating.projections[0].synapse.w)
