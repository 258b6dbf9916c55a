"""Order and alignment of a network's populations."""

from __future__ import annotations

from typing import Any


def depths(net: Any) -> dict[str, int]:
    """Depth of "input" (0) and of every population: the chip steps its window starts later.

    Raises ValueError for unknown or repeated names, populations without input, cycles, shapes
    that do not fit, and paths of unequal length whose missing delay is not given.
    """
    depth = {"input": 0}
    shapes = {"input": net.input.shape}
    for population in net.populations:
        name = population.name
        if name in shapes:
            raise ValueError(f"two parts of the network are called {name!r}; rename one")
        incoming = [p for p in net.projections if p.target == name]
        if not incoming:
            raise ValueError(f"population {name!r} has no incoming projection; connect or drop it")
        arrivals = set()
        for projection in incoming:
            source = projection.source
            if source not in depth:
                raise ValueError(
                    f"projection {source!r} -> {name!r}: {source!r} is not defined before {name!r};"
                    " populations must be listed after their sources, and loops are not supported"
                )
            found = projection.synapse.output_shape(shapes[source])
            if found != population.shape and found != (population.size,):
                raise ValueError(
                    f"projection {source!r} -> {name!r} delivers {found},"
                    f" but the population has shape {population.shape}"
                )
            arrivals.add(depth[source] + 1 + projection.delay)
        if len(arrivals) > 1:
            raise ValueError(
                f"population {name!r} is reached after {sorted(arrivals)} steps on different paths;"
                " give the shorter ones the missing delay"
            )
        depth[name] = arrivals.pop()
        shapes[name] = population.shape
    strays = {p.target for p in net.projections} - set(depth)
    if strays:
        raise ValueError(f"projections lead to {sorted(strays)}, which are no populations")
    return depth
