"""A network as plain JSON and arrays, for readers that know nothing of spikeport.

What the keys mean is said where they are read, in `lava_folder/graph.py`, and in docs/bundle.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.early import HELD
from spikeport.hw.lava_axes import lava_shape
from spikeport.hw.lava_limits import message_bits, unconnected
from spikeport.hw.lava_record import alone
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, lowered

NEURONS = ("du", "dv", "v_th", "bias")


def header(net: FixedNet, *, netx: dict[str, int] | None) -> dict[str, Any]:
    """What network.json holds, without connections. netx: keyword arguments of the NetX file."""
    read_as_map = any(
        isinstance(lowered(p.synapse, net.input.shape), Conv2d)
        for p in net.projections
        if p.source == "input"
    )
    depths = net.depths
    if netx is not None:  # every layer costs NetX a chip step, and delays come on top
        depths = {p.name: number for number, p in enumerate(net.populations, start=1)}
    return {
        "digest": net.digest(),
        "steps": net.steps,
        "one_by_one": alone(net),
        "start": HELD if alone(net) else 0,
        "readout": {"population": net.readout.population, "kind": net.readout.kind},
        "input": {
            "shape": list(net.input.shape),
            "port": list(lava_shape(net.input.shape)) if read_as_map else [net.input.size],
            "message_bits": message_bits(net, "input"),
        },
        "populations": [
            {
                "name": p.name,
                "shape": list(p.shape),
                "depth": depths[p.name],
                "bias_exp": p.bias_exp,
            }
            for p in net.populations
        ],
        "netx": netx,
    }


def connections(net: FixedNet) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """The "connections" of network.json and all arrays of network.npz.

    Populations that hang together with nothing get a connection without effect from the input.
    """
    arrays = {
        f"populations.{i}.{name}": getattr(p, name)
        for i, p in enumerate(net.populations)
        for name in NEURONS
    }
    found = []
    for i, (projection, delay) in enumerate(zip(net.projections, net.chip_delays, strict=True)):
        one, arrays[f"connections.{i}.weights"] = _connection(net, projection, delay)
        found.append(one)
    for name in unconnected(net):
        arrays[f"connections.{len(found)}.weights"] = _nothing(net, net.population(name))
        ends = {"source": "input", "target": name, "kind": "dense"}
        found.append({**ends, "message_bits": 0, "w_exp": 0, "delay": 0})
    return found, arrays


def _connection(
    net: FixedNet, projection: Projection, delay: int
) -> tuple[dict[str, Any], NDArray[Any]]:
    synapse = lowered(projection.synapse, net.shape_of(projection.source))
    one: dict[str, Any] = {
        "source": projection.source,
        "target": projection.target,
        "message_bits": message_bits(net, projection.source),
    }
    if isinstance(synapse, Conv2d):
        geometry = synapse.geometry
        one |= {
            "kind": "conv",
            "stride": list(geometry.stride),
            "padding": list(geometry.padding),
            "dilation": list(geometry.dilation),
            "groups": geometry.groups,
        }
    else:
        one |= {"kind": "dense", "w_exp": synapse.w_exp, "delay": delay}
    return one, synapse.w


def _nothing(net: FixedNet, population: Population) -> NDArray[np.int8]:
    return np.zeros((population.size, net.input.size), np.int8)
