"""The annotator's page: what is said reaches the store, what may not be seen is not sent, and nothing is lost."""

from __future__ import annotations

import ast
import copy
import math
import re
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from dashboards.annotate import annotation_page, served_store, signed_tokens
from dashboards.annotate.session import HOLD, MIN_SECONDS, Shift
from dashboards.annotate.viewer import ocr_evidence, paint_times
from dashboards.annotate.viewer.text_diff import difference, of_spans, spelled
from preference_data.campaign import answering, assignment, assignment_view, campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.exchange import judgements
from preference_data.records import Prompt, SourceImage
from preference_data.store import accounts, schema
from preference_data.store.facts import Reading
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store
from tests.fixtures.desk_of_pictures import PASSWORD, PLAIN, SECRETS, button, fill, open_pages, picture, staffed, texts

HOSTILE = (
    "<script>alert(1)</script> **bold** ![x](http://evil.example/a.png) $x^2$ [link](javascript:1) "
    "\u202eright to left\u202c"
)
ROOT = Path(__file__).parents[2]
PAGE = "import importlib\nimportlib.import_module('dashboards.annotate.{0}').{1}()\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return staffed(tmp_path)


def number(store: Store, name: str) -> int:
    return int(store.read(lambda db: accounts.by_name(db, name)).id)


def stored(store: Store) -> list[str]:
    return list(
        store.read(lambda db: db.execute(select(schema.answer.c.outcome).order_by(schema.answer.c.id)).scalars().all())
    )


def test_six_outcomes_stay_apart_and_each_has_its_key(store: Store) -> None:
    fill(store, [f"a wall, {i}" for i in range(8)])
    at = open_pages(store, "ann")
    said = ["left", "right", "tie", "both_good", "both_bad", "skip", "flag"]
    for outcome in said:
        found = button(at, f"say_{outcome}_")
        assert found.proto.shortcut, f"{outcome} cannot be said by keyboard"
        time.sleep(MIN_SECONDS)
        found.click().run()
        assert not at.exception
    assert stored(store) == said
    keys = [b.proto.shortcut for b in at.button if b.proto.shortcut]
    assert len(keys) == len(set(keys)), f"two buttons share a key: {sorted(keys)}"


def test_strength_axes_tags_go_with_the_answer_and_come_back_after_a_reload(store: Store) -> None:
    fill(store, ["a wall", "a door"])
    at = open_pages(store, "ann")
    before = texts(at)
    button(at, "strength_4").click().run()
    button(at, "axis_text").click().run()
    button(at, "tag_typo").click().run()
    again = open_pages(store, "ann")  # another session, as after a reload: same pair, same draft
    assert texts(again)[1] == before[1] and "✓ Typo" in [b.label for b in again.button]
    time.sleep(MIN_SECONDS)
    button(again, "say_left_").click().run()
    said = store.read(lambda db: db.execute(select(schema.answer)).one())
    assert (said.outcome, said.strength, said.axes, said.tags) == ("left", 4, {"text": "left"}, ["typo"])


def test_undo_revises_and_a_press_for_the_pair_before_answers_nothing(store: Store) -> None:
    campaign = fill(store, ["a wall", "a door", "a roof"])
    sitting = Shift(store, number(store, "ann"), campaign)
    sitting.claim()
    first = sitting.current
    assert first is not None
    sitting.answer(first.token, "left")
    assert sitting.notice == "too_quick" and stored(store) == []
    sitting.seen_at -= 1
    sitting.answer(first.token, "left")
    sitting.seen_at -= 1
    sitting.answer(first.token, "right")  # the key is pressed again, meant for the pair that is gone
    assert stored(store) == ["left"]
    sitting.undo()
    assert sitting.current is not None and sitting.current.token == first.token
    assert sitting.current.images == first.images, "an undone pair comes back on the same sides"
    sitting.cancel()
    assert stored(store) == ["left"], "an undo that is abandoned changes nothing"
    sitting.undo()
    sitting.seen_at -= 1
    sitting.answer(first.token, "both_bad")
    assert stored(store) == ["left", "both_bad"]
    past = answering.history(store, number(store, "ann"), campaign)
    assert [p.answer.outcome for p in past] == ["both_bad"] and past[0].revision == 1


