"""CLIP-type rewards and aesthetic heads: the preprocessing and the scores of transformers, on real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preference_data.records import Prompt
from rewards.published.aesthetic import AestheticV25, AffineLayers, LaionAesthetic
from rewards.published.clip import ClipScore, HpsV21, PickScore
from rewards.published.clip_models import MEAN, STD, TransformersClip, pixels
from rewards.published.framing import CENTRE_CROP, CENTRE_CROP_FLOOR, LETTERBOX, PAD_LONGEST, SQUASH, TILES, tile_boxes
from tests.fixtures.tiny.tiny_judges import aesthetic_head, as_batch, clip_folder, photographs, siglip_folder

CAPTIONS = ("an astronaut", 'the word "CAT" in red', "咖啡", "a rocket " * 30, "x")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


def reference_cosine(folder: Path, picture: np.ndarray, text: str) -> tuple[float, float]:
    """The cosine as transformers computes it, with its own preprocessing, and the exp of the logit scale."""
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    x = processor(images=[picture], return_tensors="pt")["pixel_values"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        [text], padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.inference_mode():
        out = model(pixel_values=x, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    scale = float(model.logit_scale.exp())
    return float(out.logits_per_image) / scale, scale


@pytest.mark.parametrize("number", range(len(CAPTIONS)))
def test_pickscore_is_that_of_transformers(clip: Path, number: int) -> None:
    text, picture = CAPTIONS[number], photographs()[number]
    scores = PickScore(weights=str(clip), size=32).load()([Prompt.from_text(text)], as_batch(picture))
    cosine, scale = reference_cosine(clip, picture, text.strip())
    assert scores.value_B[0] == pytest.approx(scale * cosine, abs=1e-4)
    assert scores.parts["cosine"][0] == pytest.approx(cosine, abs=1e-6)
    expected = 77 / (2 + 7 * 30) if number == 3 else 1.0
    assert scores.parts["text_share"][0] == pytest.approx(expected, abs=0.01 if number == 3 else 0)


def test_clipscore_has_the_paper_s_prefix_and_scale(clip: Path) -> None:
    picture = photographs()[3]  # a square: both roundings of the crop agree
    score = ClipScore(weights=str(clip), size=32).load()([Prompt.from_text("a cat")], as_batch(picture))
    cosine, _ = reference_cosine(clip, picture, "A photo depicts a cat")
    assert score.value_B[0] == pytest.approx(2.5 * max(cosine, 0.0), abs=1e-4)
    bare = ClipScore(weights=str(clip), size=32, prefix="").load()([Prompt.from_text("a cat")], as_batch(picture))
    cosine, _ = reference_cosine(clip, picture, "a cat")
    assert bare.parts["cosine"][0] == pytest.approx(cosine, abs=1e-6)


def test_clipscore_is_never_negative(clip: Path) -> None:
    scorer = ClipScore(weights=str(clip), size=32).load()
    scores = [scorer([Prompt.from_text(t)], as_batch(p)) for t in CAPTIONS for p in photographs()]
    pairs = [(float(s.parts["cosine"][0]), float(s.value_B[0])) for s in scores]
    assert min(c for c, _ in pairs) < 0 < max(c for c, _ in pairs)
    assert all(v == pytest.approx(2.5 * max(c, 0.0)) for c, v in pairs)


@pytest.mark.parametrize("picture", photographs(), ids=lambda p: f"{p.shape[1]}x{p.shape[0]}")
def test_the_floor_crop_is_that_of_transformers(picture: np.ndarray) -> None:
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    clip = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    theirs = clip(images=[picture], return_tensors="np")["pixel_values"]
    ours = pixels(CENTRE_CROP_FLOOR.frame(picture, 32), "cpu", MEAN, STD).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    siglip = SiglipImageProcessorPil(size={"height": 40, "width": 40})
    theirs = siglip(images=[picture], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(pixels(SQUASH.frame(picture, 40), "cpu", (0.5,) * 3, (0.5,) * 3), theirs, atol=1e-5)


def test_aesthetic_v25_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import SiglipImageProcessorPil, SiglipVisionModel

    folder = siglip_folder(tmp_path / "siglip")
    head = aesthetic_head(tmp_path / "head.pth", 24, "scoring_head.")
    scorer = AestheticV25(weights=str(folder), head=str(tmp_path / "head.pth"), size=56).load()
    model = SiglipVisionModel.from_pretrained(folder).eval()
    processor = SiglipImageProcessorPil(size={"height": 56, "width": 56})
    seen = []
    for picture in photographs():
        x = processor(images=[picture], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            e = model(x).pooler_output
            expected = float(head(e / e.norm(dim=-1, keepdim=True)))
        seen.append(float(scorer([Prompt.from_text("x")], as_batch(picture)).value_B[0]))
        assert seen[-1] == pytest.approx(expected, abs=1e-4)
    assert max(seen) - min(seen) > 1e-3


def test_laion_aesthetic_is_its_head_on_unit_embeddings(clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil, CLIPModel

    head = aesthetic_head(tmp_path / "head.pth", 16)
    scorer = LaionAesthetic(weights=str(clip), head=str(tmp_path / "head.pth"), size=32).load()
    model = CLIPModel.from_pretrained(clip).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for picture in [photographs()[3], photographs()[3][::-1], photographs()[3][:, ::-1]]:
        with torch.inference_mode():
            x = processor(images=[picture], return_tensors="pt")["pixel_values"]
            e = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)
            expected = float(head(e / e.norm()))
        assert scorer([Prompt.from_text("x")], as_batch(picture)).value_B[0] == pytest.approx(expected, abs=1e-4)


def test_a_head_of_another_width_or_file_is_refused(clip: Path, tmp_path: Path) -> None:
    aesthetic_head(tmp_path / "head.pth", 24)
    with pytest.raises(ValueError, match="16 features"):
        LaionAesthetic(weights=str(clip), head=str(tmp_path / "head.pth"), size=32).load()
    torch.save({"visual.proj": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"visual\.proj"):
        AffineLayers(tmp_path / "other.pth", 16)
    torch.save({"0.weight": torch.zeros(1, 16), "0.bias": torch.zeros(1)}, tmp_path / "v1.pth")  # v1 is one layer
    assert AffineLayers(tmp_path / "v1.pth", 16)(torch.ones(2, 16)).tolist() == [0.0, 0.0]
    torch.save({"code": print}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="read safely"):
        AffineLayers(tmp_path / "code.pth", 16)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (PickScore, "yuvalkirstain/PickScore_v1"),
        (ClipScore, "openai/clip-vit-base-patch32"),
        (HpsV21, "HPS_v2.1_compressed.pt"),
        (LaionAesthetic, "openai/clip-vit-large-patch14"),
        (AestheticV25, "google/siglip-so400m-patch14-384"),
        (lambda: PickScore(weights="no/such/folder"), "no such file or folder"),
        (lambda: HpsV21(weights="HPS/missing.pt"), "no such file or folder"),
    ],
)
def test_absent_weights_are_a_clear_message(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(FileNotFoundError, match=says):
        make().load()


def test_a_model_of_another_size_is_refused(clip: Path) -> None:
    with pytest.raises(ValueError, match="32 pixels, the reward expects 224; set size"):
        PickScore(weights=str(clip)).load()
    with pytest.raises(ValueError, match="view is 'crop'; choose one of published, letterbox, tiles"):
        PickScore(weights=str(clip), size=32, view="crop").load()


def test_batches_and_single_pictures_agree(clip: Path) -> None:
    pictures = np.concatenate([as_batch(photographs()[3]), as_batch(photographs()[3][::-1])] * 3)
    prompts = [Prompt.from_text(text) for text in (*CAPTIONS, "y")]
    for view in ("published", "tiles"):
        one = PickScore(weights=str(clip), size=32, view=view).load()(prompts, pictures)
        four = PickScore(weights=str(clip), size=32, view=view, batch_size=4).load()(prompts, pictures)
        np.testing.assert_allclose(one.value_B, four.value_B, rtol=0, atol=1e-4)


def test_a_batch_too_large_costs_no_picture_its_score(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = PickScore(weights=str(clip), size=32, batch_size=3).load()
    pictures = np.concatenate([as_batch(photographs()[3])] * 5)
    prompts = [Prompt.from_text(text) for text in CAPTIONS]
    expected = scorer(prompts, pictures)
    embed = TransformersClip.embed_squares

    def small_memory(self: TransformersClip, squares: np.ndarray) -> torch.Tensor:
        if len(squares) > 1:
            raise RuntimeError("out of memory")
        return embed(self, squares)

    monkeypatch.setattr(TransformersClip, "embed_squares", small_memory)
    np.testing.assert_allclose(scorer(prompts, pictures).value_B, expected.value_B, atol=1e-4)
    monkeypatch.setattr(
        TransformersClip, "embed_squares", lambda self, squares: torch.full((len(squares), 16), torch.nan)
    )
    assert scorer(prompts, pictures).unjudged == {"model_not_finite": 5}


def stripes(height: int, width: int) -> np.ndarray:
    """Column x has the colour x of 0..width, so that a square says which columns it shows."""
    ramp = np.linspace(0, 255, width).round().astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()


def test_a_crop_loses_the_edges_and_says_so() -> None:
    view = CENTRE_CROP.sees(928, 1664, 224)
    assert view.share == pytest.approx(928 / 1664, abs=0.002)  # 0.558: 44 % is never seen
    square = CENTRE_CROP.frame(stripes(928, 1664), 224)[0]
    assert square.min() == pytest.approx(368 / 1664, abs=0.01) and square.max() == pytest.approx(1296 / 1664, abs=0.01)


@pytest.mark.parametrize(("height", "width"), [(928, 1664), (1328, 1328), (1664, 928), (40, 900), (100, 120)])
def test_letterbox_and_tiles_see_everything(height: int, width: int) -> None:
    size = 224
    assert LETTERBOX.sees(height, width, size).share == TILES.sees(height, width, size).share == 1.0
    covered = np.zeros((height, width), dtype=bool)
    boxes = list(tile_boxes(height, width, size))
    for top, left, side in boxes:
        assert top >= 0 and left >= 0 and side == min(height, width, 2 * size)
        covered[top : top + side, left : left + side] = True
    assert covered.all()
    picture = stripes(height, width)
    assert TILES.frame(picture, size).shape == (len(boxes), 3, size, size)
    boxed = LETTERBOX.frame(picture, size)[0]
    view = LETTERBOX.sees(height, width, size)
    assert boxed.shape == (3, size, size) and max(view.height, view.width) == size
    inside = boxed[:, (size - view.height) // 2 :][:, : view.height, (size - view.width) // 2 :][:, :, : view.width]
    assert inside.min() < 0.01 and inside.max() > 0.99  # both ends of the ramp


def test_padding_keeps_the_shape_and_is_black() -> None:
    square = PAD_LONGEST.frame(np.full((50, 100, 3), 200, dtype=np.uint8), 32)[0]
    assert square.shape == (3, 32, 32) and (square[:, :8] == 0).all() and (square[:, 24:] == 0).all()
    np.testing.assert_allclose(square[:, 8:24], 200 / 255, atol=1e-5)
    exact = PAD_LONGEST.frame(np.full((16, 32, 3), 200, dtype=np.uint8), 32)[0]  # no resizing, and still padded
    assert (exact[:, :8] == 0).all() and (exact[:, 8:24] > 0.7).all()


def test_a_wide_picture_s_edges_count_only_where_they_are_seen(clip: Path) -> None:
    """The same middle, other edges: the published crop cannot tell, letterbox and tiles can."""
    plain = np.full((64, 200, 3), 128, dtype=np.uint8)
    plain[:, 70:130] = photographs()[3].repeat(2, 0).repeat(2, 1)[:64, :60]
    edged = plain.copy()
    edged[:, :30], edged[:, -30:] = (255, 0, 0), (0, 0, 255)
    prompt = [Prompt.from_text("a rocket")]
    for view, equal in (("published", True), ("letterbox", False), ("tiles", False)):
        scorer = PickScore(weights=str(clip), size=32, view=view).load()
        a, b = (float(scorer(prompt, as_batch(picture)).value_B[0]) for picture in (plain, edged))
        assert (a == pytest.approx(b, abs=1e-5)) is equal, view
