"""A FixedNet as an HDF5 file: every value as it is, and the digest to prove it.

/                       attributes format, version, digest, steps, readout, input, chip,
                        provenance (the last five as JSON)
/populations/0000...    attributes name, shape, bias_exp, reset, scale; int32 datasets du, dv,
                        v_th, bias, v_init of shape () or (n,)
/projections/0000...    attributes source, target, delay, kind and geometry; int16 dataset w
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikeport.sim.chip import Chip
from spikeport.sim.files import hdf5
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d, Synapse

FORMAT = "spikeport fixed net"
VERSION = 2  # 1 counted delays in chip steps
ARRAYS = ("v_th", "du", "dv", "bias", "v_init")


def write_net(path: Path | str, net: FixedNet) -> None:
    """Write `net` to `path`, atomically. Scalars stay scalars."""
    with hdf5(path) as file:
        header = {
            "input": asdict(net.input),
            "readout": asdict(net.readout),
            "chip": {f.name: _jsonable(getattr(net.chip, f.name)) for f in fields(Chip)},
            "provenance": _jsonable(net.provenance),
        }
        file.attrs.update({key: json.dumps(value) for key, value in header.items()})
        file.attrs.update(format=FORMAT, version=VERSION, steps=net.steps, digest=net.digest())
        file.create_group("projections")  # a network of sources alone has none
        for i, population in enumerate(net.populations):
            _write_population(file.create_group(f"populations/{i:04}"), population)
        for i, projection in enumerate(net.projections):
            _write_projection(file.create_group(f"projections/{i:04}"), projection)


def read_net(path: Path | str) -> FixedNet:
    """The net that `write_net` put into `path`.

    Raises FileNotFoundError or ValueError with one sentence when the file is missing, is no HDF5
    file, is of another kind or version, or does not hold the net whose digest it carries.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; export the network again")
    try:
        with h5py.File(path, "r") as file:
            _check_header(path, file.attrs)
            net, digest = _read(path, file), file.attrs["digest"]
    except (OSError, RuntimeError):
        raise ValueError(f"{path}: is damaged or no HDF5 file; export the network again") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: lacks {error}; export the network again") from None
    if net.digest() != digest:
        raise ValueError(f"{path}: its values do not match its digest; export the network again")
    return net


def _check_header(path: Path, attributes: Any) -> None:
    if attributes.get("format") != FORMAT:
        raise ValueError(f"{path}: holds no FixedNet; give the net.h5 of a bundle")
    version = attributes["version"]
    if not np.array_equal(version, VERSION):
        raise ValueError(
            f"{path}: is of version {version}, this program reads {VERSION}; export the network"
            " again"
        )


def _jsonable(value: Any) -> Any:
    """Mappings and arrays as what JSON knows; anything unknown as text."""
    return json.loads(json.dumps(dict(value) if hasattr(value, "keys") else value, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "keys"):
        return dict(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return str(value)


def _write_population(group: Any, p: Population) -> None:
    group.attrs.update(
        name=p.name, shape=p.shape, bias_exp=p.bias_exp, reset=p.reset, scale=p.scale
    )
    for name in ARRAYS:
        group.create_dataset(name, data=getattr(p, name))


def _write_projection(group: Any, p: Projection) -> None:
    group.attrs.update(source=p.source, target=p.target, delay=p.delay)
    synapse = p.synapse
    group.attrs["kind"] = type(synapse).__name__
    group.create_dataset("w", data=np.asarray(synapse.w, np.int16))
    if isinstance(synapse, Dense):
        group.attrs["w_exp"] = synapse.w_exp
    elif isinstance(synapse, Conv2d):
        group.attrs.update(asdict(synapse.geometry))
    else:
        group.attrs.update(kernel=synapse.kernel, stride=synapse.stride, padding=synapse.padding)


def _read(path: Path, file: Any) -> FixedNet:
    try:
        return _built(file)
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error}); export the network again") from None


def _built(file: Any) -> FixedNet:
    header = {
        key: json.loads(file.attrs[key]) for key in ("input", "readout", "chip", "provenance")
    }
    header["input"]["shape"] = tuple(header["input"]["shape"])
    header["chip"]["resets"] = tuple(header["chip"]["resets"])
    return FixedNet(
        input=Input(**header["input"]),
        populations=tuple(_read_population(g) for g in file["populations"].values()),
        projections=tuple(_read_projection(g) for g in file["projections"].values()),
        readout=Readout(**header["readout"]),
        steps=int(file.attrs["steps"]),
        chip=Chip(**header["chip"]),
        provenance=header["provenance"],
    )


def _read_population(group: Any) -> Population:
    a = group.attrs
    return Population(
        name=str(a["name"]), shape=tuple(int(n) for n in a["shape"]), reset=str(a["reset"]),
        bias_exp=int(a["bias_exp"]), scale=float(a["scale"]),
        **{name: group[name][()] for name in ARRAYS},
    )  # fmt: skip


def _read_projection(group: Any) -> Projection:
    a = group.attrs
    return Projection(
        source=str(a["source"]), target=str(a["target"]), delay=int(a["delay"]),
        synapse=_read_synapse(group),
    )  # fmt: skip


def _read_synapse(group: Any) -> Synapse:
    a, w = group.attrs, group["w"][()]
    pairs: dict[str, Any] = {
        key: tuple(int(n) for n in a[key])
        for key in ("stride", "padding", "dilation", "kernel")
        if key in a
    }
    if a["kind"] == "Dense":
        return Dense(w=w, w_exp=int(a["w_exp"]))
    if a["kind"] == "Conv2d":
        return Conv2d(w=w, geometry=ConvGeometry(**pairs, groups=int(a["groups"])))
    if a["kind"] == "SumPool2d":
        return SumPool2d(**pairs, w=int(w))
    raise TypeError(f"a known synapse (found {a['kind']!r})")