def test_a_look_is_counted_from_the_paint_and_not_from_the_sending(store: Store) -> None:
    campaign, ann = fill(store, ["a wall", "a door", "a roof"]), number(store, "ann")
    sitting = Shift(store, ann, campaign)
    sitting.claim()
    sitting.seen_at -= 5  # sent long ago
    first = sitting.current
    assert first is not None
    paint_times.note(ann, paint_times.name(first.token, None), store.clock())
    sitting.answer(first.token, "left")
    assert sitting.notice == "too_quick" and stored(store) == [], "painted just now"
    paint_times.note(ann, paint_times.name(first.token, None), store.clock() - 1)
    sitting.answer(first.token, "left")
    assert stored(store) == ["left"]
    second = sitting.current
    assert second is not None
    sitting.seen_at -= 0.3
    sitting.answer(second.token, "left")
    assert sitting.notice == "too_quick", "this browser reports its paints, and this pair is not painted yet"
    sitting.undo()
    assert sitting.current is not None and sitting.current.previous is not None
    sitting.seen_at -= 5
    showing = paint_times.name(first.token, sitting.current.previous.revises)
    paint_times.note(ann, showing, store.clock())
    sitting.answer(first.token, "right")
    assert sitting.notice == "too_quick" and stored(store) == ["left"], "an undone pair is looked at again"
    paint_times.note(ann, showing, store.clock() - 2)
    sitting.answer(first.token, "right")
    took = store.read(lambda db: db.execute(select(schema.answer.c.duration_ms)).scalars().all())
    assert stored(store) == ["left", "right"] and abs(took[1] - 2000) < 200, "and its time is its own"


def answered(sitting: Shift) -> None:
    """Answer what is on the screen."""
    assert sitting.current is not None
    sitting.seen_at -= 1
    sitting.answer(sitting.current.token, "left")


def test_what_was_loaded_ahead_is_not_shown_once_somebody_else_holds_it(store: Store) -> None:
    campaign = fill(store, ["a wall", "a door", "a roof"])
    sitting = Shift(store, number(store, "ann"), campaign)
    sitting.claim()
    assert len(sitting.held) == 3
    store.clock = lambda: time.time() + 10_000  # ann's leases run out
    assert len(assignment.claim(store, number(store, "bob"), campaign, 3).views) == 3
    answered(sitting)
    assert stored(store) == ["left"], "nothing that a person did is thrown away"
    assert sitting.current is None and sitting.status == "waiting", "and nothing of bob's is shown to ann"


def test_a_lease_that_ran_out_unseen_is_renewed_before_its_pair_is_shown(store: Store) -> None:
    campaign = fill(store, ["a wall", "a door", "a roof"])
    sitting = Shift(store, number(store, "ann"), campaign)
    sitting.claim()
    now = time.time() + 10_000
    store.clock = lambda: now
    answered(sitting)
    assert sitting.current is not None and sitting.current.seconds_left == 120 and not sitting.short


def test_a_second_window_of_the_same_person_is_noticed(store: Store) -> None:
    campaign = fill(store, [f"a wall, {i}" for i in range(8)])
    ann = number(store, "ann")
    one, other = Shift(store, ann, campaign), Shift(store, ann, campaign)
    one.claim()
    second, third = one.held[1:3]
    answered(one)
    assert one.current == second and one.replenish() and len(one.held) == HOLD, "the place is filled"
    other.claim()
    assert other.current is not None and other.current.token == second.token, "both windows show the same pair"
    answered(one)
    assert one.current is not None and one.current.token == third.token
    answered(other)  # the same key: once more the same answer
    assert other.notice == "repeated" and other.current is not None and other.current.token == third.token
    answered(other)
    assert one.current.token == third.token and not one.replenish(), "answered in the other window: run the page again"
    assert one.current.token == other.current.token and stored(store) == ["left"] * 3


