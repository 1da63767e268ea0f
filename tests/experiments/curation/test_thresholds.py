"""Every filter stands in the explicit order and in a file of its own, with what a reader of the page needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.curation import filters as folder
from experiments.curation.filters.rules import Filter
from experiments.curation.thresholds import FILTERS, STAGES, Filters, in_order

HERE = Path(str(folder.__file__)).parent


def test_every_filter_is_in_the_order_of_its_stage_and_says_what_it_is() -> None:
    filters = in_order(Filters())
    names = [field.name for field in dataclasses.fields(Filters)]
    assert names == [*filters, "captioner", "retrieval", "resampling", "reading"]
    assert [*filters] == [*FILTERS] and {name: type(each) for name, each in filters.items()} == FILTERS
    stages = [each.stage for each in filters.values()]
    assert stages == sorted(stages) and set(stages) == STAGES.keys()
    for name, each in filters.items():
        assert isinstance(each, Filter) and type(each).__doc__, name
        assert all(getattr(each, text) for text in ("column", "unit", "reason", "source")), name
    columns = [each.column for each in filters.values()]
    assert len(set(columns)) == len(columns)


def test_every_filter_is_one_file_of_its_stage_and_opens_no_image() -> None:
    names = [f"stage{each.stage}/{each.__module__.rsplit('.')[-1]}.py" for each in FILTERS.values()]
    files = {path.relative_to(HERE).as_posix(): path for path in HERE.glob("stage*/*.py") if path.stem != "__init__"}
    assert sorted(names) == sorted(files), "a filter a file, and no file without a row of FILTERS"
    for name, path in files.items():
        code = path.read_text(encoding="utf-8")
        assert "rgb" not in code and "grey_HW" not in code, f"{name} judges stored numbers; measures/ makes them"
