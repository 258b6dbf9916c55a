"""Subsets are stratified and fixed, and what is trained, validated and tested on never mixes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeport.train.config import loads
from spikeport.train.data import Dataset, load, load_for, subset
from spikeport.train.image_files import IDX_FILES

TRAIN, TEST = 1000, 300


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """MNIST files whose every image shows its own number, test images from 1000 on; class k has a
    share of k + 1 parts of 55."""
    labels = np.repeat(np.arange(10), np.arange(1, 11))
    for images, names, first, n in zip(
        IDX_FILES[::2], IDX_FILES[1::2], (0, 1000), (1000, 300), strict=True
    ):
        number = np.arange(first, first + n)
        x = np.stack((number // 256, number % 256), 1).astype(np.uint8).reshape(n, 1, 2)
        y = np.resize(np.random.default_rng(2).permutation(labels), n).astype(np.uint8)
        for name, array in ((images, x), (names, y)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / name).write_bytes(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes())
    return tmp_path


def numbers(x: NDArray[np.uint8]) -> list[int]:
    return (x.reshape(len(x), 2).astype(int) @ [256, 1]).tolist()  # type: ignore[no-any-return]


def three(data: Dataset) -> tuple[set[int], set[int], set[int]]:
    train, val, test = (numbers(x) for x in (data.x_train, data.x_val, data.x_test))
    assert len({*train, *val, *test}) == len(train) + len(val) + len(test)  # none twice
    return set(train), set(val), set(test)


@pytest.mark.parametrize(("train", "test"), [(None, None), (400, 120), (1000, 300)])
def test_parts_are_disjoint_and_only_validation_moves_with_the_seed(
    numbered: Path, train: int | None, test: int | None
) -> None:
    found = [
        three(load("mnist", numbered, seed=seed, train_images=train, test_images=test))
        for seed in (0, 1, 7, 123)
    ]
    for trained, validated, tested in found:
        assert len(trained | validated) == (train or TRAIN)
        assert len(tested) == (test or TEST)
        assert max(trained | validated) < TRAIN <= min(tested)
    assert len({frozenset(trained | validated) for trained, validated, _ in found}) == 1
    assert len({frozenset(tested) for _, _, tested in found}) == 1
    assert len({frozenset(validated) for _, validated, _ in found}) == 4


def test_a_run_gets_the_subsets_of_its_configuration(numbered: Path) -> None:
    text = f"""
        [data]
        name = "mnist"
        folder = '{numbered}'
        validation_share = 0.2
        train_images = 500
        test_images = 60
        [model]
        name = "dense"
        [train]
        epochs = 1
        lr = 0.1
        seed = SEED
        device = "cpu"
        [quantise]
        target = "loihi2"
    """
    one, two = (load_for(loads(text.replace("SEED", seed), "here")) for seed in "12")
    given = {"validation_share": 0.2, "train_images": 500, "test_images": 60}
    expected = load("mnist", numbered, seed=1, **given)  # type: ignore[arg-type]
    for name in ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"):
        assert (getattr(one, name) == getattr(expected, name)).all()
    assert (len(one.y_train), len(one.y_val), len(one.y_test)) == (400, 100, 60)
    assert (one.x_test == two.x_test).all()


def test_every_class_keeps_its_share_to_one_sample() -> None:
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(5), [10, 40, 50, 300, 600]))
    for count in (5, 10, 99, 500, 1000):
        found = np.bincount(labels[subset(labels, count, where="n")], minlength=5)
        assert found.sum() == count
        assert (np.abs(found - count * np.array([0.01, 0.04, 0.05, 0.3, 0.6])) <= 1).all()


def test_larger_subsets_hold_smaller_ones_and_are_spread() -> None:
    labels = np.arange(2000) % 10
    chosen = [subset(labels, count, where="n") for count in (20, 300, 1999)]
    for few, many in pairwise(chosen):
        assert set(few) < set(many)
        assert (np.diff(many) > 0).all()
    assert 800 < chosen[1].mean() < 1200
    assert np.unique(np.diff(chosen[1])).size > 5  # no rows at equal distances


def test_the_choice_never_changes() -> None:
    """These are the images of published results; a change here changes them all."""
    chosen = [116, 181, 254, 259, 313, 377, 460, 512, 868, 965]
    assert subset(np.arange(1000) % 10, 10, where="n").tolist() == chosen
    assert (subset(np.arange(7) % 2, None, where="n") == np.arange(7)).all()


def test_refuses_subsets_that_cannot_be(numbered: Path) -> None:
    for count in (0, 301):
        with pytest.raises(
            ValueError, match=rf"^mnist: test_images is {count}; allowed are 1\.\.300$"
        ):
            load("mnist", numbered, seed=0, test_images=count)
    with pytest.raises(ValueError, match=r"^mnist: train_images is 1001; allowed are 1\.\.1000$"):
        load("mnist", numbered, seed=0, train_images=1001)
    with pytest.raises(ValueError, match=r"^mnist: 12 training images are too few to set 0\.1 of "):
        load("mnist", numbered, seed=0, train_images=12)


RUN = """
    [data]
    name = "{name}"
    {more}
    [encode]
    name = "{encoder}"
    [model]
    name = "dense"
    [train]
    epochs = 1
    lr = 0.1
    seed = 0
    device = "cpu"
    [quantise]
    target = "loihi2"
"""


@pytest.mark.parametrize(
    ("name", "encoder", "more", "message"),
    [
        ("shd", "direct", "", "encode.name is 'direct', but shd holds events; choose counts or "
         "bits"),
        ("digits", "bits", "", "encode.name is 'bits', but digits holds images; choose direct or "
         "poisson"),
        ("digits", "direct", "downsample = 2", "data.downsample and data.size are of events, but "
         "digits holds images; leave them out"),
        ("digits", "direct", "size = 8", "data.downsample and data.size are of events, but "
         "digits holds images; leave them out"),
        ("digits", "direct payload_bits = 4", "", "encode.payload_bits is 4, but encoder 'direct' "
         "has a payload of its own; leave it out, or choose counts"),
    ],
)  # fmt: skip
def test_refuses_configurations_whose_parts_do_not_fit(
    name: str, encoder: str, more: str, message: str
) -> None:
    text = RUN.format(name=name, encoder=encoder.partition(" ")[0], more=more)
    config = loads(text.replace("[model]", f"{encoder.partition(' ')[2]}\n[model]"), "here")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (compared whole below)
        load_for(config)
    assert str(caught.value) == message


def test_a_run_on_events_has_as_many_bins_as_steps(tmp_path: Path) -> None:
    n = 54 * 5
    np.savez(
        tmp_path / "braille.npz",
        taxel=np.random.default_rng(0).integers(0, 256, (n, 9, 12)).astype(np.uint8),
        label=np.arange(n) % 27,
        repetition=np.repeat(np.arange(30, 50, 2), 27),
    )
    more = (
        f"folder = '{tmp_path}'\ndownsample = 3\nsize = 6\ntest_images = 27\nvalidation_share = 0.4"
    )
    text = RUN.format(name="braille", encoder="counts", more=more)
    data = load_for(loads(text.replace("[model]", "steps = 7\npayload_bits = 5\n[model]"), "here"))
    assert data.x_test.shape == (27, 7, 2, 6, 6)
    assert data.x_test.max() == 31
    assert (data.y_test[:, None] == np.arange(27)).any(0).all()
