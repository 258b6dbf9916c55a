"""The README's blocks about attacks and faults."""

from __future__ import annotations

from readme_parts import load, made_by, percent, table


def compared() -> str:
    """What every white-box attack leaves standing, a column a network."""
    r = load("robustness")
    rows = [n for n in r["networks"] if "compare" in n]
    names = list(rows[0]["compare"]["found"])
    head = ["attack, rule of the gradient"]
    head += [f"{n['set']}, {n['recipe']}, eps {round(255 * n['eps'])}/255" for n in rows]
    body = []
    for name in names:
        shares = [n["compare"]["found"][name] for n in rows]
        least = [min(n["compare"]["found"].values()) for n in rows]
        cells = [
            f"**{percent(s)}**" if s == low else percent(s)
            for s, low in zip(shares, least, strict=True)
        ]
        body.append([name, *cells])
    strongest = r["sa_pgd_with_assg_is_strongest"]
    images = rows[0]["compare"]["images"]
    about = (
        f"Accuracy of the integer network on its first {images} test images under one attack each,"
        " triangle 1 where no rule is named; the least in bold. SA-PGD through ASSG leaves the"
        f" least on {strongest['on']} of {strongest['networks']} networks."
    )
    return "\n\n".join([table([head, *body]), about, made_by(r)])


def twin() -> str:
    """What a gradient costs."""
    r = load("twin")
    names = {
        "stepped": "layers over all steps at once, snnTorch's neurons",
        "float": "float twin", "twin": "integer twin", "assg": "integer twin through ASSG",
        "forward": "integer twin, logits alone",
    }  # fmt: skip
    rows = [["logits and gradient at the images", "time over plain snnTorch's"]]
    rows += [[words, f"{r['ratios'][name]:.2f}"] for name, words in names.items()]
    about = (
        f"The MNIST conv net, T = {r['steps']}, {r['batch']} images, {r['threads']} thread, in one"
        " run by turns."
    )
    return "\n\n".join([table(rows), about, made_by(r)])


def faults() -> str:
    """How fast, and what hurts."""
    r = load("faults")
    rows = [["kind of fault", "trials", "mean accuracy, 95 % interval"]]
    for kind in r["critical"]["kinds"]:
        interval = f"{100 * kind['low']:.1f} to {100 * kind['high']:.1f}"
        about = f"{percent(kind['accuracy'])} ({interval})"
        rows.append([kind["label"], f"{kind['trials']:,}", about])
    about = (
        f"{r['trials']:,} single faults in {r['seconds']:.0f} s on {r['processes']} processes,"
        f" {r['images']} images each, T = 4, {r['neurons']:,} neurons; without faults"
        f" {percent(r['accuracy'])}."
    )
    return "\n\n".join([table(rows), about, made_by(r)])
