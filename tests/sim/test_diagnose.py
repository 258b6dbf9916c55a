"""The first-divergence report finds planted faults, and says so in words and numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from spikeport.sim import effective, floating, reference
from spikeport.sim.divergence.diagnose import diagnose
from spikeport.sim.divergence.diagnosis import Diagnosis
from spikeport.sim.divergence.explain import explain
from spikeport.sim.divergence.forced import Rule, case_of, play
from spikeport.sim.net import FixedNet, FloatNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Dense
from spikeport.sim.trace import PopulationTrace, Trace

FIRST_SEED = 1000  # the guesses' costs were settled on other seeds
PLANTS = 20  # for each class of cause


@pytest.fixture(scope="module")
def planted(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(Path(__file__).parent / "planted_faults.py")


def small_net(**changes: Any) -> FixedNet:
    """Three inputs, two neurons; potentials that are easy to follow."""
    values: dict[str, Any] = {"v_th": 40, "dv": 1024} | changes
    return FixedNet(
        input=Input(shape=(3,)),
        populations=(Population(name="out", shape=(2,), **values),),
        projections=(
            Projection(
                source="input", target="out", synapse=Dense(w=np.array([[30, 12, 6], [8, 26, 18]]))
            ),
        ),
        readout=Readout(population="out"),
        steps=12,
    )


def small_input() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(3).integers(0, 2, (12, 4, 3))


def recorded(net: FixedNet, x: Any, *, states: bool = False) -> Trace:
    run = reference.run(net, x)
    if states:
        return run
    parts = {n: replace(p, u=None, v=None) for n, p in run.populations.items()}
    return Trace(populations=parts)


@pytest.mark.parametrize("kind", ["dense", "conv", "recurrent"])
def test_the_planting_simulator_agrees_with_the_definition(planted: ModuleType, kind: str) -> None:
    for cause in planted.CAUSES:
        plant = planted.plant(5, cause=cause, kind=kind)
        mine, ours = planted.simulate(plant.net, plant.x), reference.run(plant.net, plant.x)
        for name, part in ours.populations.items():
            for quantity in ("spikes", "u", "v"):
                assert np.array_equal(getattr(mine[name], quantity), getattr(part, quantity))


@pytest.mark.slow
def test_nine_of_ten_planted_faults_are_found(planted: ModuleType) -> None:
    found: Counter[tuple[str, bool]] = Counter()
    for cause in planted.CAUSES:
        for i in range(PLANTS):
            plant = planted.plant(FIRST_SEED + i, cause=cause, kind=planted.KINDS[i % 3])
            # Every other record holds spikes only.
            states = i % 2 == 0
            trace = plant.trace if states else plant.spikes_only
            found[cause, states] += plant.found_by(diagnose(plant.net, plant.x, trace))
    assert sum(found.values()) >= 0.9 * PLANTS * len(planted.CAUSES)
    per_class = {c: found[c, True] + found[c, False] for c in planted.CAUSES}
    assert {c: n for c, n in per_class.items() if n < 0.7 * PLANTS} == {}
    with_states = sum(n for (_, states), n in found.items() if states)
    assert with_states >= 0.95 * PLANTS / 2 * len(planted.CAUSES)


@pytest.mark.parametrize("states", [False, True])
def test_the_same_run_has_no_divergence(states: bool) -> None:
    net, x = small_net(), small_input()
    assert diagnose(net, x, recorded(net, x, states=states)) is None


@pytest.mark.parametrize(
    ("change", "cause", "text"),
    [
        ({"v_th": 44}, "threshold", "v_th is 44 instead of 40"),
        ({"dv": 800}, "decay", "dv is 800 instead of 1024"),
        ({"du": 4000}, "decay", "du is 4000 instead of 4095"),
        ({"bias": 300}, "bias", "bias (in units of v) is 300 instead of 0"),
        ({"bias": np.array([0, 96])}, "bias", "neuron 1: bias (in units of v) is 96 instead of 0"),
        ({"reset": "subtract"}, "reset", "reset by subtraction"),
    ],
)
def test_the_value_of_a_changed_parameter_is_told(
    change: dict[str, Any], cause: str, text: str
) -> None:
    """With subtraction the record of v shows every parameter to the last digit."""
    start = "zero" if "reset" in change else "subtract"
    net, x = small_net(reset=start), small_input()
    other = small_net(**({"reset": start} | change))
    found = diagnose(net, x, recorded(other, x, states=True))
    assert found is not None
    assert (found.cause, found.population) == (cause, "out")
    assert text in found.best.text
    assert found.best.differing == 0


@pytest.mark.parametrize("states", [False, True])
def test_a_start_potential_that_differs_is_told(states: bool) -> None:
    net, x = small_net(reset="subtract", dv=100), small_input()
    other = small_net(reset="subtract", dv=100, v_init=700)
    found = diagnose(net, x, recorded(other, x, states=states))
    assert found is not None
    assert (found.cause, found.population) == ("start", "out")
    low, high = found.best.numbers["low"], found.best.numbers["high"]
    assert low <= 700 <= high
    assert (low == high) == states


@pytest.mark.parametrize("states", [False, True])
def test_samples_that_start_where_the_one_before_ended_are_recognised(states: bool) -> None:
    """Played one after the other without a reset between them."""
    net, x = small_net(reset="subtract", dv=100), small_input()
    steps, batch = x.shape[:2]
    row = recorded(net, x.swapaxes(0, 1).reshape(steps * batch, 1, -1), states=True)["out"]

    def cut(values: Any) -> Any:
        return values.reshape(batch, steps, -1).swapaxes(0, 1)

    part = PopulationTrace(
        spikes=cut(row.spikes), v_last=cut(row.v)[-1], u=cut(row.u) if states else None,
        v=cut(row.v) if states else None,
    )  # fmt: skip
    found = diagnose(net, x, Trace(populations={"out": part}))
    assert found is not None
    assert found.cause == "start"
    assert found.best.text == "samples start with the u and v that the one before has left"


def test_a_threshold_is_told_as_the_interval_that_fits_the_spikes() -> None:
    net, x = small_net(), small_input()
    found = diagnose(net, x, recorded(small_net(v_th=33), x))
    assert found is not None
    assert found.cause == "threshold"
    low, high = found.best.numbers["low"], found.best.numbers["high"]
    spikes = {v_th: reference.run(small_net(v_th=v_th), x)["out"].spikes for v_th in range(20, 60)}
    fitting = [v_th for v_th, s in spikes.items() if np.array_equal(s, spikes[33])]
    assert (low, high) == (min(fitting), max(fitting))


def test_a_single_weight_is_told_with_its_place() -> None:
    net, x = small_net(), small_input()
    w = np.array(net.projections[0].synapse.w)
    w[1, 2] = 4
    other = replace(net, projections=(replace(net.projections[0], synapse=Dense(w=w)),))
    found = diagnose(net, x, recorded(other, x, states=True))
    assert found is not None
    assert found.cause == "weight"
    assert found.best.text == "weight [1, 2] of 'input' -> 'out' is 4 instead of 18"
    assert found.neurons == 1


def test_the_first_difference_is_described() -> None:
    net, x = small_net(), small_input()
    run = reference.run(net, x)
    spikes = run["out"].spikes.copy()
    late = np.concatenate([0 * spikes[:1], spikes[:-1]])
    record = replace(run["out"], spikes=late, u=None, v=None)
    found = diagnose(net, x, Trace(populations={"out": record}))
    assert found is not None
    step, sample, neuron = np.argwhere(spikes != late)[0]
    assert (found.step, found.sample, found.neuron) == (step, sample, neuron)
    assert (found.left, found.right) == (1, 0)
    assert found.spikes == (spikes != late).sum()
    assert found.v_th == 40 * 64
    assert found.distance is not None
    assert found.distance > 0
    text = str(found)
    assert text.startswith("Population 'out' is the first that differs")
    assert f"neuron {neuron}, sample {sample}, step {step}: 1 against 0" in text
    assert "explains all differences" in text


def test_nothing_explains_noise() -> None:
    net, x = small_net(), small_input()
    noise = np.random.default_rng(1).integers(0, 2, (12, 4, 2)).astype(np.uint8)
    part = PopulationTrace(spikes=noise, v_last=np.zeros((4, 2)))
    found = diagnose(net, x, Trace(populations={"out": part}))
    assert found is not None
    assert found.cause == "unknown"
    assert found.best.differing > 0
    assert "No single cause explains it" in str(found)


def test_a_diagnosis_is_plain_json() -> None:
    net, x = small_net(), small_input()
    found = diagnose(net, x, recorded(small_net(v_th=33), x))
    assert found is not None
    told = json.loads(json.dumps(found.to_json()))
    assert told["cause"] == "threshold"
    assert told["best"]["numbers"] == found.best.numbers
    assert told["text"] == str(found)


def test_a_later_population_with_a_fault_of_its_own_is_named() -> None:
    net, x = small_net(), small_input()
    second = Population(name="next", shape=(2,), v_th=10, dv=500)
    link = Projection(source="out", target="next", synapse=Dense(w=np.array([[8, 6], [4, 10]])))

    def both(first: FixedNet, v_th: int) -> FixedNet:
        return replace(
            first, populations=(*first.populations, replace(second, v_th=v_th)),
            projections=(*first.projections, link), readout=Readout(population="next"),
        )  # fmt: skip

    found = diagnose(both(net, 10), x, recorded(both(small_net(v_th=30), 7), x))
    assert found is not None
    assert (found.population, found.also) == ("out", ("next",))
    assert "By themselves differ also: next." in str(found)
    found = diagnose(both(net, 10), x, recorded(both(net, 7), x))
    assert found is not None
    assert (found.population, found.cause, found.also) == ("next", "threshold", ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {}, r"not of this network: it lacks \['out'\] and holds \[\]"),
        (lambda t: {"out": t, "more": t}, r"it lacks \[\] and holds \['more'\]"),
        (
            lambda t: {"out": replace(t, spikes=t.spikes[:-1])},
            r"spikes of population 'out' have shape \(11, 4, 2\); needed is \[T, B, n\]",
        ),
        (
            lambda t: {"out": replace(t, v=t.v[..., :1])},
            r"v of population 'out' have shape \(12, 4, 1\); needed is \[T, B, n\] = \(12, 4, 2\)",
        ),
        (
            lambda t: {"out": replace(t, spikes=t.spikes * 3)},
            "'out' hold values other than 0 and 1; record whether a neuron spiked",
        ),
    ],
)
def test_records_of_other_networks_are_refused(
    change: Callable[[PopulationTrace], dict[str, PopulationTrace]], message: str
) -> None:
    net, x = small_net(), small_input()
    with pytest.raises(ValueError, match=message):
        diagnose(net, x, Trace(populations=change(reference.run(net, x)["out"])))


def test_the_input_is_checked() -> None:
    net, x = small_net(), small_input()
    with pytest.raises(ValueError, match=r"network input has shape \(12, 4, 2\)"):
        diagnose(net, x[..., :2], recorded(net, x))


@pytest.mark.parametrize("seed", range(4))
def test_columns_play_as_the_definition_says(seed: int, random_net: Callable[..., Any]) -> None:
    """The forced run of the unchanged rule is the run itself."""
    net, x = random_net(seed, lava=False)
    run = reference.run(net, x)
    record = {"input": x, **{p.name: run[p.name].spikes for p in net.populations}}
    for p in net.populations:
        case = case_of(net, p.name, record, own=run[p.name])
        for t, new in enumerate(play(case.a, case.columns, Rule(reset=p.reset), forced=case.s)):
            assert np.array_equal(new.s, case.s[t])
            assert case.v is not None
            assert np.array_equal(new.v, case.v[t])


def rounded(planted: ModuleType, seed: int, cause: str) -> tuple[FloatNet, FixedNet, Any] | None:
    """A float network that differs from its integers in one kind of parameter only, or None where
    rounding of the state alone makes a difference."""
    rng = np.random.default_rng([seed, len(cause)])
    net, x, _ = planted._Draw(rng, cause="weight", kind=planted.KINDS[seed % 3]).net()
    exact = effective.float_net(net)
    if explain(exact, net, x) is not None:
        return None
    name = net.populations[int(rng.integers(len(net.populations)))].name

    def off(value: Any, size: float) -> Any:
        return value + rng.uniform(-size, size, np.shape(value))

    def moved(p: Any) -> Any:
        if p.name != name or cause == "weight":
            return p
        each = np.zeros(p.size)
        if cause == "threshold":
            return replace(p, v_th=np.abs(off(p.v_th + each, 0.05 * p.v_th.max())))
        if cause == "bias":
            return replace(p, bias=off(p.bias + each, 0.05 * p.v_th.max()))
        return replace(p, keep_v=np.clip(off(p.keep_v + each, 0.03), 0, 1))

    def reweighted(p: Any) -> Any:
        if p.target != name or cause != "weight":
            return p
        w = np.asarray(p.synapse.w)
        return replace(p, synapse=replace(p.synapse, w=off(w, 0.05 * np.abs(w).max())))

    populations = tuple(moved(p) for p in exact.populations)
    projections = tuple(reweighted(p) for p in exact.projections)
    return replace(exact, populations=populations, projections=projections), net, x


@pytest.mark.parametrize("cause", ["weight", "threshold", "bias", "decay"])
def test_the_rounding_that_made_a_spike_differ_is_named(planted: ModuleType, cause: str) -> None:
    named: Counter[str] = Counter()
    for seed in range(30):
        drawn = rounded(planted, seed, cause)
        found = explain(*drawn) if drawn else None
        if drawn and found:
            named[found.cause] += 1
            check_potentials(drawn, found)
    assert named.total() >= 5
    assert named[cause] >= 0.9 * named.total()


def check_potentials(drawn: tuple[FloatNet, FixedNet, Any], found: Diagnosis) -> None:
    """The potentials of the report are those of the two runs, where these keep them."""
    float_net, net, x = drawn
    at, name = (found.step, found.sample, found.neuron), found.population
    ours, chips = floating.run(float_net, x / net.input.scale)[name], reference.run(net, x)[name]
    assert (found.left, found.right) == (ours.spikes[at], chips.spikes[at])
    assert ours.v is not None
    assert chips.v is not None
    if not found.left:
        assert found.v_left == pytest.approx(ours.v[at])
    else:
        assert found.v_right == pytest.approx(chips.v[at] / 64 / net.population(name).scale)


def test_a_float_network_without_differing_spikes_is_not_explained() -> None:
    net, x = small_net(), small_input()
    assert explain(effective.float_net(net), net, x) is None


def test_a_rounded_threshold_is_explained_with_its_share() -> None:
    net, x = small_net(), small_input()
    exact = effective.float_net(net)
    other = replace(exact, populations=(replace(exact.populations[0], v_th=47.5),))
    found = explain(other, net, x)
    assert found is not None
    assert found.cause == "threshold"
    assert found.best.numbers["kind"] == "v_th"
    assert found.best.numbers["size"] == pytest.approx(7.5)
    assert found.v_th == 47.5
    assert "the rounded threshold: +7.5 of the +7" in str(found)
    assert explain(other, net, x, population="out") == found


def test_two_networks_that_do_not_belong_together_are_refused() -> None:
    net, x = small_net(), small_input()
    other = effective.float_net(net)
    renamed = replace(
        other,
        populations=(replace(other.populations[0], name="b"),),
        projections=(replace(other.projections[0], target="b"),),
        readout=Readout(population="b"),
    )
    with pytest.raises(ValueError, match="the two networks have different populations"):
        explain(renamed, net, x)
    late = replace(other, projections=(replace(other.projections[0], delay=1),))
    with pytest.raises(ValueError, match="the two networks have different projections"):
        explain(late, net, x)
    with pytest.raises(ValueError, match=r"there is no population 'b'; there are \['out'\]"):
        explain(other, net, x, population="b")
