"""The annotation page: a prompt, the images, and everything one can say about them on a button with its key."""

from __future__ import annotations

import streamlit as st

from dashboards.annotate import current_user, served_store
from dashboards.annotate.session import Shift
from dashboards.annotate.viewer import ocr_evidence, viewer
from dashboards.annotate.words import WORDS, duration, say
from preference_data.campaign.assignment_view import View
from preference_data.campaign.quality import campaign_progress
from preference_data.store.roles import ANNOTATE

OUTCOMES = (
    ("left", "F", ":material/arrow_back:"), ("right", "J", ":material/arrow_forward:"), ("tie", "T", None),
    ("both_good", "G", None), ("both_bad", "B", None),
)  # fmt: skip
SKIP_BUTTONS = (("skip", "S", ":material/skip_next:"), ("flag", "X", ":material/flag:"))
AXIS_KEYS = {"text": "Q", "prompt": "W", "aesthetics": "E", "realism": "D"}
TAG_KEYS = ("Q", "W", "E", "T", "Y", "A", "S", "D", "F", "G")
WORST_KEYS = ("Q", "W", "E", "D", "T", "Y", "H", "I", "K")


def page() -> None:
    """The page of whoever annotates."""
    person = current_user.require(ANNOTATE)
    campaign = pick(person.id)
    if campaign is None:
        st.info(say(current_user.language(), "no_campaigns"), icon=":material/inbox:")
        return
    sitting = shift(person.id, campaign)
    if sitting.current is None:
        sitting.claim()
    if sitting.current is None:
        _nothing_to_do(sitting)
    else:
        _desk(sitting)
        _alive(sitting)


def pick(actor: int) -> int | None:
    """The open campaign to work on: the address's, else the session's, else the oldest; None when none is open."""
    offers = campaign_progress.offers(served_store.store(), actor)
    ids = [o.id for o in offers]
    if not ids:
        return None
    requested = st.query_params.get("campaign", "")
    wanted = int(requested) if requested.isdecimal() else st.session_state.get("campaign")
    chosen = wanted if wanted in ids else ids[0]
    if len(ids) > 1:
        labels = {o.id: o.name for o in offers}
        chosen = st.sidebar.selectbox(
            say(current_user.language(), "campaign"), ids, ids.index(chosen), labels.__getitem__
        )
    st.session_state["campaign"] = chosen
    st.query_params["campaign"] = str(chosen)
    return int(chosen)


def shift(actor: int, campaign: int) -> Shift:
    """This session's sitting at the campaign."""
    sitting = st.session_state.get("shift")
    if sitting is None or (sitting.actor, sitting.campaign) != (actor, campaign):
        sitting = st.session_state["shift"] = Shift(served_store.store(), actor, campaign)
    return sitting


@st.fragment
def _desk(sitting: Shift) -> None:
    """Everything that changes with an answer; an answer reruns this and nothing else."""
    language, view = current_user.language(), sitting.current
    if view is None:
        st.rerun()
        return
    if current_user.account() is None:
        st.rerun()
    _numbers(sitting, view, language)
    # in containers that are always there: what moves the images' place in the page makes the browser draw the pair
    # before once more, and meanwhile it takes no answer
    with st.container(key="notices"):
        _notices(sitting, view, language)
    with st.container(key="prompt"):
        prompt(view, language)
    readings = sitting.evidence(view)
    images, answers = st.container(key="pictures"), st.container(key="answers")
    # sent before the images: whoever sees a pair presses its buttons, not those of the pair before
    with answers:
        (_outcomes if view.kind == "pair" else _ranks)(sitting, view, language)
    with images:
        viewer.show(view, sitting.ahead, readings, language, None if view.kind == "pair" else sitting.draft)
        if not sitting.replenish():  # while the browser paints
            st.rerun()
        viewer.buttons(language)
    _details(sitting, view, language)
    if readings is not None:
        ocr_evidence.show(view, readings, language)
    elif sitting.last is not None and sitting.revising is None:
        ocr_evidence.last(sitting.last, sitting.evidence(sitting.last), language)


