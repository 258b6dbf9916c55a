"""Opening a NIR file: from bytes on disk to a flat, checked graph of known nodes, or one sentence.

The checks run on the plain HDF5 tree, not on the nir library's objects, because that library
answers a damaged file with whatever exception comes first. Graphs within the graph are opened:
their nodes are named "outer.inner", their inputs and outputs pass values on unchanged.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import numpy.typing as npt

from spikeport.export.nir_conventions import RULES

KEY = "spikeport"  # of our metadata
FORMAT = 1  # of what stands under it

Edge = tuple[str, str]

# What each node must hold. Everything in it is checked to be finite.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "Conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim"),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak"),
    "IF": ("r", "v_threshold"),
    "LIF": ("tau", "r", "v_leak", "v_threshold"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"),
}
OPTIONAL = ("v_reset", "w_in", "input_shape", "input_type")
NEURONS = ("Threshold", "I", "LI", "CubaLI", "IF", "LIF", "CubaLIF")
SILENT = ("I", "LI", "CubaLI")  # neurons without a threshold
PORT = "port"  # type of what an Input or Output of an inner graph becomes: it passes values on


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    """Whether it is a number that float64 holds, which not all are that JSON may spell."""
    return (_whole(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def _numbers(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and all(map(_number, value)))


# What may stand in our metadata under each key.
ABOUT: Mapping[str, Callable[[Any], bool]] = {
    "format": _whole,
    "steps": _whole,
    "dt_s": lambda value: value is None or (_number(value) and value > 0),
    "readout": lambda value: isinstance(value, dict),
    "kind": lambda value: value in ("spike", "graded"),
    "reset": lambda value: isinstance(value, str),
    "rule": lambda value: value in RULES,
    "payload_bits": _whole,
    "scale": lambda value: value is None or _number(value),
    "keep_u": _numbers,
    "keep_v": _numbers,
    "v_init": _numbers,
    "gain": _numbers,
    "groups": lambda value: _whole(value) and value > 0,
    "rim": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(_whole(n) and n >= 0 for n in value)
    ),
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
    """Nodes by name and edges (source, target) in the file's order, nothing nested."""

    path: Path
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    about: Mapping[str, Any]

    def sources(self, name: str) -> list[str]:
        """Nodes with an edge to node `name`."""
        return [a for a, b in self.edges if b == name]


def load(path: Path | str) -> Graph:
    """The graph in file `path`. Raises FileNotFoundError or ValueError with one sentence."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; give the path of a NIR file")
    try:
        with h5py.File(path, "r") as file:
            tree = _plain(path, file)
    except (OSError, RuntimeError) as error:
        reason = "it is truncated" if "truncated" in str(error) else "it is no intact HDF5 file"
        raise ValueError(f"{path}: cannot be read, {reason}; write it again") from None
    root = tree.get("node")
    if not isinstance(root, dict) or not isinstance(root.get("nodes"), dict):
        raise ValueError(f"{path}: holds no graph (node/nodes is missing); is it a NIR file?")
    nodes, edges = _opened(path, "", root)
    about = _about(path, "graph", root)
    if about.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"{path}: was written in format {about['format']}, this version reads format {FORMAT};"
            " export it again"
        )
    return Graph(path=path, nodes=nodes, edges=tuple(dict.fromkeys(edges)), about=about)


def refusal(path: Path) -> str:
    """What the nir library, which is stricter than NIR and than `load`, says of a file; "" where it
    opens it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nir.read(path)
    except Exception as stopped:  # whatever comes first
        return f"nir {nir.__version__} stops at it ({' '.join(str(stopped).split())})"
    return ""


def _opened(path: Path, prefix: str, tree: Any) -> tuple[dict[str, Node], list[Edge]]:
    """Nodes and edges of a graph, those of graphs within it included, named from `prefix` on."""
    where = f"{path}: the graph {prefix[:-1]!r}" if prefix else f"{path}: the graph"
    if not isinstance(tree.get("nodes"), dict):
        raise ValueError(f"{where} has no nodes; write the file again")
    if np.ndim(tree.get("edges", 0)) == 0:
        raise ValueError(f"{where} has no edges; write the file again")
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    enter: dict[str, str] = {}  # where an edge to a node of this graph leads after opening
    leave: dict[str, str] = {}
    for name, values in tree["nodes"].items():
        full = f"{prefix}{name}"
        enter[name] = leave[name] = full
        inner: dict[str, Node] = {}
        if _type(values) == "NIRGraph":
            inner, more = _opened(path, f"{full}.", values)
            edges += more
            enter[name] = _port(path, full, "Input", values["nodes"])
            leave[name] = _port(path, full, "Output", values["nodes"])
        else:
            inner[full] = _node(path, full, values, nested=bool(prefix))
        for twice in set(inner) & set(nodes):
            raise ValueError(f"{path}: two nodes are called {twice!r} once opened; rename one")
        nodes |= inner
    named = [_edge(path, edge) for edge in tree["edges"]]
    if prefix:
        named = _completed(named, set(enter))
    for name in (end for edge in named for end in edge if end not in enter):
        raise ValueError(f"{where}: an edge leads to {name!r}, but there is no such node")
    return nodes, edges + [(leave[a], enter[b]) for a, b in named]


