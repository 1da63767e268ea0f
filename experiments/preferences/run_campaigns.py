"""Campaigns and exchanges from the command line: the store's functions, and what they did as lines of text.

Loads no model, except where images of a prompt file have to be sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from preference_data.campaign import campaigns, checks, sources
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.campaign.quality import campaign_progress
from preference_data.campaign.quality.overview import quality, standings
from preference_data.exchange import export, importing, incoming, judgements
from preference_data.exchange.formats.trl import Wording
from preference_data.records import PreferencePair
from preference_data.store.staging import Staged
from preference_data.store.store import Store, exists

MAKERS = 8
"""Makers of images that a line names."""


def open_store(location: str, images: Path | None, make: bool = False) -> Store:
    """The store at a folder or a postgresql:// URL. Raises ValueError when none is there and none is to be made."""
    if not make and not exists(location):
        shown = make_url(location).render_as_string() if "://" in location else location  # without a password
        raise ValueError(
            f"there is no store at {shown}; name one with --store, or make one with: glyphlab campaign create"
        )
    return Store.open(location, images)


def create(
    store: Store, name: str, settings: CampaignSettings, items: Sequence[Item], source: str, start: bool
) -> list[str]:
    """Make a campaign and fill it; open it when `start`."""
    _, added = campaigns.create_filled(store, store.operator, name, settings, items, source, start)
    state = "open" if start else "draft; open it with: glyphlab campaign open " + name
    makers = sorted({label for item in items if item.kind == "work" for label in item.labels})
    lines = [f"campaign {name}: {added} items from {source}, {state}"]
    if makers:
        lines.append(f"compared: {', '.join(makers[:MAKERS])}{', ...' if len(makers) > MAKERS else ''}")
    lines += [
        f"{label}: these are samples from the middle of its training, because its finished model was never evaluated; "
        "let it draw now with --prompts FILE --models RUN RUN"
        for label in sources.unfinished(makers)
    ]
    return lines


def sample_items(store: Store, file: Path, models: Sequence[Path], seed: int, per_model: int) -> list[Item]:
    """Sample images of every prompt of a file with each model, from the same noise, and compare them.

    The latents are kept beside the images, for DPO. Raises ValueError unless there are two models, or one with at
    least two images a prompt.
    """
    from experiments.evaluation.found_model import find_model
    from experiments.evaluation.prompts_of_plan import first_prompts
    from experiments.preferences.model_items import sample_items
    from preference_data.store.image_store import keep_sources

    if len(models) * per_model < 2:
        raise ValueError("one image of a prompt compares with nothing; name two models, or more images a prompt")
    requests = first_prompts(file, 0)
    images = [len(prompt.sources) for prompt in requests]
    policies = [find_model(str(m), prompt=requests[0].text, images=images).load() for m in models]
    prompts = [keep_sources(prompt, store.images) for prompt in requests]
    size = policies[0].native  # people compare images of one size, that of the first model
    sized = [policy.sized(size) if policy.keeps_base else policy for policy in policies]
    loaded = [(m.name, policy, str(m)) for m, policy in zip(models, sized, strict=True)]
    return sample_items(store, prompts, loaded, seed, per_model)


def list_lines(store: Store) -> list[str]:
    """All campaigns, one a line."""
    rows = campaigns.listed(store, store.operator)
    return [f"{c.id:4} {c.state:7} {c.settings.kind:10} {c.name}" for c in rows] or ["no campaign yet"]


def status_lines(store: Store, name: str) -> list[str]:
    """How far a campaign is, how far people agree, whom to look at and who makes the better images."""
    seen = campaign_progress.overview(store, store.operator, name)
    lines = [f"{seen.campaign.name}: {seen.campaign.state}, {seen.answers} answers by {seen.annotators} people, "
             f"{seen.wanted} wanted, {seen.held} held, {seen.skipped} set aside"]  # fmt: skip
    lines += [f"  items {kind:10} {state:12} {count:6}" for (kind, state), count in sorted(seen.items.items())]
    lines += [f"  answered {outcome:10} {count:6}" for outcome, count in sorted(seen.outcomes.items())]
    judged = quality(store, store.operator, name)
    for a in judged.agreement:
        lines.append(f"  {a.name}: {a.why or f'{a.value:.3f} ({a.low:.3f} to {a.high:.3f})'}")
    if not math.isnan(judged.left.value):
        lines.append(f"  the left side won {judged.left.value:.1%} of decided answers (p = {judged.left_p:.2g})")
    lines += [f"  {one.person.name or one.person.pseudonym} {why}" for one in judged.conduct for why in one.why]
    for standing in standings(store, store.operator, name):
        if standing.ranking is None:
            lines.append(f"  {standing.model}: {standing.why}")
            continue
        for r in standing.ranking.ratings:
            lines.append(f"  {standing.model}: {r.rating:+.3f} ({r.low:+.3f} to {r.high:+.3f}), rank {r.rank} "
                         f"({r.rank_low} to {r.rank_high}) {r.name}")  # fmt: skip
    return lines


