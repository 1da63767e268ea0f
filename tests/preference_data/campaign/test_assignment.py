"""The state machine of assignments, on both databases: who gets what, for how long, and what an answer does."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from preference_data.campaign import answering, assignment, assignment_view, campaigns
from preference_data.campaign.answering import Conflict, answer, history, reopen
from preference_data.campaign.assignment import claim, heartbeat, release, save_draft
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.next_item import choose, inclusion, probability
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality import annotators, campaign_progress
from preference_data.store import schema
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, Clock, campaign, hash_of, open_store, pair_item, person

LEFT = Answer("left", duration_ms=2000)


def settings(**changes: object) -> CampaignSettings:
    return dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


def key(number: int) -> str:
    return f"key-{number:08d}"


def items(store: Store) -> list:
    return store.read(lambda db: db.execute(select(schema.item).order_by(schema.item.c.id)).all())


def assignments(store: Store) -> list:
    return store.read(lambda db: db.execute(select(schema.assignment).order_by(schema.assignment.c.id)).all())


def test_the_same_pictures_on_the_same_sides_come_back_until_they_are_answered(store: Store) -> None:
    ada, c = person(store, "ada"), campaign(store, [pair_item(i) for i in range(5)])
    first = claim(store, ada, c, hold=2)
    again = claim(store, ada, c, hold=2)
    assert len(first.views) == 2
    assert [(v.token, v.images) for v in first.views] == [(v.token, v.images) for v in again.views]
    answer(store, ada, first.views[0].token, LEFT, key(1))
    after = claim(store, ada, c, hold=2)
    assert after.views[0].token == first.views[1].token and after.views[1].token != first.views[0].token


def test_two_people_never_hold_the_same_place_and_nobody_gets_a_pair_twice(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(3)], settings(overlap=1, cap=1))
    ada, bo = person(store, "ada"), person(store, "bo")
    held = {claim(store, who, c).views[0].token for who in (ada, bo)}
    assert len({a.item_id for a in assignments(store) if a.token in held}) == 2
    for i, who in enumerate((ada, bo, ada)):
        answer(store, who, claim(store, who, c).views[0].token, LEFT, key(i))
    assert Counter(row.answered for row in items(store)) == {1: 3}
    assert claim(store, ada, c).status == claim(store, bo, c).status == "finished"


def test_waiting_is_not_finished(store: Store) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=1, cap=1))
    ada, bo = person(store, "ada"), person(store, "bo")
    claim(store, ada, c)
    assert claim(store, bo, c).status == "waiting"
    release(store, ada, c)
    assert claim(store, bo, c).status == "work"


def test_a_lease_that_ran_out_returns_to_the_pool_once(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=1, cap=1))
    ada, bo, cy = person(store, "ada"), person(store, "bo"), person(store, "cy")
    view = claim(store, ada, c).views[0]
    clock.now += 119
    assert claim(store, bo, c).status == "waiting"
    clock.now += 2
    assert claim(store, bo, c).status == "work"
    assert claim(store, cy, c).status == "waiting" and items(store)[0].taken == 1
    late = answer(store, ada, view.token, LEFT, key(1))  # nobody's work is thrown away, and no cap is passed
    assert not late.counted and items(store)[0].taken == 1
    answer(store, bo, claim(store, bo, c).views[0].token, LEFT, key(2))
    assert (items(store)[0].taken, items(store)[0].answered) == (1, 1)


def test_a_late_answer_counts_while_there_is_room(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=1, cap=1))
    ada, bo = person(store, "ada"), person(store, "bo")
    view = claim(store, ada, c).views[0]
    clock.now += 1000
    assert store.write(lambda db: assignment.reclaim(db, c, clock())) == 1
    assert store.write(lambda db: assignment.reclaim(db, c, clock())) == 0 and items(store)[0].taken == 0
    assert answer(store, ada, view.token, LEFT, key(1)).counted
    assert claim(store, bo, c).status == "finished"


def test_whoever_comes_back_after_a_break_finds_the_same_pair_on_the_same_sides(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=1, cap=1))
    ada = person(store, "ada")
    before = claim(store, ada, c).views[0]
    save_draft(store, ada, before.token, {"tags": ["typo"]})
    clock.now += 10_000
    after = claim(store, ada, c).views[0]
    assert (after.token, after.images, after.draft) == (before.token, before.images, {"tags": ["typo"]})
    assert items(store)[0].taken == 1 and after.seconds_left == 120


@pytest.mark.parametrize("kind", ["gold", "attention", "repeat"])
def test_breaks_use_up_no_check(store: Store, kind: str) -> None:
    """A check that is given back unanswered, as at log-out, comes again, on the same sides."""
    checks = [] if kind == "repeat" else [pair_item(9, kind)]
    c = campaign(store, [pair_item(1), pair_item(2), *checks], settings(**{f"{kind}_share": 0.95, "repeat_gap": 1}))
    ada = person(store, "ada")
    held = claim(store, ada, c, hold=2).views
    for i, view in enumerate(held if kind == "repeat" else ()):
        answer(store, ada, view.token, LEFT, key(i))
    assert kind != "repeat" or not claim(store, ada, c).views
    if kind == "repeat":
        campaigns.add_items(store, store.operator, c, [pair_item(3)], source="test")
    shown = []
    for _ in range(40):
        token = claim(store, ada, c).views[0].token
        shown += [a.token for a in assignments(store) if a.token == token and a.kind == kind]
        release(store, ada, c)
    assert len(shown) > 20 and len(set(shown)) == 1


def test_a_sign_of_life_keeps_a_lease_and_its_length_follows_the_median(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(i) for i in range(30)], settings(overlap=1, cap=1, lease_max=900.0))
    ada, bo = person(store, "ada"), person(store, "bo")
    view = claim(store, ada, c).views[0]
    for _ in range(5):
        clock.now += 100
        assert heartbeat(store, ada, c) == 120
        claim(store, bo, c)
    assert next(a for a in assignments(store) if a.token == view.token).state == "leased"
    for i, seconds in enumerate((40, 100, 90)):
        answer(store, ada, claim(store, ada, c).views[0].token, Answer("left", duration_ms=seconds * 1000), key(i))
    assert heartbeat(store, ada, c) == 3 * 90
    answer(store, bo, claim(store, bo, c).views[0].token, Answer("left", duration_ms=8_000_000), key(8))
    answer(store, bo, claim(store, bo, c).views[0].token, Answer("left", duration_ms=8_000_000), key(9))
    assert heartbeat(store, ada, c) == 300  # the median of 40, 90, 100 and two of hours is 100
    answer(store, bo, claim(store, bo, c).views[0].token, Answer("left", duration_ms=8_000_000), key(10))
    assert heartbeat(store, ada, c) == 900


def test_a_time_that_was_not_taken_is_no_time(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(i) for i in range(3)], settings(overlap=1, cap=1))
    ada = person(store, "ada")
    answer(store, ada, claim(store, ada, c).views[0].token, Answer("left"), key(1))  # never painted: no begin, no time
    assert assignments(store)[0].duration_ms is None
    seen = campaign_progress.overview(store, store.operator, c)
    assert (seen.median_seconds, seen.lease_seconds) == (None, 120)
    view = claim(store, ada, c).views[0]
    assignment.shown(store, ada, view.token)
    clock.now += 50
    answer(store, ada, view.token, Answer("left"), key(2))
    seen = campaign_progress.overview(store, store.operator, c)
    assert (seen.median_seconds, seen.lease_seconds) == (50, 150)
    assert [p.median_seconds for p in annotators.people(store, store.operator, c)] == [50]


def test_skip_and_flag_free_the_place_and_do_not_count(store: Store) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=1, cap=1, skips=2))
    people = [person(store, name) for name in ("ada", "bo", "cy", "dee")]
    answer(store, people[0], claim(store, people[0], c).views[0].token, Answer("skip"), key(0))
    assert (items(store)[0].taken, items(store)[0].skips, items(store)[0].state) == (0, 1, "open")
    assert claim(store, people[0], c).status == "finished"  # not again to whoever skipped it
    answer(store, people[1], claim(store, people[1], c).views[0].token, Answer("skip"), key(1))
    assert items(store)[0].state == "adjudicate"
    other = campaign(store, [pair_item(2)], settings(overlap=1, cap=1), name="other")
    answer(store, people[2], claim(store, people[2], other).views[0].token, Answer("flag", tags=("unsafe",)), key(2))
    flagged = items(store)[1]
    assert (flagged.flags, flagged.taken, flagged.state) == (1, 0, "adjudicate")
    assert claim(store, people[3], other).status == "finished"


def test_the_same_key_a_hundred_times_is_one_answer(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(2)])
    ada = person(store, "ada")
    first, second = claim(store, ada, c, hold=2).views
    receipts = {answer(store, ada, first.token, LEFT, key(1)).answer for _ in range(100)}
    assert len(receipts) == 1
    count = store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one())
    assert count == 1 and sum(row.answered for row in items(store)) == 1
    with pytest.raises(ValueError, match="another assignment"):
        answer(store, ada, second.token, LEFT, key(1))
    with pytest.raises(Conflict):
        answer(store, ada, first.token, Answer("right"), key(2))


def test_undo_is_a_revision_and_everything_stays(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(3)], settings(overlap=1, cap=1))
    ada = person(store, "ada")
    tokens = []
    for i in range(2):
        tokens.append(claim(store, ada, c).views[0].token)
        answer(store, ada, tokens[-1], LEFT, key(i))
    past = history(store, ada, c)
    assert {p.token for p in past} == set(tokens)
    shown = reopen(store, ada, past[0].token)
    assert shown.previous is not None and shown.previous.answer.outcome == "left"
    assert items(store) == items(store) and sum(row.answered for row in items(store)) == 2  # looking changes nothing
    done = answer(store, ada, past[0].token, Answer("tie", duration_ms=1), key(7), revises=shown.previous.revises)
    assert done.revision == 1
    rows = store.read(lambda db: db.execute(select(schema.answer).order_by(schema.answer.c.id)).all())
    assert [row.outcome for row in rows] == ["left", "left", "tie"] and rows[2].revises is not None
    current = next(a for a in assignments(store) if a.token == past[0].token)
    assert (current.outcome, current.duration_ms) == ("tie", 2000)  # time is of the first answer
    with pytest.raises(Conflict):  # somebody else's window revised it meanwhile
        answer(store, ada, past[0].token, LEFT, key(8), revises=shown.previous.revises)
    again = reopen(store, ada, past[0].token).previous
    assert again is not None
    answer(store, ada, past[0].token, Answer("skip"), key(9), revises=again.revises)
    assert sum(row.answered for row in items(store)) == 1 and sum(row.taken for row in items(store)) == 1
    audit = store.read(
        lambda db: db.execute(select(schema.audit).where(schema.audit.c.action == "answer.revise")).all()
    )
    assert [(row.old, row.new) for row in audit] == [({"outcome": "left"}, {"outcome": "tie"}),
                                                      ({"outcome": "tie"}, {"outcome": "skip"})]  # fmt: skip


def test_outcomes_are_about_pictures_whatever_the_sides(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(30)], settings(overlap=1, cap=1))
    ada = person(store, "ada")
    for i in range(30):
        view = claim(store, ada, c).views[0]
        files = store.read(lambda db, v=view: [db.execute(select(schema.handle.c.sha256).where(
            schema.handle.c.token == p.handle)).scalar_one() for p in v.images])  # fmt: skip
        wins = min(files)  # the first in canonical order
        answer(store, ada, view.token, Answer("left" if files[0] == wins else "right"), key(i))
    assert {row.outcome for row in assignments(store)} == {"first"}
    assert {row.outcome for row in items(store)} == {"first"}
    assert 5 <= sum(row.swapped for row in assignments(store)) <= 25


def test_sides_are_balanced_for_every_annotator_by_who_made_the_picture(store: Store) -> None:
    c = campaign(store, [pair_item(i, models=("old", "new") if i % 2 else ("new", "old")) for i in range(60)],
                 settings(overlap=3, cap=3))  # fmt: skip
    for name in ("ada", "bo"):
        who, left = person(store, name), []
        for i in range(30):
            view = claim(store, who, c).views[0]
            left.append(store.read(lambda db, v=view: db.execute(
                select(schema.image.c.model).join(schema.handle, schema.handle.c.sha256 == schema.image.c.sha256)
                .where(schema.handle.c.token == v.images[0].handle)).scalar_one()))  # fmt: skip
            answer(store, who, view.token, Answer("tie"), f"{name}-{i:06d}")
        assert 11 <= left.count("old") <= 19
        assert len({tuple(left[i : i + 4]) for i in range(27)}) > 6  # and no pattern to guess


def test_disagreement_asks_one_more_and_then_an_adjudicator(store: Store) -> None:
    c = campaign(store, [pair_item(1)], settings(overlap=2, cap=3))
    people = [person(store, n) for n in "abcd"]

    def say(who: int, first: bool, number: int) -> str:
        view = claim(store, who, c).views[0]
        row = next(a for a in assignments(store) if a.token == view.token)
        answer(store, who, view.token, Answer("left" if first != row.swapped else "right"), key(number))
        return str(items(store)[0].state)

    assert say(people[0], True, 0) == "open"
    assert say(people[1], False, 1) == "open" and items(store)[0].wanted == 3
    view = claim(store, people[2], c).views[0]
    answer(store, people[2], view.token, Answer("tie"), key(2))
    assert items(store)[0].state == "adjudicate" and claim(store, people[3], c).status == "finished"
    shown = reopen(store, people[2], view.token).previous
    assert shown is not None
    row = next(a for a in assignments(store) if a.token == view.token)
    answer(store, people[2], view.token, Answer("right" if row.swapped else "left"), key(3), revises=shown.revises)
    assert (items(store)[0].state, items(store)[0].outcome) == ("settled", "first")  # a revision can settle it


def test_the_database_itself_refuses_an_item_over_its_cap(store: Store) -> None:
    campaign(store, [pair_item(1)], settings(overlap=1, cap=1))
    with pytest.raises(IntegrityError):
        store.write(lambda db: db.execute(update(schema.item).values(taken=2)))
    assert items(store)[0].taken == 0


def test_gold_repeats_and_attention_checks_look_like_work(store: Store) -> None:
    c = campaign(
        store,
        [pair_item(i) for i in range(60)] + [pair_item(100 + i, "gold") for i in range(6)]
        + [pair_item(200 + i, "attention") for i in range(6)],
        settings(gold_share=0.15, repeat_share=0.15, attention_share=0.15, repeat_gap=3, overlap=1, cap=1),
    )  # fmt: skip
    ada, seen = person(store, "ada"), []
    for i in range(70):
        got = claim(store, ada, c)
        if not got.views:
            break
        view = got.views[0]
        row = next(a for a in assignments(store) if a.token == view.token)
        seen.append((row.kind, {f.name: type(getattr(view, f.name)) for f in dataclasses.fields(view)}))
        answer(store, ada, view.token, LEFT, key(i))
    kinds = Counter(kind for kind, _ in seen)
    assert all(kinds[kind] >= 3 for kind in ("gold", "repeat", "attention"))
    shapes = dict(seen)
    assert all(shape == shapes["work"] for shape in shapes.values())
    rows = {a.id: a for a in assignments(store)}
    for row in rows.values():
        if row.kind == "repeat":
            assert row.slots == rows[row.repeats].slots[::-1] and row.item_id == rows[row.repeats].item_id
        assert (row.correct is not None) == (row.kind in ("gold", "attention"))
    assert all(row.answered <= 1 for row in items(store) if row.kind == "work")  # checks and repeats do not count
    gold = next(a for a in rows.values() if a.kind == "gold")
    item = next(i for i in items(store) if i.id == gold.item_id)
    assert gold.correct == (gold.outcome == item.expected)


def test_who_has_no_work_left_gets_no_checks(store: Store) -> None:
    """Known answers measure people at work; with nothing left to measure they would only keep somebody busy."""
    known = [pair_item(100 + i, "gold") for i in range(40)]
    c = campaign(store, [pair_item(1), *known], settings(gold_share=0.9, overlap=1, cap=1))
    ada, bo = person(store, "ada"), person(store, "bo")
    while views_ := claim(store, ada, c).views:
        answer(store, ada, views_[0].token, LEFT, f"key of {views_[0].token}")
    kinds = Counter(row.kind for row in assignments(store))
    assert kinds["work"] == 1 and 0 < kinds["gold"] < 40, kinds
    assert all(claim(store, who, c).status == "finished" for who in (ada, bo) for _ in range(5))


def test_nothing_that_a_browser_is_told_names_a_model_or_a_file(store: Store) -> None:
    c = campaign(store, [pair_item(7, models=("glyph-old", "glyph-new"))])
    ada, bo = person(store, "ada"), person(store, "bo")
    views_ = [claim(store, who, c).views[0] for who in (ada, bo)]
    text = json.dumps([dataclasses.asdict(v) for v in views_])
    tokens = {v.token for v in views_} | {p.handle for v in views_ for p in v.images}
    assert len(tokens) == 6  # a handle is good for one assignment only
    for token in tokens:  # drawn at random: they may spell anything
        text = text.replace(token, "")
    forbidden = ("glyph-old", "glyph-new", "r1", "runs/", ".png", "seed", "sha", "model", hash_of(14)[:12],
                 hash_of(15)[:12], '"first"', '"second"', "gold", "work", "expected", "propensity")  # fmt: skip
    assert not [word for word in forbidden if word in text]
    with pytest.raises(Forbidden):
        assignment_view.image_path(store, bo, views_[0].images[0].handle)
    with pytest.raises(Forbidden):
        answer(store, bo, views_[0].token, LEFT, key(1))
    with pytest.raises(Forbidden):
        reopen(store, bo, views_[0].token)
    assert history(store, bo, c) == []


def test_the_mixture_of_policies_logs_how_probable_a_draw_was(store: Store) -> None:
    c = campaign(store, [pair_item(i, disagreement=float(i)) for i in range(10)],
                 settings(overlap=1, cap=1, policy={"uniform": 0.25, "reward_disagreement": 0.75}))  # fmt: skip
    ada = person(store, "ada")
    claim(store, ada, c)
    row = assignments(store)[0]
    weight = next(i.disagreement for i in items(store) if i.id == row.item_id)
    assert row.propensity == pytest.approx(0.25 / 10 + 0.75 * weight / 45)
    assert row.policy in ("uniform", "reward_disagreement")


@dataclasses.dataclass
class Weighed:
    id: int
    shuffle: float
    uncertainty: float
    closeness: float = 1.0
    disagreement: float = 1.0


def test_draws_follow_their_propensity_and_inverse_weights_are_unbiased() -> None:
    pool = [Weighed(i, i / 8, w) for i, w in enumerate((5.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.5, 0.5))]
    shares, chance = {"uniform": 0.2, "uncertainty": 0.8}, random.Random(0)
    drawn = [choose(pool, shares, chance) for _ in range(20_000)]  # type: ignore[arg-type]
    counts = Counter(place for place, _, _ in drawn)
    for place in range(8):
        p = probability(pool, shares, place)  # type: ignore[arg-type]
        assert counts[place] / 20_000 == pytest.approx(p, abs=4 * (p / 20_000) ** 0.5)
    values = [9.0, 1.0, 4.0, 1.0, 5.0, 3.0, 2.0, 6.0]
    estimate = sum(values[place] / p for place, _, p in drawn) / len(drawn) / 8
    assert estimate == pytest.approx(sum(values) / 8, rel=0.03)  # which the plain mean is not
    assert abs(sum(values[place] for place, _, _ in drawn) / len(drawn) - 31 / 8) > 0.3


def test_the_window_over_many_items_has_the_probability_that_is_logged(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("preference_data.campaign.next_item.POOL", 4)
    store = open_store(tmp_path / "s", tmp_path / "p")
    c, ada = campaign(store, [pair_item(i) for i in range(12)]), person(store, "ada")
    from preference_data.campaign import next_item

    free = next_item.open_work(c, ada)
    chance, counts = random.Random(3), Counter()
    with store.engine.connect() as db, db.begin():
        for _ in range(1500):
            counts.update(row.id for row in next_item.window(db, free, chance.random()))
        exact = {row.id: inclusion(db, free, row.shuffle) for row in items(store)}
    assert sum(exact.values()) == pytest.approx(4.0)
    for i, p in exact.items():
        assert counts[i] / 1500 == pytest.approx(p, abs=4 * (p * (1 - p) / 1500) ** 0.5 + 1e-9)


def test_a_draw_logs_the_chance_of_its_window_times_that_within_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("preference_data.campaign.next_item.POOL", 4)
    from preference_data.campaign import next_item

    store = open_store(tmp_path / "s", tmp_path / "p")
    c, ada = campaign(store, [pair_item(i, disagreement=1.0 + i) for i in range(12)]), person(store, "ada")
    free, chance = next_item.open_work(c, ada), random.Random(1)
    shares = {"uniform": 0.5, "reward_disagreement": 0.5}
    with store.engine.connect() as db, db.begin():
        reach = {row.id: inclusion(db, free, row.shuffle) for row in items(store)}
        drawn = [next_item.take(db, c, ada, {"uniform": 1.0}, chance) for _ in range(40)]
        weighed = [next_item.take(db, c, ada, shares, chance) for _ in range(3000)]
    for one in drawn:
        assert one is not None and one.propensity == pytest.approx(reach[one.item.id] / 4) and one.propensity < 0.25
    # the mean of 1 / propensity over draws is the number of items
    assert sum(1 / d.propensity for d in weighed if d) / 3000 == pytest.approx(12, rel=0.1)


def test_best_and_worst_of_four_with_a_reference(store: Store) -> None:
    from preference_data.campaign.campaigns import Item
    from preference_data.records import Prompt
    from tests.fixtures.desk import picture

    pictures = tuple(picture(i, f"m{i}") for i in range(4))
    item = Item(Prompt.from_text('write "HI"'), pictures, reference=picture(9, "golden"))
    c = campaign(store, [item], settings(kind="best_worst", overlap=1, cap=1))
    ada = person(store, "ada")
    view = claim(store, ada, c).views[0]
    assert len(view.images) == 4 and view.reference is not None
    row = assignments(store)[0]
    with pytest.raises(ValueError, match="two different slots"):
        answer(store, ada, view.token, Answer("ranked", best=1, worst=1), key(1))
    with pytest.raises(ValueError, match="choose one of"):
        answer(store, ada, view.token, Answer("left"), key(1))
    answer(store, ada, view.token, Answer("ranked", best=2, worst=0), key(1))
    done = assignments(store)[0]
    assert (done.best, done.worst) == (row.slots[2], row.slots[0]) and items(store)[0].best == row.slots[2]


def test_answers_that_do_not_fit_are_refused_and_leave_nothing(store: Store) -> None:
    c = campaign(store, [pair_item(1)], settings(axes=("text",)))
    ada = person(store, "ada")
    token = claim(store, ada, c).views[0].token
    for wrong in (Answer("best"), Answer("left", strength=6), Answer("left", axes={"realism": "left"}),
                  Answer("left", axes={"text": "good"}), Answer("left", tags=("nice",)), Answer("left", best=0),
                  Answer("left", rationale="x" * 3000), Answer("left", duration_ms=-1)):  # fmt: skip
        with pytest.raises(ValueError):
            answer(store, ada, token, wrong, key(1))
    assert answering.history(store, ada, c) == [] and claim(store, ada, c).views[0].token == token
    answer(store, ada, token, Answer("left", strength=5, axes={"text": "na"}, tags=("typo",)), key(1))


def test_a_closed_campaign_takes_no_answer(store: Store) -> None:
    from preference_data.campaign.campaigns import set_state

    c = campaign(store, [pair_item(1)])
    ada = person(store, "ada")
    token = claim(store, ada, c).views[0].token
    set_state(store, store.operator, c, "closed")
    assert claim(store, ada, c).status == "closed"
    with pytest.raises(ValueError, match="closed"):
        answer(store, ada, token, LEFT, key(1))
