"""What the reward `glyph` sees of a character, and where it finds it; its network here has random weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load, save

from base_model.data.rendered_text import Scene, render
from base_model.data.writing.faces import FACES, font
from experiments.reward_models.glyph_examples import references
from preference_data.records import Prompt
from rewards.glyph.glyph import CONTENT, REFERENCES, WEIGHTS, Glyph, GlyphModel, GlyphScorer, as_files, read
from rewards.glyph.glyph_network import GlyphNetwork, folded
from rewards.glyph.ink_frame import INNER, SIDE, as_bytes, cut_out, frame_of, levels
from rewards.glyph.locate import Cell, Locator, _cuts, align, single_line
from rewards.glyph.wholeness import Levels
from rewards.parse import named_reward
from tests.fixtures.tiny import tiny_glyph


def written(
    lines: Sequence[str], size: int = 40, face: str = "Inter", weight: int = 400, at: tuple[int, int] = (30, 20),
    ink: tuple[int, int, int] = (20, 20, 20), ground: tuple[int, int, int] = (240, 240, 240),
) -> np.ndarray:  # fmt: skip
    """uint8 [H, W, 3] with lines of text."""
    image = Image.new("RGB", (620, 60 + round(1.5 * size) * len(lines)), ground)
    for i, line in enumerate(lines):
        position = (at[0], at[1] + round(1.5 * size) * i)
        ImageDraw.Draw(image).text(position, line, fill=ink, font=font(FACES[face], weight, size))
    return np.asarray(image)


def framed(image_HW3: np.ndarray) -> np.ndarray | None:
    """uint8 [Z, Z]: the crop that the network sees of a character's image; None where there is no ink."""
    level_HW = levels(image_HW3)
    frame = None if level_HW is None else frame_of(level_HW)
    return None if level_HW is None or frame is None else as_bytes(cut_out(level_HW, frame))


def own(character: str, size: int = 40, face: str = "Inter", weight: int = 400) -> np.ndarray:
    """The crop of a character that stands alone."""
    crop_ZZ = framed(written([character], size, face, weight))
    assert crop_ZZ is not None
    return crop_ZZ


def shown(cell: Cell) -> np.ndarray:
    """A located character as the network sees it."""
    assert cell.level_HW is not None
    frame = frame_of(cell.level_HW)
    assert frame is not None
    return as_bytes(cut_out(cell.level_HW, frame))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean() / 255)


@pytest.fixture(scope="module")
def locator() -> Locator:
    return Locator("onnxruntime")


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> GlyphScorer:
    return tiny_glyph.glyph(tmp_path_factory.mktemp("glyph")).load()


def test_neither_colour_nor_contrast_nor_position_change_what_is_seen() -> None:
    plain = own("R")
    for ink, ground in (((250, 250, 250), (10, 30, 90)), ((200, 30, 30), (245, 235, 180)), ((130,) * 3, (200,) * 3)):
        assert distance(framed(written(["R"], ink=ink, ground=ground)), plain) < 0.01
    assert distance(framed(written(["R"], at=(300, 41))), plain) < 0.01
    for size in (22, 60, 90):
        assert distance(framed(written(["R"], size)), plain) < 0.07
    assert distance(own("K"), plain) > 0.08


def test_the_frame_follows_the_ink_and_not_the_box_that_it_is_in() -> None:
    """A locator's error must not become the reward's noise."""
    image = written(["R"])
    rows, columns = np.flatnonzero((image < 128).any((1, 2))), np.flatnonzero((image < 128).any((0, 2)))
    crops = [
        framed(image[rows[0] - top : rows[-1] + 1 + bottom, columns[0] - left : columns[-1] + 1 + right])
        for top, bottom, left, right in ((4, 4, 4, 4), (10, 3, 3, 9), (3, 12, 15, 4), (20, 20, 20, 20))
    ]
    assert max(distance(crop, crops[0]) for crop in crops) < 0.01
    ink = crops[0] > 90
    assert abs(max(np.ptp(np.flatnonzero(ink.any(0))), np.ptp(np.flatnonzero(ink.any(1)))) + 1 - INNER) <= 2


