"""Moving weights to other grid points than the nearest, as the membrane likes it on samples.

Rounding error in one weight is made good by its neighbours, in the metric of the membrane. With f_j
the source's spikes as the membrane sees them (filtered by the leaks), the error of a neuron's
membrane over all samples is d' H d for weight errors d and H = mean of f f'; weights are rounded
one by one and what is left of each error moves on to those not rounded yet (Frantar et al., GPTQ,
arXiv 2210.17323; here with spikes and leaks in H).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikeport.export.calibrate import Calibration, Order
from spikeport.export.grid import Floats, Part, Source, float_weights, rounded
from spikeport.sim import floating
from spikeport.sim.product import prepare
from spikeport.sim.synapse import FloatConv2d, FloatDense

DAMPING = 0.01  # of the mean diagonal of H, so that silent inputs stay at their nearest
MOST_INPUTS = 2048  # weights of one neuron that are rounded together; H has their square
MOST_ROWS = 1 << 15  # moments of the samples from which H is estimated


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Weights that are rounded together: some sources of one population, each with its grid.
    order: of their rounding; then of every input points per unit, low and high integer and level
    (of 1 bit, else 0)."""

    sources: tuple[int, ...]
    w: Floats  # [n_out, inputs]
    order: Order
    per_unit: Floats
    low: Floats
    high: Floats
    level: Floats


def refined(
    part: Part, scale: float, calibration: Calibration, *, weights: bool = True, bias: bool = True
) -> Part:
    """`part` with its weights on those grid points at `scale`, and its bias at that value, which
    serve the membrane best on the samples. Rounding the result at `scale` moves no weight. The
    bias stays where it counts in units of weights, for NetX refuses one that fires too early."""
    sources = list(part.sources)
    for block in _blocks(part, scale, calibration) if weights else []:
        for i, w in zip(block.sources, _split(block, sources, _compensated(block)), strict=True):
            synapse = replace(sources[i].projection.synapse, w=w)  # type: ignore[arg-type]
            projection = replace(sources[i].projection, synapse=synapse)
            sources[i] = replace(sources[i], projection=projection, clip=1.0)
    found = replace(part, sources=tuple(sources))
    if bias and not part.bias_exp:
        extra = _missed(part, found, scale, calibration)
        found = replace(
            found, population=replace(part.population, bias=part.population.bias + extra)
        )
    return found


def _missed(exact: Part, found: Part, scale: float, calibration: Calibration) -> Floats:
    """[n]: the bias that makes good what the rounded weights, and sums that are floored, deliver
    too little on average."""
    steps = len(calibration.sent["input"])
    missed: Floats = np.zeros(exact.population.size)
    _, synapses = found.at(scale)
    for source, projection in zip(exact.sources, synapses, strict=True):
        values, largest = (
            calibration.sent[projection.source], calibration.largest(projection.source)
        )  # fmt: skip
        given = prepare(projection, shape=source.shape, largest=largest).delivered(values)
        mean = values.mean((0, 1), keepdims=True) / source.per_unit
        wanted = floating.synapse_sum(source.projection.synapse, mean)[0, 0]
        missed += (wanted - given.mean((0, 1)) / scale) * max(steps - projection.delay, 0) / steps
    keep_u, keep_v = (float(k.mean()) for k in (exact.population.keep_u, exact.population.keep_v))
    current = _seen(np.ones((steps, 1)), keep_u=keep_u, keep_v=keep_v).mean()
    potential = _seen(np.ones((steps, 1)), keep_u=0.0, keep_v=keep_v).mean()
    missed *= float(current / potential)
    return missed


def _split(block: _Block, sources: list[Source], w: Floats) -> list[Floats]:
    """The columns of a block as the weights of its sources, in their shapes."""
    parts, start = [], 0
    for i in block.sources:
        shape = float_weights(sources[i].projection).shape
        width = int(np.prod(shape[1:]))
        parts.append(w[:, start : start + width].reshape(shape))
        start += width
    return parts


def _blocks(part: Part, scale: float, calibration: Calibration) -> list[_Block]:
    """All dense sources in one block, every ungrouped convolution in one of its own."""
    dense = [i for i, s in enumerate(part.sources) if isinstance(s.projection.synapse, FloatDense)]
    groups = [dense] if dense else []
    for i, s in enumerate(part.sources):
        synapse = s.projection.synapse
        if isinstance(synapse, FloatConv2d) and synapse.geometry.groups == 1:
            groups.append([i])
    return [
        _block(part, scale, calibration, group)
        for group in groups
        if sum(_fan_in(part.sources[i]) for i in group) <= MOST_INPUTS
    ]


def _fan_in(source: Source) -> int:
    """Weights of one neuron."""
    w = float_weights(source.projection)
    return w.size // len(w)


