"""Who may import whom: the rules are a table, and the sources are read without running them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("train", "export", "hw", "sim")

# The first part that holds a module gives its layer; a star stands for the rest of a file's name.
LAYERS = (
    ("spikeport.sim.twin*", "sim-torch"),
    ("spikeport.sim.attack", "sim-torch"),
    ("spikeport.sim.surrogate", "sim-torch"),
    ("spikeport.sim.apart", "sim-apart"),
    ("spikeport.sim", "sim"),
    ("spikeport.train.blocks", "train-parts"),
    ("spikeport.train.neuron", "train-parts"),
    ("spikeport.train.norm", "train-parts"),
    ("spikeport.train.quant", "train-parts"),
    ("spikeport.train", "train"),
    ("spikeport.export", "export"),
    ("spikeport.hw.lava_*", "hw-lava"),
    ("spikeport.hw", "hw"),
    ("spikeport", "shell"),
)

TRAIN = (
    "numpy numba h5py torch snntorch lightning_fabric sklearn "
    "pydantic safetensors rich tomllib tomli"
)

# layer: (layers it may import beside itself, packages of others it may import)
RULES = {
    # llvmlite comes with numba; one kernel is written in its instructions.
    "sim": ("", "numpy numba llvmlite h5py"),
    "sim-torch": ("sim", "numpy torch"),
    "sim-apart": ("", "distributed"),
    "train-parts": ("sim sim-torch train", TRAIN),
    "train": ("sim sim-torch sim-apart train-parts", TRAIN),
    "export": ("sim sim-torch train-parts", "numpy torch snntorch nir h5py"),
    "hw": ("sim hw-lava", "numpy h5py tomllib tomli"),
    "hw-lava": ("sim hw", "numpy h5py lava scipy"),
    "shell": (
        "sim sim-torch sim-apart train-parts train export hw hw-lava",
        "numpy torch snntorch typer rich pydantic safetensors matplotlib jinja2",
    ),
}


def layer(module: str) -> str:
    """Name of the layer that `module` belongs to."""
    for part, name in LAYERS:
        holds = part.endswith("*") and module.startswith(part[:-1])
        if holds or module == part or module.startswith(f"{part}."):
            return name
    raise ValueError(f"{module!r} is none of ours")


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("spikeport.sim.twin_lif", "sim-torch"),
        ("spikeport.sim.attack.pgd", "sim-torch"),
        ("spikeport.sim.net", "sim"),
        ("spikeport.train.norm", "train-parts"),
        ("spikeport.train.normal", "train"),
        ("spikeport.hw.lava_processes.recorder", "hw-lava"),
        ("spikeport.hw", "hw"),
        ("spikeport.exporting", "shell"),
        ("spikeport", "shell"),
    ],
)
def test_layer_of_a_module(module: str, expected: str) -> None:
    assert layer(module) == expected


def sources() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    found = {}
    for file in files + list((ROOT / "spikeport").glob("*.py")):
        parts = [part for part in file.relative_to(ROOT).with_suffix("").parts]
        parts = parts if parts[0] == "spikeport" else ["spikeport", *parts]
        found[".".join(parts).removesuffix(".__init__")] = file
    return dict(sorted(found.items()))


MODULES = sources()


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Dotted names that `tree` imports; `from p import m` yields `p.m` where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in known else base


def forbidden(module: str, source: str) -> list[str]:
    """Imports in `source`, the text of `module`, that the rules do not allow."""
    mine = layer(module)
    layers, packages = (set(names.split()) for names in RULES[mine])
    faults = []
    for name in imported(ast.parse(source), set(MODULES)):
        top = name.partition(".")[0]
        if name.startswith("."):
            faults.append(name)
        elif top == "spikeport":
            # The bare package holds the version and imports nothing.
            if name != top and layer(name) not in layers | {mine}:
                faults.append(name)
        elif top not in packages and top not in sys.stdlib_module_names - {"tomllib"}:
            faults.append(name)
    return faults


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_its_layer(module: str) -> None:
    assert forbidden(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("spikeport.sim.net", "import torch", "torch"),
        ("spikeport.sim.net", "import torch.nn as nn", "torch.nn"),
        ("spikeport.sim.net", "from spikeport.sim import twin", "spikeport.sim.twin"),
        ("spikeport.sim.net", "def f():\n    import nir", "nir"),
        ("spikeport.sim.twin_lif", "import snntorch", "snntorch"),
        ("spikeport.train.loop", "import lava.magma", "lava.magma"),
        ("spikeport.train.norm", "import spikeport.export.passes", "spikeport.export.passes"),
        ("spikeport.export.quantise", "from spikeport.train.loop import x", "spikeport.train.loop"),
        ("spikeport.export.quantise", "from spikeport.hw.rules import x", "spikeport.hw.rules"),
        ("spikeport.hw.rules", "from lava.magma import x", "lava.magma"),
        ("spikeport.hw.lava_net", "import torch", "torch"),
        ("spikeport.hw.rules", "from spikeport.sim.twin import x", "spikeport.sim.twin"),
        ("spikeport.hw.rules", "from . import cost", "."),
        ("spikeport.hw.rules", "import sim.net", "sim.net"),
    ],
)
def test_the_rules_find_a_planted_import(module: str, line: str, found: str) -> None:
    assert forbidden(module, line) == [found]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("spikeport.sim.net", "import numpy as np\nfrom spikeport.sim.lif import tick"),
        ("spikeport.sim.attack.pgd", "import torch\nfrom spikeport.sim.net import FixedNet"),
        ("spikeport.hw.lava_net", "from lava.magma.core import run_configs"),
        ("spikeport.export.passes", "from spikeport.train.quant import grid\nimport nir"),
    ],
)
def test_the_rules_pass_what_is_allowed(module: str, line: str) -> None:
    assert forbidden(module, line) == []


def at_start(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of `tree` that run when it is imported: not in functions, not type-only."""
    for node in ast.iter_child_nodes(tree):
        is_type_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not is_type_only and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from at_start(node)


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of `graph` (node: nodes it needs), first node repeated at the end, or []."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node not in done:
            for needed in sorted(graph.get(node, ())):
                if cycle := visit(needed, [*path, node]):
                    return cycle
            done.add(node)
        return []

    return next((cycle for node in graph if (cycle := visit(node, []))), [])


def test_no_import_cycle() -> None:
    known = set(MODULES)
    graph = {
        module: {
            name
            for node in at_start(ast.parse(file.read_text("utf-8")))
            for name in imported(node, known)
            if name in known
        }
        for module, file in MODULES.items()
    }
    assert graph["spikeport.sim.reference"] >= {"spikeport.sim.net"}
    assert find_cycle(graph) == []


def test_a_planted_cycle_is_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


WITHOUT = {
    "sim": "torch snntorch nir nirtorch lava sklearn",
    "hw": "torch snntorch nir nirtorch lava sklearn",
    "hw-lava": "torch snntorch nir nirtorch",
    "sim-torch": "snntorch nir nirtorch lava sklearn",
    "train": "nir nirtorch lava",
    "export": "lava",
}


@pytest.mark.parametrize("part", WITHOUT)
def test_part_imports_without(part: str) -> None:
    """The modules of a layer import where the packages that they must not need are missing."""
    mine = [module for module in MODULES if layer(module) == part]
    if part == "hw-lava" and sys.version_info[:2] != (3, 10):
        pytest.skip("Lava needs Python 3.10")
    # None in sys.modules makes an import fail as if the package were not installed.
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({WITHOUT[part].split()!r}))\n"
        f"for module in {mine!r}: importlib.import_module(module)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