def test_blank_and_faint_and_noise_have_no_ink() -> None:
    blank = np.full((40, 40, 3), 200, np.uint8)
    assert levels(blank) is None and framed(blank) is None
    faint = blank.copy()
    faint[10:30, 10:30] -= 15
    assert levels(faint) is None
    speck = blank.copy()
    speck[20, 20] = 0
    assert framed(speck) is None


CASES = [
    (["WAGON"], {"face": "Playfair Display"}), (["Silly grin"], {}), (["nimble", "words"], {"face": "Lora"}),
    (["川小八林川"], {"face": "Noto Serif SC"}), (["今天面包"], {"face": "Noto Sans SC", "size": 30}),
    (["i"], {}), (["二三"], {"face": "Noto Sans SC"}),
    (["light on dark"], {"ink": (240, 240, 200), "ground": (20, 30, 60)}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "how"), CASES)
def test_characters_are_found_where_they_stand(locator: Locator, lines: list[str], how: dict) -> None:
    image = written(lines, **how)
    words = locator.words(image, [" ".join(lines)], frozenset("".join(lines)))
    assert [[cell.character for cell in word] for word in words] == [list(w) for line in lines for w in line.split()]
    same = {name: how[name] for name in ("size", "face") if name in how}
    for cell in (cell for word in words for cell in word):
        assert distance(shown(cell), own(cell.character, **same)) < 0.05, cell.character


def test_nano_words_are_cut_at_their_gaps_in_all_faces_and_sizes(locator: Locator) -> None:
    for face, size, word in (("sans", "small", "WIMLY"), ("serif", "large", "ZEBRA"), ("roman", "medium", "KIRX")):
        image = render(Scene(word, "", face, size, "red", "grey", "bottom", "right")).transpose(1, 2, 0)
        (cells,) = locator.words(image, [word], frozenset(word))
        alone = [render(Scene(c, "", face, size, "red", "grey", "bottom", "right")).transpose(1, 2, 0) for c in word]
        assert all(distance(shown(c), framed(a)) < 0.02 for c, a in zip(cells, alone, strict=True))


def test_several_texts_are_found_in_any_order_and_other_text_is_passed_over(locator: Locator) -> None:
    image = written(["SALE today 50", "open late"], 36)
    words = locator.words(image, ["open", "SALE"], frozenset("openSALE"))
    assert ["".join(cell.character for cell in word) for word in words] == ["open", "SALE"]
    assert [{cell.line for cell in word} for word in words] == [{1}, {0}]
    assert all(distance(shown(cell), own(cell.character, 36)) < 0.06 for word in words for cell in word)


def test_a_text_that_is_wanted_twice_is_found_in_two_spots(locator: Locator) -> None:
    first, second = locator.words(written(["ROBIN", "ROBIN"]), ["ROBIN", "ROBIN"], frozenset("ROBIN"))
    image = written(["ROBIN", "WAGON"])
    missing = locator.words(image, ["ROBIN", "ROBIN"], frozenset("ROBIN"))
    assert all(distance(shown(a), shown(b)) < 0.02 for a, b in zip(first, second, strict=True))
    far = [distance(shown(a), shown(b)) if b.level_HW is not None else 1.0 for a, b in zip(*missing, strict=True)]
    assert max(far) > 0.1


def test_letters_that_touch_are_parted_between_them_and_none_is_left_without_ink() -> None:
    """Ink from 4 to 24 is two letters, whose gap to the next one lies beyond where the second was seen."""
    level_HW = np.zeros((40, 60), np.float32)
    level_HW[5:35, 4:24] = 1.0
    level_HW[5:35, 30:50] = 1.0
    cuts = _cuts(level_HW, [9.0, 25.0, 40.0])
    assert cuts[0] == 0 and cuts[-1] == 60 and cuts == sorted(cuts)
    assert all(level_HW[:, a:b].any() for a, b in itertools.pairwise(cuts))


def test_a_character_that_is_read_as_another_is_found_between_its_neighbours(locator: Locator) -> None:
    image = written(["OPQN DAILY"])
    words = locator.words(image, ["OPEN DAILY"], frozenset("OPENDAILY"))
    assert distance(shown(words[0][2]), own("Q")) < 0.03 and distance(shown(words[0][3]), own("N")) < 0.03


