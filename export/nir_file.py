"""Opening a NIR file: from bytes on disk to a checked graph of supported nodes, or one sentence.

The checks run on the plain HDF5 tree before the nir library builds objects from it, because that
library answers a damaged file with whatever exception comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

KEY = "spikeport"  # of our metadata
FORMAT = 1  # of what stands under it

# What each node must hold. Everything in it is checked to be finite.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "IF": ("r", "v_threshold"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
}
OPTIONAL = ("v_reset", "w_in", "input_shape", "input_type")
NEURONS = ("I", "LI", "IF", "LIF", "CubaLIF")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or isinstance(value, float)


def _numbers(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and all(map(_number, value)))


# What may stand in our metadata under each key.
ABOUT: Mapping[str, Callable[[Any], bool]] = {
    "format": _whole,
    "steps": _whole,
    "dt_s": lambda value: value is None or _number(value),
    "readout": lambda value: isinstance(value, dict),
    "kind": lambda value: isinstance(value, str),
    "reset": lambda value: isinstance(value, str),
    "payload_bits": _whole,
    "scale": lambda value: value is None or _number(value),
    "keep_u": _numbers,
    "keep_v": _numbers,
    "v_init": _numbers,
    "groups": _whole,
    "rim": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_whole, value)),
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: its type, its values, and what our writer said beside (empty for other files)."""

    name: str
    type: str
    values: Mapping[str, Any]
    about: Mapping[str, Any]

    def array(self, key: str, *, default: float | None = None) -> npt.NDArray[np.float64]:
        """A value as float64; `default` where an optional one is missing."""
        if key not in self.values and default is not None:
            return np.array(default)
        return np.array(self.values[key], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes by name, in an order in which sources come first, and edges (source, target)."""

    path: Path
    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    about: Mapping[str, Any]

    def sources(self, name: str) -> list[str]:
        return [a for a, b in self.edges if b == name]


def load(path: Path | str) -> Graph:
    """The graph in file `path`. Raises FileNotFoundError or ValueError with one sentence."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give the path of a NIR file")
    try:
        with h5py.File(path, "r") as file:
            tree = _plain(file)
    except (OSError, RuntimeError) as error:
        reason = "it is truncated" if "truncated" in str(error) else "it is no intact HDF5 file"
        raise ValueError(f"{path}: cannot be read, {reason}; write it again") from None
    root = tree.get("node")
    if not isinstance(root, dict) or not isinstance(root.get("nodes"), dict):
        raise ValueError(f"{path}: holds no graph (node/nodes is missing); is it a NIR file?")
    if np.ndim(root.get("edges", 0)) == 0:
        raise ValueError(f"{path}: the graph has no edges; write the file again")
    nodes = {name: _node(path, name, values) for name, values in root["nodes"].items()}
    edges = tuple(dict.fromkeys(_edge(path, edge, nodes) for edge in root["edges"]))
    about = _about(path, "graph", root)
    return Graph(path=path, nodes=_ordered(path, nodes, edges), edges=edges, about=about)


def _plain(group: Any) -> dict[str, Any]:
    return {
        key: _plain(item) if isinstance(item, h5py.Group) else _text(item[()])
        for key, item in group.items()
    }


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _node(path: Path, name: str, values: Any) -> Node:
    where = f"{path}: node {name!r}"
    kind = str(values.get("type")) if isinstance(values, dict) else "none"
    if kind == "NIRGraph":
        raise ValueError(f"{where} is a graph within the graph; flatten the file before import")
    if kind not in FIELDS:
        raise ValueError(
            f"{where} has type {kind}, which is not supported; supported are {', '.join(FIELDS)}"
        )
    missing = [key for key in FIELDS[kind] if key not in values]
    if missing:
        raise ValueError(f"{where} ({kind}) lacks {', '.join(missing)}; write the file again")
    kept = {key: values[key] for key in (*FIELDS[kind], *OPTIONAL) if key in values}
    for key, value in kept.items():
        _check_value(f"{where} ({kind}): {key}", key, value)
    return Node(name=name, type=kind, values=kept, about=_about(path, name, values))


def _check_value(where: str, key: str, value: Any) -> None:
    array = np.asarray(value)
    if (key == "padding" and isinstance(value, str)) or key == "input_type":
        return
    if array.dtype.kind not in "biuf" or array.size == 0:
        raise ValueError(f"{where} holds no numbers; write the file again")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} holds NaN or infinity; repair the network before export")


def _about(path: Path, name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = values.get("metadata", {})
    if not isinstance(metadata, dict) or KEY not in metadata:
        return {}
    try:
        about = json.loads(metadata[KEY])
    except (TypeError, ValueError):
        about = None
    wrong = ["all"] if not isinstance(about, dict) else [
        key for key, value in about.items() if key in ABOUT and not ABOUT[key](value)
    ]  # fmt: skip
    if wrong:
        raise ValueError(
            f"{path}: metadata {KEY!r} of {name!r} are damaged ({', '.join(wrong)}); export the"
            " file again"
        )
    return about  # type: ignore[no-any-return]


def _edge(path: Path, edge: Any, nodes: Mapping[str, Node]) -> tuple[str, str]:
    names = [_text(end) for end in np.atleast_1d(edge)]
    if len(names) != 2:
        raise ValueError(f"{path}: an edge has {len(names)} ends instead of 2")
    for name in names:
        if name not in nodes:
            raise ValueError(f"{path}: an edge leads to {name!r}, but there is no such node")
    return str(names[0]), str(names[1])


def _ordered(
    path: Path, nodes: Mapping[str, Node], edges: tuple[tuple[str, str], ...]
) -> dict[str, Node]:
    ordered: dict[str, Node] = {}
    while len(ordered) < len(nodes):
        ready = [
            name
            for name in nodes
            if name not in ordered and all(a in ordered for a, b in edges if b == name)
        ]
        if not ready:
            left = sorted(set(nodes) - set(ordered))
            raise ValueError(
                f"{path}: the nodes {', '.join(map(repr, left))} lie on or behind a loop; recurrent"
                " networks are not supported"
            )
        ordered.update((name, nodes[name]) for name in ready)
    return ordered
