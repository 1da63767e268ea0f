"""Words that answer a question, as tokenizers write them: every spelling counts, and a word in pieces is no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preference_data.records import Prompt
from rewards.image_scorer import Unjudged
from rewards.language.chat_judge import ServerJudge
from rewards.language.local_judge import Vlm
from rewards.language.qwen_vl import QwenVl
from rewards.language.read_answer import READINGS, add_up, read_rating
from rewards.language.rubric import RATINGS, read_rubric
from tests.fixtures.chat_server import MODEL, chat_server, completion
from tests.fixtures.tiny.tiny_judges import as_batch, photographs
from tests.fixtures.tiny.tiny_vlm import QWEN_MERGES, qwen_folder, whole_words

PROMPT = Prompt.from_text("a cat on a mat")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer cuts the answer words as Qwen's does."""
    return qwen_folder(tmp_path_factory.mktemp("qwen"), merges=QWEN_MERGES)


def asked(odds: dict[str, float], reading: str, **settings: Any) -> Any:
    with chat_server(lambda request: completion(odds)) as chat:
        judge = ServerJudge(url=chat.url, model=MODEL, reading=reading, pause=0.0, **settings)
        return judge.load()([PROMPT], np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("odds", "rating"),
    [
        ({"Excellent": 0.93, "Good": 0.05}, 4.949),
        ({" excellent": 0.6, "Excellent": 0.33, "good": 0.05}, 4.949),
        ({"Poor": 0.6, " poor": 0.3, "fair": 0.06, "Bad": 0.03}, 2.030),
        ({"GOOD": 0.5, "good": 0.2, "Good ": 0.1, "\nGood": 0.1, "The": 0.1}, 4.0),
    ],
)
def test_every_spelling_of_a_rating_counts(odds: dict[str, float], rating: float) -> None:
    assert asked(odds, "rating").parts["rating"][0] == pytest.approx(rating, abs=1e-3)


@pytest.mark.parametrize(
    "odds",
    [
        {"ex": 0.93, "good": 0.05}, {"ex": 0.50, "good": 0.45}, {"po": 0.90, "fair": 0.06, "bad": 0.03},
        {"Good": 0.6, "Ex": 0.3}, {" po": 0.06, "Good": 0.9},
    ],
)  # fmt: skip
def test_a_rating_in_pieces_is_no_rating(odds: dict[str, float]) -> None:
    """What is left would be the rating of a judge that cannot say the word."""
    scores = asked(odds, "rating")
    assert np.isnan(scores.value_B[0]) and scores.unjudged == {"split_word": 1}
    with pytest.raises(Unjudged, match=r"'(excellent|poor)' with 0\.\d\d"):
        add_up(odds.items(), tuple(RATINGS))


def test_yes_counts_however_it_is_written() -> None:
    scores = asked({"Yes": 0.3, " Yes": 0.2, "yes": 0.3, "YES": 0.05, "No": 0.1, "no": 0.05}, "yes")
    assert scores.value_B[0] == pytest.approx(0.85) and scores.parts["mass"][0] == pytest.approx(1.0)
    assert asked({"yes": 0.9, "The": 0.1}, "yes").value_B[0] == pytest.approx(0.9)
    assert asked({"Yesterday": 0.6, "Yes": 0.4}, "yes").value_B[0] == pytest.approx(0.4)


def test_a_letter_is_not_an_article() -> None:
    odds = add_up([("A", 0.2), (" A", 0.1), ("a", 0.3), (" a", 0.1), ("B", 0.3)], ("A", "B"))
    assert odds == {"A": pytest.approx(0.3), "B": pytest.approx(0.3)}


@pytest.mark.parametrize(("reading", "rubric"), [("rating", "aesthetics"), ("yes", "alignment")])
def test_the_local_judge_and_the_server_agree_on_the_same_model(qwen: Path, reading: str, rubric: str) -> None:
    """The server is given every first token that the model could say, as its tokenizer writes it."""
    from transformers import AutoTokenizer

    settings: dict[str, Any] = {"rubric": rubric, "reading": reading, "least_mass": 0.0}
    local = Vlm(weights=str(qwen), least_pixels=784, **settings).load()([PROMPT], as_batch(photographs()[0]))
    model = QwenVl(qwen, "cpu", "float32", 784, 2048 * 784)
    question = read_rubric(rubric).question(reading, PROMPT)
    inputs = model._inputs(question, [photographs()[0]], "cpu")
    p_V = model.model(**inputs).logits[0, -1].detach().double().softmax(-1)
    said = AutoTokenizer.from_pretrained(qwen).batch_decode([[i] for i in range(len(p_V))])
    odds: dict[str, float] = {}
    for text, p in zip(said, p_V.tolist(), strict=True):
        odds[text] = odds.get(text, 0.0) + p
    served = asked(odds, reading, **{k: v for k, v in settings.items() if k != "reading"})
    for part in READINGS[reading][2]:
        assert local.parts[part][0] == pytest.approx(served.parts[part][0], rel=1e-4), part
    words = READINGS[reading][0]
    alone = sum(p_V[AutoTokenizer.from_pretrained(qwen)(w).input_ids[0]].item() for w in words)
    assert local.parts["mass"][0] > 1.5 * alone  # first pieces of small words are not the words


def test_the_local_judge_says_which_answers_come_in_pieces(qwen: Path) -> None:
    model = QwenVl(qwen, "cpu", "float32", 784, 2048 * 784)
    texts = model.tokens_of(tuple(RATINGS)).texts.values()
    assert {"Excellent", " Excellent", " excellent", "Poor", " poor", "good", " Good", "ex", "po"} <= set(texts)
    assert "excellent" not in texts and "poor" not in texts
    tokens = model.tokens_of(("excellent", "good"))
    ids = {text: i for i, text in tokens.texts.items()}
    said = {ids["ex"]: 0.5, ids[" Good"]: 0.4}
    with pytest.raises(Unjudged, match=r"'excellent' with 0\.50"):
        add_up([(text, said.get(i, 0.0)) for i, text in tokens.texts.items()], tokens.words)


def test_a_word_without_a_token_is_refused_by_its_name(tmp_path: Path) -> None:
    pieces = [pair for pair in whole_words() if "".join(pair) != "excellent"]
    folder = qwen_folder(tmp_path, merges=pieces)
    with pytest.raises(ValueError, match="writes the answer 'excellent' in pieces"):
        Vlm(weights=str(folder), reading="rating").load()
    Vlm(weights=str(folder), reading="yes").load()


def test_ratings_read_what_the_rubrics_ask_for() -> None:
    """The rubrics ask for words with a capital: all five are one token of Qwen's in that spelling."""
    for rubric in ("aesthetics", "alignment", "text_correctness", "edit_faithfulness"):
        question = read_rubric(rubric).questions["rating"]
        assert all(word.capitalize() in question and word not in question.split() for word in RATINGS)
    odds = dict.fromkeys(RATINGS, 0.2)
    assert read_rating(odds)["rating"] == pytest.approx(3.0)
