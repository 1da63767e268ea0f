"""Files of prompts that name the images to be edited."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.configs import nano
from experiments.evaluation.prompt_files import SOURCES, read_prompt_file
from experiments.evaluation.prompts_of_plan import fitted, make_prompts, read_prompts
from experiments.experiment import PromptPlan
from preference_data.image_files import read_image, read_source, source_image, source_of
from preference_data.prompts import PromptSet
from preference_data.records import Prompt, prompt_from_json, to_json
from tests.fixtures.edit_prompts import write_edits, write_image


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("field", SOURCES[1:])
def test_a_source_is_read_under_the_names_that_others_use(tmp_path: Path, field: str) -> None:
    image = write_image(tmp_path / "images" / "a.png", 1, (40, 56))
    for value in ("images/a.png", ["images/a.png"], str(image)):
        (one,) = read_prompt_file(lines(tmp_path / "e.jsonl", {"instruction": "make it blue", field: value}))
        (source,) = one.prompt.sources
        assert (source.width, source.height) == (56, 40) and Path(source.path) == image
        assert np.array_equal(read_source(source), read_image(image))


def test_what_was_made_of_a_source_is_not_a_source(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1), write_image(tmp_path / "b.png", 2)
    file = lines(tmp_path / "e.jsonl", {"prompt": "make it blue", "image": "b.png", "edit_image": ["a.png"]})
    assert read_prompts(file, 0)[0].sources == (source_image(tmp_path / "a.png"),)


def test_the_order_of_sources_and_other_formats(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / f"{name}.png", ord(name))
    file = lines(tmp_path / "e.jsonl", {"prompt": "join them", "images": ["b.png", "a.png"]}, {"prompt": "a cat"})
    both, none = read_prompts(file, 0)
    assert [Path(source.path).name for source in both.sources] == ["b.png", "a.png"] and none.sources == ()
    (tmp_path / "e.csv").write_text('prompt,image\n"make it red",a.png\n', encoding="utf-8")
    assert Path(read_prompts(tmp_path / "e.csv", 0)[0].sources[0].path).name == "a.png"


def test_equal_texts_about_different_images_are_different_prompts(tmp_path: Path) -> None:
    file = write_edits(tmp_path, ["make it blue", "make it blue"])
    one, two = read_prompts(file, 0)
    assert one.text == two.text and one.id != two.id and one != two
    assert Prompt.from_text("make it blue").id not in (one.id, two.id)
    again = lines(tmp_path / "twice.jsonl", *[{"prompt": "make it blue", "image": "images/0.png"}] * 2)
    with pytest.raises(ValueError, match="in the set twice"):
        read_prompts(again, 0)


def test_an_image_is_itself_wherever_it_lies(tmp_path: Path) -> None:
    a, b = (write_image(tmp_path / name, 5) for name in ("a.png", "b.png"))
    assert source_image(a) == source_image(b) == source_of(a.read_bytes(), "a")
    assert np.array_equal(read_source(source_of(b.read_bytes(), "b")), read_image(a))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("gone.png", "there is no image .*gone.png, which images names"),
        (["a.png", "gone.png"], "there is no image .*gone.png"),
        ("broken.png", "broken.png is not a readable image"),
        ("cut.png", "cut.png is not a readable image"),
        (3, "images is 3; it must be the path of an image"),
        ([""], "images is ''; it must be the path"),
        ([None], "images is None; it must be the path"),
    ],
)
def test_a_source_that_is_missing_or_broken_is_named_with_its_line(tmp_path: Path, value: object, says: str) -> None:
    whole = write_image(tmp_path / "a.png", 1).read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    rows = {"prompt": "make it blue", "images": "a.png"}, {"prompt": "make it red", "images": value}
    file = lines(tmp_path / "e.jsonl", *rows)
    with pytest.raises(ValueError, match=f"e.jsonl line 2: .*{says}"):
        make_prompts(PromptPlan(2, 0, file=str(file)))
    assert len(make_prompts(PromptPlan(1, 0, file=str(file)))) == 1, "only what is used is read"


def test_a_source_that_changed_or_went_away_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", 1)
    source = source_image(path)
    write_image(path, 2)
    with pytest.raises(ValueError, match="has other pixels than when its prompt was read"):
        read_source(source)
    path.unlink()
    with pytest.raises(ValueError, match=r"a\.png is gone"):
        read_source(source)


def test_prompts_with_sources_go_through_json(tmp_path: Path) -> None:
    prompts = PromptSet(read_prompts(write_edits(tmp_path, ["a", "b"], counts=(1, 2)), 0))
    for prompt in prompts:
        row = json.loads(json.dumps(to_json(prompt)))
        assert prompt_from_json(row) == prompt and prompt_from_json(row).sources[0].path == prompt.sources[0].path
    assert "sources" not in to_json(Prompt.from_text("a cat")), "files of prompts alone are what they were"
    own = tmp_path / "own.jsonl"
    own.write_text(prompts.to_jsonl(), encoding="utf-8")
    assert list(PromptSet.load(own)) == read_prompts(own, 0) == list(prompts)
    rows = [json.loads(line) for line in own.read_text(encoding="utf-8").splitlines()]
    rows[0]["sources"][0]["path"] = str(tmp_path / "images" / "1.png")
    with pytest.raises(ValueError, match="is another image than the one that sources names"):
        read_prompts(lines(own, *rows), 0)
    for damage in ({"sha256": "a"}, {"width": 0}, {"path": 3}, {"colour": "red"}):
        row = to_json(prompts[0])
        row["sources"] = [{**row["sources"][0], **damage}]
        with pytest.raises(ValueError, match=r"sha256 is|at least 1|path is 3|unknown colour"):
            prompt_from_json(row)


def test_a_run_takes_as_many_prompts_as_the_file_has(tmp_path: Path) -> None:
    file = write_edits(tmp_path, ["a", "b", "c"])
    experiment, answer = fitted(replace(nano.grpo, prompts=PromptPlan(2000, 1, file=str(file))), ())
    assert experiment.prompts and experiment.prompts.count == 3 and "has 3 prompts" in answer[0]


def test_captions_of_written_images_are_prompts_cut_by_face_script_and_size(tmp_path: Path) -> None:
    lines = [{"text": "OPEN", "face": "Inter", "size": 15.2}, {"text": "NOW", "face": "Kalam, hand", "size": 40.0}]
    row = {"file_name": "a.png", "text": ['a sign that says "OPEN NOW"', "一块牌子"], "language": "en", "lines": lines}
    plain = {"prompt": "a poem", "lines": ["first", "second"]}
    file = tmp_path / "captions.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in (row, row | {"language": "zh-Hans"}, plain)))
    first, second, other = read_prompt_file(file)
    assert first.prompt.text == 'a sign that says "OPEN NOW"' and first.prompt.spans == ("OPEN NOW",)
    assert [first.of(name) for name in ("face", "script", "em")] == [
        "Inter, Kalam hand",
        "Latin",
        "14-19 px, from 32 px",
    ]
    assert second.of("script") == "simplified Chinese" and not {"face", "script", "em"} & set(other.slices)
    row["text"] = []
    file.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=r"text is \[\]"):
        read_prompt_file(file)
