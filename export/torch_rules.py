"""What a call of a torch function in a module's forward means for the tensors it gets.

Each rule gets the call and returns the expression of its result, or refuses in one sentence. Only
what a chip can do has a rule: sums, constant factors, flattening, average pooling, and picking or
collecting steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikeport.export.expressions import (
    ZERO,
    Applied,
    Expression,
    Reshaped,
    Times,
    Total,
    Value,
    Window,
    applied,
    total,
)
from spikeport.export.layers import NO_MAXIMUM
from spikeport.export.torch_calls import Call, flattened, number

CONSTANT = (
    "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros",
    "new_ones", "new_empty", "new_full", "new_tensor",
)  # fmt: skip
READ = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero")


def meaning(call: Call) -> Expression | None:
    """The expression of the call's result; None where it is a constant or no tensor."""
    if call.name in CONSTANT:
        return None
    if call.name in READ:
        call.refuse("makes forward depend on values; chips run the same in every case")
    rule = RULES.get(call.name.removesuffix("_") if call.name[-2:] != "__" else call.name)
    if rule is None:
        if not any(isinstance(leaf, Tensor) for leaf in flattened(call.result)):
            return None  # a size, a type, a device
        call.refuse()
    assert rule is not None
    if call.name.endswith("_") and isinstance(call.args[0], Tensor):
        in_place = call.result is call.args[0]
        if in_place and call.args[0]._base is not None:
            call.refuse("changes a view in place; write the result to a new variable")
    return rule(call)


def picked(expression: Expression, index: int, *, call: Call, axis: int = 0) -> Expression:
    """Entry `index` of what `expression` holds along dimension `axis`, time."""
    e = expression
    if isinstance(e, Window) and e.axis == axis:
        return e.items[index]
    if isinstance(e, Value) and e.source == "input" and e.step is None:
        call.axes.add(axis)
        return Value("input", index)
    if isinstance(e, Total):
        return total(*(picked(term, index, call=call, axis=axis) for term in e.terms))
    if isinstance(e, Times):
        return Times(e.factor, picked(e.to, index, call=call, axis=axis))
    if isinstance(e, Reshaped) and not axis:
        return Reshaped(e.shape[1:], picked(e.to, index, call=call))
    if isinstance(e, Applied) and isinstance(call.layers[e.layer], nn.Linear):
        inner = picked(e.to, index, call=call, axis=axis)
        return applied(e.layer, inner, layers=call.layers)
    call.refuse("picks samples or channels; only steps can be picked, as x[step] or x[:, step]")
    return ZERO


def _same(call: Call) -> Expression:
    return call.main()


def _reshaped(call: Call) -> Expression:
    main = call.main()
    before, after = tuple(call.args[0].shape), tuple(call.result.shape)
    if before == after:
        return main
    if call.name == "unsqueeze" and call.argument(1, "dim", None) == 0:
        return Window((main,))
    if isinstance(main, Window) and before[:2] == after[:2]:
        item = (before[1 - main.axis], *after[2:])
        return Window(tuple(Reshaped(item, e) for e in main.items), main.axis)
    if isinstance(main, Window) or before[:1] != after[:1]:
        call.refuse("mixes steps or samples; flatten each sample only, for instance flatten(1)")
    return Reshaped(after, main)


def _transposed(call: Call) -> Expression:
    main, swapped = call.main(), call.args[0].transpose(0, 1)
    if (swapped.shape, swapped.stride()) != (call.result.shape, call.result.stride()):
        call.refuse("moves more than time and samples; swap these two only, as x.transpose(0, 1)")
    if isinstance(main, Window):
        return Window(main.items, 1 - main.axis)
    steps = range(len(swapped))
    return Window(tuple(picked(main, step, call=call, axis=1) for step in steps))


def _repeated(call: Call) -> Expression:
    main, before, after = call.main(), tuple(call.args[0].shape), tuple(call.result.shape)
    if isinstance(main, Window) and not main.axis and before == (1, *after[1:]):
        return Window(main.items * after[0])
    if isinstance(main, Window) or before != after[1:]:
        call.refuse("repeats values; repeat whole samples over time only")
    return Window((main,) * after[0])


def _sum_of_two(call: Call) -> Expression:
    if call.kwargs.get("alpha", 1) != 1:
        call.refuse("scales by alpha; multiply by a number instead")
    terms = [call.operand(value) for value in call.args[:2]]
    if any(isinstance(value, Tensor) and value.shape != call.result.shape and call.known(value)
           for value in call.args[:2]):  # fmt: skip
        call.refuse("repeats values to fit a larger shape; add tensors of one shape")
    if any(isinstance(term, Window) for term in terms):
        call.refuse("adds whole windows; add the two in every step")
    return total(*terms)


def _difference(call: Call) -> Expression:
    a, b = call.args[:2] if call.name not in ("__rsub__", "rsub") else call.args[1::-1]
    minus = _times(-1.0, call.operand(b))
    if any(isinstance(e, Window) for e in (call.operand(a), minus)):
        call.refuse("subtracts whole windows; subtract in every step")
    return total(call.operand(a), minus)


def _product(call: Call) -> Expression:
    a, b = call.args[:2]
    factor, main = (a, call.known(b)) if call.known(a) is None else (b, call.known(a))
    if main is None or call.known(factor) is not None or not number(factor):
        call.refuse("multiplies tensors, which no chip does; use a layer with weights or a number")
    assert main is not None
    return _times(float(factor), main)


