"""Lava's unmodified process models in one operating-system process.

Lava's own compiler builds the process models; only what carries data between them is replaced: a
queue instead of shared memory, and a fixed order of calls instead of one process each. Nothing
can hang, and an exception in a model reaches the caller.

Loops. A connection of Lava's first sends what it computed in the step before, then receives. So in
every step each connection is called twice: the first call ends where it would have to wait, after
it has sent; in the second, when all neurons have run, it finds its input. What it sends then is
the same again and is dropped.
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


class _NothingYetError(Exception):
    """A model receives what has not been sent."""


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
        if not self.items:
            raise _NothingYetError(f"port {self.name!r} has received nothing")
        return self.items.popleft()

    def probe(self) -> bool:
        return bool(self.items)

    def start(self) -> None:
        """Part of Lava's port protocol; a queue needs none."""

    def join(self) -> None:
        """Part of Lava's port protocol; a queue needs none."""


class _SentTwice(_Queue):
    """The sending end of a connection, which is called twice a step."""

    again = False

    def send(self, data: Any) -> None:
        if not self.again:
            super().send(data)
        self.again = not self.again


class Driver:
    """Steps all process models connected to `process`."""

    def __init__(self, process: Any) -> None:
        with quiet(), mock.patch.object(ProcGroupDiGraphs, "_find_proc_models", _models_of):
            executable = Compiler().compile(process, Loihi2SimCfg(select_tag="fixed_pt"))
        self._builders = executable.proc_builders
        feeds: dict[Any, set[Any]] = {process: set() for process in self._builders}
        for channel in executable.channel_builders:
            _connect(channel, self._builders)
            source, target = channel.src_process, channel.dst_process
            # Neurons run when all connections have sent, so only the rest needs an order.
            if _is_connection(target) or not _is_connection(source):
                feeds[target].add(source)
        self._order = list(TopologicalSorter(feeds).static_order())
        self.restart({})

    def tap(self, process: Any) -> Callable[[], NDArray[np.uint8]]:
        """What returns, once in each step, the spikes that `process` has sent at its port s_out;
        it works from the next restart on."""
        queue = _Queue("s_out", shape=process.s_out.shape, dtype=np.uint8)
        self._builders[process].set_csp_ports([queue])
        return queue.recv

    def restart(self, values: Mapping[Any, Mapping[str, Any]]) -> None:
        """Go back to before the first step. values: new initial values of Vars, by process and
        name; all other Vars start as their processes say."""
        for process, named in values.items():
            for name, value in named.items():
                self._builders[process].vars[name].value = value
        # Between two steps no queue holds anything, so new models are all it takes.
        self.models: Mapping[Any, Any] = {p: b.build() for p, b in self._builders.items()}

    def run(self, chip_steps: int, after: Callable[[int], None]) -> None:
        """Advance all models by `chip_steps` steps and call `after` with each step's number."""
        models = [self.models[p] for p in self._order]
        # Backwards: a connection that feeds another must not have sent when that one is called.
        connections = [self.models[p] for p in reversed(self._order) if _is_connection(p)]
        for step in range(1, chip_steps + 1):
            for model in models:
                model.time_step += 1
            for connection in connections:
                try:
                    connection.run_spk()
                except _NothingYetError:
                    pass  # it has sent and waits for its input
            for model in models:
                model.run_spk()
            after(step)


def _is_connection(process: Any) -> bool:
    """Whether `process` sends first and receives then, as all of Lava's connections do."""
    return hasattr(process, "a_out")


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
    sender = _SentTwice if _is_connection(channel.src_process) else _Queue
    outgoing = sender(source.name, shape=source.shape, dtype=source.d_type)
    incoming = _Queue(target.name, shape=source.shape, dtype=source.d_type)
    incoming.items = outgoing.items
    builders[channel.src_process].set_csp_ports([outgoing])
    receiver = builders[channel.dst_process]
    receiver.set_csp_ports([incoming])
    receiver.add_csp_port_mapping(create_port_id(channel.src_process.id, source.name), incoming)
