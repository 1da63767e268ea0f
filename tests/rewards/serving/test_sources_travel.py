"""Source images go with their prompts to other processes and servers, and no score is remembered for another source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from preference_data.image_files import read_source, source_image
from preference_data.records import Prompt
from rewards.scores import Scores, View, score_each
from rewards.serving.cache import score_key
from rewards.serving.remote import Remote
from rewards.serving.reward_server import Service
from rewards.serving.wire import Limits, Refused, decode_request, encode_request
from rewards.serving.workers import ScorerPool
from tests.fixtures.served_rewards import serving


@dataclass(frozen=True)
class Shades:
    """The mean level of all source images of a prompt, in [0, 255]."""

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 255.0)
    needs: ClassVar[tuple[str, ...]] = ("sources",)

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it")

    def load(self, device: str = "cpu") -> ShadesScorer:
        return ShadesScorer()


class ShadesScorer:
    name = "shades"

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        def mean(prompt: Prompt, _: np.ndarray) -> dict[str, float]:
            return {"shade": float(np.mean([read_source(source).mean() for source in prompt.sources]))}

        return score_each(self.name, mean, prompts, images_B3HW, Shades.needs, ("shade",))


def edit_of(folder: Path, *shades: int, text: str = "make it blue") -> Prompt:
    """An instruction about images of these shades, of different sizes."""
    sources = []
    for number, shade in enumerate(shades):
        path = folder / f"{shade}_{number}.png"
        Image.fromarray(np.full((6 + number, 9, 3), shade, dtype=np.uint8)).save(path)
        sources.append(source_image(path))
    return Prompt.from_text(text, sources=sources)


def images(count: int) -> np.ndarray:
    return np.zeros((count, 3, 8, 8), dtype=np.float32)


def test_a_pool_reads_the_sources_of_equal_texts_apart(tmp_path: Path) -> None:
    prompts = [edit_of(tmp_path, 10), edit_of(tmp_path, 200), edit_of(tmp_path, 10, 20), Prompt.from_text("none")]
    with ScorerPool(Shades(), 1) as pool:
        scores = pool.submit(prompts, (images(4) * 255).astype(np.uint8)).result()
    np.testing.assert_array_equal(scores.value_B, [10.0, 200.0, 15.0, np.nan])
    assert scores.unjudged == {"no_sources": 1}


def test_equal_texts_with_other_sources_never_share_a_score(tmp_path: Path) -> None:
    one, two = edit_of(tmp_path, 10), replace(edit_of(tmp_path, 200), id=edit_of(tmp_path, 10).id)
    turned = replace(edit_of(tmp_path, 10, 20), id=one.id), replace(edit_of(tmp_path, 20, 10), id=one.id)
    keys = {score_key("a" * 64, prompt) for prompt in (one, two, *turned, replace(one, sources=()))}
    assert len(keys) == 5
    bare = Prompt.from_text('the word "CAT"')
    assert score_key("ab" * 32, bare) == "a8d86395095b407bba82d69169d75eda", "scores of before are still known"


def test_a_server_gets_the_sources_of_every_image(tmp_path: Path) -> None:
    prompts = [edit_of(tmp_path, 10), Prompt.from_text("none"), edit_of(tmp_path, 200, 100), edit_of(tmp_path, 10)]
    with serving(Shades(), Service(workers=1)) as (url, _):
        scorer = Remote(url=url).load()
        scores = scorer(prompts, images(4))
        np.testing.assert_array_equal(scores.value_B, [10.0, np.nan, 150.0, 10.0])
        assert scores.unjudged == {"no_sources": 1}
        (tmp_path / "77.png").write_bytes((tmp_path / "10_0.png").read_bytes())
        gone = replace(prompts[0], sources=(source_image(tmp_path / "77.png"),))
        gone = replace(gone, sources=(replace(gone.sources[0], sha256="0" * 64),))
        assert scorer([gone], images(1)).unjudged == {"no_source": 1}


def test_a_request_carries_sources_bit_by_bit_and_is_limited(tmp_path: Path) -> None:
    prompt = edit_of(tmp_path, 10, 20)
    body = encode_request([prompt], [np.zeros((3, 4, 4), np.uint8)])
    (decoded,), _ = decode_request(body, Limits())
    assert decoded == prompt and all(source.content and not source.path for source in decoded.sources)
    assert "content" not in body.decode() and str(tmp_path) not in body.decode(), "no path of the client travels"
    with pytest.raises(Refused, match="more than 100 pixels"):
        decode_request(body, Limits(pixels=100))
    for damage, says in (
        (["?"], "not base64"),
        ("a", "must be a list"),
        ([3], "must be a list"),
        ([""], "not a readable PNG"),
    ):
        row = json.loads(body)
        row["pictures"][0]["sources"] = damage
        with pytest.raises(Refused, match=says):
            decode_request(json.dumps(row).encode(), Limits())
