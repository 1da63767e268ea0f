"""Which image a sample shows when images are added, or replaced, in the middle of a pass."""

from __future__ import annotations

from collections import Counter

from experiments.images.sample_order import Location, SampleOrder

OLD, NEW = [f"old{i}" for i in range(10)], [f"new{i}" for i in range(4)]


def names(order: SampleOrder, lists: list[list[list[str]]], first: int, count: int) -> list[str]:
    found = (order.locate(index) for index in range(first, first + count))
    return [lists[each.generation][each.source][each.row] for each in found]


def test_a_pass_is_ended_with_what_it_has_not_shown_and_what_is_new() -> None:
    lists = [[OLD], [[*NEW[:2], *OLD, *NEW[2:]]]]
    order = SampleOrder(3, [(0, lists[0]), (16, lists[1])])
    before = names(SampleOrder(3, [(0, lists[0])]), lists, 0, 100)
    shown = names(order, lists, 0, 16 + 8 + 14 * 3)
    assert shown[:16] == before[:16] and len(set(shown[:10])) == 10
    assert sorted(shown[16:24]) == sorted([*NEW, *(set(OLD) - set(shown[10:16]))]), "4 due ones of the pass, and 4 new"
    assert shown[16:20] != NEW and shown[16:24] != sorted(shown[16:24]), "in an order of their own"
    passes = [shown[24 + 14 * i :][:14] for i in range(3)]
    assert all(sorted(one) == sorted([*OLD, *NEW]) for one in passes) and passes[0] != passes[1]


def test_a_list_that_begins_a_pass_begins_with_a_whole_one() -> None:
    for start in (10, 20):
        lists = [[OLD], [[*OLD, *NEW]]]
        shown = names(SampleOrder(1, [(0, lists[0]), (start, lists[1])]), lists, start, 28)
        assert sorted(shown[:14]) == sorted(shown[14:]) == sorted([*OLD, *NEW]), start


def test_lists_within_a_pass_and_with_images_left_out() -> None:
    lists = [[OLD], [[*OLD, *NEW]], [[*OLD[5:], *NEW, "last"]], [["other"]]]
    order = SampleOrder(3, list(zip((0, 8, 12, 24), lists, strict=True)))
    shown = names(order, lists, 0, 40)
    assert len({*shown[:12]}) == 12, "nothing twice before the pass is over"
    due = {*OLD[5:], *NEW, "last"} - {*shown[:12]}
    assert {*shown[12 : 12 + len(due)]} == due and 1 < len(due) < 10
    assert {*shown[12:24]} <= {*lists[2][0]} and {*shown[24:]} == {"other"}
    assert names(SampleOrder(3, list(zip((0, 8, 12), lists, strict=False))), lists, 0, 24) == shown[:24]


def test_what_a_pass_repeats_is_shown_as_often_across_lists() -> None:
    lists = [[["a", "a", "b", "c", "d"]], [["a", "a", "a", "b", "c", "d", "new", "new"]]]
    shown = names(SampleOrder(4, list(zip((0, 3), lists, strict=True))), lists, 0, 16)
    assert sorted(shown[:8]) == sorted(shown[8:]) == sorted(lists[1][0])


def test_sources_and_weights_go_on_across_lists() -> None:
    few, many = [f"few{i}" for i in range(3)], [f"many{i}" for i in range(30)]
    lists = [[few, many], [[*few, *NEW], many]]
    order = SampleOrder(7, list(zip((0, 1600), lists, strict=True)), [(2400, (1.0, 0.0))])
    shown = names(order, lists, 0, 2600)
    own = [name for name in shown if name in many]
    assert all(len({*own[i : i + 30]}) == 30 for i in range(0, len(own) - 30, 30)), "the other source goes round"
    counts = Counter(name[:3] for name in shown[1600:2400])
    assert abs(counts["few"] + counts["new"] - 800 * 7 / 37) < 8, "a source has as many samples as it has images"
    assert [order.locate(index).generation for index in (1599, 1600)] == [0, 1]
    assert not {*shown[2400:]} & {*many}
    assert order.locate(0) == Location(0, *SampleOrder(7, [(0, lists[0])]).locate(0)[1:])


def test_the_order_stays_what_it_was_for_runs_that_go_on() -> None:
    """With a later version of this project, as with this one."""
    lists = [[["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]]]
    lists.append([[*lists[0][0], "a4", "a5"], lists[0][1]])
    assert " ".join(names(SampleOrder(3, [(0, lists[0])]), lists, 0, 14)) == "a1 a2 b1 a3 a0 a1 b2 a2 a3 a0 a2 a3 b0 b3"
    grown = names(SampleOrder(3, [(0, lists[0]), (12, lists[1])]), lists, 10, 16)
    assert " ".join(grown) == "a2 a3 a1 a4 a5 a0 a0 a3 b0 a1 a2 a5 a4 a4 b3 b0"
