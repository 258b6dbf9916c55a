"""Write a `FixedNet` as a NetX file, the HDF5 format that lava-dl 0.6 loads.

NetX holds chains of layers with one decay and one threshold a layer, weights without exponents
and biases in units of weights. What it cannot hold, or would ruin without a word (odd weights of
both signs beyond 8 bits, one-signed weights beyond 255, all-zero weights), is refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.lava_limits import refuse
from spikeport.sim.files import hdf5
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.synapse import Conv2d, Dense, Shape, lowered

BIAS_UNIT = 64  # NetX sets bias_exp to 6
SUM_LIMIT = 1 << 31  # Lava adds up in 32 bits


def write(net: FixedNet, path: Path | str) -> dict[str, int]:
    """Write `net` to `path` atomically and return the keyword arguments for `netx.hdf5.Network`.

    They are also the attributes of the file, which NetX does not read: the reset's interval and
    offset for a source that is connected directly, and the bits of a graded input. A network
    whose first layer is dense takes its input flat, in C order; one that begins with a convolution
    takes (x, y, channel). Raises ValueError with one sentence for what NetX cannot hold.
    """
    refuse(net)
    layers = _layers(net)
    loading = {"reset_interval": net.steps, "reset_offset": 1, "input_message_bits": 0}
    if net.input.kind == "graded":
        loading["input_message_bits"] = max(8, net.input.payload_bits)
    with hdf5(path) as file:
        file.attrs.update(loading)
        for i, layer in enumerate(layers):
            _put(file.create_group(f"layer/{i}"), layer)
    return loading


def _put(group: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _put(group.create_group(name), value)
        else:
            group[name] = np.bytes_(value) if isinstance(value, str) else value


def _layers(net: FixedNet) -> list[dict[str, Any]]:
    """The layers of the file, each as what its group holds."""
    layers: list[dict[str, Any]] = []
    source, flat = "input", len(net.input.shape) == 1
    for population in net.populations:
        projection = _only_projection(net, population, source=source)
        shape = net.shape_of(source)
        synapse = lowered(projection.synapse, shape)
        if isinstance(synapse, Conv2d):
            if flat:
                raise ValueError(
                    f"{_where(projection)}: NetX loses the map that a dense layer fills, so no"
                    " convolution can follow one; export to Lava directly"
                )
            layers += [_input(shape)] if source == "input" else []
            layers.append(_conv(synapse, population))
        else:
            if source == "input":
                layers.append(_input((net.input.size,)))
            elif not flat:
                layers.append({"type": "flatten"})
            largest = net.input.largest if source == "input" else 1
            layers.append(_dense(synapse, population, where=_where(projection), largest=largest))
            flat = True
        source = population.name
    return layers


def _where(projection: Projection) -> str:
    return f"projection {projection.source!r} -> {projection.target!r}"


def _only_projection(net: FixedNet, population: Population, *, source: str) -> Projection:
    """The projection from `source`, the layer before; NetX knows no other kind of wiring."""
    incoming: tuple[Projection, ...] = net.incoming(population.name)
    sources = [p.source for p in incoming]
    if sources != [source]:
        raise ValueError(
            f"population {population.name!r} is fed by {sources}, but NetX holds chains, in which"
            f" it is fed by {source!r} alone; export to Lava directly"
        )
    if incoming[0].delay:
        raise ValueError(
            f"{_where(incoming[0])}: delay is {incoming[0].delay}; NetX files written here hold"
            " delay 0 only, so export to Lava directly"
        )
    return incoming[0]


def _input(shape: Shape) -> dict[str, Any]:
    return {"type": "input", "shape": np.array(shape)}


def _dense(dense: Dense, population: Population, *, where: str, largest: int) -> dict[str, Any]:
    w = weight_units(dense, where=where)
    if int(abs(dense.w_chip).sum(1).max()) * largest * 256 >= SUM_LIMIT:
        raise ValueError(
            f"{where}: with inputs up to {largest} the sum may leave 32 bits on NetX's way to add"
            " it up; lower payload_bits"
        )
    return {
        "type": "dense",
        "shape": np.array([population.size]),
        "weight": w,
        "neuron": _neuron(population),
        **_bias(population, per_channel=False),
    }


def weight_units(dense: Dense, *, where: str) -> NDArray[np.int64]:
    """Weights [n_out, n_in] that need no exponent, or ValueError if NetX cannot hold them."""
    w, w_exp = dense.w_chip, dense.w_exp
    if not w.any():
        raise ValueError(f"{where}: all weights are 0, which NetX cannot load; drop the layer")
    if w_exp < 0 and (w % (1 << -w_exp)).any():
        raise ValueError(
            f"{where}: w_exp is {w_exp}, but NetX has no exponent and some weights are no multiple"
            f" of {1 << -w_exp}; quantise with w_exp >= 0 or export to Lava directly"
        )
    w = w << w_exp if w_exp >= 0 else w >> -w_exp
    if _kept(w):
        return w
    raise ValueError(
        f"{where}: weights times 2**w_exp span {w.min()}..{w.max()}; NetX keeps -128..127, even"
        " ones in -256..254, 0..255, and without positive ones -127..0 and -255..-1 unless the"
        " lowest is a power of two, so quantise to one of these"
    )


def _kept(w: NDArray[np.int64]) -> bool:
    """Whether `w` survives NetX, which shifts weights up to fill 8 bits, and Lava's truncation."""
    low, high = int(w.min()), int(w.max())
    eight_bits = low >= -128 and high <= 127
    even = low >= -256 and high <= 254 and not (w % 2).any()
    if low >= 0:
        return high <= 255
    if high > 0:
        return eight_bits or even
    # NetX shifts a power of two up to -256, which a synapse without positive weights clips to -255.
    if -low & (-low - 1) == 0:
        return False
    # NetX counts on a sign bit when the largest weight is 0.
    return low >= -255 if high < 0 else eight_bits or even


