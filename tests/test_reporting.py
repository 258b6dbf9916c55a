"""The page of `spikeport report`: what stands in it, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import fields, replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from spikeport import reporting
from spikeport.hw.constants import SCALED, SETS
from spikeport.hw.mesh import MESH
from spikeport.hw.target import TARGETS
from spikeport.sim import bundle as bundles
from spikeport.sim import engine
from spikeport.sim.bundle import Vectors
from spikeport.sim.describe import describe
from spikeport.sim.net import FixedNet

NEEDED = pytest.mark.skipif(
    any(find_spec(name) is None for name in reporting.NEEDED),
    reason="comes with Lava, or with the extra report",
)
VOID = {"meta"}


class Page(HTMLParser):
    """Headings, tables as rows of cells, attributes and all text of a page; refuses tags that do
    not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        here = self.open[-1] if self.open else ""
        if here in ("th", "td"):
            self.tables[-1][-1][-1] += data
        elif here in ("h1", "h2", "h3"):
            self.headings[-1] += data

    def table(self, *head: str) -> list[list[str]]:
        """The first table whose head begins so."""
        return next(t for t in self.tables if tuple(t[0][: len(head)]) == head)


def written(cli: Any, out: Path, *line: str, source: str = "bundle") -> Page:
    """The page that the command writes."""
    done = cli.spikeport("report", source, "--out", str(out), *line)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"wrote {out}: the network fits {line[1]}"]
    return Page(out.read_text("utf-8"))


@pytest.fixture(autouse=True)
def _here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)


