"""Pairs of images of one's own: two folders, or a table, straight into a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.configs import CONFIGS
from experiments.preferences.from_images import COLUMN, FOLDER
from experiments.preferences.from_people import install
from preference_data import comparisons, pairs
from preference_data.image_files import read_image, read_source
from preference_data.records import PreferencePair
from tests.fixtures.edit_prompts import write_image

NAMES = ("a", "b", "c")


def two_folders(home: Path) -> list[str]:
    """Of other suffixes and sizes, one of them in a subfolder, captions beside either."""
    for i, name in enumerate(("a", "x/b", "c")):
        write_image(home / "good" / f"{name}.png", i, (48, 64))
        write_image(home / "bad" / f"{name}.webp", 10 + i, (64, 48))
        beside = "bad" if name == "c" else "good"
        (home / beside / f"{name}.txt").write_text(f"prompt {NAMES[i]}")
    return [str(home / "good"), str(home / "bad")]


def one_folder(home: Path) -> list[str]:
    two_folders(home)
    (home / "good").rename(home / "chosen"), (home / "bad").rename(home / "rejected")
    return [str(home)]


def jsonl(home: Path) -> list[str]:
    rows = [
        {"chosen": f"i/{i}.png", "rejected": f"i/{10 + i}.png", "prompt": f"prompt {name}"}
        for i, name in enumerate(NAMES)
    ]
    for i in (0, 1, 2, 10, 11, 12):
        write_image(home / "i" / f"{i}.png", i, (48, 64))
    (home / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [str(home / "p.jsonl")]


def csv(home: Path) -> list[str]:
    lines = [json.loads(line) for line in Path(jsonl(home)[0]).read_text().splitlines()]
    rows = [f"{row['chosen']},{row['rejected']},{row['prompt']}" for row in lines]
    (home / "p.csv").write_text("\n".join(["image_w,image_l,caption", *rows]))
    return [str(home / "p.csv")]


def content(home: Path, seed: int) -> bytes:
    return write_image(home / "bytes.png", seed, (48, 64)).read_bytes()


def parquet(home: Path) -> list[str]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "prompt": [f"prompt {name}" for name in NAMES],
        "chosen_image": [{"bytes": content(home, i), "path": ""} for i in range(3)],
        "rejected_image": [{"bytes": content(home, 10 + i), "path": ""} for i in range(3)],
    }
    pq.write_table(pa.table(columns), home / "p.parquet")
    return [str(home / "p.parquet")]


def published(home: Path) -> list[str]:
    """As diffusers' script reads them, the second with its better image last, and a tie behind them."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    order = [(0, 10), (11, 1), (2, 12), (7, 17)]
    columns = {
        "jpg_0": [content(home, i) for i, _ in order], "jpg_1": [content(home, j) for _, j in order],
        "label_0": [1.0, 0.0, 1.0, 0.5], "caption": [*(f"prompt {name}" for name in NAMES), "a tie"],
    }  # fmt: skip
    (home / "set").mkdir()
    pq.write_table(pa.table(columns), home / "set" / "p.parquet")
    return [str(home / "set")]


def installed(home: Path, sources: list[str], name: str = "dpo") -> list[PreferencePair]:
    target = install(CONFIGS[name], sources, "", home / "run")
    return pairs.load(target)


@pytest.mark.parametrize("layout", [two_folders, one_folder, jsonl, csv, parquet, published])
def test_every_layout_gives_the_same_pairs(layout, tmp_path: Path) -> None:
    made = installed(tmp_path, layout(tmp_path))
    assert sorted(pair.prompt.text for pair in made) == [f"prompt {name}" for name in NAMES]
    for pair in made:
        i = NAMES.index(pair.prompt.text[-1])
        for ref, seed in ((pair.chosen, i), (pair.rejected, 10 + i)):
            pixels = read_image(tmp_path / "run" / ref.path)
            assert pixels.shape[:2] == (ref.height, ref.width)
            expected = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            if Image.fromarray(pixels).size == (64, 48):  # the webp's levels are not exact
                assert np.array_equal(pixels[::12, ::16], expected)
        assert not pair.machine_made