def _numbers(sitting: Shift, view: View, language: str) -> None:
    """What is asked, and how far one is."""
    own = sitting.progress()
    parts = [f"{say(language, 'done')} {own.answered}", f"{say(language, 'remaining')} {own.left}"]
    if own.pace is not None and own.eta is not None:
        parts.append(f"{say(language, 'pace')} {say(language, 'per_item').format(seconds=own.pace)}")
        parts.append(f"{say(language, 'eta')} {duration(language, own.eta)}")
    with st.container(horizontal=True, key="numbers", vertical_alignment="center"):
        with st.container(key="question", width="content"):
            st.text(say(language, "question" if view.kind == "pair" else "question_n"))
        total = max(own.answered + own.left, 1)
        st.progress(min(own.answered / total, 1.0), width=220)
        st.text("  ·  ".join(parts))


def _notices(sitting: Shift, view: View, language: str) -> None:
    if sitting.revising is not None and view.previous is not None:
        outcome = say(language, view.previous.answer.outcome)
        st.warning(say(language, "revising").format(outcome=outcome), icon=":material/edit:")
    if sitting.notice:
        st.container(key="notice").info(say(language, sitting.notice), icon=":material/info:")


def prompt(view: View, language: str) -> None:
    """The prompt as text and nothing but text: markup in it stays what it is."""
    with st.container(key=f"asked_{view.token}"):
        st.text(view.prompt)
    if view.spans:
        with st.container(key="as_text_spans"):
            st.text(f"{say(language, 'must_show')}:  " + "   ".join(f"«{s}»" for s in view.spans))


def _outcomes(sitting: Shift, view: View, language: str) -> None:
    with st.container(horizontal=True, key=f"outcomes_{view.token}"):
        for outcome, key, icon in (*OUTCOMES, *SKIP_BUTTONS):
            st.button(say(language, outcome), key=f"say_{outcome}_{view.token}", shortcut=key, icon=icon,
                      type="primary" if outcome in ("left", "right") else "secondary", width="stretch",
                      on_click=sitting.answer, args=(view.token, outcome))  # fmt: skip
        _undo(sitting, language)


def _ranks(sitting: Shift, view: View, language: str) -> None:
    """Best and worst of several: one row of buttons each, then submit."""
    rows = (("best", [str(i + 1) for i in range(9)]), ("worst", list(WORST_KEYS)))
    for which, keys in rows:
        with st.container(horizontal=True, key=f"outcomes_{which}_{view.token}"):
            for slot in range(len(view.images)):
                chosen = sitting.draft[which] == slot
                label = say(language, f"{which}_n").format(n=slot + 1)
                st.button(f"✓ {label}" if chosen else label, key=f"{which}_{slot}_{view.token}", shortcut=keys[slot],
                          type="primary" if chosen else "secondary", width="stretch", on_click=sitting.fill,
                          args=(which, slot))  # fmt: skip
    with st.container(horizontal=True, key=f"outcomes_{view.token}"):
        for outcome, key in (("ranked", "Enter"), ("none_acceptable", "B"), *(o[:2] for o in SKIP_BUTTONS)):
            st.button(say(language, "submit" if outcome == "ranked" else outcome), key=f"say_{outcome}_{view.token}",
                      shortcut=key, type="primary" if outcome == "ranked" else "secondary", width="stretch",
                      on_click=sitting.answer, args=(view.token, outcome))  # fmt: skip
        _undo(sitting, language)


def _undo(sitting: Shift, language: str) -> None:
    st.button(say(language, "undo"), key="undo", shortcut="U", icon=":material/undo:", on_click=sitting.undo)
    if sitting.revising is not None:
        st.button(say(language, "cancel"), key="cancel", shortcut="Escape", on_click=sitting.cancel)


