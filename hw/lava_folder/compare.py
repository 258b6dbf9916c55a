"""What run.py does once the folder is known to be whole: run the network and compare every spike.

Exit codes are those of run.py; without a comparison there is no result.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spikeport.hw.lava_axes import to_rows
from spikeport.hw.lava_board import board_status
from spikeport.hw.lava_folder import options
from spikeport.hw.lava_folder.run import RESULT, SUMS, fail, sums
from spikeport.hw.lava_guard import check_timeout, guarded
from spikeport.hw.lava_import import LavaError, require
from spikeport.sim.files import write_text

HERE = Path(__file__).resolve().parent
BOARD = "board, a path that was written without one and has never run before"


def main(words: Sequence[str]) -> int:
    """Run as `words`, the command line, say; the exit code."""
    wanted = options.arguments(out=HERE / RESULT).parse_args(words)
    try:
        out = wanted.out.resolve()
        make_room(out)
        check_timeout(wanted.timeout)
        require()
        result = compare(wanted, board=on_board(wanted))
        with writing(out):
            write_text(out, json.dumps(result, indent=1) + "\n")
    except (LavaError, ValueError, OSError) as problem:
        return fail(str(problem))
    print("\n".join(describe(result)))
    return 0 if result["passed"] else 1


def make_room(out: Path) -> None:
    """Remove what is at `out`, so that no older result passes for this run's; ValueError unless a
    file can be written there."""
    if out in {HERE / name for name in (SUMS, *sums(HERE))}:
        raise ValueError(f"--out {out} is a file of the deployment; name another")
    with writing(out):
        if out.exists() and not out.is_file():
            raise ValueError(f"--out {out} is no file; name another")
        out.unlink(missing_ok=True)
        write_text(out, "")
        out.unlink()


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Inside, an error of the system is the ValueError that `out` cannot be written."""
    try:
        yield
    except OSError as problem:
        why = problem.strerror or problem
        raise ValueError(f"--out {out} cannot be written ({why}); name another file") from None


def on_board(wanted: argparse.Namespace) -> bool:
    """Whether to run on a board; ValueError if there is none and an option needs one."""
    given = options.for_boards(vars(wanted))
    why = "--simulator was given" if wanted.simulator else board_status()
    if why is not None:
        options.refuse(given, why=why)
    return why is None


def compare(wanted: argparse.Namespace, *, board: bool) -> dict[str, Any]:
    """Run and compare; the content of result.json."""
    net = json.loads((HERE / "network.json").read_text(encoding="utf-8"))
    with np.load(HERE / "vectors.npz") as file:
        vectors = {name: file[name] for name in file}
    names, read = [p["name"] for p in net["populations"]], net["readout"]
    samples = sample_count(wanted.samples, available=vectors["x"].shape[1])
    played = {k: v[..., :samples, :] for k, v in vectors.items() if k != "x"}  # [..., B, n]
    default = [telling(names, read["population"], played)] if board else names
    job = job_of(wanted, names, default, samples=samples, board=board)
    job["potentials"] = "logits" in vectors and not board
    found, profile = play(net, job, timeout_s=wanted.timeout)
    counts = {name: counted(found[name], played[f"spikes.{name}"]) for name in job["populations"]}
    logits = None
    if job["potentials"]:
        v = found[None].astype(np.int64)
        logits = counted(v[-1] if read["kind"] == "last_v" else v.sum(0), played["logits"])
    left = [name for name in names if name not in counts]
    if "logits" in vectors and logits is None:
        left.append(f"{read['population']}, {read['kind']}")
    return {
        "passed": not any(c["differing"] for c in (*counts.values(), logits or {"differing": 0})),
        "digest": net["digest"],
        "ran_on": BOARD if board else "Lava's CPU simulator",
        "built_from": "arrays" if net["netx"] is None else "the NetX file",
        "samples": samples,
        "of": vectors["x"].shape[1],
        "populations": counts,
        "readout": read,
        "logits": logits,
        "not_compared": left,
        "missing": None if board or wanted.simulator else board_status(),
        "profile": profile,
    }


def sample_count(samples: int | None, *, available: int) -> int:
    """How many of the `available` samples to play; None: all."""
    number = available if samples is None else samples
    if not 1 <= number <= available:
        raise ValueError(f"--samples is {number}; allowed are 1..{available}")
    return number