def test_pairs_that_a_run_keeps_teach_another(tmp_path: Path) -> None:
    """A file of ours has columns chosen and rejected too, and they are no file names."""
    kept = installed(tmp_path, jsonl(tmp_path))
    again = pairs.load(install(CONFIGS["dpo"], [str(tmp_path / "run" / "pairs.jsonl")], "", tmp_path / "again"))
    assert [(one.prompt, one.chosen.sha256, one.rejected.sha256) for one in again] == [
        (one.prompt, one.chosen.sha256, one.rejected.sha256) for one in kept
    ]
    assert all((tmp_path / "again" / ref.path).is_file() for one in again for ref in (one.chosen, one.rejected))


def test_ties_reach_algorithms_that_know_them(tmp_path: Path) -> None:
    install(CONFIGS["nano_kto"], published(tmp_path), "", tmp_path / "run")
    outcomes = [answer.outcome for answer in comparisons.load(tmp_path / "run" / "comparisons.jsonl")]
    assert outcomes == ["left", "left", "left", "tie"]


def test_a_third_folder_holds_what_both_edit(tmp_path: Path) -> None:
    sources = two_folders(tmp_path)
    for i, name in enumerate(("a", "x/b", "c")):
        write_image(tmp_path / "begun" / f"{name}.png", 20 + i)
    for pair in installed(tmp_path, [*sources, str(tmp_path / "begun")]):
        (source,) = pair.prompt.located(tmp_path / "run").sources
        assert np.array_equal(read_source(source), read_image(write_image(tmp_path / "x.png", 20 + NAMES.index(
            pair.prompt.text[-1]))))  # fmt: skip


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("alone", r"good/a\.png has no image of its name in .*bad"),
        ("unpaired", r"bad/d has no image of its name in .*good"),
        ("silent", r"good/a\.png has no caption"), ("same", r"are the same image"),
        ("no folder", "no folder .*nowhere"), ("neither", "neither folders preferred and rejected"),
        ("column", r"p\.csv row .* has the columns image_w, caption; it needs two images"),
        ("gone", r"names i/1\.png, which is not in .*; put it there"), ("four", "names 4 places"),
    ],
)  # fmt: skip
def test_what_makes_no_pair_is_named(which: str, message: str, tmp_path: Path) -> None:
    sources = csv(tmp_path) if which in ("column", "gone") else two_folders(tmp_path)
    if which == "alone":
        (tmp_path / "bad" / "a.webp").unlink()
    if which == "unpaired":
        write_image(tmp_path / "bad" / "d.png", 5)
    if which == "silent":
        (tmp_path / "good" / "a.txt").unlink()
    if which == "same":
        (tmp_path / "bad" / "a.webp").write_bytes((tmp_path / "good" / "a.png").read_bytes())
    if which == "no folder":
        sources[1] = str(tmp_path / "nowhere")
    if which == "neither":
        sources = [str(tmp_path / "good")]
    if which == "column":
        (tmp_path / "p.csv").write_text("image_w,caption\ni/0.png,a\n")
    if which == "gone":
        (tmp_path / "i" / "1.png").unlink()
    if which == "four":
        sources += sources
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        installed(tmp_path, sources)


def test_sides_are_known_by_what_others_call_them() -> None:
    better, worse = COLUMN
    for name in ("chosen", "image_w", "preferred_image", "win_image", "Chosen_Image", "better"):
        assert better.match(name) and not worse.match(name), name
    for name in ("rejected", "image_l", "lose", "loser_img", "worst"):
        assert worse.match(name) and not better.match(name), name
    for name in ("caption", "prompt", "image", "label_0", "chosen_score", "world"):
        assert not better.match(name) and not worse.match(name), name
    assert FOLDER[0].match("winners") and FOLDER[1].match("rejected_images")


def test_a_file_of_our_own_pairs_is_no_table_of_images(tmp_path: Path) -> None:
    """Its columns are called chosen and rejected as well."""
    install(CONFIGS["dpo"], two_folders(tmp_path), "", tmp_path / "first")
    install(CONFIGS["dpo"], [str(tmp_path / "first" / "pairs.jsonl")], "", tmp_path / "second")
    assert [p.chosen.sha256 for p in pairs.load(tmp_path / "second" / "pairs.jsonl")] == [
        p.chosen.sha256 for p in pairs.load(tmp_path / "first" / "pairs.jsonl")
    ]
