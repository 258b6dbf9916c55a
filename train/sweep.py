"""Many runs of one configuration: every combination of the values on some axes.

sweep/NAME/              a run folder each, see `spikeport.train.loop`; NAME says its settings
sweep/NAME/result.json   settings, how it ended, summary, last figures of both phases
sweep/sweep.json         all of these
sweep/sweep.csv          the same as a table

Runs are processes of their own, here or on the workers of a Dask cluster, which then need this
package and the same file system. Started again, a sweep keeps the runs that are done and goes on
with the others where they stopped.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from spikeport.sim import apart
from spikeport.sim.files import write_text
from spikeport.train.config import Config, override, to_toml
from spikeport.train.config import load as load_config
from spikeport.train.floating import CONFIG
from spikeport.train.journal import METRICS, flat, table
from spikeport.train.loop import SUMMARY, Summary, fit, make

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Axes = Mapping[str, Sequence[Any]]
"""A key of the configuration, such as "methods.mpd_sgr.eta": the values that it takes."""
Result = dict[str, Any]
RESULT = "result.json"


def axes_of(settings: Sequence[str]) -> dict[str, list[Any]]:
    """Axes from texts such as "train.seed=0,1,2"; a value is TOML, or else plain text.

    Raises ValueError for no text, one of another form, an empty axis, or one that comes twice.
    """
    if not settings:
        raise ValueError("--jobs and --cluster are for sweeps; say what to try with --sweep")
    axes: dict[str, list[Any]] = {}
    for setting in settings:
        key, equals, text = (part.strip() for part in setting.partition("="))
        if not (key and equals and text):
            raise ValueError(f"--sweep {setting!r}: write it as section.key=value,value")
        if key in axes:
            raise ValueError(f"--sweep {setting!r}: {key} is an axis already; name it once")
        try:
            axes[key] = tomllib.loads(f"values = [{text}]")["values"]
        except tomllib.TOMLDecodeError:
            axes[key] = [value.strip() for value in text.split(",")]
    return axes


def sweep(
    config: Config,
    axes: Axes,
    folder: Path | str,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train `config` with every combination of values on `axes` into `folder`, made if needed.

    jobs: runs at a time, which share the processors of this machine. cluster: address of a Dask
    scheduler whose workers train instead. progress: gets a sentence for every run that ends. The
    result, JSON-able, is what sweep.json holds: "folder", "failed" (a count), "runs". A run that
    fails is reported in it and others go on. Raises ValueError, before anything runs, for an
    impossible combination or a folder with other runs.
    """
    folder = Path(folder)
    jobs = apart.processes(jobs, where="sweep")
    runs = _planned(config, axes, folder)
    for run, (_, own) in runs.items():
        make(run)
        write_text(run / CONFIG, to_toml(own))
    done: dict[Path, Result] = {}
    wanted = [str(run.resolve()) for run in runs if not _is_done(run)]
    here = {str(run.resolve()): run for run in runs}
    task = f"{train_here.__module__}:{train_here.__name__}"
    trained = apart.each(task, wanted, where="sweep", jobs=jobs, cluster=cluster)
    with closing(trained) as ended:
        for name, failure in ended:
            run = here[name]
            done[run] = _result(run, runs[run][0], failure)
            progress(f"{len(done)} of {len(runs)}: {describe(done[run])}")
    results = [done.get(run) or _result(run, runs[run][0], None) for run in runs]
    failed = sum(result["status"] == "failed" for result in results)
    report = {"folder": str(folder), "failed": failed, "runs": results}
    write_text(folder / "sweep.json", json.dumps(report, indent=1) + "\n")
    rows = [flat({k: v for k, v in r.items() if k != "metrics"}) for r in results]
    write_text(folder / "sweep.csv", table(rows))
    return report


def describe(result: Result) -> str:
    """One run of a sweep in one sentence."""
    if result["status"] == "failed":
        return f"{result['name']} failed: {result['error']}"
    summary = result["summary"]
    return (
        f"{result['name']}: test accuracy {summary['float_test_accuracy']:.2%} float,"
        f" {summary['quantised_test_accuracy']:.2%} on the chip's integers"
    )


def _planned(config: Config, axes: Axes, folder: Path) -> dict[Path, tuple[dict[str, Any], Config]]:
    """Per run folder its settings and configuration; ValueError if one of them cannot be."""
    runs: dict[Path, tuple[dict[str, Any], Config]] = {}
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        # JSON of a number, a text or a list of these is TOML too.
        own = override(config, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
        run = folder / _name(settings)
        if run in runs:
            raise ValueError(
                f"sweep: two runs would be called {run.name}; give every value once, and values"
                " that differ in more than punctuation"
            )
        if (run / CONFIG).exists() and load_config(run / CONFIG) != own:
            raise ValueError(
                f"{run}: holds a run of another configuration; compare its {CONFIG}, or name "
                "another folder for the sweep"
            )
        runs[run] = (settings, own)
    if not runs:
        raise ValueError("sweep: an axis has no values; give each at least one")
    return runs


def _name(settings: Mapping[str, Any]) -> str:
    """A folder name that says the settings."""
    texts = [f"{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
    return re.sub(r"[^A-Za-z0-9._=+-]", "-", "_".join(texts)) or "run"


def _is_done(run: Path) -> bool:
    return (run / SUMMARY).is_file()


def train_here(run: str) -> None:
    """Train, or go on training, the run folder `run` as its configuration says."""
    fit(load_config(Path(run) / CONFIG), run, resume=True, progress=False)


def _result(run: Path, settings: Mapping[str, Any], failure: str | None) -> Result:
    """What became of a run, which is also written into it."""
    result: Result = {"name": run.name, "folder": str(run), "settings": dict(settings)}
    if failure is None:
        try:
            lines = map(json.loads, (run / METRICS).read_text(encoding="utf-8").splitlines())
            last = {line["phase"]: line for line in lines}
            summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
            Summary(**summary)
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise ValueError(
                f"{run}: its {METRICS} or {SUMMARY} is missing or damaged ({problem}); remove the"
                " folder to train it again"
            ) from None
        result |= {"status": "done", "summary": summary, "metrics": last}
    else:
        result |= {"status": "failed", "error": failure}
    write_text(run / RESULT, json.dumps(result, indent=1) + "\n")
    return result
