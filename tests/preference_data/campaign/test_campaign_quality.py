"""The lead's numbers: a spammer and a position-biased annotator are named, winners win, and it stays quick."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from preference_data.campaign.answering import answer, history
from preference_data.campaign.assignment import claim
from preference_data.campaign.outcomes import Answer, canonical
from preference_data.campaign.quality import annotators, campaign_progress
from preference_data.campaign.quality.overview import quality, standings
from preference_data.campaign.quality.reliability import binomial_p, holm, wilson
from preference_data.exchange.judgements import of_answers, of_items
from preference_data.store import schema
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, campaign, open_store, pair_item, person

ANSWERED = {"kind": "work", "state": "answered", "policy": "uniform", "propensity": 0.5, "leased_at": 0.0,
            "expires_at": 0.0, "counted": True, "answered_at": 0.0}  # fmt: skip
"""What is the same in every row of an answered assignment here."""


def label(store: Store, c: int, who: int, says: Callable[[bool], str], chance: random.Random) -> None:
    """An answer to every item, written at once; `says` gets whether the better image is on the left, and answers.

    Through the service it would be the same rows, 60 times as slowly: what is tested here is what they are read as.
    """
    rows = []
    for one in store.read(lambda db: db.execute(select(schema.item).where(schema.item.c.campaign_id == c)).all()):
        slots = chance.sample((0, 1), 2)
        makers = (one.first_label, one.second_label)
        said = says(makers[slots[0]] == "new@r1")
        rows.append({**ANSWERED, "token": f"{one.id}-{who}", "campaign_id": c, "item_id": one.id, "account_id": who,
                     "slots": slots, "swapped": slots[0] == 1, "outcome": canonical(said, slots),
                     "duration_ms": 4000})  # fmt: skip
    store.write(lambda db: db.execute(schema.assignment.insert(), rows))


def test_a_spammer_and_a_position_biased_annotator_are_named(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s", tmp_path / "p")
    c = campaign(store, [pair_item(i) for i in range(60)], dataclasses.replace(PLAIN, overlap=5, cap=5))
    chance = random.Random(1)

    def honest(left: bool) -> str:
        return ("left" if left else "right") if chance.random() < 0.85 else chance.choice(["left", "right", "tie"])

    people = {"ada": honest, "bo": honest, "cy": honest, "spam": lambda _: chance.choice(["left", "right", "tie"]),
              "leftist": lambda left: "left" if chance.random() < 0.7 else honest(left)}  # fmt: skip
    for name, says in people.items():
        label(store, c, person(store, name), says, chance)
    found = quality(store, store.operator, c)
    named = {one.person.name: (one.spammer, one.position_biased) for one in found.conduct}
    assert named["spam"] == (True, False) and named["leftist"][1]
    assert all(named[name] == (False, False) for name in ("ada", "bo", "cy"))
    assert any(
        "hardly more than chance" in why for one in found.conduct for why in one.why if one.person.name == "spam"
    )
    assert all(a.low < a.value < a.high for a in found.agreement) and found.agreement[0].value > 0.15
    ranked = {s.model: s.ranking for s in standings(store, store.operator, c)}
    for model in ("Bradley-Terry", "Davidson", "Rao-Kupper"):
        ranking = ranked[model]
        assert (
            ranking is not None
            and ranking.ratings[0].name == "new@r1"
            and ranking.difference("new@r1", "old@r1")[1] > 0
        )
    store.close()


def test_answers_to_work_are_compared_with_what_was_settled(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(4)], dataclasses.replace(PLAIN, overlap=2, cap=2))
    ada, bo = person(store, "ada"), person(store, "bo")
    label(store, c, ada, lambda left: "left" if left else "right", random.Random(0))
    label(store, c, bo, lambda left: "right" if left else "left", random.Random(1))
    item, table = schema.item, schema.assignment
    mine = store.read(lambda db: db.execute(select(table).where(table.c.account_id == ada)).all())
    for row, best in zip(mine[:3], (None, None, 1), strict=True):  # the third is alike but for the best
        changed = item.update().where(item.c.id == row.item_id)
        changed = changed.values(state="settled", outcome=row.outcome, best=best)
        store.write(lambda db, q=changed: db.execute(q))
    again = {**ANSWERED, "kind": "repeat", "token": "again", "campaign_id": c, "item_id": mine[0].item_id,
             "account_id": ada, "slots": [0, 1], "swapped": False, "outcome": "tie", "repeats": mine[0].id}  # fmt: skip
    store.write(lambda db: db.execute(schema.assignment.insert(), [again]))
    found = {p.name: (p.compared, p.agreed, p.repeats) for p in annotators.people(store, store.operator, c)}
    assert found == {"ada": (3, 2, 1), "bo": (3, 0, 0)}


def test_an_honest_annotator_is_rarely_accused_of_a_side() -> None:
    chance = random.Random(0)
    wrong = sum(binomial_p(sum(chance.random() < 0.5 for _ in range(200)), 200) < 0.05 for _ in range(1000))
    assert wrong < 75  # exact tests of counts err on the safe side
    assert binomial_p(50, 100) == 1.0 and binomial_p(0, 10) == pytest.approx(2 / 1024)
    assert holm([0.001, 0.2, 0.004], 0.01) == [True, False, True] and holm([0.004, 0.0049, 0.2], 0.01) == [False] * 3


def test_wilson_has_its_published_interval() -> None:
    found = wilson(81, 263)  # Newcombe (1998), table I: 81 of 263, .2553 to .3662
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_without_answers_every_number_says_why(store: Store) -> None:
    c = campaign(store, [pair_item(1)])
    found = quality(store, store.operator, c)
    assert all("undefined" in a.why for a in found.agreement) and found.conduct == ()
    assert all(s.ranking is None and "no comparison" in s.why for s in standings(store, store.operator, c))
    assert campaign_progress.overview(store, store.operator, c).median_seconds is None


def test_every_answer_to_a_pair_is_a_win_or_a_tie(store: Store) -> None:
    c = campaign(store, [pair_item(i) for i in range(2)], dataclasses.replace(PLAIN, overlap=5, cap=5))
    chance = random.Random(3)
    for i in range(3):
        label(store, c, person(store, f"a{i}"), lambda left: "left" if left else "right", chance)
    label(store, c, person(store, "t"), lambda _: "tie", chance)
    wins = campaign_progress.wins(store, store.operator, c)
    new = [w.a_wins if w.a == "new@r1" else w.b_wins for w in wins]
    assert sum(new) == 6 and sum(w.a_wins + w.b_wins for w in wins) == 6 and sum(w.tie for w in wins) == 2


def test_best_and_worst_imply_their_preferences_and_no_more(store: Store) -> None:
    from preference_data.campaign.campaigns import Item
    from preference_data.records import Prompt
    from tests.fixtures.desk import picture

    items = [Item(Prompt.from_text("four"), tuple(picture(i, f"m{i}") for i in range(4)))]
    c = campaign(store, items, dataclasses.replace(PLAIN, kind="best_worst", overlap=1, cap=1))
    view = claim(store, ada := person(store, "ada"), c).views[0]
    answer(store, ada, view.token, Answer("ranked", best=0, worst=3), "key-00000001")
    wins = campaign_progress.wins(store, store.operator, c)
    assert sum(w.a_wins + w.b_wins for w in wins) == 2 * 4 - 3 and not any(w.tie for w in wins)
    first = history(store, ada, c)[0].revises
    answer(store, ada, view.token, Answer("none_acceptable"), "key-00000002", first)
    for exported in (of_answers(store, store.operator, c), of_items(store, store.operator, c)):
        assert [(j.outcome, j.votes) for j in exported] == [("both_bad", (0, 0, 1))] * 6, "an answer is in the export"


def test_a_lead_and_nobody_else_sees_other_peoples_numbers(store: Store) -> None:
    c = campaign(store, [pair_item(1)])
    lead, judge, ada = person(store, "lead", "researcher"), person(store, "judge", "adjudicator"), person(store, "ada")
    for ask in (campaign_progress.overview, campaign_progress.wins, annotators.people, quality, standings):
        ask(store, lead, c)
        for who in (judge, ada, 99):
            with pytest.raises(Forbidden):
                ask(store, who, c)
    assert campaign_progress.own(store, ada, c).left == 1 and [
        o.name for o in campaign_progress.offers(store, ada)
    ] == ["c"]


def fill(store: Store, c: int, people: list[int], items: int, each: int) -> None:
    """`each` answers to each of `items` items, written at once: only to measure how long reading them takes."""
    chance = random.Random(0)
    rows = [
        {**ANSWERED, "token": f"{i}-{k}", "campaign_id": c, "item_id": i, "account_id": people[(i + k) % len(people)],
         "slots": [0, 1], "swapped": chance.random() < 0.5, "answered_at": float(i),
         "outcome": chance.choice(["first", "first", "second", "tie", "both_good", "both_bad"]),
         "duration_ms": chance.randint(500, 9000)}
        for i in range(1, items + 1) for k in range(each)
    ]  # fmt: skip
    for first in range(0, len(rows), 10_000):
        store.write(lambda db, few=rows[first : first + 10_000]: db.execute(schema.assignment.insert(), few))


@pytest.mark.slow
def test_the_leads_numbers_take_less_than_two_seconds_at_a_hundred_thousand_answers(place: str, tmp_path: Path) -> None:
    store = open_store(place, tmp_path / "p")
    makers = ("a", "b", "c", "d")
    c = campaign(store, [pair_item(i, models=(makers[i % 4], makers[(i + 1) % 4])) for i in range(20_000)])
    fill(store, c, [person(store, f"p{i}") for i in range(30)], 20_000, 5)
    spent = {}
    for ask in (campaign_progress.overview, quality, standings, annotators.people):
        before = time.process_time(), time.perf_counter()
        ask(store, store.operator, c)
        spent[ask.__name__] = (time.process_time() - before[0], time.perf_counter() - before[1])
    print(spent)  # shown with -s
    assert max(cpu for cpu, _ in spent.values()) < 2.0, spent  # each is a page; CPU, because others work here too
    store.close()
