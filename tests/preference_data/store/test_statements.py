"""How often the store is asked for one answer: its annotator waits for every statement, and twenty for each other's.

The bounds are what is needed today. Whoever raises one should know what the new statement is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from dashboards.annotate.session import HOLD, Shift
from preference_data.campaign.answering import answer, history
from preference_data.campaign.assignment import claim
from preference_data.campaign.assignment_view import evidence
from preference_data.campaign.outcomes import Answer
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, campaign, pair_item, person

FEW = 80
"""More items than a draw weighs, so that its propensity takes the query that it takes in a real campaign."""


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that begin and end transactions."""
    sent: list[str] = []

    def note(db: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def most(store: Store, work: Callable[[], object], times: int = 5) -> int:
    """The most statements of several times."""
    counts = []
    for _ in range(times):
        with counted(store) as sent:
            work()
        counts.append(len(sent))
    return max(counts)


@pytest.fixture
def place_of_work(store: Store) -> tuple[int, int]:
    """(campaign, annotator), who has answered once: rows that are made once are there."""
    c = campaign(store, [pair_item(i) for i in range(FEW)], replace(PLAIN, evidence="after"))
    ada = person(store, "ada")
    answer(store, ada, claim(store, ada, c).views[0].token, Answer("left", duration_ms=900), "key-of-the-first")
    return c, ada


def test_an_answer_takes_nine_statements(store: Store, place_of_work: tuple[int, int]) -> None:
    c, ada = place_of_work
    views = iter(claim(store, ada, c, 4).views)

    def work() -> None:
        token = next(views).token
        answer(store, ada, token, Answer("left", duration_ms=900), f"{token}:0", then=token)

    assert most(store, work, 4) <= 9


def test_a_claim_takes_no_more_statements_for_more_that_is_held(store: Store, place_of_work: tuple[int, int]) -> None:
    c, ada = place_of_work
    fresh = [most(store, lambda n=n: claim(store, ada, c, n), 1) for n in (1, 2, 3, 4)]  # one more each time
    again = most(store, lambda: claim(store, ada, c, 4))
    assert max(fresh) <= 21 and again <= 10, (fresh, again)
    assert len(claim(store, ada, c, 4).views) == 4


def test_what_is_shown_after_an_answer_waits_for_nine_statements_and_not_for_a_claim(
    store: Store, place_of_work: tuple[int, int]
) -> None:
    c, ada = place_of_work
    sitting = Shift(store, ada, c)
    sitting.claim()

    def work() -> None:
        assert sitting.current is not None
        sitting.seen_at -= 1
        before, ahead = sitting.current, sitting.ahead
        sitting.answer(before.token, "left")
        assert sitting.current == ahead[0] and sitting.last is not None and sitting.last.token == before.token

    assert most(store, work, HOLD - 1) <= 9
    assert most(store, sitting.replenish, 1) <= 21 + 14 * (HOLD - 2)
    assert len(sitting.held) == HOLD and most(store, sitting.replenish) == 0
    assert most(store, lambda: (work(), sitting.replenish())) <= 30


def test_looking_back_takes_no_more_statements_for_more_answers(store: Store, place_of_work: tuple[int, int]) -> None:
    c, ada = place_of_work
    short = most(store, lambda: history(store, ada, c))
    for view in claim(store, ada, c, 4).views:
        answer(store, ada, view.token, Answer("tie", duration_ms=900), f"{view.token}:0")
    assert len(history(store, ada, c)) == 5 and most(store, lambda: history(store, ada, c)) == short <= 3
    token = history(store, ada, c)[0].token
    evidence(store, ada, token)  # the first time is written down
    assert most(store, lambda: evidence(store, ada, token)) <= 5
