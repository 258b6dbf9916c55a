"""Sums of what spikes deliver, visited spike by spike: compiled, for dense synapses and
convolutions. int32 sums wrap as Lava's do, so they need no proof.

A dense synapse adds up the weight rows of the inputs that spiked. The sum of a group of rows stays
in vector registers, which no loop over numpy arrays makes a compiler do: `add_rows` is therefore
written twice, once in numpy, which says what it means, and once as the instructions it becomes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.cpython.unsafe.numbers import trailing_zeros
from numba.extending import intrinsic, overload

from spikeport.sim.kernel import compiled

LANES = 32
STRIP = 2 * LANES
"""Columns that are summed at a time; rows of weights are padded to a multiple."""
CHUNK = 16
"""Outputs of a convolution that are summed at a time; padded likewise."""
GROUP = 127
"""Rows that are summed in int16: 127 * 256 < 2**15."""


def lowest(word: Any) -> Any:
    """Place of the lowest one of a uint64 `word` that is not 0."""
    return (int(word) & -int(word)).bit_length() - 1


@overload(lowest)
def _compiled_lowest(word: Any) -> Any:
    def found(word: Any) -> Any:
        return trailing_zeros(word)  # type: ignore[call-arg]

    return found


@compiled
def ones_of(words: Any, at: Any) -> Any:
    """Write the places of the ones in `words` (uint64, lowest bit first) to `at` in rising order;
    returns how many there are."""
    count = 0
    for k in range(len(words)):
        word = words[k]
        while word:
            at[count] = 64 * k + lowest(word)
            count += 1
            word &= word - np.uint64(1)
    return count


def add_rows(w: Any, at: Any, first: Any, last: Any, low: Any, total: Any) -> None:
    """total[low : low + STRIP] += sum of w[at[first:last], low : low + STRIP].

    w: int8 or int16 [n_in, strips * STRIP] within +-256; at most `GROUP` rows; total: int32.
    """
    total[low : low + STRIP] += w[at[first:last], low : low + STRIP].sum(0, dtype=np.int32)


@intrinsic
def _add_rows(typing: Any, w: Any, at: Any, first: Any, last: Any, low: Any, total: Any) -> Any:
    """`add_rows` as vector instructions: each register of sums is int16, `LANES` wide."""
    signature = types.void(w, at, types.intp, types.intp, types.intp, total)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = {
            i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 1, 5)
        }
        _, _, start, stop, offset, _ = values
        word = offset.type
        held = ir.VectorType(ir.IntType(w.dtype.bitwidth), LANES)
        narrow, wide = (ir.VectorType(ir.IntType(bits), LANES) for bits in (16, 32))
        columns = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
        sums = [
            cgutils.alloca_once_value(builder, ir.Constant(narrow, None))
            for _ in range(STRIP // LANES)
        ]
        with cgutils.for_range_slice(builder, start, stop, ir.Constant(word, 1)) as (k, _):
            row = builder.zext(builder.load(builder.gep(arrays[1].data, [k])), word)
            place = builder.add(builder.mul(row, columns), offset)
            here = builder.bitcast(builder.gep(arrays[0].data, [place]), held.as_pointer())
            for i, total in enumerate(sums):
                part = builder.load(builder.gep(here, [ir.Constant(word, i)]), align=1)
                part = part if held == narrow else builder.sext(part, narrow)
                builder.store(builder.add(builder.load(total), part), total)
        out = builder.bitcast(builder.gep(arrays[5].data, [offset]), wide.as_pointer())
        for i, total in enumerate(sums):
            there = builder.gep(out, [ir.Constant(word, i)])
            grown = builder.add(
                builder.load(there, align=1), builder.sext(builder.load(total), wide)
            )
            builder.store(grown, there, align=1)
        return context.get_dummy_value()

    return signature, generate


@overload(add_rows)
def _compiled_add_rows(w: Any, at: Any, first: Any, last: Any, low: Any, total: Any) -> Any:
    def add(w: Any, at: Any, first: Any, last: Any, low: Any, total: Any) -> None:
        _add_rows(w, at, first, last, low, total)  # type: ignore[call-arg]

    return add


def add_chunk(total: Any, w: Any, low: Any) -> None:
    """total[low : low + CHUNK] += w[low : low + CHUNK]; int32 [n] and int16 [n]."""
    total[low : low + CHUNK] += w[low : low + CHUNK]


@intrinsic
def _add_chunk(typing: Any, total: Any, w: Any, low: Any) -> Any:
    """`add_chunk` as vector instructions."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        held, wide = (ir.VectorType(ir.IntType(bits), CHUNK) for bits in (16, 32))
        there, part = (
            builder.bitcast(
                builder.gep(context.make_array(kind)(context, builder, value).data, [values[2]]),
                vector.as_pointer(),
            )
            for kind, value, vector in zip(
                signature.args[:2], values[:2], (wide, held), strict=True
            )
        )
        more = builder.sext(builder.load(part, align=1), wide)
        builder.store(builder.add(builder.load(there, align=1), more), there, align=1)
        return context.get_dummy_value()

    return types.void(total, w, types.intp), generate