@pytest.fixture(scope="module")
def page(cli: Any, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """What the command writes about the small bundle with everything asked."""
    line = ("--target", "loihi2", "--runtime", "scaled", "--fault", "stuck:lif1:3")
    out = tmp_path_factory.mktemp("page") / "page.html"
    return written(cli, out, *line, source=str(finished / "bundle"))


@NEEDED
def test_it_says_what_the_commands_say(page: Page, cli: Any) -> None:
    line = ("bundle", "--target", "loihi2")
    cost = cli.spikeport("cost", *line, "--runtime", "scaled", "--fault", "stuck:lif1:3").stdout
    check = cli.spikeport("check", *line).stdout
    for table in (page.table("mean of a sample"), page.table("layer"), page.table("", "axons in")):
        text = cost + check
        assert len(table) > 2
        for row in table:
            words = " +".join(map(re.escape, filter(None, (" ".join(c.split()) for c in row))))
            assert re.search(words, text), row
    bundle = bundles.read(Path("bundle"))
    assert describe(bundle.net) in page.text
    assert (bundle.folder / "report.txt").read_text("utf-8") in page.text
    assert "proven: no input can wrap u or clip v" in page.text
    assert "torch integers against engine" in page.text
    assert "boards reset at intervals that are powers of two" in page.text
    assert page.headings == [
        "bundle on loihi2", "Network", "Rules", "Placement", "Cost", "Layers", "Floor plan",
        "Roofline", "Export", "Rounding, and the proof that nothing overflows",
        "Fidelity at export", "Where the numbers are from", "Energy and time", "Run-time model",
        "loihi2",
    ]  # fmt: skip


@NEEDED
def test_every_number_stands_there_with_its_source(page: Page) -> None:
    rows = [
        row for table in page.tables if table[0] == ["number", "value", "source"] for row in table
    ]
    found = {name: source for name, _, source in rows}
    chip, core = TARGETS["loihi2"].chip, TARGETS["loihi2"].core
    named: dict[str, Any] = {
        **{s.name: s for s in SETS},
        "scaled": SCALED,
        "chip": chip,
        "core": core,
        "mesh": MESH,
    }
    for name, table in named.items():
        numbers = [f.name for f in fields(table) if f.name != "sources"]
        assert {n: found[f"{name}: {n}"] for n in numbers} == dict(table.sources)
    assert ["chips", "1", "a chip alone"] in rows
    values = {name: value for name, value, _ in rows}
    assert values["Davies 2018: joules_hop_x"] == "3e-12 J"
    assert values["SANA-FE: seconds_received"] == "1.6e-08 s"
    assert values["scaled: word"] == "not known"
    assert values["scaled: synapse"] == "7e-10 s"
    assert values["Davies 2018: barrier"] == "1 tiles: 1.13e-07 s, 32 tiles: 4.65e-07 s"
    assert values["core: weight_formats"] == "1, 2, 3, 4, 5, 6, 8"
    assert values["core: neuron_groups"] == "8"
    assert page.table("constants")[1][:5] == [
        "Davies 2018", "loihi1 as a proxy for loihi2", "14 nm", "0.75 V", "pre-silicon"
    ]  # fmt: skip


@NEEDED
def test_it_needs_nothing_but_itself(page: Page) -> None:
    """Nothing is fetched, and every name that is meant is there, and there once."""
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "data", "action"), value
        if name in ("href", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,"))  # scales of colours
    names = Counter(value for name, value in page.attributes if name == "id")
    hrefs = [value for name, value in page.attributes if name in ("href", "xlink:href")]
    meant = [value[1:] for value in hrefs if value.startswith("#")]
    meant += [m for _, v in page.attributes for m in re.findall(r"url\(#([^)]*)\)", v)]
    assert meant
    assert {name: names[name] for name in meant} == dict.fromkeys(meant, 1)
    assert not any("url(" in v.replace("url(#", "") for _, v in page.attributes)


@NEEDED
def test_the_same_question_gives_the_same_bytes(cli: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(cli, tmp_path / name, "--target", "loihi2", "--fewest", "--samples", "3")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def renamed(net: FixedNet, name: str) -> FixedNet:
    """`net` with `name` in place of lif1."""

    def new(old: str) -> str:
        return name if old == "lif1" else old

    return replace(
        net,
        populations=tuple(replace(p, name=new(p.name)) for p in net.populations),
        projections=tuple(
            replace(p, source=new(p.source), target=new(p.target)) for p in net.projections
        ),
    )  # fmt: skip


def vectors_of(net: FixedNet, x: Any) -> Vectors:
    trace = engine.run(net, x)
    spikes = {name: part.spikes for name, part in trace.populations.items()}
    return Vectors(inputs=x, spikes=spikes, logits=trace.logits(net.readout))


@NEEDED
def test_names_are_text(cli: Any, tmp_path: Path) -> None:
    """Names of populations, folders and chips that look like tags or formulae."""
    whole = bundles.read(Path("bundle"))
    net = renamed(whole.net, "<script>alert('$x_{')</script> & $")
    folder = tmp_path / "<b>folder"
    fidelity = json.dumps({"rungs": [], "missing": [{"rung": "<i>", "reason": "</pre>"}]})
    vectors = vectors_of(net, whole.vectors.inputs)
    bundles.write(folder, net, files={"fidelity.json": fidelity}, vectors=vectors)
    goal = tmp_path / "own.toml"
    goal.write_text('base = "loihi2"\nname = "<u>mine"\n', "utf-8")
    line = ("--target", str(goal), "--runtime", "scaled", "--json")
    done = cli.spikeport("report", str(folder), "--out", str(tmp_path / "page"), *line)
    assert (done.code, json.loads(done.stdout)["passed"]) == (0, True)
    text = (tmp_path / "page").read_text("utf-8")
    assert not any(tag in text for tag in ("<script", "<b>folder", "<i>", "<u>mine"))
    found = Page(text)
    assert net.populations[0].name in found.table("layer")[1][0]
    assert found.headings[0] == "<b>folder on <u>mine"
    assert "<i> did not run: </pre>" in found.text
    assert "Rounding, and the proof that nothing overflows" not in found.headings


@NEEDED
def test_a_bundle_without_reports_has_a_page(tmp_path: Path) -> None:
    whole = bundles.read(Path("bundle"))
    bundles.write(tmp_path / "bundle", whole.net, files={}, vectors=whole.vectors)
    reporting.report(tmp_path / "bundle", tmp_path / "page", target="loihi2", seed=0)
    found = Page((tmp_path / "page").read_text("utf-8"))
    assert "The bundle holds no report of its export." in found.text
    assert "Fidelity at export" not in found.headings


@NEEDED
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("cores", 1, "it takes 2 cores, but there are 1 on small"),
        ("in_axons", 1, "Not even one neuron of some layer fits on a core."),
    ],
)
def test_a_network_without_room_has_a_page(
    cli: Any, tmp_path: Path, key: str, value: int, says: str
) -> None:
    path, out = tmp_path / "small.toml", tmp_path / "page.html"
    numbers = f'[{key}]\nvalue = {value}\nsource = "a test"\n'
    path.write_text(f'base = "loihi2"\nname = "small"\n{numbers}', "utf-8")
    done = cli.spikeport("report", "bundle", "--target", str(path), "--out", str(out))
    assert (done.code, done.stdout) == (1, f"wrote {out}: the network does not fit small\n")
    found = Page(out.read_text("utf-8"))
    assert says in found.text
    assert "Without a place on the chip there is no cost." in found.text
    assert "Floor plan" not in found.headings
    asked: Any = {"target": str(path), "faults": ["rust:1"], "seed": 0}
    with pytest.raises(ValueError, match="'rust:1': write one of"):  # asked, so looked at
        reporting.report(Path("bundle"), tmp_path / "other.html", **asked)


@pytest.mark.parametrize("name", reporting.NEEDED)
def test_what_is_missing_is_said_first(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    asked: Any = {"target": "loihi2", "seed": 0, "runtime": "none"}  # wrong too, but said later
    with pytest.raises(ValueError, match=rf"needs .*{name}.*; install spikeport\[report\]"):
        reporting.report(Path("bundle"), tmp_path / "page", **asked)
    assert list(tmp_path.iterdir()) == []


@NEEDED
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("report.txt", b"\xff", "report.txt: is no UTF-8 text; export again"),
        ("fidelity.json", b"{", "fidelity.json: is damaged; export again"),
        ("fidelity.json", b'{"rungs": [{}], "missing": []}', "fidelity.json: is damaged"),
    ],
)
def test_what_cannot_be_told_leaves_no_page(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """Files that are damaged, with checksums that say that they are meant so."""
    whole = bundles.read(Path("bundle"))
    bundles.write(tmp_path / "bundle", whole.net, files={name: content}, vectors=whole.vectors)
    with pytest.raises(ValueError, match=re.escape(says)):
        reporting.report(tmp_path / "bundle", tmp_path / "page", target="loihi2", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
