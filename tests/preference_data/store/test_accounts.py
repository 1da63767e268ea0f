"""Who gets in, who may do what, and what is forgotten; adjudication, first blind and then revealed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from sqlalchemy import select

from preference_data.campaign import adjudication, campaigns, privacy
from preference_data.campaign.adjudication import answer_blind, decide, next_case
from preference_data.campaign.answering import Conflict, answer
from preference_data.campaign.assignment import claim
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality import campaign_progress
from preference_data.exchange.judgements import of_answers
from preference_data.store import accounts, schema
from preference_data.store.accounts import TooManyAttempts, log_in, log_in_oidc
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store
from tests.fixtures.desk import PASSWORD, PLAIN, Clock, campaign, pair_item, person


def test_log_in_with_a_password_and_not_without(store: Store, clock: Clock) -> None:
    accounts.create(store, store.operator, "ada", "annotator", PASSWORD)
    assert log_in(store, "ada", PASSWORD).role == "annotator"
    for name, password in (("ada", "wrong password"), ("nobody", PASSWORD), ("operator", PASSWORD)):
        with pytest.raises(Forbidden, match="the name or the password is wrong"):
            log_in(store, name, password)
    for _ in range(4):
        with pytest.raises(Forbidden):
            log_in(store, "ada", "wrong password")
    with pytest.raises(TooManyAttempts, match="15 minutes"):
        log_in(store, "ada", PASSWORD)
    clock.now += 16 * 60
    assert log_in(store, "ada", PASSWORD).name == "ada"
    stored = store.read(lambda db: db.execute(select(schema.account.c.password).where(
        schema.account.c.name == "ada")).scalar_one())  # fmt: skip
    assert stored.startswith("$argon2id$") and PASSWORD not in stored


def test_accounts_are_made_by_administrators_only(store: Store) -> None:
    ada = person(store, "ada", "researcher")
    with pytest.raises(Forbidden):
        accounts.create(store, ada, "eve", "admin", PASSWORD)
    with pytest.raises(Forbidden):
        accounts.change(store, ada, "ada", role="admin")
    with pytest.raises(ValueError, match="already"):
        person(store, "ada")
    with pytest.raises(ValueError, match="needs 10"):
        accounts.create(store, store.operator, "bo", "annotator", "short")
    with pytest.raises(ValueError, match="either a password or an identity"):
        accounts.create(store, store.operator, "bo", "annotator")


def test_a_role_that_is_taken_away_is_gone_at_once(store: Store) -> None:
    c = campaign(store, [pair_item(1)])
    lead = person(store, "lead", "researcher")
    session = accounts.current(store, lead, 0).session
    campaign_progress.overview(store, lead, c)
    accounts.change(store, store.operator, "lead", role="annotator")
    with pytest.raises(Forbidden):
        campaign_progress.overview(store, lead, c)
    with pytest.raises(Forbidden, match="session was ended"):
        accounts.current(store, lead, session)
    accounts.change(store, store.operator, "lead", active=False)
    with pytest.raises(Forbidden):
        claim(store, lead, c)


def test_an_oidc_identity_is_one_account_whatever_its_name(store: Store) -> None:
    person(store, "ada")
    with pytest.raises(Forbidden, match="ask an administrator"):
        log_in_oidc(store, "https://id.example", "123", "ada")
    first = log_in_oidc(store, "https://id.example", "123", "ada", new_role="annotator")
    again = log_in_oidc(store, "https://id.example", "123", "ada lovelace")
    assert first.id == again.id and first.name == "ada 2"
    assert log_in_oidc(store, "https://other.example", "123", "ada", new_role="annotator").id != first.id
    with pytest.raises(ValueError, match="becomes an annotator or nothing"):
        log_in_oidc(store, "https://id.example", "9", "eve", new_role="admin")


@pytest.mark.parametrize("function", ["create", "add_items", "set_state", "get", "export", "waiting"])
def test_annotators_cannot_lead(store: Store, function: str) -> None:
    c = campaign(store, [pair_item(1)])
    ada = person(store, "ada")
    calls = {
        "create": lambda: campaigns.create(store, ada, "mine", PLAIN),
        "add_items": lambda: campaigns.add_items(store, ada, c, [pair_item(2)], "x"),
        "set_state": lambda: campaigns.set_state(store, ada, c, "closed"),
        "get": lambda: campaigns.get(store, ada, c),
        "export": lambda: of_answers(store, ada, c),
        "waiting": lambda: adjudication.waiting(store, ada, c),
    }
    with pytest.raises(Forbidden):
        calls[function]()


def test_a_deleted_account_leaves_answers_without_a_name(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(i) for i in range(3)], dataclasses.replace(PLAIN, overlap=1, cap=1))
    ada, bo = person(store, "yusra.holm"), person(store, "bo")
    answer(store, ada, claim(store, ada, c).views[0].token, Answer("left", rationale="by yusra.holm"), "key-00000001")
    claim(store, ada, c)
    assert privacy.delete_account(store, store.operator, "yusra.holm") == 0
    with store.engine.connect() as db:
        row = db.execute(select(schema.account).where(schema.account.c.id == ada)).one()
        text = json.dumps([[str(v) for v in r] for t in schema.metadata.sorted_tables for r in db.execute(select(t))])
    # letters that no random key or hash spells: "ada" stood in one by chance
    assert row.name is None and row.subject is None and "yusra" not in text
    assert len(of_answers(store, store.operator, c)) == 1
    with pytest.raises(Forbidden):
        claim(store, ada, c)
    for i in range(2):  # what she held is free again
        answer(store, bo, claim(store, bo, c).views[0].token, Answer("left"), f"key-1000000{i}")
    assert privacy.delete_account(store, store.operator, "bo", answers=True) == 2
    assert (
        len(of_answers(store, store.operator, c)) == 1
        and campaign_progress.overview(store, store.operator, c).wanted == 2
    )
    with pytest.raises(ValueError, match="operator"):
        privacy.delete_account(store, store.operator, "operator")


def test_retention_forgets_words_and_events_and_keeps_answers(store: Store, clock: Clock) -> None:
    c = campaign(store, [pair_item(1)])
    ada = person(store, "ada")
    answer(store, ada, claim(store, ada, c).views[0].token, Answer("left", rationale="too dark"), "key-00000001")
    clock.now += 40 * 86_400
    gone = privacy.retain(store, store.operator, 30)
    assert gone.events >= 4 and gone.rationales == 1
    kept = of_answers(store, store.operator, c)
    assert [j.rationale for j in kept] == [""]
    with pytest.raises(Forbidden):
        privacy.retain(store, ada, 30)
    with pytest.raises(ValueError, match="at least one day"):
        privacy.retain(store, store.operator, 0)


def test_no_address_has_a_place_in_the_store() -> None:
    columns = {f"{t.name}.{c.name}" for t in schema.metadata.sorted_tables for c in t.columns}
    assert not [
        c for c in columns if any(word in c.split(".")[1].split("_") for word in ("ip", "address", "email", "host"))
    ]


def disputed(store: Store) -> int:
    c = campaign(store, [pair_item(1)], dataclasses.replace(PLAIN, overlap=2, cap=2))
    for name, outcome in (("ada", "both_good"), ("bo", "both_bad")):
        who = person(store, name)
        answer(store, who, claim(store, who, c).views[0].token, Answer(outcome), f"key-{name}-0000")
    return c


def test_adjudication_is_blind_first_and_then_revealed(store: Store) -> None:
    c = disputed(store)
    judge = person(store, "judge", "adjudicator")
    assert adjudication.waiting(store, judge, c) == 1
    case = next_case(store, judge, c)
    assert case is not None and case.blind is None and case.opinions == ()
    token = case.view.token
    with pytest.raises(Forbidden, match="answer blind first"):
        decide(store, judge, token, Answer("tie"), "matter_of_taste", "key-decide-1")
    answer_blind(store, judge, token, Answer("left"), "key-blind-1")
    assert answer_blind(store, judge, token, Answer("left"), "key-blind-1").repeated
    with pytest.raises(Conflict):
        answer_blind(store, judge, token, Answer("right"), "key-blind-2")
    shown = next_case(store, judge, c)
    assert shown is not None
    assert {o.answer.outcome for o in shown.opinions} == {"both_good", "both_bad"} and shown.blind is not None
    assert not {o.pseudonym for o in shown.opinions} & {"ada", "bo"}
    decide(store, judge, token, Answer("both_bad"), "picture_broken", "key-decide-1")
    row = store.read(lambda db: db.execute(select(schema.item)).one())
    assert (row.state, row.outcome) == ("adjudicated", "both_bad")
    stages = store.read(
        lambda db: db.execute(select(schema.answer.c.stage).order_by(schema.answer.c.id)).scalars().all()
    )
    assert stages == ["answer", "answer", "blind", "revealed"] and next_case(store, judge, c) is None


def test_whoever_answered_does_not_adjudicate_and_two_never_hold_one_case(store: Store, clock: Clock) -> None:
    c = disputed(store)
    accounts.change(store, store.operator, "ada", role="adjudicator")
    ada = store.read(lambda db: accounts.by_name(db, "ada").id)
    assert next_case(store, ada, c) is None
    one, two = person(store, "one", "adjudicator"), person(store, "two", "adjudicator")
    held = next_case(store, one, c)
    assert held is not None and next_case(store, two, c) is None
    again = next_case(store, one, c)
    assert again is not None and again.view.images == held.view.images
    clock.now += 4000
    assert next_case(store, two, c) is not None
    with pytest.raises(Forbidden):
        next_case(store, person(store, "eve", "researcher"), c)


def test_a_case_is_held_while_somebody_works_on_it_and_decided_once(store: Store, clock: Clock) -> None:
    c = disputed(store)
    one, two = person(store, "one", "adjudicator"), person(store, "two", "adjudicator")
    first = next_case(store, one, c)
    assert first is not None
    for _ in range(5):
        clock.now += 100  # longer in all than a lease
        assert adjudication.heartbeat(store, one, c) == 120
        assert next_case(store, two, c) is None
    answer_blind(store, one, first.view.token, Answer("tie"), "key-blind-1")
    clock.now += 1000  # away
    second = next_case(store, two, c)
    assert second is not None and second.blind is None and second.opinions == ()
    adjudication.heartbeat(store, one, c)  # back, too late: what was taken back is not theirs again
    assert next_case(store, one, c) is None
    answer_blind(store, two, second.view.token, Answer("both_bad"), "key-blind-2")
    decide(store, two, second.view.token, Answer("both_bad"), "matter_of_taste", "key-decide-2")
    with pytest.raises(Conflict, match="decided meanwhile"):
        decide(store, one, first.view.token, Answer("both_good"), "other", "key-decide-1")
    row = store.read(lambda db: db.execute(select(schema.item)).one())
    assert (row.state, row.outcome) == ("adjudicated", "both_bad")
    with pytest.raises(Forbidden):
        adjudication.heartbeat(store, person(store, "ann"), c)
