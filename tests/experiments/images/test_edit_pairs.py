"""Edits of one's own: what was made from which images, in the layouts that others use."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images import examined_images
from experiments.images.canvases import BUCKETS, cover
from experiments.images.edit_pairs import column_roles
from experiments.images.image_sources import ImageSources, OwnImages, open_images
from experiments.images.own_latents import OwnLatents

NAMES = ("a", "b", "c")


def pixels(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def save(path: Path, seed: int, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)
    return path


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def by_name(folder: Path) -> dict[str, tuple[str, ...]]:
    """NAME_source.png and NAME_target.png with NAME.txt; the source of seed i is 10 + i."""
    for i, name in enumerate(NAMES):
        save(folder / f"{name}_source.png", 10 + i), save(folder / f"{name}_target.png", i)
        text(folder / f"{name}.txt", f"edit {name}")
    return {"folder": (str(folder),)}


def before_beside(folder: Path) -> dict[str, tuple[str, ...]]:
    for i, name in enumerate(NAMES):
        save(folder / "x" / f"{name}-before.png", 10 + i), save(folder / "x" / f"{name}.png", i)
        text(folder / "x" / f"{name}.txt", f"edit {name}")
    return {"folder": (str(folder),)}


def control_folder(folder: Path) -> dict[str, tuple[str, ...]]:
    """kohya and ai-toolkit: the folders are named one by one."""
    for i, name in enumerate(NAMES):
        save(folder / "made" / f"{name}.png", i), save(folder / "begun" / f"{name}.png", 10 + i)
        text(folder / "made" / f"{name}.txt", f"edit {name}")
    return {"folder": (str(folder / "made"),), "sources": (str(folder / "begun"),)}


def named_folders(folder: Path) -> dict[str, tuple[str, ...]]:
    for i, name in enumerate(NAMES):
        save(folder / "target" / f"{name}.png", i), save(folder / "source" / f"{name}.webp", 10 + i)
        Image.fromarray(pixels(10 + i)).save(folder / "source" / f"{name}.webp", lossless=True)
        text(folder / "target" / f"{name}.txt", f"edit {name}")
    return {"folder": (str(folder),)}


def jsonl(folder: Path) -> dict[str, tuple[str, ...]]:
    rows = []
    for i, name in enumerate(NAMES):
        save(folder / "in" / f"{name}.png", 10 + i), save(folder / "out" / f"{name}.png", i)
        rows.append({"input_image": f"in/{name}.png", "edited_image": f"out/{name}.png", "edit_prompt": f"edit {name}",
                     "edited_prompt": "what it shows then"})  # fmt: skip
    text(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    return {"folder": (str(folder),)}


def diffusers_imagefolder(folder: Path) -> dict[str, tuple[str, ...]]:
    """metadata.csv, as a file that is named by itself."""
    lines = ["file_name,cond_file_name,text"]
    for i, name in enumerate(NAMES):
        save(folder / f"{name}.png", i), save(folder / "c" / f"{name}.png", 10 + i)
        lines.append(f"{name}.png,c/{name}.png,edit {name}")
    text(folder / "pairs.csv", "\n".join(lines))
    return {"folder": (str(folder / "pairs.csv"),)}


def content(seed: int, folder: Path) -> dict[str, object]:
    return {"bytes": save(folder / "bytes.png", seed).read_bytes(), "path": None}


def table(folder: Path, before: str, after: str, instruction: str) -> dict[str, tuple[str, ...]]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        before: [content(10 + i, folder / "x") for i in range(3)],
        after: [content(i, folder / "x") for i in range(3)],
        "mask_img": [content(20 + i, folder / "x") for i in range(3)],
        instruction: [[f"edit {name}"] if instruction.endswith("list") else f"edit {name}" for name in NAMES],
    }
    (folder / "set").mkdir()
    pq.write_table(pa.table(columns), folder / "set" / "train.parquet", row_group_size=2)
    return {"folder": (str(folder / "set"),)}


def instruct_pix2pix(folder: Path) -> dict[str, tuple[str, ...]]:
    return table(folder, "original_image", "edited_image", "edit_prompt")


def omni_edit(folder: Path) -> dict[str, tuple[str, ...]]:
    return table(folder, "src_img", "edited_img", "edited_prompt_list")


def magic_brush(folder: Path) -> dict[str, tuple[str, ...]]:
    return table(folder, "source_img", "target_img", "instruction")


def archive(folder: Path, before: str, after: str, about: str) -> dict[str, tuple[str, ...]]:
    """Webdataset: a key's files lie together, the instruction first, with an image that nothing reads."""
    with tarfile.open(folder / "0000.tar", "w") as file:
        for i, name in enumerate(NAMES):
            instruction = json.dumps({"instruction": f"edit {name}", "caption": "what it shows then"})
            members = {about: (instruction if about.endswith("json") else f"edit {name}").encode()}
            for field, seed in ((before, 10 + i), ("mask_img.png", 20 + i), (after, i), ("depth.png", 30 + i)):
                members[field] = save(folder / "x" / "bytes.png", seed).read_bytes()
            for field, body in members.items():
                info = tarfile.TarInfo(f"part.1/{name}.{field}")
                info.size = len(body)
                file.addfile(info, io.BytesIO(body))
    return {"folder": (str(folder / "0000.tar"),)}


