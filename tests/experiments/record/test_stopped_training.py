"""The folder of a training that may be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.record.stopped_training import begin, publish, require_same

FACTS = {"rate": 0.1, "size": (1, 2), "prompts": None}


def test_a_stopped_training_goes_on_with_its_own_settings_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    require_same(out, FACTS)
    assert not out.exists(), "asking writes nothing"
    begin(out, FACTS)
    require_same(out, FACTS)
    with pytest.raises(ValueError, match=r"of other settings: rate was 0\.1, is 0\.2\. Say the same"):
        require_same(out, {**FACTS, "rate": 0.2})
    with pytest.raises(ValueError, match="ties was None, is True"):
        require_same(out, {**FACTS, "ties": True})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is a folder with other files in it"):
        require_same(tmp_path, FACTS)
    with pytest.raises(ValueError, match="is a file; name another place"):
        require_same(tmp_path / "notes.txt", FACTS)


def test_what_was_stopped_while_its_files_were_moved_goes_on(tmp_path: Path) -> None:
    finished = begin(tmp_path, FACTS) / "finished"
    finished.mkdir()
    for name in ("a.txt", "judge.json", "z.txt"):
        (finished / name).write_text(name)
    (finished / "a.txt").replace(tmp_path / "a.txt")
    require_same(tmp_path, FACTS)
    moved: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda path, to: moved.append(Path(to).name))
        publish(finished, tmp_path, "judge.json")
    assert moved == ["z.txt", "judge.json"], "by which it is known to be finished"
