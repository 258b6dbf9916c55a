"""A module run once on a sample, watched: what every layer of neurons receives in every step.

Layers report through hooks, everything between them through torch's function mode. A tensor is
known by its identity; its expression says what it is made of. The run happens on a copy of the
module in float64 and evaluation mode, so that rounding hides nothing and no state is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import snntorch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spikeport.export.copies import apart, copied
from spikeport.export.expressions import ZERO, Expression, State, Value, applied, described
from spikeport.export.layers import NOT_EXPORTED, SKIPPED
from spikeport.export.neurons import STATES, Unsupported
from spikeport.export.torch_calls import Call, flattened, silent
from spikeport.export.torch_rules import meaning, picked, steps_of, written
from spikeport.train.neuron import Lif


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A watched run. received: by layer of neurons what it got in each step; spikes (0 or 1) and
    potentials [T, B, ...] that it answered with; returned: what forward gave back in `calls` calls;
    axes: dimensions of the sample along which forward picked steps."""

    layers: Mapping[str, nn.Module]
    received: Mapping[str, tuple[Expression, ...]]
    spikes: Mapping[str, Tensor]
    potentials: Mapping[str, Tensor]
    returned: list[Expression | None]
    calls: int
    axes: set[int]


def trace(module: nn.Module, sample: Tensor, *, calls: int = 1) -> Traced:
    """Run `module` on `sample`, `calls` times in a row, and say what it did.

    Raises ValueError naming the layer or function that no chip has.
    """
    own = copied(module)
    watch = _Watch(own, sample.detach().cpu().double())
    with apart(dict(watch.layers)), watch.hooked(), watch:
        try:
            results = [own(watch.sample) for _ in range(calls)]
        except ValueError:
            raise
        except Exception as error:  # whatever a module of others does
            raise ValueError(
                f"{type(module).__name__}.forward could not be run on the sample of shape"
                f" {tuple(sample.shape)}: {type(error).__name__}: {error}; it must take the sample"
                " as its only argument, and run in float64"
            ) from error
    return Traced(
        layers=watch.layers,
        received={name: tuple(found) for name, found in watch.received.items()},
        spikes={name: torch.stack(s) for name, s in watch.spikes.items()},
        potentials={name: torch.stack(v) for name, v in watch.potentials.items()},
        returned=[watch.known(leaf) for leaf in flattened(results)],
        calls=calls,
        axes=watch.axes,
    )