def tar_by_fields(folder: Path) -> dict[str, tuple[str, ...]]:
    return archive(folder, "input_image.png", "edited_image.png", "json")


def tar_beside(folder: Path) -> dict[str, tuple[str, ...]]:
    return archive(folder, "source.png", "png", "edit_prompt.txt")


LAYOUTS = (tar_by_fields, tar_beside, by_name, before_beside, control_folder, named_folders, jsonl,
           diffusers_imagefolder, instruct_pix2pix, omni_edit, magic_brush)  # fmt: skip


def opened(**settings: object) -> OwnImages:
    return open_images(ImageSources(**{"max_bad": 0.0} | settings)).sized((48, 64), 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_edits(layout, tmp_path: Path) -> None:
    stream = opened(**layout(tmp_path))
    assert len(stream) == stream.edits == 3 and not stream.bad
    batch = stream.batch(0, 3)
    for image, instruction, sources in zip(batch.images, batch.texts, batch.sources, strict=True):
        i = NAMES.index(instruction.removeprefix("edit "))
        assert np.array_equal(image.numpy(), pixels(i).transpose(2, 0, 1))
        (source,) = sources
        assert np.array_equal(source.numpy(), pixels(10 + i).transpose(2, 0, 1))
    masks = {bad.reason for bad in stream.by_design if "depth" not in bad.name}
    has_masks = "mask_img" in str(stream.by_design)
    assert masks == ({"is a mask, and no loss here weighs pixels by masks"} if has_masks else set())
    assert "3 of them are edits" in stream.summary()


def test_several_sources_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    save(tmp_path / "n" / "a_target.png", 0)
    for number in (2, 1, 10):
        save(tmp_path / "n" / f"a_source_{number}.png", number)
        save(tmp_path / "begun" / f"b_{number}.png", number)
    text(tmp_path / "n" / "a.txt", "put them together")
    (named,) = opened(folder=(str(tmp_path / "n"),)).sources[0]
    assert [each.file.stem for each in named.sources] == ["a_source_1", "a_source_2", "a_source_10"]
    save(tmp_path / "made" / "b.png", 0)
    text(tmp_path / "made" / "b.txt", "put them together")
    (numbered,) = opened(folder=(str(tmp_path / "made"),), sources=(str(tmp_path / "begun"),)).sources[0]
    assert [each.file.stem for each in numbered.sources] == ["b_1", "b_2", "b_10"]


def test_names_that_only_look_like_edits_stay_images(tmp_path: Path) -> None:
    """A source without its target, an image with a caption of its own, and a word inside of a name."""
    for i, name in enumerate(("street_source", "dog", "dog_original", "beforehand", "open_source_code")):
        save(tmp_path / f"{name}.png", i)
        text(tmp_path / f"{name}.txt", f"the image {name}")
    stream = opened(folder=(str(tmp_path),))
    assert len(stream) == 5 and not stream.edits and not stream.batch(0, 5).sources


def test_masks_and_conditioning_images_are_left_out_by_name(tmp_path: Path) -> None:
    for folder in ("images", "masks", "conditioning_images"):
        save(tmp_path / folder / "a.png", len(folder))
    save(tmp_path / "images" / "b.png", 3), save(tmp_path / "images" / "b-masklabel.png", 4)
    for name in NAMES[:2]:
        text(tmp_path / "images" / f"{name}.txt", name)
    stream = opened(folder=(str(tmp_path),))
    assert len(stream) == 2 and not stream.bad and not stream.edits
    reasons = {Path(bad.name).parent.name: bad.reason for bad in stream.by_design}
    assert "mask" in reasons["masks"] and "ControlNet" in reasons["conditioning_images"] and "mask" in reasons["images"]
    assert "3 left out" in stream.summary()


@pytest.mark.parametrize("which", ["broken", "missing", "tiny", "no folder", "alone"])
def test_an_edit_without_its_source_is_named(which: str, tmp_path: Path) -> None:
    settings = control_folder(tmp_path)
    source = tmp_path / "begun" / "b.png"
    if which == "broken":
        source.write_bytes(b"")
    if which == "tiny":
        save(source, 0, (8, 8))
    if which == "alone":
        source.unlink()
    if which == "no folder":
        settings["sources"] = (str(tmp_path / "nowhere"),)
    if which == "missing":
        settings = jsonl(tmp_path / "j")
        (tmp_path / "j" / "in" / "b.png").unlink()
    message = {
        "broken": r"1 of 3 .*begun/b\.png", "missing": r"made from .*b\.png, which is not there",
        "tiny": r"made from .*b\.png, which is 8x8", "no folder": "--data.sources: there is no folder .*nowhere",
        "alone": r"made/b\.png has no image of its name in .*begun",
    }  # fmt: skip
    with pytest.raises((ValueError, FileNotFoundError), match=message[which]):
        opened(**settings)


def test_sources_of_one_shape_are_cut_as_their_images_are(tmp_path: Path) -> None:
    save(tmp_path / "a_target.png", 1, (50, 70)), save(tmp_path / "a_source.png", 2, (100, 140))
    save(tmp_path / "a_source2.png", 3, (120, 40))
    text(tmp_path / "a.txt", "edit")
    stream = opened(folder=(str(tmp_path),)).sized((64, 64), 16, BUCKETS)
    batch = stream.batch(0, 1)
    first, second = batch.sources[0]
    assert first.shape == batch.images[0].shape and second.shape[1] > second.shape[2]
    assert np.array_equal(first.numpy(), cover(pixels(2, (100, 140)), stream.canvas((50, 70))).transpose(2, 0, 1))


def test_latents_come_with_their_sources_in_every_pass(tmp_path: Path) -> None:
    stream = opened(**by_name(tmp_path))
    with OwnLatents(stream, lambda images: images.mean(1).flatten(1)[:, :12, None]) as latents:
        for step in range(3):
            batch, plain = latents.batch(step, 3), stream.batch(step, 3)
            assert batch.texts == plain.texts
            assert all(torch.equal(a[0], b[0]) for a, b in zip(batch.sources, plain.sources, strict=True))


def test_columns_are_known_by_what_others_call_them() -> None:
    names = ("INPUT_IMG", "OUTPUT_IMG", "source_image_2", "source_image_1", "cond_image", "original_prompt", "image",
             "conditioning_image", "MASK_IMG", "edit", "edit_image", "edited_prompt", "source", "id")  # fmt: skip
    sources, targets, others = column_roles(names)
    assert sources == ["INPUT_IMG", "cond_image", "edit_image", "source", "source_image_1", "source_image_2"]
    assert targets == ["OUTPUT_IMG"] and set(others) == {"conditioning_image", "MASK_IMG"}


@pytest.mark.parametrize("layout", [by_name, omni_edit])
def test_a_large_source_is_read_once_until_something_changes(layout, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(examined_images, "REMEMBERED_FROM", 3)
    settings, read = layout(tmp_path), []
    content = examined_images.Entry.content
    monkeypatch.setattr(examined_images.Entry, "content", lambda self: read.append(self.name) or content(self))
    first = opened(**settings)
    assert len(read) == 6
    again = opened(**settings)
    assert len(read) == 6 and again.fingerprint == first.fingerprint and again.sources == first.sources
    changed = next(tmp_path.rglob("b_source.png"), None) or next(tmp_path.rglob("*.parquet"))
    if layout is by_name:
        save(changed, 99)
        assert opened(**settings).fingerprint != first.fingerprint and len(read) == 7
    else:
        os.utime(changed, ns=(1, 1))
        assert opened(**settings).fingerprint == first.fingerprint and len(read) == 12


def test_a_spoilt_or_unwritable_index_costs_nothing_but_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(examined_images, "REMEMBERED_FROM", 3)
    settings = by_name(tmp_path)
    first = opened(**settings).fingerprint
    index = tmp_path / examined_images.INDEX
    for text_of in ("", "[]", '{"version": 1, "images": {"a_source.png 0 0 ": [1]}}', '{"version": 0}'):
        index.write_text(text_of)
        assert opened(**settings).fingerprint == first
    index.unlink()
    monkeypatch.setattr(examined_images, "write_bytes", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert opened(**settings).fingerprint == first and not index.exists()
