"""Memory that is freed and asked for again many times a second, kept instead of given back.

A step of training or attack, or a run of the engine, frees and takes the same tens of megabytes.
The C library gives large blocks back to the system at once and takes them anew, and every page then
costs a fault: measured on two machines, up to half of a step.
"""

from __future__ import annotations

import ctypes

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30
LARGEST_BYTES = 1 << 25
"""The largest that the library lets a program choose on 64-bit machines."""


def keep_freed() -> bool:
    """Ask the C library to keep blocks of up to `LARGEST_BYTES`, `KEPT_BYTES` in all, for this
    process. Returns whether it does; libraries other than GNU's decide for themselves."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_MMAP_THRESHOLD, LARGEST_BYTES), mallopt(_TRIM_THRESHOLD, KEPT_BYTES)])