@overload(add_chunk)
def _compiled_add_chunk(total: Any, w: Any, low: Any) -> Any:
    def add(total: Any, w: Any, low: Any) -> None:
        _add_chunk(total, w, low)  # type: ignore[call-arg]

    return add


@compiled
def sum_rows(words: Any, w: Any, left: Any, out: Any) -> None:
    """out[r] = (sum of the rows of `w` at the ones of words[r]) << left: a product with spikes.

    words: uint64 [N, ceil(n_in / 64)]; w: int8 or int16 [n_in, strips * STRIP]; out: int32
    [N, n_out].
    """
    at = np.empty(64 * words.shape[1], np.int32)
    total = np.empty(w.shape[1], np.int32)
    shift = np.int32(left)
    for r in range(len(words)):
        count = ones_of(words[r], at)
        total[:] = 0
        for low in range(0, w.shape[1], STRIP):
            for first in range(0, count, GROUP):
                add_rows(w, at, first, min(first + GROUP, count), low, total)
        for j in range(out.shape[1]):
            out[r, j] = np.int32(total[j] << shift)


@compiled
def sum_taps(
    words: Any, w: Any, channel: Any, pixel: Any, first: Any, to: Any, tap: Any, groups: Any,
    out: Any,
) -> None:  # fmt: skip
    """out[r] = the convolution of the map of spikes words[r].

    words: uint64 [N, ceil(n_in / 64)]; w: int16 [C_in, taps, outputs of a group, padded to a
    multiple of `CHUNK`]; channel, pixel: of every input, int32 [n_in]; pixel p of a channel reaches
    pixel to[e] through tap[e] for e in first[p] .. first[p + 1] - 1; out: int32 [N, C_out, pixels].
    """
    width, per_in = w.shape[2], w.shape[0] // groups
    per_out = out.shape[1] // groups
    at = np.empty(64 * words.shape[1], np.int32)
    total = np.empty((groups, out.shape[2], width), np.int32)
    for r in range(len(words)):
        count = ones_of(words[r], at)
        total[:] = 0
        for k in range(count):
            c, p = channel[at[k]], pixel[at[k]]
            group = total[c // per_in]
            for e in range(first[p], first[p + 1]):
                for low in range(0, width, CHUNK):
                    add_chunk(group[to[e]], w[c, tap[e]], low)
        for g in range(groups):
            for j in range(per_out):
                row = out[r, g * per_out + j]
                for q in range(out.shape[2]):
                    row[q] = total[g, q, j]


@compiled
def sum_single_taps(
    words: Any, w: Any, channel: Any, pixel: Any, first: Any, to: Any, tap: Any, out: Any
) -> None:
    """As `sum_taps` where every channel has a map of its own, as in pools: w is int32
    [C_in, taps]."""
    at = np.empty(64 * words.shape[1], np.int32)
    for r in range(len(words)):
        out[r] = 0
        for k in range(ones_of(words[r], at)):
            c, p = channel[at[k]], pixel[at[k]]
            for e in range(first[p], first[p + 1]):
                out[r, c, to[e]] = np.int32(out[r, c, to[e]] + w[c, tap[e]])