def _quotient(call: Call) -> Expression:
    if call.known(call.args[1]) is not None or not number(call.args[1]):
        call.refuse("divides by a tensor, which no chip does; divide by a number")
    return _times(1.0 / float(call.args[1]), call.main())


def _negative(call: Call) -> Expression:
    return _times(-1.0, call.main())


def _times(factor: float, e: Expression) -> Expression:
    if isinstance(e, Times):
        factor, e = factor * e.factor, e.to
    if factor == 1.0 or e == ZERO:
        return e
    return ZERO if factor == 0.0 else Times(factor, e)


def _stacked(call: Call) -> Expression:
    axis = call.argument(1, "dim", 0)
    if axis not in (0, 1):
        call.refuse("stacks behind the samples; put time into the first dimension or the second")
    return Window(tuple(call.operand(item) for item in call.args[0]), axis)


def _joined(call: Call) -> Expression:
    windows = [call.known(item) for item in call.args[0]]
    steps = all(isinstance(w, Window) and not w.axis for w in windows)
    if call.argument(1, "dim", 0) != 0 or not steps:
        call.refuse("joins neurons or samples; stack steps, and add branches up")
    return Window(tuple(item for w in windows if isinstance(w, Window) for item in w.items))


def _over_time(call: Call) -> Expression:
    main = call.main()
    dims = call.argument(1, "dim", None)
    dims = tuple(dims) if isinstance(dims, (list, tuple)) else (dims,)
    if not isinstance(main, Window) or dims != (main.axis,):
        call.refuse("adds up neurons or samples; sum recorded steps along their dimension")
    assert isinstance(main, Window)
    return _times(1.0 if call.name == "sum" else 1 / len(main.items), total(*main.items))


def _indexed(call: Call) -> Expression:
    if call.name == "select":
        axis, step = call.args[1:3]
    else:
        index = call.args[1]
        same = call.result.shape == call.args[0].shape
        if same and (isinstance(index, slice) or index is Ellipsis):
            return call.main()
        axis, step = _place(index)
    if step is None:
        call.refuse("picks more than one step or a part of a sample; pick x[step] or x[:, step]")
    return picked(call.main(), step % call.args[0].shape[axis], call=call, axis=axis)


def _place(index: Any) -> tuple[int, Any]:
    """The dimension, 0 or 1, and the step that an index picks of it; None for any other index."""
    first, *rest = index if isinstance(index, tuple) else (index,)
    axis = int(isinstance(first, slice) and first == slice(None) and bool(rest))
    if axis:
        first, *rest = rest
    whole = all(part is Ellipsis or part == slice(None) for part in rest)
    fits = isinstance(first, int) and not isinstance(first, bool) and whole
    return axis, first if fits else None


def written(call: Call) -> Expression:
    """What a tensor is after `tensor[step] = value`, which keeps steps in a tensor of zeros."""
    target, index, value = call.args
    before = call.known(target)
    rows = before.items if isinstance(before, Window) else (ZERO,) * len(target)
    axis, step = _place(index)
    fits = isinstance(value, Tensor) and value.shape == target[0].shape
    empty = isinstance(before, Window) or (before is None and not target.any())
    if step is None or axis or not (fits and empty):
        call.refuse("writes into a tensor; collect steps in a list, or as kept[step] = spikes")
    at = (step or 0) % len(rows)
    return Window((*rows[:at], call.operand(value), *rows[at + 1 :]))


def _average_pool(call: Call) -> Expression:
    keys = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    given = dict(zip(keys, call.args[1:], strict=False)) | dict(call.kwargs)
    kind = nn.AvgPool1d if "1d" in call.name else nn.AvgPool2d
    if "stride" in given and given["stride"] in ((), None):
        del given["stride"]
    return Applied(call.keep(call.name, kind(**given)), call.main())


def _dropout(call: Call) -> Expression:
    if call.argument(2, "training", True):
        call.refuse("draws random numbers even in eval(); pass training=self.training")
    return call.main()


def _max_pool(call: Call) -> Expression:
    call.refuse(f"cannot be exported: {NO_MAXIMUM}")
    return ZERO


RULES: Mapping[str, Callable[[Call], Expression]] = {
    **dict.fromkeys(("clone", "detach", "contiguous", "cpu", "to", "float", "double", "type",
                     "type_as", "requires_grad", "alias"), _same),
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "ravel"), _reshaped),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
                    _transposed),
    **dict.fromkeys(("repeat", "expand"), _repeated),
    **dict.fromkeys(("add", "__add__", "__radd__", "__iadd__"), _sum_of_two),
    **dict.fromkeys(("sub", "__sub__", "__rsub__", "rsub", "__isub__", "subtract"), _difference),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "__imul__", "multiply"), _product),
    **dict.fromkeys(("div", "__truediv__", "true_divide", "__itruediv__", "divide"), _quotient),
    **dict.fromkeys(("neg", "__neg__", "negative"), _negative),
    **dict.fromkeys(("__getitem__", "select"), _indexed),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _average_pool),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "feature_dropout"), _dropout),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "boolean_dispatch", "max_pool2d_with_indices",
                     "adaptive_max_pool2d"), _max_pool),
    **dict.fromkeys(("cat", "concat", "concatenate"), _joined),
    "stack": _stacked,
    "sum": _over_time,
    "mean": _over_time,
}  # fmt: skip


def steps_of(tensor: Tensor, axis: int) -> tuple[Tensor, ...]:
    """The steps of a tensor that is being iterated over, as tensors of their own."""
    with torch.no_grad():
        return tensor.unbind(axis)