def telling(names: list[str], read: str, played: dict[str, Any]) -> str:
    """The one population to compare on a board, among all `names` in order, by the spikes of the
    samples that are `played`: the one that is `read`, or, if that never fires, as one whose
    potentials are read, the last that does."""
    order = [*names, read]
    return next((name for name in reversed(order) if played[f"spikes.{name}"].any()), read)


def job_of(
    wanted: argparse.Namespace, names: list[str], default: list[str], *, samples: int, board: bool
) -> dict[str, Any]:
    """What the child shall do, checked. default: the populations to record if none are named."""
    chosen = default
    if wanted.populations is not None:
        chosen = wanted.populations.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(f"--populations names {unknown[0]!r}; allowed are {', '.join(names)}")
    said = {name: vars(wanted)[name] for name in options.FOR_BOARDS}
    given = {name: value for name, value in said.items() if value is not None}
    return {
        "samples": samples,
        "populations": chosen,
        "board": board,
        "host": {**said, **options.DEFAULTS, **given},
        "profile": wanted.profile,
    }


def counted(found: Any, expected: Any) -> dict[str, int]:
    """How much of `found` differs from `expected`, both [..., B, n], and how many of the expected
    are not 0."""
    return {
        "differing": int((found != expected).sum()),
        "compared": expected.size,
        "not_0": int((expected != 0).sum()),
    }


def play(net: dict[str, Any], job: dict[str, Any], *, timeout_s: float) -> tuple[Any, Any]:
    """Run `job` in a guarded child process: recorded spikes uint8 [T, B, n] by population, and
    potentials of the readout, if wanted, under None; what the board's loggers measured, by name
    and for each execution."""
    with tempfile.TemporaryDirectory(prefix="deployed-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        try:
            guarded([sys.executable, str(HERE / "play.py"), name], folder, timeout_s=timeout_s)
        except TimeoutError:
            raise LavaError(
                f"Lava did not finish within {timeout_s:g} s; give it a longer --timeout or fewer"
                " --samples"
            ) from None
        found: dict[str | None, Any] = {}
        for i, p in enumerate(net["populations"]):
            parts = [(p["name"], str(i))] if p["name"] in job["populations"] else []
            if job["potentials"] and p["name"] == net["readout"]["population"]:
                parts.append((None, "v"))
            for key, part in parts:
                found[key] = window(folder, part, net, depth=p["depth"], samples=job["samples"])
        profile = folder / "profile.json"
        return found, json.loads(profile.read_text("utf-8")) if profile.exists() else None


def window(folder: Path, part: str, net: dict[str, Any], *, depth: int, samples: int) -> Any:
    """Recording `part` [T, B, n] of a population at `depth`, cut out of all chip steps of all
    executions."""
    steps, size = net["steps"], 1 if net["one_by_one"] else samples
    parts = []
    for execution in range(samples // size):
        rows = np.load(folder / f"{execution}.{part}.npy")[depth : depth + size * steps]
        parts.append(to_rows(rows).reshape(size, steps, -1))
    return np.concatenate(parts).swapaxes(0, 1)


def describe(result: dict[str, Any]) -> list[str]:
    """The result for people."""
    lines = [
        f"{name}: {count['differing']} of {count['compared']:,} spikes differ"
        f" ({count['not_0']:,} fired)"
        for name, count in result["populations"].items()
    ]
    if result["logits"]:
        read, count = result["readout"], result["logits"]
        lines.append(
            f"{read['population']}, {read['kind']}: {count['differing']} of {count['compared']:,}"
            " potentials differ"
        )
    lines += [f"{name}: not compared" for name in result["not_compared"]]
    for name, values in (result["profile"] or {}).items():
        several = f", mean of {len(values)} executions" if len(values) > 1 else ""
        lines.append(f"{name}: {np.mean(values):.6g}{several}")
    verdict = "as expected" if result["passed"] else "NOT as expected"
    lines.append(
        f"{verdict}: {result['samples']} of {result['of']} samples on {result['ran_on']}, built"
        f" from {result['built_from']}"
    )
    return lines + ([result["missing"]] if result["missing"] else [])
