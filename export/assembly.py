"""From what each layer of neurons receives, as expressions, to parts and links.

Dropout and Identity vanish before this, batch norm folds into the layer before it (evaluation
statistics), a spike amplitude folds into the weights behind it; other factors become gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikeport.export.expressions import (
    Applied,
    Expression,
    Reshaped,
    State,
    Times,
    Total,
    Value,
    Window,
)
from spikeport.export.layers import NOT_FOLDED, folded, stateless
from spikeport.export.neurons import Loop, Neurons, Unsupported, amplitude, neurons
from spikeport.export.parts import Flat, Link, Part, Parts, ours, shape_behind
from spikeport.export.passes import Gain, Stage, scaled
from spikeport.sim.floating import NEVER
from spikeport.sim.net import READOUTS, FloatPopulation, Input
from spikeport.sim.synapse import FloatSumPool2d, Shape


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What part `name` gave `delay` steps before, times `factor`."""

    name: str
    delay: int = 0
    factor: float = 1.0


class Assembly:
    """Parts and links as they come together. layers: every layer of the module by name; shapes:
    of neurons, where a loop needs them before they are added."""

    def __init__(
        self, layers: Mapping[str, nn.Module], input: Input, *, shapes: Mapping[str, Shape]
    ) -> None:
        self.layers, self.input = layers, input
        self.parts: dict[str, Part] = {}
        self.links: list[Link] = []
        self.shapes: dict[str, Shape] = {"input": input.shape, **shapes}
        self._known: dict[Expression, list[Feed]] = {}

    def add_neurons(self, name: str, receives: Expression) -> None:
        """A population for the neurons of layer `name`, fed by `receives`, an expression relative
        to their step."""
        layer = self.layers[name]
        check_name(name, layer)
        feeds = self._feeds(receives)
        if not feeds:
            raise Unsupported(name, layer, "it receives nothing but zeros; connect or remove it")
        shape = self.shapes.setdefault(name, self.shapes[feeds[0].name])
        try:
            found = neurons(name, layer, shape)
        except Unsupported:
            raise
        except ValueError as error:
            raise Unsupported(name, layer, str(error)) from None
        self._enter(name, found, feeds)
        for loop in found.loops:
            self._close(loop, found.population)
        self.parts[name] = found.population

    def check(self, e: Expression) -> None:
        """Raise ValueError when a layer in `e`, which no neurons receive, has no part."""
        self._feeds(e)

    def finish(self, output: str, *, readout: str, steps: int) -> Parts:
        """The network, read from the neurons of layer `output`."""
        self._check_readout(output, readout)
        read_by = {link.source for link in self.links if link.source != link.target}
        for name, part in self.parts.items():
            if isinstance(part, FloatPopulation) and name not in read_by and name != output:
                raise Unsupported(
                    name, self.layers[name],
                    "nothing reads its spikes; remove it or return its spikes",
                )  # fmt: skip
        return Parts(
            input=self.input, steps=steps, parts=self._ordered(), links=tuple(self.links),
            output=output, readout=readout, layers=self.layers,
        )  # fmt: skip

    def _feeds(self, e: Expression) -> list[Feed]:
        if e not in self._known:
            self._known[e] = self._fresh(e)
        return self._known[e]

    def _fresh(self, e: Expression) -> list[Feed]:
        if isinstance(e, Value):
            if e.source == "input":
                return [Feed(name="input", delay=-(e.step or 0))]
            factor = amplitude(e.source, self.layers[e.source])
            return [Feed(name=e.source, delay=-(e.step or 0), factor=factor)]
        if isinstance(e, Total):
            return self._summed(e)
        if isinstance(e, Times):
            return [replace(f, factor=f.factor * e.factor) for f in self._feeds(e.to)]
        if isinstance(e, Reshaped):
            return self._reshaped(e)
        if isinstance(e, Applied):
            return self._applied(e)
        name = e.layer if isinstance(e, State) else "input"
        if isinstance(e, Window):
            raise ValueError(
                "forward feeds a whole window of steps to neurons at once; call them once a step"
            )
        raise Unsupported(
            name, self.layers[name],
            f"its {e.key!r} feeds other layers, but chips send spikes only; use its spikes",
        )  # fmt: skip

    def _summed(self, e: Total) -> list[Feed]:
        summed: dict[tuple[str, int], Feed] = {}
        for feed in (feed for term in e.terms for feed in self._feeds(term)):
            key = feed.name, feed.delay
            before = summed[key].factor if key in summed else 0.0
            summed[key] = replace(feed, factor=before + feed.factor)
        return list(summed.values())

    def _reshaped(self, e: Reshaped) -> list[Feed]:
        feeds = self._feeds(e.to)
        wanted = ours(e.shape[1:])
        flat = (int(np.prod(wanted)),)
        result = []
        for feed in feeds:
            shape = self.shapes[feed.name]
            if wanted not in (shape, flat):
                raise ValueError(
                    f"forward reshapes what {feed.name!r} gives from {shape} to {wanted}; only"
                    " flattening is possible, so give the sample and the layers their final shape"
                )
            if wanted != shape:
                name = self._free(f"{feed.name}.flat")
                feed = self._append(Flat(name=name, source=shape), [feed])
            result.append(feed)
        return result

    def _applied(self, e: Applied) -> list[Feed]:
        norms: list[tuple[str, _BatchNorm]] = []
        while isinstance(norm := self.layers[e.layer], _BatchNorm):
            norms.insert(0, (e.layer, norm))
            if not isinstance(e.to, Applied):
                raise Unsupported(e.layer, norm, NOT_FOLDED)
            e = e.to
        layer = self.layers[e.layer]
        check_name(e.layer, layer)
        feeds = self._feeds(e.to)
        if not feeds:
            raise Unsupported(e.layer, layer, "it is fed zeros in every step; remove it")
        part = stateless(self._free(e.layer), layer, self.shapes[feeds[0].name])
        for name, norm in norms:
            part = folded(name, norm, part)
        return [self._append(part, feeds)]

    def _append(self, part: Stage | Flat, feeds: list[Feed]) -> Feed:
        """`part` fed by `feeds`; their factor goes into its weights, or on to the next part."""
        factor = feeds[0].factor
        if any(feed.factor != factor for feed in feeds):
            feeds, factor = [self._gained(feed) for feed in feeds], 1.0
        if isinstance(part, Stage) and not isinstance(part.synapse, FloatSumPool2d):
            part, factor = _amplified(part, factor), 1.0
        self._place(part, feeds)
        return Feed(name=part.name, factor=factor)

    def _place(self, part: Stage | Gain | Flat, feeds: list[Feed]) -> None:
        self.parts[part.name] = part
        self.shapes[part.name] = shape_behind(part)
        self.links += [Link(source=f.name, target=part.name, delay=f.delay) for f in feeds]

    def _gained(self, feed: Feed) -> Feed:
        if feed.factor == 1.0:
            return feed
        name, shape = self._free(f"{feed.name}.gain"), self.shapes[feed.name]
        self._place(Gain(name=name, source=shape, factor=np.array(feed.factor)), [feed])
        return Feed(name=name)

    def _enter(self, name: str, found: Neurons, feeds: list[Feed]) -> None:
        feeds = [self._gained(feed) for feed in feeds]
        if (found.gain != 1.0).any():
            gain = Gain(
                name=self._free(f"{name}.gain"), source=found.population.shape, factor=found.gain
            )
            self._place(gain, feeds)
            feeds = [Feed(name=gain.name)]
        self.links += [Link(source=f.name, target=name, delay=f.delay) for f in feeds]

    def _close(self, loop: Loop, population: FloatPopulation) -> None:
        name, shape = self._free(loop.name), population.shape
        if isinstance(loop.synapse, nn.Module):
            part: Stage | Gain | Flat = stateless(name, loop.synapse, shape)
        else:
            part = Gain(name=name, source=shape, factor=loop.synapse)
        self._place(part, [Feed(name=population.name, delay=loop.delay)])
        self.links.append(Link(source=name, target=population.name))

    def _free(self, name: str) -> str:
        """`name`, or the first of name_2, name_3... that is no part yet."""
        taken = set(self.parts) | set(self.layers) - {name}
        i = 1
        while _numbered(name, i) in taken:
            i += 1
        return _numbered(name, i)

    def _check_readout(self, output: str, readout: str) -> None:
        if readout not in READOUTS:
            raise ValueError(
                f"readout is {readout!r}; allowed are {', '.join(map(repr, READOUTS))}"
            )
        for name, part in self.parts.items():
            if not isinstance(part, FloatPopulation) or not (part.v_th >= NEVER).all():
                continue
            fed = {link.target for link in self.links if link.source == name} - _own(name, self)
            if fed:
                raise Unsupported(
                    name, self.layers[name],
                    "it never resets or never fires, but other layers are fed by its spikes; use"
                    ' reset_mechanism="zero" and a threshold in reach, and retrain',
                )  # fmt: skip
        last = self.parts[output]
        assert isinstance(last, FloatPopulation)
        integrates = bool((last.v_th >= NEVER).all())
        if integrates != (readout in ("last_v", "sum_v")):
            raise Unsupported(
                output, None,
                f"readout {readout!r} does not fit it: 'last_v' and 'sum_v' need an Integrator or"
                ' reset_mechanism="none" in the last layer, \'count\' and \'first_spike\' need'
                " neurons that fire and reset",
            )  # fmt: skip
        factor = amplitude(output, self.layers[output])
        if factor != 1.0:
            raise Unsupported(
                output, self.layers[output],
                f"a graded_spikes_factor of {factor:g} has no Linear or Conv2d behind it to fold"
                " into; set it to 1",
            )  # fmt: skip

    def _ordered(self) -> dict[str, Part]:
        """Parts in an order in which links without delay lead forward."""
        waiting = dict(self.parts)
        ordered: dict[str, Part] = {}
        while waiting:
            blocked = {x.target for x in self.links if not x.delay and x.source in waiting}
            ready = [name for name in waiting if name not in blocked]
            ordered |= {name: waiting.pop(name) for name in ready}
        return ordered


def check_name(name: str, layer: nn.Module) -> None:
    """Raise Unsupported where a network file cannot call a part `name`."""
    if name in ("input", "output") or "/" in name:
        raise Unsupported(name, layer, "this name is reserved in network files; rename the layer")


def _own(name: str, assembly: Assembly) -> set[str]:
    """Parts that lead from population `name` straight back to it."""
    return {link.source for link in assembly.links if link.target == name} | {name}


def _numbered(name: str, i: int) -> str:
    return name if i == 1 else f"{name}_{i}"


def _amplified(stage: Stage, factor: float) -> Stage:
    """`stage` with its weights, but not its bias, multiplied by `factor`."""
    if factor == 1.0:
        return stage
    amplified = scaled(stage, np.array(factor))
    return replace(amplified, bias=stage.bias)