def _port(path: Path, graph: str, kind: str, nodes: Mapping[str, Any]) -> str:
    """Name of the one node of `kind` in the inner `graph`."""
    found = [name for name, values in nodes.items() if _type(values) == kind]
    if len(found) != 1:
        raise ValueError(
            f"{path}: the graph {graph!r} has {len(found)} {kind} nodes; one within another graph"
            " must have exactly one"
        )
    return f"{graph}.{found[0]}"


def _completed(edges: list[Edge], names: set[str]) -> list[Edge]:
    """`edges` of an inner graph, with the one name that no node has read as the one node that no
    edge has. Exporters that renamed a node and forgot its edges wrote such files (the recurrent
    layers of the NIR paper's); with one of each there is only one way to read them."""
    used = {end for edge in edges for end in edge}
    unknown, unused = used - names, names - used
    if len(unknown) != 1 or len(unused) != 1:
        return edges
    (wrong,), (right,) = unknown, unused
    return [(right if a == wrong else a, right if b == wrong else b) for a, b in edges]


def _plain(path: Path, group: Any, *, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """What `group` holds, by name; links that lead nowhere and what is no data are left out."""
    if group in within:
        raise ValueError(f"{path}: the group {group.name!r} lies in itself; write the file again")
    return {
        key: _plain(path, item, within=(*within, group))
        if isinstance(item, h5py.Group)
        else _text(item[()])
        for key, item in group.items()
        if isinstance(item, (h5py.Group, h5py.Dataset))
    }


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _type(values: Any) -> str:
    """What a node says that it is; "none" where it says nothing that could be read."""
    kind = values.get("type") if isinstance(values, dict) else None
    return kind if isinstance(kind, str) else "none"


def _node(path: Path, name: str, values: Any, *, nested: bool) -> Node:
    where = f"{path}: node {name!r}"
    kind = _type(values)
    if kind not in FIELDS:
        raise ValueError(
            f"{where} has type {kind}, which is not supported; supported are {', '.join(FIELDS)}"
        )
    if nested and kind in ("Input", "Output"):
        return Node(name=name, type=PORT, values={}, about={})
    missing = [key for key in FIELDS[kind] if key not in values]
    if missing:
        raise ValueError(f"{where} ({kind}) lacks {', '.join(missing)}; write the file again")
    kept = {key: values[key] for key in (*FIELDS[kind], *OPTIONAL) if key in values}
    hint = kept.get("input_type", 0)  # which some nodes have in words
    if not (_numeric(hint) and np.size(hint) and np.isfinite(hint).all()):
        del kept["input_type"]
    for key, value in kept.items():
        _check_value(f"{where} ({kind}): {key}", key, value)
    return Node(name=name, type=kind, values=kept, about=_about(path, name, values))


def _check_value(where: str, key: str, value: Any) -> None:
    if key == "padding" and isinstance(value, str):
        return
    if not _numeric(value) or np.size(value) == 0:
        raise ValueError(f"{where} holds no numbers; write the file again")
    if not np.isfinite(value).all():
        raise ValueError(f"{where} holds NaN or infinity; repair the network before export")


def _numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "biuf"


def _about(path: Path, name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = values.get("metadata", {})
    if not isinstance(metadata, dict) or KEY not in metadata:
        return {}
    try:
        about = json.loads(metadata[KEY])
    except (TypeError, ValueError, RecursionError):
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


def _edge(path: Path, edge: Any) -> Edge:
    names = [_text(end) for end in np.atleast_1d(edge)]
    if len(names) != 2:
        raise ValueError(f"{path}: an edge has {len(names)} ends instead of 2")
    return str(names[0]), str(names[1])
