"""The one learned quantity of a layer on the chip's grids.

With q = round(S W), v_th = round(S V) and bias = round(64 S b), the parameters c W, c b, c V and
S / c are the same integers for every c > 0: once weights and biases are free, S and V are one
degree of freedom, S V, the integers that make a threshold. So one of them is learned:

    scale      S, with V fixed: weights keep their size in thresholds, the grid moves under them
    threshold  V, with S fixed: the grid stays, the threshold moves
    none       neither

Learning S is learning the step size s = 1 / S of LSQ (arXiv 1902.08153): the quantised weight q s
has d(q s)/ds = round(w/s) - w/s on the grid and -q_max or q_max beyond its ends. Spikes see q and
v_th only through u / v_th, and the surrogate's window is relative too (TrSG, arXiv 2511.08708), so
gradients of W, b, V and log S do not depend on how large the integers are.
"""

from __future__ import annotations

import math

from torch import Tensor

LEARNED = ("scale", "threshold", "none")


def balance(step: float, *, weights: int, q_max: int) -> float:
    """What the gradient of log S is multiplied by, so that gradient descent moves s as LSQ does.

    LSQ multiplies ds by g = 1 / sqrt(n q_max), n weights, which makes relative steps of s as large
    as those of the weights; the gradient of log s is s ds and a step of it one of s over s, hence
    g / s^2. step: s in the weights' unit, > 0. Adam divides by the size of gradients and takes none
    of it: its steps are the learning rate, relative ones of weights that over their size, and so
    are those of log S (`QuantNet.paces`).
    """
    return 1 / (step**2 * math.sqrt(weights * q_max))


def balanced(x: Tensor, factor: float) -> Tensor:
    """x, its gradient multiplied by `factor`."""
    return x.detach() + (x - x.detach()) * factor
