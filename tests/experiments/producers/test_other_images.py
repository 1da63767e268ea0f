"""What `glyphlab mix` asks a run for, piece by piece: lists, parts and updates, without a reader."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.images.image_lists import ImageList
from experiments.images.image_readers import Entry
from experiments.images.image_sources import ImageSources, is_heldout
from experiments.producers.generations import listed, needed, require_there, seal, with_generation
from experiments.producers.run_logs import GENERATIONS
from experiments.training import other_images
from experiments.training.other_images import Wanted, by_part, difference, relisted, start_of, tell_changes
from tests.experiments.producers.test_generations import SIZE, STEPS, asked, begun, write


def test_a_line_takes_the_place_of_another_from_the_same_update(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", *range(4))
    experiment, images = begun(run, folder)
    write(folder, 4)
    now, _ = relisted(experiment, None, [[""]])
    line = {"from_step": 16, **seal(run, now, [str(folder)])}
    later = with_generation(with_generation(images, run, line, SIZE), run, line, SIZE).later
    assert [each.start for each in later] == [16 * SIZE]
    GENERATIONS.note(run, line)
    assert needed(run, 16) == [line] and len(needed(run, 15)) == 2


def test_a_list_that_changes_while_it_is_known_is_refused(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    experiment, _ = begun(run, folder)
    settings: Any = experiment.data
    (line,) = GENERATIONS.lines(run)
    assert listed(run, line, settings).parts
    path = run / line["list"]
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="was changed: its SHA-256"):
        listed(run, line, settings)


def test_only_images_that_are_asked_about_have_to_be_there(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    experiment, images = begun(run, folder)
    settings: Any = experiment.data
    gone, stays = images.sources[0]
    gone.file.unlink()
    require_there(run, settings, 0, lambda entry: entry.sha256 == stays.sha256)
    with pytest.raises(ValueError, match="is not there"):
        require_there(run, settings, 0, lambda entry: entry.sha256 == gone.sha256)


def test_a_run_that_is_running_reads_16_updates_ahead(tmp_path: Path) -> None:
    recorded: Any = SimpleNamespace(status="running", metrics=[{"step": 3}])
    assert start_of(Wanted(from_step=16), recorded, tmp_path, STEPS) == {"from_step": 16}
    with pytest.raises(ValueError, match="take 16 or a later"):
        start_of(Wanted(from_step=8), recorded, tmp_path, STEPS)


def test_where_nothing_is_new_nothing_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    begun(run, folder)
    out = asked(capsys, 0, run, "--grow", "--from-update", "24")
    assert out.startswith("nothing is new: the run reads 2 images") and "takes it up" not in out
    assert not (run / GENERATIONS.wanted).exists()


def test_a_folder_that_is_added_twice_is_listed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, more = tmp_path / "run", write(tmp_path / "more", 0, 5)
    experiment, _ = begun(run, write(tmp_path / "images", 0, 1))
    for number in (6, 7):
        write(more, number)
        asked(capsys, 0, run, "--grow", more)
    wanted = json.loads((run / GENERATIONS.wanted).read_text())
    assert json.loads((run / wanted["list"]).read_text().splitlines()[0]) == {"folders": [["", str(more)]]}
    images, _ = relisted(experiment, None, [["", str(more)]])
    assert sum(entry.file.parent == more for entry in images.parts[0]) == 3, "of two copies the first one counts"


def test_a_part_is_named_by_its_folder_or_path_and_by_no_other_words(tmp_path: Path) -> None:
    twins, one = ImageSources(("x/a", "y/a")), ImageSources(("x/a",))
    assert by_part(["y/a=b"], twins) == {1: [str(Path("b").absolute())]}
    with pytest.raises(ValueError, match="write PART=FOLDER"):
        by_part(["a=b"], twins)
    odd = tmp_path / "size=64"
    with pytest.raises(ValueError, match="write PART=FOLDER"):
        by_part([str(odd)], one)
    odd.mkdir()
    assert by_part([str(odd)], one) == {0: [str(odd)]}


def test_repeats_are_a_difference_of_two_lists() -> None:
    entry = Entry("a", ("a",), Path("a"), "file", sha256="a")
    before, now = (ImageList([[replace(entry, repeats=often)]], [[""]]) for often in (1, 2))
    assert difference(before, now) == "0 new images, 1 with other captions or repeats"


def test_only_the_first_rank_tells_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    experiment, _ = begun(run, folder)
    write(folder, 2)
    capsys.readouterr()
    for rank, told in ((1, False), (0, True)):
        monkeypatch.setattr(other_images, "rank_of", lambda experiment, rank=rank: rank)
        tell_changes(experiment, run, None)
        assert ("1 new images" in capsys.readouterr().err) == told


def test_a_folder_whose_images_are_all_held_out_can_be_added(tmp_path: Path) -> None:
    experiment, images = begun(tmp_path / "run", write(tmp_path / "images", *range(12)), heldout=0.3)
    own = next(each for each in images.heldout if is_heldout(each.sha256, 0.3))
    more = tmp_path / "more"
    more.mkdir()
    for ending in (".png", ".txt"):
        (more / f"own{ending}").write_bytes(own.file.with_suffix(ending).read_bytes())
    assert len(relisted(experiment, None, [["", str(more)]])[0].parts[0]) == 12


def test_new_images_have_to_suit_the_model_that_learns_from_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    begun(run, folder)
    write(folder, 2)

    def refuse(*_: object) -> None:
        raise ValueError("made from three images")

    monkeypatch.setattr(other_images, "check_sources", refuse)
    assert "made from three images" in asked(capsys, 2, run, "--grow")
