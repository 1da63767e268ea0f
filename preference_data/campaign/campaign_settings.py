"""The settings of a campaign: what is asked, of how many people, in which order, and with how many checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

POLICIES = ("uniform", "uncertainty", "close_ratings", "reward_disagreement")
MIN_UNIFORM = 0.05
"""Least share of work drawn uniformly: without it some items could never be drawn, and no estimate be unbiased."""
AXES = ("text", "prompt", "aesthetics", "realism")
TAGS = ("typo", "missing_text", "duplicate_text", "garbled_text", "wrong_content", "hands", "faces", "artefacts",
        "composition", "unsafe")  # fmt: skip
EVIDENCE = ("never", "after", "before")


@dataclass(frozen=True)
class CampaignSettings:
    """What a campaign asks and how it hands out its work."""

    kind: str = "pair"
    """pair: two images; best_worst: the best and the worst of N"""
    overlap: int = 2
    """answers wanted for every item, by different people"""
    cap: int = 3
    """most answers an item can get: it grows from overlap to here while its answers disagree"""
    settled_share: float = 0.5
    """an item is settled when more than this share of its answers agree"""
    policy: Mapping[str, float] = field(default_factory=lambda: {"uniform": 1.0})
    """share of work drawn by each policy: uniform, uncertainty, close_ratings, reward_disagreement"""
    gold_share: float = 0.05
    """share of what is shown that has a known answer"""
    repeat_share: float = 0.05
    """share that the same person saw before, with the sides swapped"""
    attention_share: float = 0.02
    """share where one image is spoilt beyond doubt"""
    repeat_gap: int = 10
    """answers at least between an item and its repeat"""
    lease_min: float = 120.0
    """seconds that work is held at least; three times the campaign's median duration when that is longer"""
    lease_max: float = 3600.0
    """seconds that work is held at most, without a sign of life"""
    skips: int = 3
    """people who set an item aside before an adjudicator sees it"""
    adjudicate: bool = True
    """send items that stay undecided at the cap to an adjudicator"""
    strength: bool = True
    """ask how clear the preference is, 1 to 5; it may be left out"""
    axes: tuple[str, ...] = ()
    """what else is asked for both sides, such as text, prompt, aesthetics, realism"""
    tags: tuple[str, ...] = TAGS
    """reasons that can be ticked"""
    evidence: str = "never"
    """when the annotator sees what a machine read in the images: never, after the first answer, or before it. Whoever
    sees it may follow it, and answers that follow a reward cannot say how good it is; exports say when it was shown"""
    guidelines: Mapping[str, str] = field(default_factory=dict)
    """Markdown by language: en, zh"""

    def __post_init__(self) -> None:
        if self.kind not in ("pair", "best_worst"):
            raise ValueError(f"kind is {self.kind!r}; choose pair or best_worst")
        if not 1 <= self.overlap <= self.cap:
            raise ValueError(f"overlap={self.overlap}, cap={self.cap}: overlap is at least 1 and cap at least overlap")
        if not 0.0 <= self.settled_share < 1.0:
            raise ValueError(f"settled_share={self.settled_share}: at least 0 and below 1")
        if unknown := sorted(set(self.policy) - set(POLICIES)):
            raise ValueError(f"policy {unknown} is unknown; there are {', '.join(POLICIES)}")
        if min(self.policy.values(), default=0) < 0 or abs(sum(self.policy.values()) - 1.0) > 1e-9:
            raise ValueError(f"policy={dict(self.policy)}: shares are not negative and sum to 1")
        if self.policy.get("uniform", 0.0) < MIN_UNIFORM:
            raise ValueError(f"policy={dict(self.policy)}: at least {MIN_UNIFORM} must be uniform, or what is rarely "
                             "drawn could never be weighed")  # fmt: skip
        shares = (self.gold_share, self.repeat_share, self.attention_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(f"gold, repeat and attention shares are {shares}: not negative, together below 1")
        if not 0 < self.lease_min <= self.lease_max:
            raise ValueError(f"lease_min={self.lease_min}, lease_max={self.lease_max}: positive and in order")
        if self.repeat_gap < 1 or self.skips < 1:
            raise ValueError(f"repeat_gap={self.repeat_gap}, skips={self.skips}: both at least 1")
        if self.evidence not in EVIDENCE:
            raise ValueError(f"evidence is {self.evidence!r}; choose {', '.join(EVIDENCE)}")

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as the store keeps them."""
        return asdict(self) | {"axes": list(self.axes), "tags": list(self.tags), "policy": dict(self.policy),
                               "guidelines": dict(self.guidelines)}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CampaignSettings:
        """What `to_json` wrote; a field it lacks (an older store) has its default."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        return cls(**{**known, "axes": tuple(known.get("axes", ())), "tags": tuple(known.get("tags", TAGS))})
