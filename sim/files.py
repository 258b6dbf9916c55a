"""Writing files so that a reader never meets half of one; arrays as numpy saves them.

Stands on its own: deployment folders carry this file.
"""

from __future__ import annotations

import io
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What numpy raises of damaged files; a damaged shape may ask for more memory than there is.
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, OverflowError, tokenize.TokenError)
# And zipfile, of archives; RuntimeError where it takes them for encrypted.
UNREADABLE_ZIP = (*UNREADABLE, zipfile.BadZipFile, zlib.error, RuntimeError)


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it replaces `path`.

    On an exception the temporary file is removed and an older `path` stays as it was. Raises
    FileNotFoundError with a sentence when the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first")
    with naming(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes files for the owner only; a result file gets the usual permissions.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in errors of the system that name nothing, or the temporary place beside it."""
    beside = os.path.abspath(path.parent / f".{path.name}.")
    try:
        yield
    except OSError as problem:
        known = problem.filename
        if problem.errno is None or not (
            known is None or os.path.abspath(known).startswith(beside)
        ):
            raise
        raise OSError(problem.errno, os.strerror(problem.errno), str(path)) from problem


@contextmanager
def hdf5(path: Path | str) -> Iterator[Any]:
    """Yield a new HDF5 file, built in memory; when the block ends well it replaces `path`.

    Written by the HDF5 library itself a full disk ends the process (segmentation fault at close).
    """
    import h5py

    content = io.BytesIO()
    with atomic(path) as temporary:
        with h5py.File(content, "w") as file:
            yield file
        temporary.write_bytes(content.getbuffer())


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_taken(path: Path, *, what: str) -> None:
    """Raise ValueError where `path`, a new "file" or "folder", exists already, or the folder that
    is to hold it does not."""
    if path.exists():
        raise ValueError(f"{path}: exists already; name a new {what}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist; create it first")


def read_array(path: Path) -> NDArray[Any]:
    """The array in an .npy file. Raises ValueError for anything else, archives and pickles too."""
    try:
        with open(path, "rb") as file:  # numpy.load takes archives, and stumbles over cut ones
            found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except UNREADABLE as problem:
        raise ValueError(
            f"{path}: cannot be read as a .npy file ({problem}); save one array with numpy.save"
        ) from problem
    return found
