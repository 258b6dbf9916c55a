"""Data sets by name, cut into what is trained on, what is validated with and what is tested on.

    all training samples -> stratified subset of `train_images` -> validation by the run's seed
    all test samples     -> stratified subset of `test_images`  -> looked at for the test only

The published parts never mix. Both subsets are fixed: they depend on the data set and the count
alone, so that all seeds of a run see the same images, and a larger subset holds the smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import train_test_split

from spikeport.train import event_archives, event_files, image_files
from spikeport.train.data_files import Images, Indices, Labels, Source, scattered
from spikeport.train.encode import EVENT_ENCODERS, IMAGE_ENCODERS
from spikeport.train.event_frames import Bins

if TYPE_CHECKING:
    from spikeport.train.config import Config

IMAGES: dict[str, Callable[[Path | None], Source]] = {
    "digits": image_files.digits,
    "mnist": image_files.idx("mnist", "MNIST/raw"),
    "fashion_mnist": image_files.idx("fashion_mnist", "FashionMNIST/raw"),
    "cifar10": image_files.cifar10,
    "cifar100": image_files.cifar100,
}
EVENTS: dict[str, Callable[[Path | None, Bins], Source]] = {
    "nmnist": event_files.nmnist,
    "nmnist_small": event_archives.nmnist_small,
    "dvs_gesture": event_files.dvs_gesture,
    "shd": event_files.shd,
    "braille": event_archives.braille,
}
LOADERS = {**IMAGES, **EVENTS}


@dataclass(frozen=True, eq=False)
class Dataset:
    """x_*: uint8, read-only: images [n, C, H, W], or event frames [n, T, C, H, W], the counts of
    events in each of T time bins (see `spikeport.train.event_frames`). y_*: int64 [n], 0..classes -
    1, read-only."""

    name: str
    classes: int
    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @property
    def events(self) -> bool:
        """Whether samples are event frames, with a time axis of their own."""
        return self.x_train.ndim == 5

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image or of the frame of one time bin."""
        channels, height, width = self.x_train.shape[-3:]
        return channels, height, width


def load(
    name: str,
    folder: Path | str | None = None,
    *,
    seed: int,
    validation_share: float = 0.1,
    train_images: int | None = None,
    test_images: int | None = None,
    bins: Bins | None = None,
) -> Dataset:
    """The data set `name`, a key of `LOADERS`; its files lie in `folder` (none for "digits").

    train_images, test_images: sizes of fixed stratified subsets, None for all samples. `seed` picks
    the stratified validation samples out of the training subset, `validation_share` of them; the
    test samples do not depend on it. bins: how event data, and only these, become frames. Raises
    ValueError in one sentence when files are missing, truncated or of another format.
    """
    source = _source(name, None if folder is None else Path(folder), bins)
    chosen = subset(source.train.labels, train_images, where=f"{name}: train_images")
    tested = subset(source.test.labels, test_images, where=f"{name}: test_images")
    try:
        kept, validated = train_test_split(
            chosen, test_size=validation_share, stratify=source.train.labels[chosen],
            random_state=seed,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(
            f"{name}: {len(chosen)} training images are too few to set {validation_share:g} of "
            "them aside with every class present; use more images or another validation_share"
        ) from error
    return Dataset(
        name, source.classes,
        source.train.read(kept), source.train.labels[kept],
        source.train.read(validated), source.train.labels[validated],
        source.test.read(tested), source.test.labels[tested],
    )  # fmt: skip


def load_for(config: Config) -> Dataset:
    """The data that a run of `config` sees; event data come in as many bins as the run has steps.

    Raises ValueError as `load`, or when encoder and data do not fit, before anything is read.
    """
    data, encoder = config.data, config.encode.name
    if (data.name in EVENTS) != (encoder in EVENT_ENCODERS):
        kind, fitting = "images", IMAGE_ENCODERS
        if data.name in EVENTS:
            kind, fitting = "events", EVENT_ENCODERS
        raise ValueError(
            f"encode.name is {encoder!r}, but {data.name} holds {kind}; choose "
            f"{' or '.join(fitting)}"
        )
    if encoder != "counts" and config.encode.payload_bits != 8:
        raise ValueError(
            f"encode.payload_bits is {config.encode.payload_bits}, but encoder {encoder!r} has a "
            "payload of its own; leave it out, or choose counts"
        )
    bins = None
    if data.name in EVENTS:
        most = (1 << config.encode.payload_bits) - 1
        bins = Bins(
            steps=config.encode.steps, downsample=data.downsample, size=data.size, most=most
        )
    elif data.downsample != 1 or data.size is not None:
        raise ValueError(
            f"data.downsample and data.size are of events, but {data.name} holds images; leave "
            "them out"
        )
    return load(
        data.name,
        data.folder,
        seed=config.train.seed,
        validation_share=data.validation_share,
        train_images=data.train_images,
        test_images=data.test_images,
        bins=bins,
    )


def subset(labels: Labels, count: int | None, *, where: str) -> Indices:
    """Indices, ascending, of `count` of the samples with `labels` [n], None for all of them.

    Every class keeps its share, to one sample. The choice depends on labels and count alone, and
    one of more samples holds that of fewer. `where` names the count in errors.
    """
    total = len(labels)
    if count is None:
        return np.arange(total)
    if not 1 <= count <= total:
        raise ValueError(f"{where} is {count}; allowed are 1..{total}")
    # Each sample gets its place in its class as a share of it; the smallest shares are taken.
    order, place = scattered(total), np.empty(total)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    taken = order[np.argsort(place[order], kind="stable")][:count]
    return np.sort(taken)


def _source(name: str, folder: Path | None, bins: Bins | None) -> Source:
    if name not in LOADERS:
        raise ValueError(f"data set is {name!r}; allowed are {', '.join(sorted(LOADERS))}")
    if name in EVENTS:
        if bins is None:
            raise ValueError(f"{name}: events need bins, which say how many frames they become")
        return EVENTS[name](folder, bins)
    if bins is not None:
        raise ValueError(f"{name}: holds images, which are not binned; leave bins out")
    return IMAGES[name](folder)
