"""Lava's unmodified process models in one operating-system process.

Lava's own compiler builds the process models; only what carries data between them is replaced: a
queue instead of shared memory, and a fixed order of calls instead of one process each. Nothing
can hang, and an exception in a model reaches the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from spikeport.hw.lava_import import quiet

with quiet():
    from lava.magma.compiler.compiler import Compiler
    from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
    from lava.magma.core.process.ports.ports import create_port_id
    from lava.magma.core.run_configs import Loihi2SimCfg


class _Queue:
    """Both ends of a channel, with the cast to the channel's type that Lava's own makes."""

    def __init__(self, name: str, *, shape: tuple[int, ...], dtype: Any) -> None:
        self.name = name
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.items: deque[NDArray[Any]] = deque()

    def send(self, data: Any) -> None:
        item = np.empty(self.shape, self.dtype)
        item[:] = data
        self.items.append(item)

    def recv(self) -> NDArray[Any]:
        return self.items.popleft()

    def probe(self) -> bool:
        return bool(self.items)

    def start(self) -> None:
        """Part of Lava's port protocol; a queue needs none."""

    def join(self) -> None:
        """Part of Lava's port protocol; a queue needs none."""


class Driver:
    """Steps all process models connected to `process`. The graph must be free of loops."""

    def __init__(self, process: Any) -> None:
        with quiet(), mock.patch.object(ProcGroupDiGraphs, "_find_proc_models", _models_of):
            executable = Compiler().compile(process, Loihi2SimCfg(select_tag="fixed_pt"))
        builders = executable.proc_builders
        feeds: dict[Any, set[Any]] = {process: set() for process in builders}
        for channel in executable.channel_builders:
            _connect(channel, builders)
            feeds[channel.dst_process].add(channel.src_process)
        self.models: Mapping[Any, Any] = {p: b.build() for p, b in builders.items()}
        self._order = [self.models[p] for p in TopologicalSorter(feeds).static_order()]

    def run(self, chip_steps: int, after: Callable[[int], None]) -> None:
        """Advance all models by `chip_steps` steps and call `after` with each step's number."""
        for step in range(1, chip_steps + 1):
            for model in self._order:
                model.time_step += 1
                model.run_spk()
            after(step)


_find_models = ProcGroupDiGraphs._find_proc_models
_models: dict[type, list[Any]] = {}


def _models_of(proc: Any) -> list[Any]:
    """Lava's search for the models of a process, done once a class: it executes every file beside
    the class, which is nine tenths of a compilation."""
    kind = type(proc)
    if kind not in _models:
        _models[kind] = _find_models(proc)
    return list(_models[kind])


def _connect(channel: Any, builders: Mapping[Any, Any]) -> None:
    """Give both ends of `channel`, as the compiler describes it, the same queue."""
    source, target = channel.src_port_initializer, channel.dst_port_initializer
    outgoing = _Queue(source.name, shape=source.shape, dtype=source.d_type)
    incoming = _Queue(target.name, shape=source.shape, dtype=source.d_type)
    incoming.items = outgoing.items
    builders[channel.src_process].set_csp_ports([outgoing])
    receiver = builders[channel.dst_process]
    receiver.set_csp_ports([incoming])
    receiver.add_csp_port_mapping(create_port_id(channel.src_process.id, source.name), incoming)
