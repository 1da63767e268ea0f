"""Any model on any prompts by any rewards: numbers as by hand, nothing done twice, files of others read as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from os import environ
from pathlib import Path

import numpy as np
import pandas
import pytest

from base_model.files.weights import save_model
from base_model.generate import generate
from base_model.sample import Sampler
from experiments import cli
from experiments.evaluation import score_prompts
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.found_model import find_model
from experiments.evaluation.prompt_files import read_prompt_file
from experiments.evaluation.prompt_table import differences_table, means_table, score_table
from experiments.evaluation.score_prompts import Requested, evaluate_prompts
from experiments.evaluation.scored_images import Point
from experiments.record.intervals import bootstrap_ci, paired_ci
from experiments.record.record import RunRecord
from experiments.record.whole_files import read_png, write_png
from preference_data.captions import captioned, captioned_prompts
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.parse import named_reward
from rewards.scores import Scores
from rewards.text.benchmark_metrics import one_ig
from rewards.text.ocr_page import OcrPage
from tests.fixtures.tiny.tiny_model import tiny_model

ROWS = (("GLYPH", "red", "sign"), ("CAT", "blue", "sign"), ("DOG", "green", "mug"), ("OWL", "black", "mug"))
SAMPLER = Sampler(2, 1.0)


class Brightness:
    """A reward that says how bright the image is, and knows nothing of black ones' prompts; counts what it is asked."""

    version, range, needs = 1, (0.0, 1.0), ()

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.dies_after = -1

    def __repr__(self) -> str:
        return "Brightness()"

    def submit(self, prompts: Sequence[Prompt], images: np.ndarray) -> Future[Scores]:
        if self.dies_after == 0:
            raise KeyboardInterrupt
        self.dies_after -= 1
        self.requests += [prompt.text for prompt in prompts]
        value = np.array([np.nan if "OWL" in prompt.text else image.mean() / 255.0
                          for prompt, image in zip(prompts, images, strict=True)])  # fmt: skip
        done: Future[Scores] = Future()
        done.set_result(Scores(value, {"half": value / 2}, {}, {}, tuple(prompt.text[:4] for prompt in prompts)))
        return done


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs, and a file of prompts."""
    for name, seed in (("one", 0), ("two", 1)):
        record = RunRecord.open(tmp_path / name, {"experiment": {"name": "nano_sft"}})
        with record.running():
            record.log(0, {"loss": 1.0})
        save_model(tiny_model(seed), tmp_path / name / "model")
    rows = [{"prompt": f"the word “{word}” in {ink}", "tag": tag} for word, ink, tag in ROWS]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def asked(runs: Path, seeds: int = 2) -> Requested:
    return Requested(tuple(read_prompt_file(runs / "p.jsonl")), tuple(range(seeds)), SAMPLER, device="cpu")


def evaluated(runs: Path, name: str, reward: Brightness, seeds: int = 2) -> score_prompts.ScoredImages:
    found = find_model(str(runs / name))
    return evaluate_prompts(found, asked(runs, seeds), {"r": reward}, runs / f"{name}_out", {"r": reward})[0]  # type: ignore[dict-item]


def test_images_depend_on_seed_and_index_alone_and_scores_are_as_by_hand(runs):
    images = evaluated(runs, "one", Brightness())
    model, prompts = tiny_model(0), [each.prompt for each in asked(runs).prompts]
    hand = {}
    for seed in (0, 1):
        noise = fixed_noise(model, len(prompts), seed)
        pixels = generate(model, [prompt.text for prompt in prompts], noise, SAMPLER)
        for index, image in enumerate(pixels):
            kept = read_png(images.path(Point(index, seed))).astype(int)
            assert np.abs(kept - image).max() <= 1
            hand[index, seed] = np.nan if index == 3 else kept.mean() / 255.0
    table = score_table(images, ["r"])
    assert list(zip(table["prompt_index"], table["seed"], strict=True)) == sorted(hand)
    assert np.allclose(table["r"], [hand[key] for key in sorted(hand)], equal_nan=True)
    assert np.allclose(table["r/half"], table["r"] / 2, equal_nan=True) and set(table["r/read"]) == {"the "}
    by_hand = np.array([np.mean([hand[index, 0], hand[index, 1]]) for index in range(4)])
    means = means_table(table, ["r"]).set_index("slice")
    assert means.loc["", "mean"] == pytest.approx(np.nanmean(by_hand))
    assert tuple(means.loc["", ["low", "high"]]) == pytest.approx(bootstrap_ci(by_hand, seed=0))
    assert means.loc["", "prompts"] == 3 and means.loc["", "images"] == 8 and means.loc["", "unjudged"] == 2
    assert means.loc["sign", "mean"] == pytest.approx(by_hand[:2].mean())
    assert means.loc["mug", "mean"] == pytest.approx(by_hand[2])


def test_a_reward_gives_what_its_scorer_gives_by_hand(runs):
    found, ocr = find_model(str(runs / "one")), OcrPage().load()

    class Here:
        def submit(self, prompts, images):
            done: Future[Scores] = Future()
            done.set_result(ocr(prompts, to_float(images)))
            return done

    images, _ = evaluate_prompts(found, asked(runs), {"ocr_page": OcrPage()}, runs / "o", {"ocr_page": Here()})
    table = score_table(images, ["ocr_page"])
    pixels = to_float(np.stack([read_png(images.path(point)) for point in images.points]))
    scores = ocr([images.requests[point.index].prompt for point in images.points], pixels)
    assert np.array_equal(table["ocr_page"], scores.value_B, equal_nan=True)
    for part, values in scores.parts.items():
        assert np.array_equal(table[f"ocr_page/{part}"], values, equal_nan=True)
    assert table["ocr_page/read"].tolist() == list(scores.read)


def test_pairs_are_of_the_same_prompt_and_noise_and_units_are_prompts(runs):
    one, two = (score_table(evaluated(runs, name, Brightness()), ["r"]) for name in ("one", "two"))
    found = differences_table(one, two, ["r"]).set_index("slice").loc[""]
    a, b = (table["r"].to_numpy().reshape(4, 2).mean(1) for table in (one, two))
    assert tuple(found[["difference", "low", "high"]]) == pytest.approx(paired_ci(b, a, seed=0))
    assert found["prompts"] == 3 and found["images"] == 6 and abs(found["difference"]) > 1e-4
    shuffled = two.sample(frac=1.0, random_state=3)
    again = differences_table(one, shuffled, ["r"]).set_index("slice").loc[""]
    assert again["difference"] == pytest.approx(found["difference"])


def test_killed_and_started_again_nothing_is_sampled_or_scored_twice(runs, monkeypatch):
    monkeypatch.setattr(score_prompts, "CHUNK", 2)
    done: list[Point] = []
    whole = score_prompts.sampled

    def counted(model, asked, points):
        done.extend(points)
        return whole(model, asked, points)

    monkeypatch.setattr(score_prompts, "sampled", counted)
    reward = Brightness()
    reward.dies_after = 2
    with pytest.raises(KeyboardInterrupt):
        evaluated(runs, "one", reward)
    scores = runs / "one_out" / "scores.jsonl"
    whole_lines = scores.read_text(encoding="utf-8")
    assert 0 < whole_lines.count("\n") < 8 and 0 < len(done) < 8
    scores.write_text(whole_lines + '{"prompt_index": 3, "se', encoding="utf-8")  # killed within a line
    before = {path.name: path.stat().st_mtime_ns for path in (runs / "one_out" / "images").glob("*.png")}
    reward.dies_after = -1
    submitted = len(reward.requests)
    images = evaluated(runs, "one", reward)
    assert sorted(done) == images.points, "every image is sampled once"
    lines = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 8 == len({(line["prompt_index"], line["seed"]) for line in lines})
    assert len(reward.requests) - submitted == 8 - whole_lines.count("\n"), "what has a line is not scored again"
    assert all((images.folder / "images" / name).stat().st_mtime_ns == time for name, time in before.items())
    monkeypatch.setattr(find_model(str(runs / "one")).__class__, "load", lambda *_: pytest.fail("nothing to sample"))
    count = len(reward.requests)
    assert score_table(evaluated(runs, "one", reward), ["r"]).equals(score_table(images, ["r"]))
    assert len(reward.requests) == count


def test_scores_of_another_reward_or_of_other_texts_are_made_again(runs):
    reward = Brightness()
    evaluated(runs, "one", reward)
    rows = (runs / "p.jsonl").read_text(encoding="utf-8").splitlines()
    rows[1] = json.dumps(json.loads(rows[1]) | {"spans": ["ELSE"]})
    (runs / "p.jsonl").write_text("\n".join(rows), encoding="utf-8")
    images, lines = evaluated(runs, "one", reward), (runs / "one_out" / "scores.jsonl").read_text().splitlines()
    assert len(reward.requests) == 8 + 2 and len(lines) == 8
    shown = [prompt.spans for _, prompt in captioned_prompts(images.folder / "images")]
    assert shown == [each.prompt.spans for each in asked(runs).prompts for _ in (0, 1)] and shown[2] == ("ELSE",)
    reward.version = 2
    evaluated(runs, "one", reward)
    assert len(reward.requests) == 10 + 8
    (runs / "reward").mkdir()
    states = []
    for weights in (b"1", b"2"):
        (runs / "reward" / "weights.safetensors").write_bytes(weights)
        states.append(score_prompts.reward_state("r", named_reward(f"0.5*learned:{runs}/reward+0.5*ocr")))
    assert states[0] != states[1]
    (runs / "key.txt").write_text("secret")
    server = "server:url=http://127.0.0.1:1/v1,model=m"
    servers = [server, f"{server},timeout=9,key_file={runs}/key.txt"]
    assert len({score_prompts.reward_state("r", named_reward(each)) for each in servers}) == 1
    assert not list(score_prompts._named_files(("x" * 300, "/", "./", ".")))  # no file has so long a name


def test_a_score_is_kept_as_soon_as_it_is_there(runs, monkeypatch):
    """Whatever the process does meanwhile: here it is killed before it looks for the scores of its first batch."""
    monkeypatch.setattr(score_prompts, "PIECE", 3)
    pending: list[tuple[Sequence[Prompt], np.ndarray, Future[Scores]]] = []

    class Slow(Brightness):
        def submit(self, prompts, images):
            pending.append((prompts, images, Future()))
            return pending[-1][2]

    def killed(_: object) -> None:
        for piece in pending[:0:-1]:  # the first one is never answered
            piece[2].set_result(Brightness().submit(*piece[:2]).result())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score_prompts, "wait_for", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluated(runs, "one", Slow())
    assert [len(prompts) for prompts, _, _ in pending] == [3, 3, 2]
    assert len((runs / "one_out" / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    again = Brightness()
    images = evaluated(runs, "one", again)
    assert len(images.points) == 8 and len(again.requests) == 3
    rows = [json.loads(line) for line in (images.folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["prompt_index"], row["seed"]) for row in rows] == images.points, "in order, whatever came first"
    monkeypatch.setattr(score_prompts.ScoredImages, "add", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        evaluated(runs, "two", Brightness())


def test_a_batch_that_was_killed_while_it_was_written_is_sampled_whole_again(runs, monkeypatch):
    """With fewer batch mates an image may differ in the last bit."""
    left = [3]

    def write(path: Path, image: np.ndarray) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write_png(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(score_prompts, "write_png", write)
        with pytest.raises(KeyboardInterrupt):
            evaluated(runs, "one", Brightness())
    assert not [path for path in (runs / "one_out" / "images").glob("*.png") if not path.name.startswith(".")]
    assert len(evaluated(runs, "one", Brightness()).points) == 8
    assert len(list((runs / "one_out" / "images").glob("*.png"))) == 8, "nothing is left over"


def test_a_folder_of_which_nothing_but_its_beginning_was_written_goes_on(runs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("experiments.evaluation.scored_images.write_json", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            evaluated(runs, "one", Brightness())
    assert len(evaluated(runs, "one", Brightness(), 1).points) == 4


def test_a_stage_of_a_chain_is_named_by_its_folder(runs):
    (runs / "sft").mkdir()
    (runs / "one").rename(runs / "sft" / "sft")
    assert find_model(str(runs / "sft"), "sft").name == str(runs / "sft" / "sft")
    assert find_model(str(runs / "two" / ".." / "two")).name == str(runs / "two")


def test_more_seeds_keep_what_is_there_and_other_settings_need_another_folder(runs):
    reward = Brightness()
    evaluated(runs, "one", reward, 1)
    images = evaluated(runs, "one", reward, 3)
    assert len(reward.requests) == 12 and len(images.points) == 12
    assert len(captioned(images.folder / "images")) == 12
    save_model(tiny_model(5), runs / "one" / "model")
    with pytest.raises(ValueError, match="another model"):
        evaluated(runs, "one", reward)
    with pytest.raises(ValueError, match="another sampler"):
        two = find_model(str(runs / "two"))
        evaluate_prompts(two, asked(runs), {}, runs / "t", {})
        evaluate_prompts(two, Requested(asked(runs).prompts, (0,), Sampler(3, 1.0)), {}, runs / "t", {})
    with pytest.raises(ValueError, match="something else"):
        evaluate_prompts(two, asked(runs), {}, runs / "one", {})


def test_prompts_that_a_small_preset_cannot_read_are_told_and_left_out(runs):
    (runs / "p.jsonl").write_text('{"prompt": "the word CAT"}\n{"prompt": "route 66"}\n', encoding="utf-8")
    found = find_model(str(runs / "one"))
    images, notes = evaluate_prompts(found, asked(runs), {}, runs / "o", {})
    assert (
        {point.index for point in images.points} == {0}
        and "1 of 2 prompts are left out" in notes[0]
        and "'6'" in notes[0]
    )
    (runs / "p.jsonl").write_text('{"prompt": "route 66"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="cannot read a single one"):
        evaluate_prompts(found, asked(runs), {}, runs / "n", {})


def test_the_command_writes_tables_and_a_page_with_the_worst_first(runs, capsys, monkeypatch):
    class Pool(Brightness):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(score_prompts, "ScorerPool", Pool)
    line = ["evaluate", str(runs / "one"), "--prompts", str(runs / "p.jsonl"), "--rewards", "ocr", "--seeds", "2",
            "--steps", "2", "--against", str(runs / "two"), "-o", str(runs / "out"),
            "--benchmark", "one_ig"]  # fmt: skip
    assert cli.main(line) == 0
    said = capsys.readouterr().out
    metrics = pandas.read_csv(runs / "out" / "benchmark.csv").set_index(["reward", "rule", "metric"])["value"]
    by_hand = one_ig([word for word, _, _ in ROWS for _ in "ab"], [["the "]] * 6 + [None] * 2, chinese=False)
    assert metrics["ocr", "published"].to_dict() == pytest.approx(by_hand) and by_hand["edit_distance"] > 3
    assert metrics["ocr", "strict", "unjudged"] == 2 and "one_ig (strict), read by ocr: score 0." in said
    table = pandas.read_csv(runs / "out" / "scores.csv")
    pandas.testing.assert_frame_equal(table, pandas.read_parquet(runs / "out" / "scores.parquet"), check_dtype=False)
    mean = table.groupby("prompt")["ocr"].mean().mean()
    assert f"{mean:.3f} (" in said and "2 not judged" in said and "above" in said and "category mug" in said
    page = (runs / "out" / "prompts.html").read_text(encoding="utf-8")
    worst = table.groupby("prompt")["ocr"].mean().sort_values().dropna().index
    section = page[page.index("By ocr") : page.index("<h2>Images")]
    places = [section.index(f'class="asked">{prompt}') for prompt in worst]
    assert places == sorted(places) and len(places) == 3 and "OWL" not in section
    assert "://" not in page.replace("http://www.w3.org", "") and page.count("data:image/png") == 14
    assert "Paired differences" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--prompts", "nix.txt"], "no file of prompts"), (["--prompts", "a.doc"], "a file of prompts by its name"),
        (["--prompts", "empty.txt"], "holds no prompts"), (["--seeds", "2"], "--prompts FILE"),
        (["--prompts", "p.jsonl", "--rewards", "brisqe"], "brisque"),
        (["--prompts", "p.jsonl", "--seeds", "0"], "--seeds 0"), (["--prompts", "plain.txt"], "quotation marks"),
        (["--prompts", "p.jsonl", "--size", "64", "64"], "--size 64 64"),
        (["--prompts", "p.jsonl", "--steps", "0"], "--steps 0"), (["--prompts", "p.jsonl", "--stage", "x"], "'x'"),
        (["--prompts", "p.jsonl", "--benchmark", "cvtg"], "did you mean cvtg_2k"), (["--benchmark", "one_ig"], "FILE"),
        (["--prompts", "p.jsonl", "--benchmark", "chinese_word"], "must be the level"),
        (["--prompts", "p.jsonl", "--benchmark", "one_ig", "--rewards", "brisque,0.5*ocr+0.5*ocr_judge"],
         "brisque, 0.5*ocr+0.5*ocr_judge reads no text; add to --rewards one that does, such as ocr_page (ocr,"),
        (["--prompts", "p.jsonl", "--benchmark", "cvtg_2k"], "single quotes"),
        (["--prompts", "p.jsonl", "--against", "nix"], "nix"), (["--prompts", "p.jsonl", "--against", "one"], "itself"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_is_loaded(more, said, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    (runs / "empty.txt").write_text("\n\n")
    (runs / "plain.txt").write_text("a red bus\n")
    monkeypatch.setattr(score_prompts, "ScorerPool", lambda *_, **__: pytest.fail("a reward was loaded"))
    monkeypatch.setattr("experiments.evaluation.found_model.load_model", lambda *_: pytest.fail("a model was loaded"))
    assert cli.main(["evaluate", "one", *more]) == 2
    assert said in capsys.readouterr().err and not (runs / "one" / "evaluation").exists()


def test_a_reward_that_cannot_be_loaded_says_so_before_the_model_is_read(runs, monkeypatch, capsys):
    monkeypatch.setattr("experiments.evaluation.found_model.load_model", lambda *_: pytest.fail("a model was loaded"))
    line = ["evaluate", str(runs / "one"), "--prompts", str(runs / "p.jsonl"), "--rewards", "pickscore"]
    assert cli.main([*line, "-o", str(runs / "o")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "could not load PickScore(" in said and "pickscore:weights=" in said
    assert not list((runs / "o" / "images").glob("*.png"))


def test_sample_keeps_a_folder_that_score_reads(runs, capsys):
    line = ["sample", str(runs / "one"), "--prompts", str(runs / "p.jsonl"), "--count", "2", "--steps", "1"]
    assert cli.main([*line, "-o", str(runs / "s"), "--seed", "7"]) == 0
    found = captioned(runs / "s" / "images")
    assert [path.name for path, _ in found] == [f"{i:05d}_{seed}.png" for i in range(4) for seed in (7, 8)]
    assert found[0][1] == "the word “GLYPH” in red" and "8 images of 4 prompts" in capsys.readouterr().out
    assert cli.main(line) == 2 and "-o FOLDER" in capsys.readouterr().err
    assert cli.main([*line[:2], "a prompt", *line[2:], "-o", "x"]) == 2 and "no prompt" in capsys.readouterr().err


def test_files_of_others_are_read_as_they_are(tmp_path):
    def read(name: str, text: str):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_prompt_file(tmp_path / name)

    geneval = read("g.jsonl", '{"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "two cats"}\n')
    assert geneval[0].of("category") == "counting" and geneval[0].prompt.spans == ()
    long = read(
        "l.jsonl",
        '{"category": "sign", "length": "short", "prompt": "a sign", "text": ["AB", "C D"], "prompt_id": 1}\n',
    )
    assert (
        long[0].prompt.spans == ("AB", "C D")
        and long[0].of("length") == "short"
        and long[0].of("text_length") == "1-10"
    )
    plain = read("o.txt", '\ufeffA runway displaying "Spring 2024".\r\n\r\nA ring that says "Yours"\n')
    assert [each.prompt.spans for each in plain] == [("Spring 2024",), ("Yours",)] and plain[0].of(
        "text_length"
    ) == "11-20"
    table = read("t.csv", "caption;language;category\n甲;zh;a\nb;en;c\n")
    assert [(each.prompt.text, each.of("language"), each.of("category")) for each in table] == [
        ("甲", "zh", "a"),
        ("b", "en", "c"),
    ]
    unnamed = read("n.csv", 'prompt,category,\n"a ""B""","signs, red",x\na,,\n')  # an empty name of a column, a comma
    assert [(each.prompt.text, each.prompt.sources, each.of("category")) for each in unnamed] == [
        ('a "B"', (), "signs red"),
        ("a", (), ""),
    ]
    own = read("own.jsonl", '{"id": "k", "text": "a “B”", "spans": ["B"], "language": "de", "category": ["x", "y"]}\n')
    assert own[0].prompt == Prompt("k", "a “B”", ("B",), "de", ("x", "y")) and own[0].of("category") == "x, y"
    one_ig_rows = read("b.csv", 'category,id,prompt_en\nText,001,"a ""B"""\nStyle,001,a dog\nText,002,c\n')
    assert [each.prompt.text for each in one_ig_rows] == ['a "B"', "a dog", "c"]
    assert len({each.prompt.id for each in one_ig_rows}) == 3 and one_ig_rows[0].prompt.id == "001"
    parti = read("p.tsv", "Prompt\tCategory\tNote\na red, b\tArts\tone, two\n")
    assert (parti[0].prompt.text, parti[0].of("category")) == ("a red, b", "Arts")
    assert [each.prompt.text for each in read("h.json", '["a cat", {"Prompt": "a dog"}]')] == ["a cat", "a dog"]
    lists = read("s.csv", """prompt,spans\na,"[""A B"", ""C""]"\nb,"['A B', 'C']"\nc,[EXIT]\n""")
    assert [each.prompt.spans for each in lists] == [("A B", "C"), ("A B", "C"), ("[EXIT]",)]
    for name, text, said in (
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": 3}\n', "line 2: prompt is 3"), ("b.jsonl", "[1]\n", "line 1: a list"),
        ("c.csv", "words\na\n", "columns words"), ("d.jsonl", '{"prompt": "a", "spans": [""]}\n', "spans is"),
        ("e.jsonl", "{\n", "line 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            read(name, text)


def test_the_benchmark_files_are_read_where_they_are_at_hand():
    folder = Path(environ.get("GLYPHLAB_PROMPTS", "nowhere"))
    if not folder.is_dir():
        pytest.skip("GLYPHLAB_PROMPTS names no folder of flow_grpo's, GenEval's and LongText-Bench's files")
    counts = {"flow_grpo_ocr_test.txt": 1018, "geneval.jsonl": 553, "longtext_en.jsonl": 160, "longtext_zh.jsonl": 160}
    for name, count in counts.items():
        assert len(read_prompt_file(folder / name)) == count
