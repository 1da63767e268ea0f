"""Every filter stands in the explicit order, with what a reader of the page needs."""

from __future__ import annotations

import dataclasses

from experiments.curation.filters.rules import Filter
from experiments.curation.thresholds import STAGES, Filters, in_order


def test_every_filter_is_in_the_order_of_its_stage_and_says_what_it_is() -> None:
    filters = in_order(Filters())
    assert [*filters, "captioner", "reading"] == [field.name for field in dataclasses.fields(Filters)]
    stages = [each.stage for each in filters.values()]
    assert stages == sorted(stages) and set(stages) <= STAGES.keys()
    for name, each in filters.items():
        assert isinstance(each, Filter) and type(each).__doc__, name
        assert all(getattr(each, text) for text in ("column", "unit", "reason", "source")), name
    columns = [each.column for each in filters.values()]
    assert len(set(columns)) == len(columns)
