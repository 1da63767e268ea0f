"""How close the makers of a pair are, by the newest ratings: what the policy close_ratings draws by.

    closeness = 4 p (1 - p),  p = 1 / (1 + exp(theta_b - theta_a))      1 for equal makers, near 0 for a sure winner

theta by Bradley-Terry over the counted answers, with a normal prior, so that a maker without answers is as good as the
mean and nothing is infinite. Worked out anew when the claims grew by a tenth, or by 20 at first, inside the claim that
finds it due: often while little is known, seldom when another answer changes little.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection, func, or_, select, update

from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.store import schema
from preference_data.store.schema import assignment, item

FEWEST, SHARE = 20, 0.1
"""Claims between two times: the greater of a number and a share of all claims."""
PRIOR = 2.0
"""Standard deviation of a rating before any answer, in logits."""
SLACK = 0.005
"""Changes below this are not written."""
WINNER = {"first": 1, "second": -1, "tie": 0, "both_good": 0}


def refresh_if_due(db: Connection, campaign: int, settings: CampaignSettings) -> bool:
    """Bring the closeness of a campaign's open pairs up to date, when it draws by it and enough was claimed since."""
    if settings.policy.get("close_ratings", 0.0) <= 0 or settings.kind != "pair":
        return False
    table = schema.campaign
    claims = db.execute(
        select(func.coalesce(func.sum(schema.worker.c.claims), 0)).where(schema.worker.c.campaign_id == campaign)
    ).scalar_one()
    due = int(claims - max(FEWEST, SHARE * claims))
    # if several claims notice it together, only one recomputes
    taken = db.execute(
        update(table).where(table.c.id == campaign, func.coalesce(table.c.rated_claims, 0) <= due)
        .values(rated_claims=claims).returning(table.c.id)
    ).first()  # fmt: skip
    if taken is None:
        return False
    refresh(db, campaign)
    return True


def refresh(db: Connection, campaign: int) -> None:
    """Work out the closeness of a campaign's open pairs from its counted answers."""
    theta = _ratings(db, campaign)
    makers = db.execute(
        select(item.c.first_label, item.c.second_label)
        .where(item.c.campaign_id == campaign, item.c.kind == "work", item.c.state == "open").distinct()
    ).all()  # fmt: skip
    for first, second in makers:
        p = 1.0 / (1.0 + math.exp(theta.get(second, 0.0) - theta.get(first, 0.0)))
        value = 4.0 * p * (1.0 - p)
        changed = (
            select(item.c.id)
            .where(item.c.campaign_id == campaign, item.c.kind == "work", item.c.state == "open",
                   item.c.first_label == first, item.c.second_label == second,
                   or_(item.c.closeness < value - SLACK, item.c.closeness > value + SLACK))
            .with_for_update(skip_locked=True)  # whoever holds a row meanwhile is not waited for; next time will do
        )  # fmt: skip
        db.execute(update(item).where(item.c.id.in_(changed)).values(closeness=value))


def _ratings(db: Connection, campaign: int) -> dict[str, float]:
    """The rating of every maker that was compared, around a mean of 0; {} before the first comparison."""
    from preference_data.statistics.ranking import Comparison, bradley_terry

    rows = db.execute(
        select(item.c.first_label, item.c.second_label, assignment.c.outcome, func.count())
        .join(assignment, assignment.c.item_id == item.c.id)
        .where(assignment.c.campaign_id == campaign, assignment.c.kind == "work", assignment.c.state == "answered",
               assignment.c.counted, assignment.c.outcome.in_(WINNER), item.c.first_label != item.c.second_label)
        .group_by(item.c.first_label, item.c.second_label, assignment.c.outcome)
    ).all()  # fmt: skip
    if not rows:
        return {}
    fitted = bradley_terry(
        [Comparison(a, b, WINNER[answer], float(count)) for a, b, answer, count in rows], prior=PRIOR
    )
    return dict(zip(fitted.names, fitted.theta, strict=True))
