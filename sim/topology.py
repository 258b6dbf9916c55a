"""Order and timing of a network's populations.

A network speaks in model time: step t of a target is fed by step t - delay of the source. On a
chip every projection costs one step plus a delay of its own. The two agree when the window of each
population starts `depth` chip steps after the input's, with

    delay = 1 + chip_delay - (depth of target - depth of source)

`schedule` finds the smallest depths at which no chip delay is negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikeport.sim.arith import DELAY_MAX


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a network runs on a chip. depths: chip steps between the input's window and each
    population's ("input": 0). chip_delays: one a projection, steps beyond the one that every
    projection costs."""

    depths: Mapping[str, int]
    chip_delays: tuple[int, ...]


def check(net: Any) -> None:
    """Raise ValueError unless names, shapes and order of `net` fit.

    Refused are unknown or repeated names, populations that nothing drives, shapes that do not fit,
    and projections without delay that do not come from "input" or an earlier population.
    """
    shapes = {"input": net.input.shape}
    for population in net.populations:
        if population.name in shapes:
            raise ValueError(f"two parts of the network are called {population.name!r}; rename one")
        shapes[population.name] = population.shape
    known = {"input"}
    for population in net.populations:
        name = population.name
        incoming = [p for p in net.projections if p.target == name]
        if not incoming and not population.bias.any() and not population.v_init.any():
            raise ValueError(
                f"population {name!r} has no incoming projection, bias or v_init; connect or drop"
                " it"
            )
        for projection in incoming:
            _check_projection(projection, population, shapes, known)
        known.add(name)
    strays = {p.target for p in net.projections} - {p.name for p in net.populations}
    if strays:
        raise ValueError(f"projections lead to {sorted(strays)}, which are no populations")


def _check_projection(
    projection: Any, target: Any, shapes: Mapping[str, Any], known: set[str]
) -> None:
    source = projection.source
    where = f"projection {source!r} -> {target.name!r}"
    if source not in shapes:
        raise ValueError(f"{where}: there is no population {source!r}; name one that exists")
    if source not in known and not projection.delay:
        raise ValueError(
            f"{where}: {source!r} is not listed before {target.name!r}, so its spikes of the same"
            " step are not known yet; list it earlier, or give the projection that closes a loop"
            " a delay of at least 1"
        )
    found = projection.synapse.output_shape(shapes[source])
    if found != target.shape and found != (target.size,):
        raise ValueError(f"{where} delivers {found}, but the population has shape {target.shape}")


def blocks(net: Any) -> tuple[tuple[str, ...], ...]:
    """Populations in an order in which a block needs the results of earlier blocks only.

    A block of one population that does not feed itself can run all its steps at once; any other
    block is a loop and must be stepped, its populations in the order given.
    """
    reached = {p.name: _reached(net, p.name) for p in net.populations}
    found: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while len(placed) < len(reached):
        for name in reached:
            members = {n for n in reached if n in reached[name] and name in reached[n]} | {name}
            needed = {p.source for p in net.projections if p.target in members} - {"input"}
            if name not in placed and needed <= placed | members:
                found.append(tuple(p.name for p in net.populations if p.name in members))
                placed |= members
    return tuple(found)


def is_loop(net: Any, block: tuple[str, ...]) -> bool:
    """Whether the populations of `block` feed themselves."""
    return any(p.source in block and p.target in block for p in net.projections)


def _reached(net: Any, start: str) -> set[str]:
    """Populations that spikes of `start` can influence, itself only through a loop."""
    found: set[str] = set()
    todo = [start]
    while todo:
        source = todo.pop()
        fresh = {p.target for p in net.projections if p.source == source} - found
        found |= fresh
        todo += fresh
    return found


def schedule(net: Any) -> Schedule:
    """The timing of a checked `net` on a chip.

    Raises ValueError naming the loop whose synapses cost more chip steps than it has delay.
    """
    depths = {"input": 0, **{p.name: 0 for p in net.populations}}
    for _ in range(len(depths)):
        moved = [p for p in net.projections if depths[p.target] < depths[p.source] + 1 - p.delay]
        for p in moved:
            depths[p.target] = max(depths[p.target], depths[p.source] + 1 - p.delay)
        if not moved:
            break
    else:
        raise ValueError(_impossible(net))
    driven = {p.target for p in net.projections}
    for name in [p.name for p in net.populations if p.name not in driven]:
        # Nothing arrives at a source of its own: it starts as late as its targets allow, or, with
        # delays, which would carry spikes from before its start into their windows, at once.
        own = [p for p in net.projections if p.source == name]
        steps = [depths[p.target] + p.delay - 1 for p in own] or [0]
        soonest = max(steps) - DELAY_MAX if any(p.delay for p in own) else min(steps)
        depths[name] = max(0, min(soonest, *steps))
    return Schedule(
        depths=depths,
        chip_delays=tuple(
            p.delay - 1 + depths[p.target] - depths[p.source] for p in net.projections
        ),
    )


def _impossible(net: Any) -> str:
    """The shortest loop with less delay than synapses, in words."""
    best: list[Any] | None = None
    for start in net.populations:
        loop = _loop_through(net, start.name)
        if loop and (best is None or len(loop) < len(best)):
            best = loop
    assert best is not None  # the depths would have settled
    names = " -> ".join([best[0].source, *(p.target for p in best)])
    delay = sum(p.delay for p in best)
    return (
        f"the loop {names} has {len(best)} synapses, each of which costs a chip step, but its"
        f" delays make {delay} only; add {len(best) - delay} to the delay of one of them and"
        " retrain"
    )


def _loop_through(net: Any, start: str) -> list[Any] | None:
    """The shortest closed path through `start` with fewer steps of delay than projections."""
    best: dict[str, tuple[int, list[Any]]] = {start: (0, [])}  # most chip steps lacking, and how
    for _ in range(len(net.populations)):
        before = dict(best)  # paths of one round grow by one projection
        for p in net.projections:
            if p.source not in before:
                continue
            lacking, path = before[p.source]
            lacking, path = lacking + 1 - p.delay, [*path, p]
            if p.target == start:
                if lacking > 0:
                    return path
            elif p.target not in best or lacking > best[p.target][0]:
                best[p.target] = lacking, path
    return None