def test_what_stands_nowhere_has_no_cell(locator: Locator) -> None:
    blank = np.full((64, 200, 3), 255, np.uint8)
    (word,) = locator.words(blank, ["OPEN"], frozenset("OPEN"))
    assert all(cell.level_HW is None for cell in word)


def test_alignment_spells_the_text_at_the_least_cost() -> None:
    """Classes: 0 blank, 1 A, 2 B, 3 C. The columns say A, blank, C, blank, B."""
    cost = np.full((5, 4), 6.0)
    for column, k in enumerate((1, 0, 3, 0, 2)):
        cost[column, k] = 0.0
    assert align(cost, [[1], [3], [2]], (0,)) == [0, 2, 4]
    assert align(cost, [[1], [2], [2]], (0,))[0] == 0  # the C is not a B, yet stands where one is wanted
    assert align(cost, [[3]], (0,)) == [2] and align(cost, [[2], [1]], (0,)) is not None
    assert align(cost, [[1]] * 6, (0,)) is None
    assert align(np.full((9, 4), 8.0), [[1], [2]], (0,)) is None
    twice = np.full((3, 4), 6.0)
    twice[[0, 2], 1], twice[1, 0] = 0.0, 0.0
    assert align(twice, [[1], [1]], (0,)) == [0, 2]  # one letter twice needs a blank between


def test_lines_are_told_from_dots_and_strokes() -> None:
    assert single_line(written(["jig"]), ["jig"]) is not None
    assert single_line(written(["二"], face="Noto Sans SC"), ["二"]) is not None
    assert single_line(written(["nimble", "words"]), ["nimblewords"]) is None


def test_the_worst_letter_of_a_word_counts(scorer: GlyphScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"P": 0.1, "I": 0.6}
    monkeypatch.setattr(scorer.model, "score", lambda crops, names: np.array([value.get(c, 0.9) for c in names]))
    image = written(["OPEN DAILY"]).transpose(2, 0, 1)[None]
    scores = scorer([Prompt.from_text('"OPEN DAILY"')], image)
    parts = {name: part[0] for name, part in scores.parts.items()}
    assert scores.value_B[0] == parts["glyph"] == pytest.approx((0.1 + 0.6) / 2)
    assert parts["worst"] == pytest.approx(0.1) and parts["letters"] == 9 and parts["missing"] == 0
    assert parts["glyph_mean"] == pytest.approx((0.1 + 0.6 + 7 * 0.9) / 9)


def test_nothing_written_scores_nothing_and_nothing_to_judge_is_no_score(scorer: GlyphScorer) -> None:
    blank = np.full((3, 64, 200), 255, np.uint8)
    prompts = [Prompt.from_text(each) for each in ('"OPEN"', '"!?"', "a cat", '"中文字"', '"OPEN 中"')]
    scores = scorer(prompts, np.stack([blank] * 5))
    np.testing.assert_array_equal(scores.value_B, [0.0, np.nan, np.nan, np.nan, 0.0])
    assert dict(scores.unjudged) == {"no_spans": 1, "script": 2}
    assert scores.parts["missing"][0] == 1.0


def test_a_folder_that_is_none_or_damaged_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="glyphlab train-glyph"):
        Glyph(tmp_path).load()
    with pytest.raises(ValueError, match="engine is 'paddle'"):
        Glyph(tmp_path, engine="paddle")
    tiny_glyph.glyph(tmp_path, "AB")
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged .*train it again"):
        Glyph(tmp_path).load()
    (tmp_path / CONTENT).write_text('{"format": 9}')
    with pytest.raises(ValueError, match="format 9"):
        Glyph(tmp_path).load()


