"""The network as a model of its own work, so that an attack finds the input that costs most.

What an event-driven chip spends follows from the events that arrive, and inputs can be made to
bring many (sponge examples: Shumailov et al. 2021, arXiv 2006.03463).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeport.sim.net import FixedNet
from spikeport.sim.twin import Twin, to_grid
from spikeport.sim.twin_stretch import joined


class Sponge(Twin):
    """A twin that answers what it does: logits [B, 2], 1 and the share of the most operations there
    could be, all events in all steps. With labels 0, which stand while that share is below 1, an
    attack's worst input is the one that sets most in motion.

    work: operations that one event of each neuron sets in motion, from 0, by population and for
    "input", in the shape of the source; what is not named sets nothing in motion. Raises ValueError
    for other shapes, and where nothing does anything.
    """

    def __init__(self, net: FixedNet, work: Mapping[str, Any]) -> None:
        # What is read plays no part, and potentials or counts can be differentiated.
        super().__init__(replace(net, readout=replace(net.readout, kind="count")))
        self._sources = tuple(work)
        for i, name in enumerate(self._sources):
            each = np.asarray(work[name], np.float64)
            if each.shape != net.shape_of(name):
                raise ValueError(
                    f"sponge: work of {name!r} has shape {each.shape}; it must be that of the"
                    f" source, {net.shape_of(name)}"
                )
            self.register_buffer(f"work{i}", torch.from_numpy(each.ravel()), persistent=False)
        self._most = net.steps * sum(float(np.sum(each)) for each in work.values())
        if self._most <= 0:
            raise ValueError("sponge: no event sets anything in motion, so there is nothing to do")

    def operations(self, x: Tensor) -> Tensor:
        """float64 [B]: what inputs as of `Twin` set in motion; whole as long as `work` is."""
        share: Tensor = self(x)[:, 1]
        return share * self._most

    def _logits(self, s: Tensor, *, steps: int) -> Tensor:
        s = to_grid(s, self.net.input)
        lives = self._live(s, steps=steps)
        done: Tensor = s.new_zeros(s.shape[1], dtype=torch.float64)
        for i, name in enumerate(self._sources):
            # An input event counts once whatever it carries; a dark pixel's gradient says that it
            # could become one.
            events = s.clamp(max=1).expand(steps, *s.shape[1:])
            sent = events if name == "input" else joined(lives[name])
            done = done + sent.sum(0).flatten(1).double() @ self.get_buffer(f"work{i}")
        share = done / self._most
        return torch.stack([torch.ones_like(share), share], dim=1)