def wording_of(rubric: str, both_orders: bool) -> Wording:
    """The questions and answers of a rubric, as judges are asked them; without one those of the format."""
    if not rubric:
        return Wording(both_orders=both_orders)
    from rewards.language.read_answer import PAIR_WORDS
    from rewards.language.rubric import read_rubric

    questions = read_rubric(rubric)
    for way in ("pair", "yes"):
        questions.check(way)
    first, second = PAIR_WORDS
    return Wording(
        lambda prompt: questions.question("pair", prompt), (first, second),
        lambda prompt: questions.question("yes", prompt), "Yes", both_orders,
    )  # fmt: skip


def export_lines(
    store: Store, name: str, out: Path, kind: str, rows: str, ties: str, rubric: str = "", both_orders: bool = False
) -> list[str]:
    """Write a campaign's answers (or its items' outcomes) in a format. Raises ValueError for words in another than
    TRL's."""
    if (rubric or both_orders) and kind not in ("trl", "kto"):
        raise ValueError(f"--rubric and --both-orders are for the formats trl and kto, and --format is {kind}")
    of = judgements.of_answers if rows == "answers" else judgements.of_items
    wording = wording_of(rubric, both_orders)
    done = export.write(of(store, store.operator, name), out, kind, store.images, ties, wording)
    lines = [f"written: {out}, {done.rows} judgements as {kind}"]
    if done.dropped:
        lines.append(f"{done.dropped} ties left out")
    if done.excluded:
        lines.append(f"ties set aside: {done.excluded}")
    return lines


def import_lines(store: Store, file: Path, kind: str, name: str, options: incoming.Options) -> list[str]:
    """Read a file of preferences into a new, closed campaign; all of it or nothing.

    Malformed rows are left out and named when the options say so. Raises ValueError for a name that is taken before
    anything is read.
    """
    campaigns.check_new(store, store.operator, name)
    with Staged(store.images) as staged:
        rows = incoming.read_rows(file, kind, staged, options)
        made = importing.store_judgements(store, store.operator, name, rows.judgements, str(file), staged)
    lines = [f"campaign {made.name}: {len(rows.judgements)} judgements from {file}"]
    if rows.passed:
        lines.append(f"{rows.passed} rows judge nothing and were passed over: skips, and rows without an answer")
    if rows.left_out:
        lines.append(f"{len({number for number, _ in rows.left_out})} malformed rows were left out:")
        lines += [f"  {line}" for line in incoming.problem_lines(rows.left_out, rows.unit)]
    return lines


def fields_of(settings: Sequence[str]) -> dict[str, str]:
    """{our name: the file's name} of OURS=THEIRS. Raises ValueError for anything else."""
    table = {}
    for one in settings:
        ours, equals, theirs = one.partition("=")
        if not (equals and ours and theirs) or ours in table:
            raise ValueError(f"--fields {one}: write OURS=THEIRS, each of our names once, such as left=image1")
        table[ours] = theirs
    return table


def decided_pairs(store: Store, name: str) -> list[PreferencePair]:
    """What a campaign's settled items say, for training. Raises ValueError when none is decided."""
    result = judgements.training_pairs(judgements.of_items(store, store.operator, name), f"human:{name}")
    if not result:
        raise ValueError(f"no item of the campaign {name!r} is decided, so there is nothing to learn from; "
                         "collect more answers, or settle its adjudication queue")  # fmt: skip
    return result


def known_items(store: Store, items: Sequence[Item], gold: Path | None, attention: float, seed: int) -> list[Item]:
    """What a campaign checks its annotators with: the gold items of a file, and spoilt copies of its work."""
    values = checks.gold(gold, store.images) if gold is not None else []
    return values + checks.attention(items, store.images, attention, seed)


def source_items(
    store: Store, folders: Sequence[Path], disagreements: Path | None, prompts: Path | None, models: Sequence[Path],
    seed: int, per_prompt: int,
) -> tuple[list[Item], str]:  # fmt: skip
    """The items of a new campaign and what they come from. Raises ValueError unless exactly one source is named."""
    named = [bool(folders), disagreements is not None, prompts is not None]
    if sum(named) != 1:
        raise ValueError("name one source: folders (of images or of runs), --disagreements FILE, or --prompts FILE "
                         "with --models RUN RUN")  # fmt: skip
    if disagreements is not None:
        return sources.from_disagreements(disagreements, store.images), str(disagreements)
    if prompts is not None:
        return sample_items(store, prompts, models, seed, per_prompt), str(prompts)
    return sources.from_folders(list(folders), store.images, per_prompt), ", ".join(map(str, folders))