def _details(sitting: Shift, view: View, language: str) -> None:
    """Everything optional, before the outcome, which sends it all. These buttons stay from pair to pair: new ones take
    a browser long, and a late press of one fills in a draft, which is no answer.
    """
    draft = sitting.draft
    with st.container(horizontal=True, key="details_a", vertical_alignment="center", gap="small"):
        if view.strength and view.kind == "pair":
            st.caption(say(language, "strength"), width="content")
            for n in (1, 2, 3, 4, 5):
                word = f" {say(language, f'strength_{n}')}" if n in (1, 3, 5) else ""
                _toggle(f"{n}{word}", f"strength_{n}", str(n), draft["strength"] == n, sitting.fill,
                        ("strength", None if draft["strength"] == n else n))  # fmt: skip
        if view.axes and view.kind == "pair":
            st.caption(say(language, "axes"), width="content")
            for axis in view.axes:
                value = draft["axes"].get(axis)
                label = say(language, f"axis_{axis}") if axis in AXIS_KEYS else axis
                label += ": " + ("–" if value is None else say(language, f"value_{value}"))
                _toggle(label, f"axis_{axis}", AXIS_KEYS.get(axis), value is not None,
                        sitting.turn_axis, (axis,), mark=False)  # fmt: skip
    with st.container(horizontal=True, key="details_b", vertical_alignment="center", gap="small"):
        st.caption(say(language, "tags"), width="content")
        for i, tag in enumerate(view.tags):
            key = f"Shift+{TAG_KEYS[i]}" if i < len(TAG_KEYS) else None
            _toggle(reason(tag, language), f"tag_{tag}", key, tag in draft["tags"], sitting.toggle_tag, (tag,))
        name = f"note_{view.token}"
        st.text_input(say(language, "note"), draft["rationale"], key=name, max_chars=2000, width=260,
                      label_visibility="collapsed", placeholder=say(language, "note"), on_change=_note,
                      args=(sitting, name))  # fmt: skip


def reason(tag: str, language: str) -> str:
    """A tag in words; a campaign's own tags are their own words."""
    return say(language, f"tag_{tag}") if f"tag_{tag}" in WORDS else tag


def _note(sitting: Shift, name: str) -> None:
    sitting.fill("rationale", st.session_state[name])


def _toggle(label: str, key: str, shortcut: str | None, on: bool, do: object, args: tuple, mark: bool = True) -> None:
    """A small button that is on or off; a tick says so beside the colour."""
    st.button(f"✓ {label}" if on and mark else label, key=key, shortcut=shortcut, type="primary" if on else "secondary",
              on_click=do, args=args)  # type: ignore[arg-type]  # fmt: skip


@st.fragment(run_every=30)
def _alive(sitting: Shift) -> None:
    """The heartbeat: what is held stays this annotator's while the page is open and somebody works."""
    sitting.alive()


@st.fragment(run_every=10)
def _nothing_to_do(sitting: Shift) -> None:
    """Why there is no work, and a look for new work now and then."""
    sitting.claim()
    if sitting.current is not None:
        st.rerun()
    language = current_user.language()
    st.success(say(language, sitting.status), icon=":material/done_all:") if sitting.status == "finished" else st.info(
        say(language, sitting.status), icon=":material/hourglass:"
    )
    if sitting.status != "waiting":
        _elsewhere(sitting, language)
    st.button(say(language, "undo"), key="undo_done", shortcut="U", icon=":material/undo:", on_click=sitting.undo)
    if sitting.last is not None:
        ocr_evidence.last(sitting.last, sitting.evidence(sitting.last), language)


def _elsewhere(sitting: Shift, language: str) -> None:
    """Other open campaigns that have work for this annotator, each a press away."""
    store = served_store.store()
    others = [o for o in campaign_progress.offers(store, sitting.actor) if o.id != sitting.campaign]
    there = [o for o in others if campaign_progress.own(store, sitting.actor, o.id).left]
    if not there:
        return
    st.info(say(language, "elsewhere").format(names=", ".join(o.name for o in there)), icon=":material/arrow_forward:")
    for other in there:
        st.button(say(language, "go_to").format(name=other.name), key=f"go_to_{other.id}", on_click=_go_to,
                  args=(other.id,))  # fmt: skip


def _go_to(campaign: int) -> None:
    st.session_state["campaign"] = campaign
    st.query_params["campaign"] = str(campaign)