def _block(part: Part, scale: float, calibration: Calibration, group: list[int]) -> _Block:
    keep_u, keep_v = (float(k.mean()) for k in (part.population.keep_u, part.population.keep_v))
    w, grids = [], []
    for i in group:
        s = part.sources[i]
        flat = float_weights(s.projection)
        flat = flat.reshape(len(flat), -1)
        q, k = rounded(s, scale, part.chip)
        level = float(np.abs(q).max()) if s.bits == 1 else 0.0
        low, high = min(-s.q_max, float(q.min())), max(s.q_max, float(q.max()))
        grid = [scale / s.per_unit * 2.0**k, low, high, level]
        w.append(flat)
        grids.append(np.repeat([grid], flat.shape[1], axis=0))

    def find() -> Order:
        rows = [_rows(part.sources[i], calibration, keep_u=keep_u, keep_v=keep_v) for i in group]
        return _order(np.concatenate(rows, 1))

    per_unit, low_, high_, level_ = np.concatenate(grids).T
    return _Block(
        sources=tuple(group), w=np.concatenate(w, 1), order=calibration.order(tuple(group), find),
        per_unit=per_unit, low=low_, high=high_, level=level_,
    )  # fmt: skip


def _rows(source: Source, calibration: Calibration, *, keep_u: float, keep_v: float) -> Floats:
    """[N, inputs of one neuron]: moments of the source as a membrane behind the leaks sees it."""
    projection = source.projection
    values = calibration.sent[projection.source] / source.per_unit
    late = np.zeros(values.shape)
    late[projection.delay :] = values[: max(len(values) - projection.delay, 0)]
    seen = _seen(late, keep_u=keep_u, keep_v=keep_v)
    synapse = projection.synapse
    if isinstance(synapse, FloatDense):
        found = seen.reshape(-1, synapse.w.shape[1])
    else:
        assert isinstance(synapse, FloatConv2d)
        maps = seen.reshape(-1, *source.shape)
        maps = maps[:: max(1, len(maps) // 64)]
        found = _columns(maps, synapse)
    return found[:: max(1, -(-len(found) // MOST_ROWS))]


def _columns(maps: Floats, conv: FloatConv2d) -> Floats:
    """[N * places, taps]: what the taps of an ungrouped convolution see in maps [N, C, H, W]."""
    g, (height, width) = conv.geometry, conv.w.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (g.padding[0],) * 2, (g.padding[1],) * 2))
    span = (g.dilation[0] * (height - 1) + 1, g.dilation[1] * (width - 1) + 1)
    view: Any = np.lib.stride_tricks.sliding_window_view
    windows: Floats = view(padded, span, axis=(2, 3))  # [N, C, H', W', *span]
    taps = windows[:, :, :: g.stride[0], :: g.stride[1], :: g.dilation[0], :: g.dilation[1]]
    return taps.transpose(0, 2, 3, 1, 4, 5).reshape(-1, conv.w[0].size)


def _seen(values: Floats, *, keep_u: float, keep_v: float) -> Floats:
    """Values [T, ...] filtered by both leaks along T."""
    u = v = np.zeros(values.shape[1:])
    seen = np.empty_like(values)
    for t, a in enumerate(values):
        u = keep_u * u + a
        v = keep_v * v + u
        seen[t] = v
    return seen


def _nearest(block: _Block, w: Floats, at: int) -> Floats:
    """The grid points nearest to the weights w [n_out] of input `at`."""
    per_unit, level = block.per_unit[at], block.level[at]
    q = np.clip(np.rint(w * per_unit), block.low[at], block.high[at])
    q = np.where(level > 0, np.where(w < 0, -level, level), q)
    return np.asarray(q / per_unit)


def _order(rows: Floats) -> Order:
    """From what the membrane sees of every input [N, inputs]: the busiest first, and the factor of
    H's inverse in that order."""
    h = rows.T @ rows / len(rows)
    h[np.diag_indices_from(h)] += DAMPING * float(np.diag(h).mean()) + 1e-12
    order = np.argsort(-np.diag(h), kind="stable")
    return order, np.linalg.cholesky(np.linalg.inv(h[np.ix_(order, order)])).T


def _compensated(block: _Block) -> Floats:
    """Weights rounded one input after the other; each error moves on."""
    order, upper = block.order
    w, chosen = block.w[:, order].copy(), np.empty_like(block.w)
    for i, column in enumerate(order):
        # A synapse that does not exist is not made one.
        chosen[:, column] = np.where(
            block.w[:, column] == 0, 0.0, _nearest(block, w[:, i], int(column))
        )
        error = (w[:, i] - chosen[:, column]) / upper[i, i]
        w[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    return chosen
