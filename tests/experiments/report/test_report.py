"""A report is one file that needs nothing else, says what the run's files say, and escapes what they contain."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.record.record import RunRecord
from experiments.record.results import Interval, compare, read_result
from experiments.record.whole_files import write_json
from experiments.report import charts, markdown, page_words
from experiments.report.charts import Curve, interval_row, line_chart, path, short, smooth, thin, ticks
from experiments.report.report import write_comparison, write_report
from experiments.report.reward_charts import forest
from tests.fixtures.made_up_run import CHAIN, QUALITY, evaluate, make_chain, make_single

ROOT = Path(__file__).parents[3]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects text, attributes and tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    def row(self, start: str) -> list[str]:
        """The first table row whose first cell starts so."""
        return next(row for row in self.rows if row and row[0].startswith(start))

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chain(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="module")
def html(chain: Path) -> str:
    return write_report(chain).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    links = [(tag, name, value) for tag, name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert {name for _, name, value in links if value.startswith(("data:image/png;base64,", "#"))} == {"src", "href"}
    assert all(value.startswith(("data:image/png;base64,", "#")) for _, _, value in links)
    assert not re.search(r"<script|@import|url\(|\bon\w+=", html)
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_what_runs_contain_is_escaped(html: str, page: Page) -> None:
    assert "<b>serif</b>" not in html and "&lt;b&gt;serif&lt;/b&gt;" in html
    assert 'the word GLYPH in red on white, <b>serif</b>, "small" & low, 0' in page.words
    assert "destroyed the <model>" in page.words


def test_no_words_of_a_run_are_code(tmp_path: Path) -> None:
    wicked = """<script>alert('{{ 7013 * 7 }}')</script> {% raw %} "&amp;" {# x #}"""
    folder = tmp_path / wicked.replace("/", "")
    record = RunRecord.open(folder, {"experiment": wicked, "parent": ""})
    with pytest.raises(FloatingPointError), record.running():
        record.log(0, {wicked: 1.0, "loss": 0.5})
        record.log(1, {wicked: 2.0, "loss": 0.5})
        record.samples(1, np.zeros((1, 3, 8, 8), dtype=np.uint8), [wicked], [wicked])
        pictures = [{"start": "a.png", "picture": "b.png", "caption": wicked, "reading": wicked}]
        alarm = {"rule": wicked, "change": 1.0, "error": 0.1, "threshold": 0.5, "unit": wicked, "reason": wicked,
                 "pictures": pictures}  # fmt: skip
        record.check(1, {"alarms": [alarm], f"gold/{wicked}": 0.5})
        raise FloatingPointError(wicked)
    row = {"prompt": wicked, "target": wicked, "ned": 1.0, "exact": 1.0, "read": wicked, "judge_ned": 0.5,
           "judge_exact": 0.0, "judge_read": wicked, "picture": "x.png"}  # fmt: skip
    write_json(folder / "evaluation" / f"{wicked.replace('/', '')}.json", {"rows": [row, row], "diversity": 0.1})
    (folder / "notes.md").write_text(wicked)
    paths = (write_report(folder), write_comparison([folder, make_single(tmp_path / "other")], tmp_path / "both.html"))
    for written, least in zip(paths, (14, 2), strict=True):
        text = written.read_text(encoding="utf-8")
        page = Page(text)
        assert "<script" not in text.lower() and "49091" not in page.words
        said = page.words.count("{{ 7013 * 7 }}") + sum("{{ 7013 * 7 }}" in value for _, _, value in page.attributes)
        assert said >= least and page.words.count("{% raw %}") <= said


def test_the_answer_comes_first_and_is_the_summary(chain: Path, page: Page) -> None:
    summary = json.loads((chain / "summary.json").read_text())
    best = summary["paired"]["grpo_vs_sft"]
    answer = page.words[: page.words.index("Results by stage")]
    assert f"writes {100 * summary['stages']['sft']['exact']:.0f} % of 48 held-out words exactly" in answer
    assert f"GRPO writes {100 * summary['stages']['grpo']['exact']:.0f} %" in answer
    assert f"{best['delta']:+.3f}" in answer and f"{best['ci'][0]:+.3f} to {best['ci'][1]:+.3f}" in answer
    control = summary["paired"]["grpo_vs_control"]
    assert "GRPO over control" in answer and f"{control['delta']:+.3f}" in answer, "the control is never left out"
    assert f"gold engine, on which nothing was trained: {best['judge']['delta']:+.3f}" in answer


def test_alignment_is_told_by_what_it_began_from(chain: Path, tmp_path: Path) -> None:
    """Where it began from the pretrained model, fine-tuning on clean images is what it is compared with."""
    folder = tmp_path / "run"
    shutil.copytree(chain, folder)
    summary = json.loads((folder / "summary.json").read_text())
    known = summary["paired"]
    known["grpo_vs_pretrain"] = {**known["grpo_vs_sft"], "delta": 0.444, "ci": [0.4, 0.5]}
    write_json(folder / "summary.json", summary)
    words = Page(write_report(folder).read_text(encoding="utf-8")).words
    answer = words[: words.index("Results by stage")]
    share = f"{100 * summary['stages']['pretrain']['exact']:.0f} %"
    assert f"The pretrained model writes {share} of 48 held-out words exactly; GRPO writes" in answer
    assert "+0.444" in answer and f"GRPO over fine-tuning: {known['grpo_vs_sft']['delta']:+.3f}" in answer


def test_the_control_stands_in_the_headline_and_what_is_measured_is_said_there(html: str) -> None:
    headline = html[html.index('<p class="answer">') : html.index("</p>", html.index('<p class="answer">'))]
    assert "GRPO over control" in headline and "the share of letters that are right" in headline
    assert html.count("GRPO over control,") + html.count("GRPO over control:") == 1, "and is not said again below it"


@pytest.mark.parametrize(("gain", "verdict"), [(0.3, "+0.3"), (0.0, "which holds 0")])
def test_the_headline_of_a_run_carries_the_interval_of_its_change(tmp_path: Path, gain: float, verdict: str) -> None:
    record, steps = RunRecord.open(tmp_path / "nano_grpo", {}), 60
    wave = [0.05 * math.sin(7.0 * step) for step in range(steps)]
    with record.running():
        for step in range(steps):
            record.log(step, {"reward": 0.5 + gain * (step >= steps // 2) + wave[step], "loss": 1.0})
    answer = Page(write_report(tmp_path / "nano_grpo").read_text(encoding="utf-8")).words
    before, after = ([0.5 + wave[s] for s in range(6)], [0.5 + gain + wave[s] for s in range(steps - 6, steps)])
    se = math.hypot(np.std(before, ddof=1), np.std(after, ddof=1)) / math.sqrt(6)
    found = re.search(r"first and the last 6 updates: a change of (\S+) \(95\s% interval (\S+) to ([^\s,;]+)", answer)
    assert found and verdict in answer
    change, low, high = (float(text.replace("−", "-")) for text in found.groups())
    assert change == pytest.approx(np.mean(after) - np.mean(before), abs=1e-3)
    assert low < change < high and 2.2 * se < change - low < 2.8 * se, "Student's quantile of about ten degrees"
    assert high - change == pytest.approx(change - low, abs=2e-3)


def test_few_updates_are_averaged_and_equal_ones_have_no_interval(tmp_path: Path) -> None:
    for name, rewards in (("few", [0.7, 0.8] * 6), ("equal", [0.5] * 12)):
        record = RunRecord.open(tmp_path / name, {})
        with record.running():
            for step, reward in enumerate(rewards):
                record.log(step, {"reward": reward})
    few, equal = (write_report(tmp_path / name).read_text(encoding="utf-8") for name in ("few", "equal"))
    assert "the first and the last 5 updates: a change of" in few and "which holds 0" in few
    assert "the first and the last 5 updates." in equal and "nan" not in equal.lower().replace("nano", "")


def test_the_strip_shows_a_prompt_on_which_stages_differ(tmp_path: Path) -> None:
    def strip_of(name: str, right: dict[str, list[float | None]]) -> str:
        run = make_chain(tmp_path / name, count=6, steps=4)
        for stage in QUALITY:
            file = run / stage / "evaluation" / "unguided.json"
            content = json.loads(file.read_text())
            for row, exact in zip(content["rows"], right.get(stage, [1.0] * 6), strict=True):
                row["exact"] = exact
            file.write_text(json.dumps(content))
        html = write_report(run).read_text(encoding="utf-8")
        start = html.index('<div class="strip">')
        return unescape(html[start : html.index('<p class="note">', start) + 400])

    told = strip_of("differ", {"pretrain": [1.0, None, 0.0, 1.0, 0.0, 1.0]})
    assert "& low, 2”" in told and "did not all write right or all wrong" in told
    assert "& low, 0”" in strip_of("alike", {}), "where none tells anything, the first"
    assert "“the word" in strip_of("unknown", {"pretrain": [None] * 6})


def test_what_never_changes_in_a_comparison_takes_a_line_and_no_chart(tmp_path: Path) -> None:
    for name, rate in (("one", 0.1), ("two", 0.2), ("three", 0.2)):
        record = RunRecord.open(tmp_path / name, {})
        with record.running():
            for step in range(5):
                record.log(
                    step,
                    {"loss": 1.0 / (1 + step), "lr": rate, "grad_norm": 2.0, "ratio": 1.0 + (name == "two") * step},
                )
    told = write_comparison([tmp_path / name for name in ("one", "two")]).read_text(encoding="utf-8")
    assert "<code>lr</code> was 0.1 (one), 0.2 (two)" in told and "<code>grad_norm</code> was 2" in told
    assert {name for name in ("loss", "ratio", "lr", "grad_norm") if f'aria-label="{name} by update"' in told} == {
        "loss", "ratio"}  # fmt: skip
    same = write_comparison([tmp_path / name for name in ("two", "three")]).read_text(encoding="utf-8")
    assert "<code>lr</code> was 0.2" in same and "(three)" not in same[same.index("Throughout") :][:80]


def test_stage_table_has_both_settings_with_intervals(chain: Path, page: Page) -> None:
    stages = json.loads((chain / "summary.json").read_text())["stages"]
    for name in QUALITY:
        rows = [
            row for row in page.rows if row and row[0] == page_words.title(name) and len(row) == 7 and "." in row[1]
        ]
        for row, numbers in zip(rows, (stages[name], stages[name]["guided"]), strict=True):
            assert row[1] == f"{numbers['exact']:.3f}{numbers['exact_ci'][0]:.3f}–{numbers['exact_ci'][1]:.3f}"
            assert row[2].startswith(f"{numbers['ned_score']:.3f}")
            assert row[4:6] == [f"{numbers['judge_exact']:.3f}", f"{numbers['judge_ned_score']:.3f}"]
    assert "could not be judged and count nowhere" in page.words
    assert "intervals over prompts, as Clopper and Pearson" in page.words and "bootstrap" not in page.words


def test_paired_table_says_in_words_what_an_interval_shows(chain: Path, page: Page) -> None:
    paired = json.loads((chain / "summary.json").read_text())["paired"]
    rows = [row for row in page.rows if row and " over " in row[0]]
    for row, (key, numbers) in zip(rows, paired.items(), strict=True):
        low, high = numbers["ci"]
        expected = "higher" if low > 0 else "lower" if high < 0 else "undecided"
        assert row[3] == expected, key
        assert row[2].startswith(page_words.signed(numbers["delta"]))
    assert "control" in page.row("GRPO over control")[0]


def test_readings_are_marked_by_more_than_colour(chain: Path, html: str, page: Page) -> None:
    rows = json.loads((chain / "sft" / "evaluation" / "unguided.json").read_text())["rows"]
    cells = [cell for row in page.rows for cell in row if "gold" in cell and ("✓" in cell or "✗" in cell)]
    assert any(f"✗read wrong:  {rows[0]['read']}" in cell for cell in cells)
    assert any("✓read right:" in cell for cell in cells)
    pictured = sum(bool(row["picture"]) for row in rows)
    walls = 2 * len(QUALITY) * pictured
    assert html.count("data:image/png;base64,") == walls + len(QUALITY), "both walls, and the strip at the top"


def test_curves_for_every_stage_and_constants_in_words(html: str) -> None:
    for name in ("loss", "reward", "implicit_accuracy", "psnr", "clip_share", "kl"):
        assert f'aria-label="{name} by update"' in html
    assert html.count('aria-label="loss by update"') == len(CHAIN)
    assert 'aria-label="ratio_first by update"' not in html
    assert "Throughout, <code>ratio_first</code> was 1, <code>ratio_gap_first</code> was 0." in html


def test_time_memory_command_and_environment(chain: Path, page: Page) -> None:
    run = read_result(chain).run
    assert "1,834 MB" in page.words and run.command in page.words
    assert run.environment["python"] in page.words and f"numpy {np.__version__}" in page.words
    row = page.row("GRPO")
    timed = [r for r in page.rows if r and r[0] == "GRPO" and r[1] == "300"]
    assert row and timed and timed[0][3].endswith("ms")


def test_report_of_a_single_run_with_samples(tmp_path: Path) -> None:
    single = Page(write_report(make_single(tmp_path / "nano_pretrain")).read_text(encoding="utf-8"))
    assert "made 40 updates" in single.words and "loss went from" in single.words
    assert "Results by stage" not in single.words, "sections without content are left out"
    assert "update 9" in single.words and "update 39" in single.words and "(nothing)" in single.words


def test_report_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    RunRecord.open(tmp_path / "new", {"experiment": {}, "parent": ""})
    words_of_it = Page(write_report(tmp_path / "new").read_text(encoding="utf-8")).words
    assert "has not made an update yet" in words_of_it and "created" in words_of_it
    with pytest.raises(FileNotFoundError, match=r"is not a run: it has no run\.json; name the folder of a run"):
        write_report(tmp_path)


def test_evaluate_brings_the_reports_of_the_run_and_of_its_chain_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.cli import main
    from experiments.training import launch

    chain, alone = make_chain(tmp_path / "chain", count=12, steps=20), make_single(tmp_path / "alone")
    files = {run: [run / "evaluation" / "unguided.json"] for run in (chain / "sft", alone)}
    evaluate(alone / "evaluation", 0.9, 8)
    monkeypatch.setattr(launch, "evaluate_run", lambda run: files[run])
    (chain / "report.html").write_text("old")
    for run, reports in ((chain / "sft", [chain / "sft", chain]), (alone, [alone])):
        assert main(["evaluate", str(run)]) == 0
        said = capsys.readouterr().out
        for place in reports:
            assert "held-out words exactly" in (place / "report.html").read_text(encoding="utf-8")
            assert str(place / "report.html") in said
    assert not (tmp_path / "report.html").exists()


def test_failed_run_says_so(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "bad", {})
    with pytest.raises(FloatingPointError), record.running():
        record.log(0, {"loss": 1.0})
        raise FloatingPointError("update 1: loss = nan <here>")
    text = write_report(tmp_path / "bad").read_text(encoding="utf-8")
    assert "failed: FloatingPointError: update 1: loss = nan &lt;here&gt;" in text
    Page(text)


def test_evaluation_without_a_summary_is_computed_the_same_way(chain: Path, tmp_path: Path) -> None:
    stage, known = read_result(chain / "grpo").stages[0], json.loads((chain / "summary.json").read_text())
    found = stage.evaluation("unguided")
    assert found is not None
    expected = known["stages"]["grpo"]
    assert (found.exact.value, [found.exact.low, found.exact.high]) == (expected["exact"], expected["exact_ci"])
    assert (found.ned.value, [found.ned.low, found.ned.high]) == (expected["ned_score"], expected["ned_score_ci"])
    other = read_result(chain / "sft").stages[0].evaluation("unguided")
    assert other is not None
    measured = compare(other, found)["ned"]
    paired = known["paired"]["grpo_vs_sft"]
    assert (measured.value, measured.low, measured.high) == (paired["delta"], *paired["ci"])


def test_comparison_pairs_what_can_be_paired(chain: Path, tmp_path: Path) -> None:
    target = write_comparison([chain / "sft", chain / "grpo", make_single(tmp_path / "plain")], tmp_path / "c.html")
    text = target.read_text(encoding="utf-8")
    both = Page(text)
    assert both.row("grpo") and both.row("plain")[1] == "–"
    delta = json.loads((chain / "summary.json").read_text())["paired"]["grpo_vs_sft"]["delta"]
    paired = next(row for row in both.rows if row and row[0] == "grpo" and page_words.signed(delta) in row[1])
    assert paired[-1] == "higher"
    assert 'aria-label="loss by update"' in text


def test_pictures_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = make_single(tmp_path / "run")
    (folder / "evaluation").mkdir()
    row = {"prompt": "p", "target": "P", "ned": 1.0, "exact": 1.0, "read": "P", "judge_ned": 1.0, "judge_exact": 1.0,
           "judge_read": "P", "picture": "../../secret.png"}  # fmt: skip
    (folder / "evaluation" / "unguided.json").write_text(json.dumps({"rows": [row], "diversity": 0.1}))
    with pytest.raises(ValueError, match="outside"):
        write_report(folder)


@pytest.mark.parametrize(
    ("low", "high"), [(-7.4e-9, -6.6e-9), (0.0, 2.5e-5), (1.5e-13, 4e-13), (0.0, 1.0), (9_000.0, 42_000.0)]
)
def test_no_two_ticks_have_the_same_label(low: float, high: float) -> None:
    values = ticks(low, high)
    assert len(values) > 1 and len({short(value) for value in values}) == len(values)


def test_a_point_alone_is_drawn() -> None:
    nan = math.nan
    assert path([(1.0, 2.0)]) == "M1.0 2.0h0"
    assert path([(0.0, nan), (1.0, 2.0), (2.0, 3.0), (3.0, nan), (4.0, 5.0)]) == "M1.0 2.0L2.0 3.0M4.0 5.0h0"


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0, 4) == [0.0, 0.25, 0.5, 0.75, 1.0] or ticks(0.0, 1.0, 4) == [0.0, 0.5, 1.0]
    for low, high in ((-0.013, 0.27), (3.0, 4.0), (1e-7, 3e-7), (-5.0, 12_000.0)):
        found = ticks(low, high, 5)
        assert 2 <= len(found) <= 6 and low <= found[0] and found[-1] <= high
        steps = np.diff(found)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    with pytest.raises(ValueError, match="empty"):
        ticks(1.0, 1.0)


def test_curves_keep_level_and_gaps() -> None:
    points = [(float(x), 2.0 if x != 500 else math.nan) for x in range(1000)]
    assert all(y == 2.0 for _, y in smooth(points)) and len(thin(points)) <= charts.POINTS
    rising = [(float(x), float(x)) for x in range(100)]
    assert smooth(rising)[50] == (50.0, 50.0), "a centred average has no lag"
    gap = charts.path([(0, 1), (1, 1), (2, math.nan), (3, 1), (4, 1)])
    assert gap.count("M") == 2 and gap.count("L") == 2
    assert line_chart("empty", [Curve("a", ((0.0, math.nan),))]) == ""
    assert 'aria-label="one &amp; &lt;only&gt;"' in line_chart("one & <only>", [Curve("a", ((0.0, 1.0),))])


def test_a_row_of_a_reward_comparison_has_its_line_and_the_band_behind() -> None:
    estimate = {"value": 0.6, "low": 0.5, "high": 0.7}
    svg = forest(estimate, 0.0, 1.0, "ink-2", 0.5, (0.4, 0.8))  # 244 pixels for the scale, 8 on each side
    assert '<line class="zero" x1="130.0" x2="130.0"' in svg and '<circle class="dot ink-2" cx="154.4"' in svg
    assert '<rect class="band" x="105.6" width="97.6"' in svg and "60.0 %, 95 % interval 50.0 to 70.0" in svg
    plain = forest({"value": None, "low": None, "high": None}, 0.0, 1.0, "ink-2", 0.0)
    assert "unknown" in plain and "band" not in plain and "circle" not in plain


def test_forest_row_puts_values_where_they_belong() -> None:
    svg = interval_row(Interval(0.5, 0.0, 1.0), -1.0, 1.0, "ink-2", zero=True, width=216)
    assert 'cx="158.0"' in svg and 'class="zero" x1="108.0"' in svg  # 8 px of air at each side of 200
    assert 'class="whisker ink-2" x1="108.0" x2="208.0"' in svg
    assert "+0.500, 95 % interval +0.000 to +1.000" in svg
    nothing = interval_row(Interval(math.nan), -1.0, 1.0, "ink-2", zero=True)
    assert "circle" not in nothing and "whisker" not in nothing


@pytest.mark.parametrize(
    ("source", "html"),
    [
        ("**a** and *b* and `c<d`", "<p><strong>a</strong> and <em>b</em> and <code>c&lt;d</code></p>"),
        ("# A\n\ntext\nmore", "<h3>A</h3>\n<p>text\nmore</p>"),
        ("##### E", "<h6>E</h6>"),
        ("- one\n  still\n- two", "<ul>\n<li>one\nstill</li>\n<li>two</li>\n</ul>"),
        ("1. one\n2. two", "<ol>\n<li>one</li>\n<li>two</li>\n</ol>"),
        ("[x](https://e.org/?a=1&b=2)", '<p><a href="https://e.org/?a=1&amp;b=2">x</a></p>'),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("[x](run/secret.html)", "<p>[x](run/secret.html)</p>"),
        ("![x](https://e.org/a.png)", '<p>!<a href="https://e.org/a.png">x</a></p>'),
        ("    <b>{{ 7 }}", "<pre>&lt;b&gt;{{ 7 }}</pre>"),
        ("```\n<b>\n```", "<pre>&lt;b&gt;</pre>"),
        ("snake_case_name and 2 * 3 * 4", "<p>snake_case_name and 2 * 3 * 4</p>"),
        ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("<img src=x onerror=y>", "<p>&lt;img src=x onerror=y&gt;</p>"),
    ],
)
def test_markdown(source: str, html: str) -> None:
    assert markdown.render(source) == html


def test_markdown_table_and_unclosed_code() -> None:
    html = markdown.render("| a | b |\n|---|---|\n| 1 | <2> |\n\nafter")
    assert "<th>a</th>\n<th>b</th>" in html and html.startswith('<div class="scroll"><table>')
    assert "<td>&lt;2&gt;</td>" in html and html.endswith("<p>after</p>")
    assert markdown.render("```\nnever closed") == "<pre>never closed</pre>"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.26, "0.3 s"), (42.4, "42 s"), (59.9, "60 s"), (61, "1 min 01 s"), (3725, "1 h 02 min"), (math.nan, "unknown")],
)
def test_durations(seconds: float, text: str) -> None:
    assert page_words.duration(seconds) == text


def test_differences_have_a_true_minus_and_no_negative_zero() -> None:
    assert [page_words.signed(x) for x in (-0.25, 0.25, -0.0001, math.nan)] == ["−0.250", "+0.250", "+0.000", "–"]


def test_no_torch() -> None:
    code = "import sys, experiments.report.report, experiments.record.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_times_say_that_stages_overlap_and_show_no_empty_column(tmp_path: Path) -> None:
    from dataclasses import replace

    from experiments.report.report import page_of

    result = read_result(make_chain(tmp_path / "run"))
    trained = sum(stage.run.seconds for stage in result.stages)
    assert "more than 100 %" in page_of(replace(result, total_seconds=trained / 2))
    assert "more than 100 %" not in page_of(replace(result, total_seconds=trained * 2))
    finished = [replace(s, run=replace(s.run, sessions=[], status="finished")) for s in result.stages]
    assert "Sessions" not in page_of(replace(result, stages=finished))