def test_a_folder_keeps_how_its_scores_are_read(tmp_path: Path) -> None:
    table = references({"en": "AB"})
    rows = np.float32([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    levels = Levels(*rows, box_C23=table.box_C23, network_C=np.array([1, 0]))
    networks = [GlyphNetwork(2), GlyphNetwork(2)]
    for name, content in as_files(networks, 2, "AB", table.image_C2ZZ, levels, {}).items():
        (tmp_path / name).write_bytes(content)
    for name, kept in vars(read(tmp_path)[1].levels).items():
        np.testing.assert_array_equal(kept, vars(levels)[name], err_msg=name)
    for name, content in as_files(networks[:1], 2, "AB", table.image_C2ZZ, levels, {}).items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="networks that are none of its 1"):
        read(tmp_path)


def test_a_character_is_seen_by_the_network_of_its_language() -> None:
    torch.manual_seed(0)
    table, networks = references({"en": "AB", "zh-Hans": "永"}), [GlyphNetwork(2), GlyphNetwork(2)]
    crops, asked = [*table.image_C2ZZ[:, 0], table.image_C2ZZ[0, 1]], "AB永A"
    alone = [GlyphModel([each], table.characters, table.image_C2ZZ) for each in networks]
    levels = replace(Levels.none(3), network_C=np.array([1, 1, 0]))
    both = GlyphModel(networks, table.characters, table.image_C2ZZ, levels)
    for method in ("score", "maps"):
        first, second = (getattr(each, method)(crops, asked) for each in alone)
        assert np.abs(first - second).min() > 1e-5
        np.testing.assert_allclose(getattr(both, method)(crops, asked), [*second[:2], first[2], second[3]], rtol=1e-5)
        np.testing.assert_allclose(getattr(both, method)(crops[:2], "AB"), second[:2], rtol=1e-5)


def test_a_folder_with_one_network_for_all_languages_is_read_as_before(tmp_path: Path) -> None:
    """Format 3: no language has a network of its own."""
    reward = tiny_glyph.glyph(tmp_path, "AB")
    crops = [own("A"), own("B")]
    before = reward.load().model.score(crops, "AB")
    weights = load((tmp_path / WEIGHTS).read_bytes())
    (tmp_path / WEIGHTS).write_bytes(save({name.removeprefix("0."): each for name, each in weights.items()}))
    with np.load(tmp_path / REFERENCES) as table:
        kept = {name: table[name] for name in table if name != "network"}
    np.savez(tmp_path / REFERENCES, **kept)
    (tmp_path / CONTENT).write_text('{"format": 3, "width": 2}')
    np.testing.assert_array_equal(reward.load().model.score(crops, "AB"), before)


def test_folding_normalisation_into_convolution_changes_no_score() -> None:
    torch.manual_seed(0)
    network = GlyphNetwork(4)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                    values.uniform_(0.5, 1.5)
        x_B3ZZ = torch.rand(3, 3, SIDE, SIDE)
        fast = folded(network.eval())
        assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fast.modules())
        for ours, theirs in zip(fast(x_B3ZZ), network(x_B3ZZ), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_many_crops_at_once_score_as_each_alone(scorer: GlyphScorer) -> None:
    crops = [own("K"), own("R"), np.zeros((SIDE, SIDE), np.uint8), own("K", weight=800)]
    names = ["K", "R", "K", "R"]
    alone = [scorer.model.score([each], [name])[0] for each, name in zip(crops, names, strict=True)]
    np.testing.assert_allclose(scorer.model.score(crops, names), alone, atol=1e-5)
    whole = [scorer.model.whole([each], [name])[0] for each, name in zip(crops, names, strict=True)]
    assert scorer.model.whole(crops, names).tolist() == whole and whole[0] and not whole[2]
    assert scorer.model.maps(crops, names).shape == (4, 8, 8)


def test_it_is_named_on_the_command_line_and_in_mixtures(tmp_path: Path) -> None:
    tiny_glyph.glyph(tmp_path / "g")
    assert (
        named_reward(f"glyph:weights={tmp_path / 'g'}")
        == Glyph(tmp_path / "g")
        == named_reward(f"glyph:{tmp_path / 'g'}")
    )
    mixture = named_reward(f"0.7*ocr+0.3*glyph:weights={tmp_path / 'g'}").load()
    scores = mixture([Prompt.from_text('"OPEN"')], written(["OPEN"]).transpose(2, 0, 1)[None])
    own_value = scores.parts[f"glyph:weights={tmp_path / 'g'}"][0]
    assert scores.value_B[0] == pytest.approx(0.7 * 1.0 + 0.3 * own_value) and SIDE == 32
