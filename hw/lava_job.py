"""A network, its input and a run's settings as one .npz file: how work reaches the Lava child.

JSON says what is what, arrays stay arrays; nothing in the file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeport.sim.chip import Chip
from spikeport.sim.net import FixedNet, Input, Population, Projection, Readout
from spikeport.sim.synapse import Conv2d, ConvGeometry, Dense, SumPool2d

TYPES = {
    kind.__name__: kind
    for kind in (
        FixedNet, Input, Population, Projection, Readout, Chip, Dense, Conv2d, ConvGeometry,
        SumPool2d,
    )
}  # fmt: skip


def save(path: Path, net: FixedNet, x: NDArray[np.int64], *, record: bool) -> None:
    """Write a job. Provenance stays behind: it may hold anything."""
    arrays: dict[str, NDArray[Any]] = {"x": x}
    header = {"net": _plain(net, arrays), "record": record}
    np.savez(path, header=np.array(json.dumps(header)), **arrays)


def load(path: Path) -> tuple[FixedNet, NDArray[np.int64], bool]:
    """(net, x, record) of a job that `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        header = json.loads(str(arrays["header"]))
        return _rebuilt(header["net"], arrays), arrays["x"], header["record"]


def _plain(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """`value` as JSON, with its arrays put into `arrays`."""
    if is_dataclass(value):
        names = [f.name for f in fields(value) if f.name != "provenance"]
        parts = {name: _plain(getattr(value, name), arrays) for name in names}
        return {"type": type(value).__name__, "fields": parts}
    if isinstance(value, np.ndarray):
        key = f"array{len(arrays)}"
        arrays[key] = value
        return {"array": key}
    if isinstance(value, Mapping):
        return {"mapping": {key: _plain(item, arrays) for key, item in value.items()}}
    if isinstance(value, (tuple, list)):
        return [_plain(item, arrays) for item in value]
    return value


def _rebuilt(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """What `_plain` made JSON of; sequences come back as tuples."""
    if isinstance(value, list):
        return tuple(_rebuilt(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "mapping" in value:
        return {key: _rebuilt(item, arrays) for key, item in value["mapping"].items()}
    parts = {name: _rebuilt(item, arrays) for name, item in value["fields"].items()}
    return TYPES[value["type"]](**parts)