def test_the_buttons_of_a_pair_are_sent_before_its_pictures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers at the first sight of a pair must not press a button that is still the pair before's."""
    sent: list[str] = []

    def show(*args: object) -> None:
        sent.append("pictures")
        st.text("the images are here")

    outcomes = annotation_page._outcomes
    monkeypatch.setattr(annotation_page.viewer, "show", show)
    monkeypatch.setattr(annotation_page, "_outcomes", lambda *args: (sent.append("buttons"), outcomes(*args)))
    fill(store, ["a wall"])
    at = open_pages(store, "ann")
    assert sent == ["buttons", "pictures"]
    shown = [e.value if e.type == "text" else e.key for e in at.main if e.type in ("text", "button")]
    left = next(i for i, name in enumerate(shown) if name.startswith("say_left_"))
    assert shown.index("the images are here") < left, "though the images stand above the buttons"


def test_nothing_identifying_is_sent_before_the_answer(store: Store) -> None:
    fill(store, [f"a wall, {i}" for i in range(3)])
    at = open_pages(store, "ann")
    sent = b"".join(delta.SerializeToString() for delta in _deltas(at))
    shas = store.read(lambda db: list(db.execute(select(schema.image.c.sha256)).scalars()))
    for word in [*SECRETS, *shas, "WORD"]:
        assert word.encode() not in sent, f"{word} was sent before the answer"
    handle, *others = re.findall(r"/picture/([\w-]+)", sent.decode("utf-8", "replace"))
    assert len({handle, *others}) == 6, "two images, and those of two pairs ahead"
    content = assignment_view.image_path(store, number(store, "ann"), handle).read_bytes()
    assert not any(word.encode() in content for word in SECRETS) and b"tEXt" not in content
    with pytest.raises(Forbidden):
        assignment_view.image_path(store, number(store, "bob"), handle)


def _deltas(at: AppTest) -> list:
    return [node.proto for node in at.main if getattr(node, "proto", None) is not None]


def test_what_was_read_is_shown_after_the_answer_and_not_before(store: Store) -> None:
    after = replace(PLAIN, evidence="after")
    fill(store, ['the word "WORLD" on a wall', "a door", "a roof"], after)
    at = open_pages(store, "ann")
    for _ in range(3):
        answered = any('"WORLD"' in t and "last answer" in t for t in texts(at))
        assert any("WOR[−L−]D" in t for t in texts(at)) == answered
        if answered:
            return
        time.sleep(MIN_SECONDS)
        button(at, "say_tie_").click().run()
    assert any("WOR[−L−]D" in t for t in texts(at))


def shown_before(store: Store) -> list[bool | None]:
    asked = select(schema.answer.c.reading_shown).order_by(schema.answer.c.id)
    return list(store.read(lambda db: db.execute(asked).scalars().all()))


def test_by_default_nothing_that_was_read_is_shown_and_the_export_says_so(store: Store) -> None:
    campaign = fill(store, ['the word "WORLD" on a wall', "a door"])
    at = open_pages(store, "ann")
    for _ in range(2):
        time.sleep(MIN_SECONDS)
        button(at, "say_tie_").click().run()
        assert not any("WOR" in t and "[−" in t for t in texts(at))
    button(at, "undo").click().run()
    assert not at.exception and not any("[−" in t for t in texts(at))
    assert shown_before(store) == [False, False]
    assert [j.reading_shown for j in judgements.of_answers(store, store.operator, campaign)] == [False, False]
    assert [j.reading_shown for j in judgements.of_items(store, store.operator, campaign)] == [False, False]


def test_an_answer_that_is_changed_is_changed_without_the_reading_and_says_that_it_was_seen(store: Store) -> None:
    campaign = fill(store, ['the word "WORLD" on a wall', "a door"], replace(PLAIN, evidence="after"))
    sitting = Shift(store, number(store, "ann"), campaign)
    sitting.claim()
    answered(sitting)
    assert sitting.last is not None and sitting.evidence(sitting.last), "after the answer"
    sitting.undo()
    assert sitting.current is not None and sitting.evidence(sitting.current) is None, "not while answering again"
    answered(sitting)
    assert shown_before(store) == [False, True]
    judged = judgements.of_answers(store, store.operator, campaign)
    assert [j.reading_shown for j in judged] == [True]


