"""Commands about campaigns of annotation, their store and its accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import Positional, arg, subcommand

if TYPE_CHECKING:
    from preference_data.store.store import Store

Name = Annotated[Positional[str], arg(metavar="CAMPAIGN")]
FormatName = Annotated[str, arg(metavar="FORMAT")]


@dataclass(frozen=True, kw_only=True)
class StoreLocation:
    """Names where the store is."""

    store: str = "annotations"
    """the store of campaigns: its folder (SQLite), or postgresql://user@host/database"""
    images: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the store's images; STORE/pictures when not given, needed for PostgreSQL"""

    def show(self, work: Callable[[Store], list[str]], make: bool = False) -> int:
        """Open the store, which is made where there is none if `make`, and print what `work` tells.

        A store that was made for work that failed is removed again.
        """
        from experiments.preferences.run_campaigns import open_store
        from experiments.record.leftovers import removed_on_error

        with removed_on_error(Path(self.store), lambda made: True):
            store = open_store(self.store, self.images, make)
            try:
                for line in work(store):
                    print(line)
            finally:
                store.close()
        return 0


@dataclass(frozen=True)
class Create(StoreLocation):
    """Make a campaign from folders of images or runs, from a prompt file, or from a list of disagreements.

    Several folders are compared on the prompts that they share; images of one folder are compared with each other.
    Of a run, the images are those that its finished model made when it was evaluated; of one that was never
    evaluated, the last samples of its training. Their labels say of which update they are.

    Example: glyphlab campaign create words runs/quickstart/pretrain runs/quickstart/dpo
    """

    name: Name
    """what the campaign is called"""
    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="[FOLDER ...]")] = ()
    """stages of a run, or folders of images with captions.jsonl or NAME.txt"""
    disagreements: Annotated[Path | None, arg(metavar="FILE")] = None
    """JSON lines with prompt, left, right and disagreement; sets the sampling policy to reward_disagreement"""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """prompts, one a line, whose images are sampled now"""
    models: tuple[Path, ...] = ()
    """with --prompts: the runs, or released checkpoints, whose models are sampled, all in the size of the first"""
    per_prompt: int = 3
    """comparisons a prompt at most; with one model of --models, its images a prompt"""
    overlap: int = 2
    """answers wanted for every item, by different people"""
    cap: int = 3
    """most answers an item can get while its answers disagree"""
    gold: Annotated[Path | None, arg(metavar="FILE")] = None
    """items with a known answer: JSON lines with prompt, left, right and expected (left, right, tie, ...)"""
    gold_share: float = 0.05
    """share of what is shown that is one of --gold"""
    attention_share: float = 0.02
    """share where one image is spoilt beyond doubt; such items are made from the others"""
    repeat_share: float = 0.05
    """share that comes a second time with the sides swapped"""
    axes: tuple[str, ...] = ()
    """what else is asked, such as text prompt aesthetics realism"""
    seed: int = 0
    """of the noise, with --prompts"""
    draft: bool = False
    """do not open it for annotators yet"""

    def run(self) -> int:
        from experiments.preferences.run_campaigns import create, known_items, source_items
        from preference_data.campaign.campaign_settings import CampaignSettings
        from preference_data.campaign.campaigns import check_new

        policy = {"uniform": 1.0} if self.disagreements is None else {"uniform": 0.3, "reward_disagreement": 0.7}
        settings = CampaignSettings(
            overlap=self.overlap, cap=max(self.cap, self.overlap), gold_share=self.gold_share if self.gold else 0.0,
            repeat_share=self.repeat_share, attention_share=self.attention_share, axes=self.axes, policy=policy,
        )  # fmt: skip

        def work(store: Store) -> list[str]:
            check_new(store, store.operator, self.name)  # before anything is sampled
            items, source = source_items(
                store, self.folders, self.disagreements, self.prompts, self.models, self.seed, self.per_prompt
            )
            known = known_items(store, items, self.gold, self.attention_share, self.seed)
            return create(store, self.name, settings, [*known, *items], source, not self.draft)

        return self.show(work, make=True)


@dataclass(frozen=True)
class List(StoreLocation):
    """List the campaigns of a store.

    Example: glyphlab campaign list
    """

    def run(self) -> int:
        from experiments.preferences.run_campaigns import list_lines

        return self.show(list_lines)


