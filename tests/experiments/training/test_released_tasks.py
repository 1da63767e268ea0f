"""Mixed editing on a released checkpoint: its texts never end, so none are encoded ahead and the run goes through."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from base_model.data.mixture import Mix, TaskStream
from base_model.data.stream import Stage, TextStream
from base_model.qwen.presets import PRESETS
from experiments.configs import nano, nano_edit
from experiments.experiment import Experiment
from experiments.progress import Progress
from experiments.record.record import read_run
from experiments.training import run_prompts
from experiments.training.run_prompts import encode_ahead, requests_of
from experiments.training.runner import run
from experiments.training.start_from import base_size, open_model

CLEAN = TextStream(seed=3, stages=(Stage(0, (0.05, 0.0, 0.0, 0.0, 0.95)),))


def short(experiment: Experiment, base: Path, data: object) -> Experiment:
    """Two updates of two small images."""
    cfg = replace(experiment.algorithm, steps=2, batch=2, micro=2)
    optim = replace(experiment.optim, muon_lr=0.0, warmup=0)
    return replace(experiment, base=str(base), algorithm=cfg, optim=optim, data=data)  # type: ignore[arg-type]


def test_mixed_editing_on_a_released_checkpoint_goes_through(edit: Path, tmp_path: Path) -> None:
    """Also past a checkpoint: of prompts alone such a model samples nothing. The bar says what it waits for."""
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    edits = Mix(t2i=0.0, i2i=1.0, word=1.0, ink=1.0, place=1.0)
    experiment = replace(short(nano_edit.config, edit, TaskStream(CLEAN, (edits,))), save_every=1)
    run(experiment, tmp_path / "run", progress=Progress({experiment.name: 1.0}, screen))
    assert read_run(tmp_path / "run").status == "finished"
    assert "reading what it learns from" in screen.getvalue()


@pytest.mark.parametrize("mixes", [(Mix(),), (Mix(t2i=0.0, word=1.0), Mix(start=3, t2i=0.5, word=1.0))])
def test_images_from_captions_are_refused_where_a_checkpoint_edits_only(edit: Path, mixes: tuple[Mix, ...]) -> None:
    with pytest.raises(ValueError, match=r"t2i=.* takes 1; set t2i to 0"):
        open_model(short(nano_edit.config, edit, TaskStream(CLEAN, mixes)), None)


def test_a_released_network_is_opened_for_its_own_size_on_any_recipe(edit: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(edit, tmp_path / "released")
    assert base_size(replace(nano_edit.config, base=str(folder))) == (32, 96), "the recipe's, for another network"
    file = folder / "transformer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **asdict(PRESETS["qwen_image"]), "zero_cond_t": True}))
    assert base_size(replace(nano_edit.config, base=str(folder))) == (1024, 1024)


def test_texts_are_known_ahead_only_where_they_end(tmp_path: Path) -> None:
    tasks = TaskStream(CLEAN, (Mix(),))
    limited = replace(CLEAN, limit=4)
    assert requests_of(replace(nano_edit.config, data=tasks), tmp_path) is None
    assert requests_of(replace(nano_edit.config, data=TaskStream(limited, (Mix(),))), tmp_path) is None
    assert requests_of(replace(nano.sft, data=CLEAN), tmp_path) is None
    assert len(requests_of(replace(nano.sft, data=limited), tmp_path) or []) == 4
    two = replace(limited, stages=(*CLEAN.stages, replace(CLEAN.stages[0], start=5)))
    assert requests_of(replace(nano.sft, data=two), tmp_path) is None, "a curriculum shows other captions later"
    assert requests_of(replace(nano.grpo), tmp_path)


def test_each_rank_encodes_its_part_of_the_captions_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together all of them and none twice; what the others encoded comes from the cache that they share."""
    experiment = replace(nano.sft, engine="deepspeed", data=replace(CLEAN, limit=6))
    captions = {text for text, _ in requests_of(experiment, tmp_path) or []}
    monkeypatch.setattr(run_prompts, "checkpoint_prompts", lambda *_: [])
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts: list[list[str]] = []
    for rank in range(3):
        asked: list[str] = []
        model = SimpleNamespace(
            keeps_base=True, needs_images=False, read_images=lambda _: (), release_encoders=lambda: None,
            encode_ahead=lambda texts, _, asked=asked: asked.extend(texts),
        )  # fmt: skip
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr(run_prompts, "barrier", lambda _, asked=asked: parts.append(list(asked)))
        encode_ahead(model, experiment, tmp_path)  # type: ignore[arg-type]
        assert set(asked) == captions, "a rank of another disk has all"
    assert sorted(text for part in parts for text in part) == sorted(captions) and len(captions) == 6