def test_a_campaign_that_is_closed_meanwhile_says_so(store: Store) -> None:
    campaign = fill(store, ["a wall", "a door"])
    at = open_pages(store, "ann")
    campaigns.set_state(store, store.operator, campaign, "closed")
    time.sleep(MIN_SECONDS)
    button(at, "say_tie_").click().run()
    assert not at.exception and stored(store) == []


def test_a_campaign_can_show_what_was_read_before(store: Store) -> None:
    fill(store, ['the word "WORLD"'], CampaignSettings(overlap=1, cap=1, evidence="before", gold_share=0.0,
                                                       attention_share=0.0, repeat_share=0.0))  # fmt: skip
    assert any("WOR[−L−]D" in t for t in texts(open_pages(store, "ann")))


@pytest.mark.parametrize("prompt", [HOSTILE, "x" * 20_000, "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_hostile_prompt_is_text(store: Store, prompt: str, language: str) -> None:
    fill(store, [prompt])
    at = open_pages(store, "ann", language)
    assert not at.exception and prompt in texts(at)
    assert all(prompt not in m.value for m in at.markdown), "a prompt is never Markdown"
    assert all("<script>" not in h.proto.body for h in at.get("html"))


def test_both_languages_name_everything(store: Store) -> None:
    from dashboards.annotate.lead.lead_words import WORDS as LEAD_WORDS
    from dashboards.annotate.words import WORDS

    fill(store, ["a wall"])
    for key, (en, zh) in {**WORDS, **LEAD_WORDS}.items():
        assert en.strip() and zh.strip(), key
        assert sorted(_fields(en)) == sorted(_fields(zh)), f"{key}: both languages fill in the same"
    labels = [b.label for b in open_pages(store, "ann", "zh").button]
    assert {"左边", "右边", "相当", "都好", "都差", "跳过", "报告问题", "撤销"} <= set(labels)


def _fields(text: str) -> list[str]:
    import string

    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


def test_a_one_time_password_opens_nothing_but_the_choice_of_another(store: Store) -> None:
    fill(store, ["a wall"])
    accounts.create(store, store.operator, "new", "researcher", PASSWORD, one_time=True)
    at = open_pages(store, "new")
    assert not any(b.key.startswith("say_") for b in at.button) and any("one-time" in i.value for i in at.info)
    with pytest.raises(ValueError, match="one-time"):
        accounts.change(store, number(store, "new"), "new", password=PASSWORD)
    at.text_input[0].input("a password of my own")
    next(b for b in at.button if b.label == "Save").click().run()
    assert not at.exception and not accounts.log_in(store, "new", "a password of my own").one_time
    assert any(b.key.startswith("say_") for b in open_pages(store, "new").button)
    with pytest.raises(Forbidden):
        accounts.log_in(store, "new", PASSWORD)


def test_who_has_finished_is_told_of_other_work(store: Store) -> None:
    first = fill(store, ["a wall"])
    second = fill(store, ["a door"], name="doors")
    sitting = open_pages(store, "ann")
    time.sleep(MIN_SECONDS)
    button(sitting, "say_tie_").click().run()
    assert any("doors" in i.value for i in sitting.info), [i.value for i in sitting.info]
    button(sitting, f"go_to_{second}").click().run()
    assert "a door" in texts(sitting) and first != second


def test_best_and_worst_of_several(store: Store) -> None:
    settings = CampaignSettings("best_worst", 1, 1, gold_share=0.0, attention_share=0.0, repeat_share=0.0)
    fill(store, ["a wall", "a door"], settings, per_item=4)
    at = open_pages(store, "ann")
    time.sleep(MIN_SECONDS)
    button(at, "say_ranked_").click().run()
    assert "Choose a best" in at.info[0].value and stored(store) == []
    button(at, "best_2_").click().run()
    button(at, "worst_0_").click().run()
    time.sleep(MIN_SECONDS)
    button(at, "say_ranked_").click().run()
    said = store.read(lambda db: db.execute(select(schema.answer)).one())
    assert (said.outcome, said.best, said.worst) == ("ranked", 2, 0)


@pytest.mark.parametrize(("who", "closed"), [("ann", 7), ("judy", 6), ("lea", 2), ("root", 0)])
def test_a_page_asks_for_the_role_itself(store: Store, who: str, closed: int) -> None:
    """The pages run alone here, as an address that the list of pages does not hold would run them."""
    fill(store, ["a wall"])
    shut = 0
    for module in (
        "lead.adjudicate_page",
        "lead.progress_page",
        "lead.quality_page",
        "lead.wins_page",
        "lead.create_page",
        "lead.export_page",
        "lead.people_page",
    ):
        at = AppTest.from_string(PAGE.format(module, "page"), default_timeout=600)
        row = store.read(lambda db: accounts.by_name(db, who))
        at.session_state["who"], at.session_state["language"] = (row.id, row.session), "en"
        at.run()
        assert not at.exception, (who, module, [e.value for e in at.exception])
        shut += [e.value for e in at.error] == ["There is nothing here for your account."]
    assert shut == closed


def test_a_session_ends_with_its_account(store: Store) -> None:
    fill(store, ["a wall"])
    at = open_pages(store, "ann")
    accounts.change(store, store.operator, "ann", role="researcher")
    at.run()
    assert [b.label for b in at.button if b.key == "sign_out"] == [] and not texts(at)


def test_tickets_are_genuine_or_nothing() -> None:
    token = signed_tokens.sign(b"k" * 32, "session", 3, 1, 1000.0)
    assert signed_tokens.read(b"k" * 32, "session", token, 999.0) == (3, 1)
    assert signed_tokens.read(b"k" * 32, "session", token, 1000.0) is None
    assert signed_tokens.read(b"k" * 32, "enter", token, 1.0) is None
    assert signed_tokens.read(b"x" * 32, "session", token, 1.0) is None
    assert signed_tokens.read(b"k" * 32, "session", token.replace(".3.", ".4."), 1.0) is None
    assert signed_tokens.read(b"k" * 32, "session", "", 1.0) is None
    assert served_store.here().key not in token.encode()


def test_differences_spell_both_texts() -> None:
    for asked, read in (("GLYPH", "GLYH"), ("新年快乐", "新年快快乐"), ("", "x"), ("abc", ""), ("cafe\u0301", "cafe")):
        pieces = difference(asked, read)
        assert "".join(p.text for p in pieces if p.kind != "extra") == "".join(unicodedata.normalize("NFC", asked))
        assert "".join(p.text for p in pieces if p.kind != "missing") == read
        assert {p.kind for p in pieces} - {"same"}
    assert spelled(difference("新年快乐", "新年快快乐")).count("{+快+}") == 1
    assert spelled(difference("OPEN NOW", "OPEN  NOW")) == "OPEN NOW", "white space is folded"
    assert spelled(difference("LOOK", "L 0 0")) == "L 0 0[−K−]", "what is forgiven is not marked in a wrong reading"
    assert spelled(difference("A 4", "a 5x")) == "a [−4−]{+5x+}"
    assert spelled(difference("OPEN NOW", "opennow")) == "open[− −]now", "spaces between words count"
    assert spelled(difference("AB", "l A")) == "{+l +}A[−B−]"
    found = {span: (text, right) for span, text, right in of_spans(("OPEN", "CLOSED"), ["CLOSD", "0pen", "zzzz"])}
    assert found == {"OPEN": ("0pen", True), "CLOSED": ("CLOS[−E−]D", False), "": ("{+zzzz+}", False)}
    assert list(of_spans(("OPEN", "NOW"), ["open now"])) == [("OPEN NOW", "open now", True)]


READINGS = (
    ("LOO", "LO0"), ("AJAHX", "A J A HX"), ("IIA", "1IA"), ("LOO", "loo"), ("B4", "b4"), ("B0", "BO"), ("1", "I"),
    ("I", "l"), ("I", "1"), ("OPEN NOW", "OPENNOW"), ("OPEN NOW", "open  now"), ("新年", "新 年"), ("開門", "开门"),
    ("\uff21\uff22", "AB"), ("ﬁn", "FIN"), ("ﬁn", "FAN"), ("STOP!", "STOP"), ("GLYPH", "GLYH"), ("É", "E"), ("X", ""),
)  # fmt: skip


@pytest.mark.parametrize(("asked", "read"), READINGS)
def test_report_reward_and_annotation_page_call_the_same_readings_right(asked: str, read: str) -> None:
    from experiments.report.page import part
    from preference_data.texts.normalised_text import read_right
    from rewards.text.ocr import ned_score

    right = read_right(asked, read)
    assert right == (ned_score(asked, read) == 1.0)
    said = "read right" if right else "read wrong"
    assert f"{said}: " in part("reading", read, float(right)) and ("✓" in part("reading", read, float(right))) == right
    (line,) = ocr_evidence.lines((asked,), Reading("a" * 64, "ocr", read), "en")
    assert line.endswith(f"{'✓' if right else '✗'} {said}")
    assert ("[−" in line or "{+" in line) != right, "what is wrong is marked, and what is forgiven is not"


def test_what_the_report_does_not_judge_the_annotation_page_does_not_judge_either() -> None:
    from experiments.report.page import part

    assert ocr_evidence.lines(("GLYPH",), Reading("a" * 64, "ocr", None), "en") == ["? not judged"]
    assert "? not judged" in part("reading", "GLYPH", math.nan)


def test_every_sentence_of_the_service_has_chinese_words_with_the_same_fields() -> None:
    from dashboards.annotate.translation import CHINESE, translated
    from preference_data.sentences import Sentence

    found = set()
    for folder in ("preference_data", "dashboards/annotate"):
        for file in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Sentence":
                    found.add(ast.literal_eval(call.args[0]))
    assert len(found) > 20
    for pattern in found:
        assert sorted(_fields(pattern)) == sorted(_fields(CHINESE[pattern])), pattern
    said = Sentence("answered {right} of {count} gold items as expected", {"right": 3, "count": 8})
    assert said == "answered 3 of 8 gold items as expected" == translated("en", said)
    assert translated("zh", said) == "8 道金标准题中答对 3 道"
    assert translated("zh", ValueError(said)) == translated("zh", said)
    assert translated("zh", FileNotFoundError(2, "not there")) == str(FileNotFoundError(2, "not there"))
    assert copy.deepcopy(said).pattern == said.pattern


def test_the_images_that_were_edited_stand_before_the_edits(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the viewer and as plain images, and what comes next is loaded with them."""
    prompts = []
    for i, count in enumerate((1, 2, 0)):
        refs = [picture(store, 100 + 10 * i + j, "src", 24) for j in range(count)]
        sources = [SourceImage(ref.sha256, ref.width, ref.height) for ref in refs]
        prompts.append(Prompt.from_text("make it blue", sources=sources))
    items = [Item(p, (picture(store, 2 * i, "a"), picture(store, 2 * i + 1, "b"))) for i, p in enumerate(prompts)]
    campaigns.create_filled(store, store.operator, "edits", PLAIN, items, "test")
    painted: list[dict] = []
    monkeypatch.setattr(annotation_page.viewer, "_mount", lambda: lambda key, data: painted.append(data))
    at = open_pages(store, "ann")
    for _ in range(3):
        assert not at.exception
        time.sleep(MIN_SECONDS)
        button(at, "say_left_").click().run()
    named = {tuple(shown["name"] for shown in data["pictures"]) for data in painted}
    assert named == {
        ("Left image", "Right image"), ("Before the edit", "Left image", "Right image"),
        ("Source 1", "Source 2", "Left image", "Right image"),
    }  # fmt: skip
    everything = {shown["url"] for data in painted for shown in data["pictures"]}
    assert len(everything) == 9 and any(set(data["ahead"]) & everything for data in painted)
    assert not any(shown["marks"] for data in painted for shown in data["pictures"])
