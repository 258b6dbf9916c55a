"""Write a `FixedNet` as a NetX file, the HDF5 format that lava-dl 0.6 loads.

NetX holds chains of layers with one decay and one threshold a layer, weights without exponents
and biases in units of weights; a dense layer may have delays or feed itself. What it cannot hold,
or would ruin without a word (see `netx_weights`), is refused here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.hw import netx_weights
from spikeport.hw.lava_axes import to_lava
from spikeport.hw.lava_limits import SUM_LIMIT, LavaLimitError, message_bits, refuse
from spikeport.sim.arith import DELAY_MAX
from spikeport.sim.files import hdf5
from spikeport.sim.lif import tick
from spikeport.sim.net import FixedNet, Population, Projection
from spikeport.sim.reference import parameters
from spikeport.sim.synapse import Conv2d, Dense, Shape, lowered

BIAS_EXP = 6  # set by NetX, so that a bias counts in units of weights
BIAS_UNIT = 1 << BIAS_EXP


def write(net: FixedNet, path: Path | str) -> dict[str, int]:
    """Write `net` to `path` atomically and return the keyword arguments for `netx.hdf5.Network`.

    They are also attributes of the file, which NetX does not read: the reset's interval and
    offset for a source that is connected directly, and the bits of a graded input. A network
    whose first layer is dense takes its input flat, in C order; one that begins with a convolution
    takes (x, y, channel). With delays or recurrence a Network runs one sample: its resets leave
    alone what is on its way. Raises LavaLimitError for what NetX cannot hold.
    """
    refuse(net)
    layers = _layers(net)
    bits = message_bits(net, "input")
    loading = {"reset_interval": net.steps, "reset_offset": 1, "input_message_bits": bits}
    with hdf5(path) as file:
        file.attrs.update(loading)
        # For `netx_read` alone, like the names of the layers.
        file.attrs.update(payload_bits=net.input.payload_bits, readout=net.readout.kind)
        for i, (name, layer) in enumerate(layers):
            group = file.create_group(f"layer/{i}")
            group.attrs["name"] = name
            _put(group, layer)
    return loading


def _put(group: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _put(group.create_group(name), value)
        else:
            group[name] = np.bytes_(value) if isinstance(value, str) else value


def _layers(net: FixedNet) -> list[tuple[str, dict[str, Any]]]:
    """The layers of the file by name, each as what its group holds."""
    if net.readout.population != net.populations[-1].name:
        raise LavaLimitError(
            f"the readout is {net.readout.population!r}, but a NetX network ends with its last"
            f" layer, {net.populations[-1].name!r}; drop what follows the readout"
        )
    layers: list[tuple[str, dict[str, Any]]] = [("input", _input(net.input.shape))]
    source, flat = "input", len(net.input.shape) == 1
    for population in net.populations:
        forward, loop = _wiring(net, population, source=source)
        shape = net.shape_of(source)
        synapse = lowered(forward[0].synapse, shape)
        if isinstance(synapse, Conv2d):
            if flat:
                raise LavaLimitError(
                    f"{_where(forward[0])}: NetX loses the map that a dense layer fills, so no"
                    " convolution can follow one; export to Lava directly"
                )
            _refuse_around_convolution(forward, loop)
            layer = _conv(synapse, population)
        else:
            layers += [] if flat else [("flatten", {"type": "flatten"})]
            largest = net.input.largest if source == "input" else 1
            layer = _dense(population, forward, loop, largest=largest)
            flat = True
        layers.append((population.name, layer))
        source = population.name
    _refuse_early_spikes(net)
    return layers


def _where(projection: Projection) -> str:
    return f"projection {projection.source!r} -> {projection.target!r}"


def _wiring(
    net: FixedNet, population: Population, *, source: str
) -> tuple[list[Projection], list[Projection]]:
    """Projections from `source`, the layer before, and from `population` itself; NetX knows no
    other kind of wiring."""
    incoming: tuple[Projection, ...] = net.incoming(population.name)
    forward = [p for p in incoming if p.source == source]
    loop = [p for p in incoming if p.source == population.name]
    if not forward or len(forward) + len(loop) < len(incoming):
        raise LavaLimitError(
            f"population {population.name!r} is fed by {[p.source for p in incoming]}, but NetX"
            f" holds chains, in which it is fed by {source!r} and perhaps by itself; export to"
            " Lava directly"
        )
    return forward, loop


def _refuse_around_convolution(forward: list[Projection], loop: list[Projection]) -> None:
    if len(forward) > 1 or loop or forward[0].delay:
        raise LavaLimitError(
            f"{_where(forward[0])}: NetX has convolutions without delay, alone before their"
            " neurons; export to Lava directly"
        )


def _refuse_early_spikes(net: FixedNet) -> None:
    """Raise LavaLimitError if a bias makes a population fire before its window, from where a delay
    carries spikes into the window of the next."""
    late = [p.source for p in net.projections if p.delay]
    order = ["input", *(p.name for p in net.populations)]
    last = max(map(order.index, late), default=0)
    for depth, population in enumerate(net.populations[:last], start=1):
        rule = parameters(population)
        u = v = np.zeros(population.size, np.int64)
        for _ in range(depth):
            after = tick(u, v, 0 * u, rule)
            u, v = after.u, after.v
            if after.s.any():
                raise LavaLimitError(
                    f"population {population.name!r}: its bias makes it fire before the input"
                    " reaches it, which NetX's delays and loops keep for later; lower the bias"
                    " or export to Lava directly"
                )


def _input(shape: Shape) -> dict[str, Any]:
    return {"type": "input", "shape": np.array(shape)}


def _dense(
    population: Population, forward: list[Projection], loop: list[Projection], *, largest: int
) -> dict[str, Any]:
    where = _where(forward[0])
    weights, delays = _merged(forward)
    layer = {"type": "dense", "weight": weights}
    if loop:
        again, lags = _merged(loop)
        if np.any(lags != 1) or np.any(delays):
            raise LavaLimitError(
                f"{_where(loop[0])}: NetX has loops of delay 1, in layers without other delays;"
                " export to Lava directly"
            )
        layer |= {"type": "dense_rec", "weight_rec": again}
        held = _kept(weights, again, where=where)
    else:
        layer |= {"delay": delays} if np.any(delays) else {}
        held = _kept(weights, where=where)
    if int(abs(held).sum(1).max()) * largest >= SUM_LIMIT:
        raise LavaLimitError(
            f"{where}: with inputs up to {largest} the sum may leave 32 bits on NetX's way to add"
            " it up; lower payload_bits"
        )
    return {
        **layer,
        "shape": np.array([population.size]),
        "neuron": _neuron(population),
        **_bias(population, per_channel=False),
    }


def _merged(projections: list[Projection]) -> tuple[NDArray[np.int64], Any]:
    """Weights without exponent [n_out, n_in] of dense `projections` with the same ends, and their
    delays: one number, or one a synapse."""
    first = projections[0]
    late = max(p.delay for p in projections)
    if late > DELAY_MAX:
        raise LavaLimitError(
            f"{_where(first)}: a delay is {late}, but NetX clamps delays at {DELAY_MAX}; shorten it"
        )
    weights = np.array(weight_units(first))
    delays: Any = np.where(weights, first.delay, 0)
    for p in projections[1:]:
        more = weight_units(p)
        if weights[more != 0].any():
            raise LavaLimitError(
                f"{_where(p)}: two synapses connect the same neurons, but NetX holds one; add"
                " their weights, or export to Lava directly"
            )
        weights, delays = weights + more, np.where(more, p.delay, delays)
    return weights, first.delay if len(projections) == 1 else delays


def weight_units(projection: Projection) -> NDArray[np.int64]:
    """Weights [n_out, n_in] of a dense `projection` that need no exponent; or LavaLimitError."""
    synapse = projection.synapse
    if not isinstance(synapse, Dense):
        raise LavaLimitError(
            f"{_where(projection)}: a convolution beside dense synapses has no place in NetX's"
            " layers; export to Lava directly"
        )
    w, w_exp = synapse.w_chip, synapse.w_exp
    if w_exp >= 0:
        return w << w_exp
    if (w % (1 << -w_exp)).any():
        raise LavaLimitError(
            f"{_where(projection)}: w_exp is {w_exp}, but NetX has no exponent and some weights are"
            f" no multiple of {1 << -w_exp}; quantise with w_exp >= 0 or export to Lava directly"
        )
    return w >> -w_exp


def _kept(*weights: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """The first of `weights` as Lava will hold it, or LavaLimitError if NetX or Lava change
    any."""
    joint = np.hstack(weights)
    if not joint.any():
        raise LavaLimitError(f"{where}: all weights are 0, which NetX cannot load; drop the layer")
    try:
        held = netx_weights.load(*weights)
        if not held.changed(*weights):
            return held.parts[0]
    except LavaLimitError:
        pass  # nothing of them is left; the sentence is the same
    raise LavaLimitError(
        f"{where}: weights times 2**w_exp span {joint.min()}..{joint.max()}; NetX keeps -128..127,"
        " even ones in -256..254, 0..255, and without positive ones -127..0 and -255..-1 unless"
        " the lowest is a power of two, so quantise to one of these"
    )


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
        raise LavaLimitError(
            f"population {population.name!r}: {name} differs between neurons, but NetX holds one"
            " value a layer; share it in training or export to Lava directly"
        )
    return int(values[0])


def _bias(population: Population, *, per_channel: bool) -> dict[str, Any]:
    """The entry "bias" in units of weights, or no entry without biases."""
    bias = population.bias_shifted
    if (bias % BIAS_UNIT).any():
        raise LavaLimitError(
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
    return {"bias": to_lava(units, population.shape)}
