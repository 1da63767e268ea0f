"""What every reward must keep, run over ``REWARDS``. A new reward adds one row to ``ROWS``.

glyphlab's own:  python -m pytest tests/contracts/test_rewards.py -k NAME
"""

from __future__ import annotations

import importlib
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from preference_data.pixels import to_float, to_uint8
from preference_data.records import Prompt
from rewards.learned.backbones import PixelStatistics
from rewards.learned.reward import Learned, as_files
from rewards.parse import named_reward
from rewards.reward_table import REWARDS
from rewards.scores import Reward, Scorer, Scores, View, concatenate, obstacles, tabulate
from rewards.serving.cache import identity
from rewards.serving.remote import Remote
from rewards.serving.reward_server import Service
from tests.fixtures.served_rewards import serving
from tests.fixtures.tiny import tiny_glyph, tiny_rewards
from tests.fixtures.writing import written

HERE = ("127.0.0.1", "::1", "localhost")
WORDS = ("ZEBRA", "KIWI", "LEMON", "TULIP", "ROBIN")


@dataclass(frozen=True)
class Row:
    """A reward's row: what to judge and how to make it fail.

    images: one a prompt, best first when ``ordered``: the first two must then differ in value. unjudgeable: a prompt
    that it cannot judge; None when it can judge any. breaks: makes whatever the scorer asks (an engine, a model, a
    server) raise. make: the settings, given an empty folder to put tiny random weights into; the defaults otherwise.
    tolerance: how far a score may move with the batch it is in; more than 0 only where a library's kernels do that.
    """

    prompts: list[Prompt]
    images: Callable[[], np.ndarray]
    unjudgeable: Prompt | None
    breaks: Callable[[pytest.MonkeyPatch, Any], None]
    make: Callable[[Path], Reward] | None = None
    ordered: bool = True
    tolerance: float = 0.0


def words_from_right_to_wrong() -> np.ndarray:
    return np.stack([written(word) for word in ("ZEBRA", "KIWX", "LEM", "QOX", "ROBIN")])


def fails(*arguments: object, **named: object) -> None:
    raise RuntimeError("out of memory")


