"""How the engine's time grows with steps, samples and synapses, one of them at a time.

Times are of the processor: on one thread they are those of a clock on a machine with nothing else
to do.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from engine_nets import chain, dense_net, shown
from numpy.typing import NDArray

from spikeport.sim.engine import Engine
from spikeport.sim.net import FixedNet
from spikeport.sim.synapse import Dense

RATE, SEED = 0.1, 7
STEPS = (4, 8, 16, 32, 64, 128)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
SYNAPSES = (10**4, 10**5, 10**6, 10**7, 10**8)
ENOUGH_S, LEAST = 0.3, 3  # a point is measured for so long, and so often at least
Case = tuple[int, FixedNet, NDArray[Any]]


def steps() -> Iterator[Case]:
    """784-512-10, B = 64."""
    for count in STEPS:
        rng = np.random.default_rng(SEED)
        yield count, dense_net(), (rng.random((count, 64, 784)) < RATE).astype(np.uint8)


def batches() -> Iterator[Case]:
    """784-512-10, T = 16."""
    net = dense_net()
    for batch in BATCHES:
        yield batch, net, shown(net, batch, RATE)


def synapses() -> Iterator[Case]:
    """One square dense layer, T = 8, B = 16."""
    for count in SYNAPSES:
        n = round(math.sqrt(count))
        w = np.random.default_rng(SEED).integers(-60, 61, (n, n), np.int8)
        net = chain((n,), [("layer", Dense(w=w), 20 * math.isqrt(n))], steps=8)
        yield n * n, net, shown(net, 16, RATE)


AXES: dict[str, Callable[[], Iterator[Case]]] = {
    "steps": steps, "batch": batches, "synapses": synapses
}  # fmt: skip


def scaling() -> dict[str, Any]:
    """For every axis its points: size, least processor seconds of a prepared engine's run, exponent
    of the time between this point and the one before, way of the first product."""
    found: dict[str, Any] = {}
    for axis, cases in AXES.items():
        points: list[dict[str, Any]] = []
        for size, net, x in cases():
            seconds, way = least(net, x)
            points.append({"size": size, "seconds": seconds, "exponent": None, "way": way})
            if len(points) > 1:
                before = points[-2]
                grown = math.log(seconds / before["seconds"])
                points[-1]["exponent"] = round(grown / math.log(size / before["size"]), 2)
        found[axis] = {"what": (cases.__doc__ or "").strip(), "points": points}
    return {"rate": RATE, **found}


def least(net: FixedNet, x: NDArray[Any]) -> tuple[float, str]:
    """Least processor seconds of a run, and how the first product went."""
    gc.collect()
    prepared = Engine(net)
    times: list[float] = []
    prepared.run(x)  # lays the weights out
    while sum(times) < ENOUGH_S or len(times) < LEAST:
        start = time.process_time()
        prepared.run(x)
        times.append(time.process_time() - start)
    return min(times), prepared.blocks[0].layers[0].products[0].way(x)
