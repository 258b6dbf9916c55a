"""What lava-dl and Lava make of weights, and their defects that `netx_weights` knows.

A pin that fails tells that a later release has mended the defect, so that it need not be refused.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.hw import netx_weights
from spikeport.sim.synapse import Dense

Held = tuple[list[NDArray[Any]], int]


@pytest.fixture(scope="module")
def lava_dl() -> Iterator[Any]:
    """lava-dl's loader, imported without its noise."""
    from spikeport.hw.lava_import import quiet

    with quiet():
        netx = pytest.importorskip("lava.lib.dl.netx")
        yield netx


def held_by_lava(*weights: Any) -> Held:
    """Matrices that are quantised together, as Lava's synapses hold them, and the exponent."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    # lava-dl prints that it clips, and takes ratios before it looks for zeros.
    with np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        joint, bits, w_exp, _ = optimize_weight_bits(np.hstack(weights))
    found = []
    for part in np.split(joint, np.cumsum([w.shape[1] for w in weights])[:-1], axis=1):
        mode = determine_sign_mode(part)
        found.append(truncate_weights(clip_weights(part, mode, num_bits=8), mode, bits))
    return found, w_exp


def drawn(rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """One matrix or two, of all ranges and signs."""
    reach = int(rng.choice([20, 130, 300]))
    low, high = sorted(int(n) for n in rng.integers(-reach, reach + 1, 2))
    factor = int(rng.choice([1, 1, 2, 8]))
    weights = [
        rng.integers(low // factor, high // factor + 1, (2, rng.integers(1, 4))) * factor
        for _ in range(rng.integers(1, 3))
    ]
    one_signed = rng.random() < 0.3
    return (
        [w.clip(max=0) if rng.random() < 0.5 else w.clip(min=0) for w in weights]
        if one_signed
        else weights
    )


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # lava-dl's own
def test_weights_become_what_lava_holds_or_are_refused_when_that_is_useless(lava_dl: Any) -> None:
    rng = np.random.default_rng(3)
    same = changed = zeros = nine = 0
    for _ in range(3000):
        weights = drawn(rng)
        try:
            ours = netx_weights.load(*weights)
        except ValueError as refusal:
            if "cannot load" in str(refusal):
                assert not any(w.any() for w in weights)
                continue
            parts, _ = held_by_lava(*weights)
            if "nine bits" in str(refusal):
                nine += any((part % 2).any() for part in parts)
            else:
                assert not any(part.any() for part in parts), weights
                zeros += 1
            continue
        parts, w_exp = held_by_lava(*weights)
        assert ours.w_exp == w_exp
        for found, expected in zip(ours.parts, parts, strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=str(weights))
        differing = sum(int((p != w << -w_exp).sum()) for p, w in zip(parts, weights, strict=True))
        assert ours.changed(*weights) == differing
        changed += differing > 0
        same += differing == 0
    assert min(same, changed, zeros, nine) > 30, (same, changed, zeros, nine)


def test_what_is_held_can_be_programmed() -> None:
    """A `Dense` with the held weights keeps all of them."""
    for w in ([[-64, -1]], [[-128, -1, 0]], [[127, -128]], [[300, -300, 8]], [[3, 0]]):
        held = netx_weights.load(np.array(w))
        synapse = Dense(w=held.parts[0], w_exp=held.w_exp)
        np.testing.assert_array_equal(synapse.w_chip, held.parts[0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[0, 0]], r"^all weights are 0, which NetX cannot load; drop the layer$"),
        (
            [[256, 1]],
            r"^weights span 1\.\.256; NetX makes zeros of weights of one sign beyond 255, so"
            r" quantise to less$",
        ),
        (
            [[201, -2]],
            r"^weights span -2\.\.201 with odd ones; beyond -128\.\.127 Lava's simulator keeps nine"
            r" bits of them, which no chip has, so quantise to even weights$",
        ),
        (
            [[-1, -1]],
            r"^weights span -1\.\.-1; Lava makes zeros of all of them, so quantise to others$",
        ),
    ],
)
def test_useless_weights_are_refused(weights: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        netx_weights.load(np.array(weights))


@pytest.mark.lava
@pytest.mark.parametrize(
    ("weights", "effective"),
    [
        ([[-64, -1]], [[-63, -1]]),  # the lowest is a power of two: shifted to -256, clipped
        ([[-64, -32]], [[-32, -32]]),
        ([[-1, -1]], [[0, 0]]),
        ([[-200, -3, 0]], [[0, 0, 0]]),  # a sign bit is counted for the largest weight of 0
        ([[256, 2]], [[0, 0]]),  # a shift by -1
        ([[-257, -2]], [[0, 0]]),
        ([[-300, 0]], [[0, 0]]),
        ([[201, -3]], [[201, -3]]),  # nine bits, of which a chip has eight
        ([[300, -300, 8]], [[254, -256, 8]]),
    ],
)
def test_pinned_weights_that_netx_changes(
    weights: list[list[int]], effective: list[list[int]], lava_dl: Any
) -> None:
    (found,), w_exp = held_by_lava(np.array(weights))
    np.testing.assert_array_equal(found >> max(-w_exp, 0), effective)


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # lava-dl's own
def test_pinned_weights_of_zero_cannot_be_loaded(lava_dl: Any) -> None:
    with pytest.raises(OverflowError, match="cannot convert float infinity to integer"):
        held_by_lava(np.zeros((2, 3), int))