@dataclass(frozen=True)
class OfCampaign(StoreLocation):
    """Names a campaign too."""

    name: Name
    """a campaign of the store"""


@dataclass(frozen=True)
class Status(OfCampaign):
    """Say how far a campaign is, how far people agree, whom to look at, and who makes the better images.

    Example: glyphlab campaign status words
    """

    def run(self) -> int:
        from experiments.preferences.run_campaigns import status_lines

        return self.show(lambda store: status_lines(store, self.name))


@dataclass(frozen=True)
class Open(OfCampaign):
    """Open a campaign for annotators, for the first time or again.

    Example: glyphlab campaign open words
    """

    state: ClassVar[str] = "open"

    def run(self) -> int:
        from preference_data.campaign.campaigns import set_state

        return self.show(lambda store: [
            f"campaign {self.name}: {set_state(store, store.operator, self.name, self.state).state}"
        ])  # fmt: skip


@dataclass(frozen=True)
class Close(Open):
    """Close a campaign: no more answers are taken.

    Example: glyphlab campaign close words
    """

    state: ClassVar[str] = "closed"


@dataclass(frozen=True)
class Export(OfCampaign):
    """Write a campaign's answers, or its items' outcomes, to a file in one of the formats that others read.

    Example: glyphlab campaign export words -o words.jsonl
    """

    out: Annotated[Path, arg(aliases=["-o"])]
    """the file; its images go into the folder `pictures` beside it"""
    format: FormatName = "jsonl"
    """jsonl, parquet, pickapic, hpdv3, imagereward, diffusion-dpo, trl, kto or label-studio; the first two lose
    nothing, see docs/how-to/preferences.md for the others"""
    rows: Literal["answers", "items"] = "answers"
    """every answer, or one row for each item that is settled or adjudicated"""
    ties: Literal["refuse", "drop", "aside"] = "refuse"
    """for formats without ties: write nothing, leave ties out, or put them into FILE.ties.jsonl"""
    rubric: str = ""
    """for trl and kto: the rubric whose questions and answers the rows have, such as text_correctness; see
    docs/how-to/exchange.md"""
    both_orders: bool = False
    """for trl: every pair in both orders"""

    def run(self) -> int:
        from experiments.preferences.run_campaigns import export_lines
        from preference_data.exchange.formats.table import find

        find(self.format)
        return self.show(lambda store: export_lines(
            store, self.name, self.out, self.format, self.rows, self.ties, self.rubric, self.both_orders
        ))  # fmt: skip


@dataclass(frozen=True)
class Import(StoreLocation):
    """Read a file of preferences into a new campaign, all of it or nothing; malformed rows are named, all of them.

    Example: glyphlab pairs import words.jsonl words-again
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """in one of the formats"""
    name: Name
    """what the new campaign is called"""
    format: FormatName = "jsonl"
    """jsonl, parquet, pickapic, hpdv3, imagereward, diffusion-dpo, trl, kto or label-studio"""
    skip_malformed: bool = False
    """leave malformed rows out, count and name them, instead of refusing the file"""
    fields: tuple[str, ...] = ()
    """where the file calls its fields otherwise: OURS=THEIRS, such as prompt=caption left=image1 right=image2; of Label
    Studio also outcome=TAG, the tag that holds the answer"""
    root: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder that the paths of images are relative to; the file's own when not given"""

    def run(self) -> int:
        from experiments.preferences.run_campaigns import fields_of, import_lines
        from preference_data.exchange.formats.table import find
        from preference_data.exchange.incoming import Options
        from preference_data.spelling import not_there

        find(self.format)
        if not self.file.is_file():
            raise FileNotFoundError(not_there("file", self.file))
        options = Options(self.skip_malformed, fields_of(self.fields), self.root)
        return self.show(lambda store: import_lines(store, self.file, self.format, self.name, options), make=True)


@dataclass(frozen=True)
class Campaign:
    """Make, watch and close campaigns of annotation, and take their answers out."""

    action: (
        Annotated[Create, subcommand("create")]
        | Annotated[List, subcommand("list")]
        | Annotated[Status, subcommand("status")]
        | Annotated[Open, subcommand("open")]
        | Annotated[Close, subcommand("close")]
        | Annotated[Export, subcommand("export")]
    )

    def run(self) -> int:
        return self.action.run()