class _Watch(TorchFunctionMode):
    """Follows tensors through one run."""

    def __init__(self, module: nn.Module, sample: Tensor) -> None:
        super().__init__()
        self.sample = sample
        self.layers = {name: part for name, part in module.named_modules() if _is_layer(part)}
        self.received: dict[str, list[Expression]] = {}
        self.spikes: dict[str, list[Tensor]] = {}
        self.potentials: dict[str, list[Tensor]] = {}
        self.axes: set[int] = set()  # of the input, along which steps were picked
        self._inside = 0  # layers being run
        self._known: dict[int, tuple[Tensor, Expression, int]] = {}
        self._views: dict[int, list[Tensor]] = {}  # known tensors by the one that holds their data
        self._learn(sample, Value("input", None))

    def known(self, value: Any) -> Expression | None:
        """The expression of a tensor, None for a constant or something else."""
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self._known and value._base is not None:
            self._learn_view(value)
        if id(value) not in self._known:
            return None
        _, expression, version = self._known[id(value)]
        if value._version != version:  # older torch does not report kept[0] = 0
            raise ValueError(
                f"forward writes into {described(expression)}; collect steps in a list"
            )
        return expression

    def _learn(self, tensor: Tensor, expression: Expression) -> None:
        # kept alive, so that no id comes twice
        self._known[id(tensor)] = (tensor, expression, tensor._version)
        base = tensor if tensor._base is None else tensor._base
        self._views.setdefault(id(base), []).append(tensor)

    def _learn_view(self, view: Tensor) -> None:
        """Learn x[step] and x[:] of a known tensor x, which older torch does not report."""
        for x in self._views.get(id(view._base), ()):
            ahead = view.storage_offset() - x.storage_offset()
            same = view.shape == x.shape and view.stride() == x.stride()
            if same and not ahead:
                return self._learn(view, self._known[id(x)][1])
            step = view.shape == x.shape[1:] and view.stride() == x.stride()[1:]
            if step and x.stride(0) and 0 <= ahead < x.shape[0] * x.stride(0):
                call = self._call("__getitem__", (x,), {}, view)
                index = ahead // x.stride(0)
                return self._learn(view, picked(self._known[id(x)][1], index, call=call))
        for x in self._views.get(id(view._base), ()):
            raise ValueError(
                f"forward picks a part of {described(self._known[id(x)][1])}; only whole steps of"
                " the first dimension can be picked, as x[step]"
            )
        return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") in _SHORTER:
            kwargs = {**kwargs, "dtype": torch.float64}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = func.__self__.__name__  # a property, for instance shape or data
        if self._inside or not any(
            self.known(leaf) is not None for leaf in flattened([args, kwargs])
        ):
            return func(*args, **kwargs)
        if name in ("__iter__", "unbind"):
            return self._steps(name, args, kwargs)
        if name == "__setitem__":
            window = written(self._call(name, args, kwargs, None))
            func(*args, **kwargs)
            return self._learn(args[0], window)
        in_place = name.endswith("_") and not name.endswith("__")
        before = self.known(args[0]) if in_place else None
        if in_place and before is None and silent(args[0]):
            before = ZERO
        result = func(*args, **kwargs)
        if before is not None:
            self._learn(args[0], before)  # what it was before the call wrote into it
        call = self._call(name, args, kwargs, result)
        expression = meaning(call)
        if expression is None:
            return result
        if name in _CASTS:  # float64 stays
            if not result.is_floating_point():
                call.refuse("rounds to whole numbers; keep floats")
            result = args[0]
        self._learn(result, expression)
        return result

    def _call(self, name: str, args: Any, kwargs: Any, result: Any) -> Call:
        return Call(
            name=name, args=args, kwargs=kwargs, result=result, known=self.known,
            layers=self.layers, keep=self._keep, axes=self.axes,
        )  # fmt: skip

    def _steps(self, name: str, args: Any, kwargs: Any) -> Any:
        call = self._call(name, args, kwargs, None)
        axis = call.argument(1, "dim", 0)
        steps = steps_of(args[0], axis)
        for index, step in enumerate(steps):
            self._learn(step, picked(call.main(), index, call=call, axis=axis))
        return iter(steps) if name == "__iter__" else steps

    def _keep(self, name: str, layer: nn.Module) -> str:
        """Enter a layer that forward made on the fly, once for each setting."""
        i = 1
        while f"{name}{i}" in self.layers and repr(self.layers[f"{name}{i}"]) != repr(layer):
            i += 1
        self.layers[f"{name}{i}"] = layer
        return f"{name}{i}"

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Watch the layers."""
        handles: list[Any] = []
        for name, layer in self.layers.items():
            handles.append(layer.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            handles.append(layer.register_forward_hook(self._leaving(name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, name: str) -> Any:
        def entering(layer: nn.Module, args: Any, kwargs: Any) -> None:
            self._inside += 1
            if type(layer) in STATES:
                self._receive(name, layer, args, kwargs)
            elif isinstance(layer, Lif):
                raise Unsupported(
                    name, layer, "it takes whole windows; put it into a SpikingNet, or use Leaky"
                )
            elif isinstance(layer, snntorch.SpikingNeuron):
                raise Unsupported(name, layer, NOT_EXPORTED)

        return entering

    def _leaving(self, name: str) -> Any:
        def leaving(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            changed = None
            if type(layer) in STATES:
                changed = self._answer(name, layer, output)
            else:
                self._apply(name, layer, [*args, *kwargs.values()], output)
            self._inside -= 1
            return changed

        return leaving

    def _apply(self, name: str, layer: nn.Module, args: list[Any], output: Any) -> None:
        """Learn what a layer without state gives; what it makes of constants stays a constant."""
        zero = len(args) == 1 and isinstance(args[0], Tensor) and silent(args[0])
        found = [e for leaf in flattened(args) if (e := self.known(leaf)) is not None]
        if not found and not zero:
            return
        if len(args) != 1 or not isinstance(output, Tensor):
            raise Unsupported(name, layer, NOT_EXPORTED)
        expression = found[0] if found else ZERO
        if not isinstance(layer, SKIPPED):
            expression = applied(name, expression, layers=self.layers)
        self._learn(output, expression)

    def _receive(self, name: str, layer: Any, args: Any, kwargs: Any) -> None:
        """Note what neurons receive, and check that their states are those of the last step."""
        given = dict(zip(("input_", *STATES[type(layer)]), args, strict=False)) | kwargs
        current = given["input_"]
        expression = self.known(current)
        if expression is None:
            if not silent(current):
                raise Unsupported(
                    name, layer, "it is fed by a constant that does not come from the input"
                )
            expression = ZERO
        step = len(self.received.setdefault(name, []))
        self.received[name].append(expression)
        for key in STATES[type(layer)]:
            held = given.get(key)
            held = getattr(layer, key) if held is None else held
            last = Value(name, step - 1) if key == "spk" else State(name, key, step - 1)
            if self.known(held) == last if step else self.known(held) is None and silent(held):
                continue
            what = "starts from a state that is not zero" if not step else (
                f"gets another {key!r} in step {step} than it gave in the step before"
            )  # fmt: skip
            raise Unsupported(
                name, layer, f"it {what}; reset it once before the loop and pass its states on"
            )

    def _answer(self, name: str, layer: Any, output: Any) -> Any:
        """Learn what neurons give; their spikes, which surrogates make float32, as float64."""
        step = len(self.received[name]) - 1
        whole = output if isinstance(output, tuple) else (output,)
        spikes = whole[0].double()
        if "spk" in STATES[type(layer)]:
            layer.spk = spikes
        self._learn(spikes, Value(name, step))
        for key in STATES[type(layer)]:
            if key != "spk":
                self._learn(getattr(layer, key), State(name, key, step))
        self.spikes.setdefault(name, []).append((spikes != 0).double())
        self.potentials.setdefault(name, []).append(layer.mem.clone())
        return (spikes, *whole[1:]) if isinstance(output, tuple) else spikes


_SHORTER = (torch.float16, torch.bfloat16, torch.float32)
_CASTS = ("to", "float", "double", "type", "type_as", "cpu")


def _is_layer(part: nn.Module) -> bool:
    """Whether forward is not looked into: neurons, and torch's layers without parts."""
    if isinstance(part, snntorch.SpikingNeuron):
        return True
    own = not type(part).__module__.startswith(("torch.", "snntorch."))
    norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
    return norm or (not own and not any(True for _ in part.children()))