def break_engine(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr(scorer._recogniser, "read", fails)


def break_part(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    break_engine(patch, scorer._parts[1][1])


def break_probabilities(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr(scorer._recogniser, "probabilities", fails)


def break_page(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr(scorer._reader, "read", fails)


def photographs() -> np.ndarray:
    """From clean to spoilt: (5, 3, 48, 80)."""
    return tiny_rewards.spoilt_photographs()


def break_brisque(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr("rewards.published.brisque.features", fails)


def break_model(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr("torch.nn.Module.__call__", fails)


def break_server(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr("httpx.AsyncClient.send", fails)


SCENES = [Prompt.from_text(f"a {word.lower()} on a table") for word in WORDS]
COMMAND = Prompt.from_text("a <|image_pad|> on a table")


def break_connection(patch: pytest.MonkeyPatch, scorer: Any) -> None:
    patch.setattr("httpx.Client.send", fails_to_connect)
    patch.setattr("rewards.serving.remote.time.sleep", lambda seconds: None)


def fails_to_connect(*arguments: object, **named: object) -> None:
    import httpx

    raise httpx.ConnectError("nobody listens")


_SERVERS = ExitStack()


def served(folder: Path) -> Reward:
    url, _ = _SERVERS.enter_context(serving(REWARDS["ocr"](), Service()))
    return Remote(url)


@pytest.fixture(scope="module", autouse=True)
def servers_stop() -> Iterator[None]:
    with _SERVERS:
        yield


READING = Row(
    [Prompt.from_text(f'"{word}"') for word in WORDS],
    words_from_right_to_wrong,
    Prompt.from_text("a cat"),
    break_engine,
)


def tiny_learned(folder: Path) -> Reward:
    """A folder as train-reward writes it, with random weights on the pixels backbone."""
    rng, count = np.random.default_rng(0), len(PixelStatistics.names)
    head = SimpleNamespace(weights={"weight": rng.normal(size=(1, count))})
    trained = SimpleNamespace(
        fitted=head, heads=[head], mean_F=np.zeros(count), std_F=np.ones(count), centre=0.1, temperature=0.8, decay=0.1
    )
    for name, content in as_files("pixels", PixelStatistics.names, trained, {}).items():
        (folder / name).write_bytes(content)
    return Learned(folder)


ROWS = {
    "ocr": READING,
    "ocr_judge": READING,
    "ocr_likelihood": replace(READING, breaks=break_probabilities),
    "ocr_contains": READING,
    "ocr_page": replace(READING, breaks=break_page),
    "ocr_flow_grpo": replace(READING, breaks=break_page),
    "brisque": Row(SCENES, photographs, None, break_brisque),
    "chance": Row(
        SCENES, photographs, None, lambda patch, _: patch.setattr("rewards.chance.chance", fails), ordered=False
    ),
    "clipscore": Row(SCENES, photographs, None, break_model, tiny_rewards.clipscore, ordered=False),
    "pickscore": Row(SCENES, photographs, None, break_model, tiny_rewards.pickscore, ordered=False),
    "hpsv2": Row(SCENES, photographs, None, break_model, tiny_rewards.hpsv2, ordered=False),
    "hpsv3": Row(SCENES, photographs, COMMAND, break_model, tiny_rewards.hpsv3, ordered=False),
    "imagereward": Row(SCENES, photographs, None, break_model, tiny_rewards.imagereward, ordered=False),
    "laion_aesthetic": Row(SCENES, photographs, None, break_model, tiny_rewards.laion_aesthetic, ordered=False),
    "aesthetic_v25": Row(SCENES, photographs, None, break_model, tiny_rewards.aesthetic_v25, ordered=False),
    "vlm": Row(SCENES, photographs, COMMAND, break_model, tiny_rewards.vlm, ordered=False),
    "server": Row(SCENES, photographs, None, break_server, tiny_rewards.served),
    "remote": replace(READING, breaks=break_connection, make=served),
    "glyph": replace(
        READING,
        breaks=lambda patch, scorer: patch.setattr(scorer.model, "score_cells", fails),
        make=tiny_glyph.glyph,
        ordered=False,
    ),
    "learned": Row(
        READING.prompts,
        words_from_right_to_wrong,
        None,
        lambda patch, scorer: patch.setattr(scorer, "_extractor", fails),
        make=tiny_learned,
    ),
    "weighted": replace(READING, breaks=break_part, make=lambda folder: named_reward("0.7*ocr+0.3*ocr_judge")),
    "product": replace(READING, breaks=break_part, make=lambda folder: named_reward("ocr*ocr_judge")),
}


def offline(patch: pytest.MonkeyPatch) -> None:
    """Every way to the network, except to this machine itself, is an error."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        assert not isinstance(address, tuple) or address[0] in HERE, f"a reward asked the network: {address}"
        connect(self, address)

    def guarded_lookup(host: Any, *arguments: Any, **named: Any) -> Any:
        assert host in HERE, f"a reward asked the network: {host}"
        return lookup(host, *arguments, **named)

    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket, "getaddrinfo", guarded_lookup)


@pytest.fixture(scope="module", params=sorted(ROWS))
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Reward, Scorer, Row]]:
    """A reward, loaded and judging without a network."""
    name, row = request.param, ROWS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        offline(patch)
        reward = row.make(tmp_path_factory.mktemp(name)) if row.make else REWARDS[name]()
        yield name, reward, reward.load("cpu"), row


def test_every_reward_has_a_row() -> None:
    assert set(ROWS) >= set(REWARDS)
    assert all(row.make for name, row in ROWS.items() if name not in REWARDS)


def test_settings_are_a_frozen_picklable_dataclass(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    name, reward, scorer, _ = loaded
    assert is_dataclass(reward) and isinstance(reward, Reward) and isinstance(scorer, Scorer)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        reward.version = 2
    assert pickle.loads(pickle.dumps(reward)) == reward and hash(reward) == hash(replace(reward))
    assert identity(name, reward) == identity(name, replace(reward)) and str(reward.version) in identity(name, reward)


def test_the_documentation_says_the_range_and_the_needs_exist(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    name, reward, scorer, row = loaded
    low, high = reward.range
    assert low < high and f"[{low:g}, {high:g}]" in (type(reward).__doc__ or "")
    assert set(reward.needs) <= {field.name for field in fields(Prompt)}
    assert all(getattr(prompt, need) for prompt in row.prompts for need in reward.needs)
    assert scorer.name.startswith(name)


@pytest.mark.parametrize(("height", "width"), [(32, 96), (928, 1664), (1328, 1328)])
def test_it_says_which_part_of_a_picture_it_sees(
    loaded: tuple[str, Reward, Scorer, Row], height: int, width: int
) -> None:
    view = loaded[1].sees(height, width)
    assert isinstance(view, View) and 0 < view.share <= 1 and min(view.height, view.width) >= 1 and view.how


def test_scores_have_their_shape_range_and_order(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, reward, scorer, row = loaded
    pictures = row.images()
    scores = scorer(row.prompts, pictures)
    count = len(row.prompts)
    assert scores.value_B.shape == (count,) and scores.value_B.dtype == np.float64
    assert all(part.shape == (count,) and part.dtype == np.float64 for part in scores.parts.values())
    assert (scores.value_B >= reward.range[0]).all() and (scores.value_B <= reward.range[1]).all()
    assert not np.isnan(scores.value_B).any() and not scores.unjudged
    assert bool(scores.read) == getattr(reward, "reads", False), "what a benchmark measures is known ahead"
    assert len(set(scores.value_B.tolist())) > 1 and (scores.value_B[0] > scores.value_B[1] or not row.ordered)
    backwards = scorer(row.prompts[::-1], pictures[::-1])
    np.testing.assert_allclose(backwards.value_B[::-1], scores.value_B, rtol=0, atol=row.tolerance)


def test_a_score_does_not_depend_on_the_batch_nor_on_the_call(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.images()
    before = pictures.copy()
    whole = scorer(row.prompts, pictures)
    again = scorer(row.prompts, pictures)
    single = [scorer([prompt], picture[None]) for prompt, picture in zip(row.prompts, pictures, strict=True)]
    assert whole.value_B.tobytes() == again.value_B.tobytes()
    for name, part in [("value", whole.value_B), *whole.parts.items()]:
        alone = [float((each.parts | {"value": each.value_B})[name][0]) for each in single]
        np.testing.assert_allclose(part, alone, rtol=0, atol=row.tolerance, err_msg=name)
    np.testing.assert_array_equal(pictures, before)  # a scorer reads, it does not write


def test_a_score_survives_the_trip_through_8_bits(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.images()
    travelled = to_float(to_uint8(pictures))
    assert scorer(row.prompts, travelled).value_B.tobytes() == scorer(row.prompts, pictures).value_B.tobytes()


def test_what_cannot_be_judged_is_nan_and_counted(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    pictures = row.images()[:3]
    judged = scorer(row.prompts[:3], pictures)
    pictures[1, 0, 0, 0] = np.nan
    prompts = [row.prompts[0], row.prompts[1], row.unjudgeable or row.prompts[2]]
    scores = scorer(prompts, pictures)
    expected = np.array([False, True, row.unjudgeable is not None])
    np.testing.assert_array_equal(np.isnan(scores.value_B), expected)
    np.testing.assert_allclose(scores.value_B[0], judged.value_B[0], rtol=0, atol=row.tolerance)
    assert sum(scores.unjudged.values()) == expected.sum()
    assert sum(n for cause, n in scores.unjudged.items() if cause.split("/")[-1] == "not_finite") == 1
    for part in scores.parts.values():
        np.testing.assert_array_equal(np.isnan(part), expected)


def test_a_failure_of_what_it_asks_is_nan_and_never_a_score(
    loaded: tuple[str, Reward, Scorer, Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, scorer, row = loaded
    before = scorer(row.prompts, row.images())
    with monkeypatch.context() as patch:
        row.breaks(patch, scorer)
        scores = scorer(row.prompts, row.images())
    assert np.isnan(scores.value_B).all() and sum(scores.unjudged.values()) == len(row.prompts)
    assert scores.parts.keys() == before.parts.keys() and all(np.isnan(part).all() for part in scores.parts.values())
    after = scorer(row.prompts, row.images())
    assert after.value_B.tobytes() == before.value_B.tobytes()  # a failure leaves nothing behind


READERS = [name for name, row in ROWS.items() if row.images is words_from_right_to_wrong and name != "learned"]


@pytest.mark.parametrize("name", READERS)
def test_a_reward_that_reads_does_not_judge_a_script_it_cannot_write(name: str, tmp_path: Path) -> None:
    """Never 0: its engine would read another text in an image that is right."""
    row = ROWS[name]
    scorer = (row.make(tmp_path) if row.make else REWARDS[name]()).load("cpu")
    foreign = [Prompt.from_text(f'a sign "{text}"') for text in ("\u0416\u0418\u0417\u041d\u042c", "\ud55c\uad6d")]
    scores = scorer([*foreign, row.prompts[0]], row.images()[[0, 1, 0]])
    assert np.isnan(scores.value_B).tolist() == [True, True, False]
    assert sum(scores.unjudged.values()) == 2 and all(cause.endswith("script") for cause in scores.unjudged)


def test_empty_and_unequal_batches(loaded: tuple[str, Reward, Scorer, Row]) -> None:
    _, _, scorer, row = loaded
    empty = scorer([], row.images()[:0])
    assert empty.value_B.shape == (0,) and not empty.unjudged
    with pytest.raises(ValueError, match="2 prompts but 5 images"):
        scorer(row.prompts[:2], row.images())


def test_scores_refuse_other_shapes_and_types() -> None:
    two = np.zeros(2)
    for value, part in [(np.zeros((2, 1)), np.zeros((2, 1))), (two, np.zeros(3)), (two, np.zeros(2, dtype=int))]:
        with pytest.raises(ValueError, match="float64"):
            Scores(value, {"part": part})


def test_obstacles_name_the_first_reason() -> None:
    asks, silent = Prompt.from_text('"CAT"'), Prompt.from_text("a cat")
    pictures = np.zeros((3, 3, 4, 4), dtype=np.float32)
    pictures[1, 2, 3, 3] = np.inf
    assert obstacles([asks, asks, silent], pictures, ("spans",)) == [None, "not_finite", "no_spans"]
    assert obstacles([silent, silent], pictures[:2]) == [None, "not_finite"]
    assert obstacles([asks], to_uint8(pictures[1:2])) == [None]
    for shape in [(2, 1, 4, 4), (2, 4, 4, 3), (2, 3, 4), (2, 3, 0, 4)]:
        assert obstacles([asks, asks], np.zeros(shape)) == ["shape", "shape"]


def test_rows_are_numbers_or_a_cause() -> None:
    scores = tabulate([{"a": 1.0, "b": 2.0}, "engine", {"a": 3.0, "b": 4.0}, "engine"], ("b", "a"))
    np.testing.assert_array_equal(scores.value_B, [2.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(scores.parts["a"], [1.0, np.nan, 3.0, np.nan])
    assert scores.unjudged == {"engine": 2} and list(scores.parts) == ["b", "a"]
    assert tabulate([], ("a",)).value_B.shape == (0,)


def test_joined_scores_add_up_what_was_spent() -> None:
    one = Scores(np.array([1.0]), {}, {"engine": 1}, {"seconds": 0.5, "requests": 2.0})
    two = Scores(np.array([2.0]), {}, {"shape": 1, "engine": 2}, {"seconds": 0.25})
    joined = concatenate([one, two])
    assert joined.unjudged == {"engine": 3, "shape": 1} and joined.spent == {"seconds": 0.75, "requests": 2.0}


def test_every_8_bit_level_survives_the_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 2.0, 0.4999 / 255, 0.5001 / 255])), [0, 255, 0, 1])


def test_listing_the_rewards_imports_nothing_heavy() -> None:
    heavy = ("torch", "onnxruntime", "paddleocr", "cv2")
    code = f"import sys, rewards; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(importlib.import_module(kind.__module__).__doc__ for kind in REWARDS.values())
