"""The network of this folder as connected Lava processes.

From the NetX file where there is one, else from the arrays of network.npz. A population at depth d
gets input step t of sample n at chip step n * T + t + d + 1, counted from 1, and is reset just
before its first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.lif.process import LIFReset

from spikeport.hw.lava_axes import conv_weight, flattened, lava_shape, mapped, to_lava


def connect(folder: Path, net: dict[str, Any], inp: Any) -> dict[str, Any]:
    """Build the network that `net`, the content of network.json, describes, and connect the output
    port `inp`, of shape net["input"]["port"], to it. Returns each population's neurons, whose
    output port is `s_out`."""
    if net["netx"] is not None:
        return _from_netx(folder, net, inp)
    with np.load(folder / "network.npz") as arrays:
        return _from_arrays(net, arrays, inp)


def chip_steps(net: dict[str, Any], samples: int) -> int:
    """Steps until the last of `samples`, played in a row, has left the deepest population."""
    return int(samples * net["steps"] + max(p["depth"] for p in net["populations"]))


def _from_netx(folder: Path, net: dict[str, Any], inp: Any) -> dict[str, Any]:
    from lava.lib.dl.netx.hdf5 import Network

    network = Network(net_config=str(folder / "network.net"), **net["netx"])
    inp.connect(network.inp)
    names = [p["name"] for p in net["populations"]]
    return {name: layer.neuron for name, layer in zip(names, network.layers, strict=True)}


def _from_arrays(net: dict[str, Any], arrays: Any, inp: Any) -> dict[str, Any]:
    neurons = {p["name"]: _neurons(net, i, arrays) for i, p in enumerate(net["populations"])}
    shapes = {p["name"]: tuple(p["shape"]) for p in net["populations"]}
    ports = {"input": inp} | {name: lif.s_out for name, lif in neurons.items()}
    for i, c in enumerate(net["connections"]):
        source, target = ports[c["source"]], c["target"]
        weights = arrays[f"connections.{i}.weights"]
        if c["kind"] == "conv":
            synapse = _conv(c, weights, source.shape)
        else:
            synapse, source = _dense(c, weights), flattened(source)
        source.connect(synapse.s_in)
        mapped(synapse.a_out, shapes[target]).connect(neurons[target].a_in)
    return neurons


def _neurons(net: dict[str, Any], number: int, arrays: Any) -> Any:
    p = net["populations"][number]
    # With delays there is one sample, and no second reset must come: it could come early. Boards
    # want a power of two, says lava-dl's tutorial netx/mnist.
    interval = 1 << (chip_steps(net, 1) - 1).bit_length() if net["one_by_one"] else net["steps"]

    def value(name: str) -> Any:
        found = arrays[f"populations.{number}.{name}"]
        # A numpy scalar makes Lava hang, hence Python's int.
        return int(found) if found.ndim == 0 else to_lava(found, p["shape"])

    return LIFReset(
        shape=lava_shape(tuple(p["shape"])),
        v=net["start"],
        du=value("du"),
        dv=value("dv"),
        vth=value("v_th"),
        bias_mant=value("bias"),
        bias_exp=p["bias_exp"],
        reset_interval=interval,
        reset_offset=(p["depth"] + 1) % interval,
    )


def _dense(c: dict[str, Any], weights: Any) -> Any:
    settings = {
        "weights": weights.astype(np.int32),
        "weight_exp": c["w_exp"],
        "num_message_bits": c["message_bits"],
    }
    return DelayDense(delays=c["delay"], **settings) if c["delay"] else Dense(**settings)


def _conv(c: dict[str, Any], weights: Any, source: tuple[int, ...]) -> Any:
    return Conv(
        weight=conv_weight(weights),
        input_shape=source,
        stride=c["stride"][::-1],
        padding=c["padding"][::-1],
        dilation=c["dilation"][::-1],
        groups=c["groups"],
        num_message_bits=c["message_bits"],
    )