def _conv(conv: Conv2d, population: Population) -> dict[str, Any]:
    geometry = conv.geometry
    return {
        "type": "conv",
        "shape": np.array(population.shape),
        "weight": conv.w.astype(np.int64),
        "stride": np.array(geometry.stride),
        "padding": np.array(geometry.padding),
        "dilation": np.array(geometry.dilation),
        "groups": geometry.groups,
        "neuron": _neuron(population),
        **_bias(population, per_channel=True),
    }


def _neuron(population: Population) -> dict[str, Any]:
    return {
        "type": "CUBA",
        "vThMant": _one_value(population, "v_th"),
        "iDecay": _one_value(population, "du") + 1,  # NetX takes the hidden 1 off again
        "vDecay": _one_value(population, "dv"),
    }


def _one_value(population: Population, name: str) -> int:
    values = np.unique(getattr(population, name))
    if len(values) > 1:
        raise ValueError(
            f"population {population.name!r}: {name} differs between neurons, but NetX holds one"
            " value a layer; share it in training or export to Lava directly"
        )
    return int(values[0])


def _bias(population: Population, *, per_channel: bool) -> dict[str, Any]:
    """The entry "bias" in units of weights, or no entry without biases."""
    bias = population.bias_shifted
    if (bias % BIAS_UNIT).any():
        raise ValueError(
            f"population {population.name!r}: some biases are no multiple of {BIAS_UNIT}, the unit"
            " of NetX; round them in the export or export to Lava directly"
        )
    if not bias.any():
        return {}
    units = np.broadcast_to(bias // BIAS_UNIT, (population.size,))
    if not per_channel:
        return {"bias": units}
    maps = units.reshape(population.shape[0], -1)
    if (maps == maps[:, :1]).all():
        return {"bias": maps[:, 0]}
    # NetX takes one bias a neuron in the order of Lava's maps.
    return {"bias": units.reshape(population.shape).transpose()}
