"""The routes beside the pages: images, cookies, and uploads that mean harm."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboards.annotate import served_store, signed_tokens
from dashboards.annotate.lead import create_page
from dashboards.annotate.server import ROUTES, BasePath, under
from dashboards.annotate.viewer import paint_times, viewer
from preference_data.campaign import answering, assignment, campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.outcomes import Answer
from preference_data.store import accounts, schema
from preference_data.store.roles import Account
from preference_data.store.store import Store
from tests.fixtures.desk_of_pictures import SECRETS, fill, staffed

ALONE = CampaignSettings(gold_share=0.0, attention_share=0.0, repeat_share=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return staffed(tmp_path)


def person(store: Store, name: str) -> Account:
    row = store.read(lambda db: accounts.by_name(db, name))
    return Account(row.id, row.name, row.role, row.pseudonym, row.language, row.session)


def browser(store: Store, name: str = "") -> TestClient:
    """A browser; signed in as somebody by a ticket, as the page does it."""
    client = TestClient(Starlette(routes=list(ROUTES)))
    if name:
        who = person(store, name)
        ticket = signed_tokens.sign(served_store.here().key, "enter", who.id, who.session, time.time() + 60)
        assert client.post("/session", content=ticket).status_code == 204
    return client


def test_a_picture_is_its_annotators_alone_and_says_nothing(store: Store) -> None:
    campaign = fill(store, ["a wall"])
    view = assignment.claim(store, person(store, "ann").id, campaign).views[0]
    address = f"/picture/{view.images[0].handle}"
    answer = browser(store, "ann").get(address)
    assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
    assert {"last-modified", "etag", "content-disposition"}.isdisjoint(answer.headers), "a date is an order hint"
    assert not any(word.encode() in answer.content for word in SECRETS)
    refused = [browser(store).get(address), browser(store, "bob").get(address), browser(store, "root").get(address)]
    refused += [browser(store, "ann").get(f"/picture/{name}") for name in ("unknown", "..%2Fstore.sqlite")]
    assert [r.status_code for r in refused] == [404] * 5
    assert len({r.text for r in refused[:4]}) == 1, "unknown and somebody else's look alike"


def test_the_time_of_an_assignment_begins_when_it_is_painted(store: Store) -> None:
    campaign = fill(store, ["a wall"])
    ann = person(store, "ann")
    view = assignment.claim(store, ann.id, campaign).views[0]
    shown = paint_times.name(view.token, None)  # what the viewer is given to report
    store.clock = lambda: 1000.0
    assert browser(store, "bob").post("/painted", content=shown).status_code == 404
    assert browser(store).post("/painted", content=shown).status_code == 404
    assert browser(store, "ann").post("/painted", content=shown).status_code == 204
    store.clock = lambda: 1002.5
    assert browser(store, "ann").post("/painted", content=shown).status_code == 204  # as after a reload
    for other in ("x" * 10_000, "", "/0", f"{view.token}/-1", f"{view.token}/0/0", f"{view.token}/x", "unknown/0"):
        assert browser(store, "ann").post("/painted", content=other).status_code == 404, other
    assert paint_times.find(ann.id, shown) == 1002.5, "the newest paint is when it can be judged from"
    store.clock = lambda: 1004.0
    done = answering.answer(store, ann.id, view.token, Answer("tie"), "key-12345678", None)
    took = store.read(lambda db: db.execute(select(schema.answer.c.duration_ms, schema.assignment.c.duration_ms)
                                            .join(schema.assignment)).one())  # fmt: skip
    assert tuple(took) == (4000, 4000), "and the time of an answer begins with the first"
    assert browser(store, "ann").post("/painted", content=f"{view.token}/{done.answer}").status_code == 204
    assert paint_times.find(ann.id, paint_times.name(view.token, done.answer)) == 1004.0


def test_a_pair_that_comes_back_after_its_lease_has_a_time_of_its_own(store: Store) -> None:
    campaign = fill(store, ["a wall"])
    ann, now = person(store, "ann").id, time.time()
    view = assignment.claim(store, ann, campaign).views[0]
    store.clock = lambda: now
    assignment.shown(store, ann, view.token)
    store.clock = lambda: now + 50_000
    again = assignment.claim(store, ann, campaign).views[0]
    assert again.token == view.token
    assignment.shown(store, ann, view.token, now + 50_001)
    store.clock = lambda: now + 50_003
    answering.answer(store, ann, view.token, Answer("tie"), "key-12345678")
    assert store.read(lambda db: db.execute(select(schema.answer.c.duration_ms)).scalar_one()) == 2000


def test_a_cookie_cannot_be_made_read_or_outlived(store: Store) -> None:
    client = browser(store, "ann")
    cookie = client.cookies.get(signed_tokens.COOKIE)
    said = TestClient(Starlette(routes=list(ROUTES)))
    assert said.post("/session", content=str(cookie)).status_code == 403, "a session is no ticket"
    assert said.post("/session", content="enter.1.0.99999999999.00").status_code == 403
    assert said.post("/session", content="\xff".encode("latin-1")).status_code == 403
    who = person(store, "ann")
    ticket = signed_tokens.sign(served_store.here().key, "enter", who.id, who.session, time.time() + 60)
    header = said.post("/session", content=ticket).headers["set-cookie"].lower()
    assert "httponly" in header and "samesite=strict" in header
    campaign = fill(store, ["a wall"])
    handle = assignment.claim(store, who.id, campaign).views[0].images[0].handle
    assert client.get(f"/picture/{handle}").status_code == 200
    accounts.change(store, store.operator, "ann", password="another good password")
    assert client.get(f"/picture/{handle}").status_code == 404, "a changed password ends the cookie's session"


def upload(name: str, content: bytes) -> SimpleNamespace:
    return SimpleNamespace(name=name, getvalue=lambda: content)


def given(*files: tuple[str, list[SimpleNamespace]]) -> dict:
    return {"place": "", "uploads": list(files), "prompts": None, "limit": 0}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "not a readable image"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "not a readable image"),
        ("a.png", b"GIF89a" + b"\0" * 50, "not a readable image"),
        ("captions.jsonl", b'{"picture": "../../store.sqlite", "prompt": "x"}', "not a plain file name"),
        ("captions.jsonl", b"not json", "line 1"),
        (
            "captions.jsonl",
            b"\xef\xbb\xbf" + b'{"picture": "../../store.sqlite", "prompt": "x"}',
            "not a plain file name",
        ),
        ("captions.jsonl", '{"picture": "../x.png", "prompt": "x"}'.encode("utf-16"), "not a plain file name"),
        ("captions.jsonl", b'\n{"picture": "a.png", "prompt": "caf\xe9"}', "line 2 is not UTF-8"),
        ("captions.jsonl", b'["../x.png", "x"]', "line 1 is not like"),
        ("a.txt", b"caf\xe9", "line 1 is not UTF-8"),
    ],
)
def test_a_hostile_upload_is_refused_and_leaves_nothing(
    store: Store, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    others = [upload("a.txt", b"a wall")] if name != "a.txt" else [upload("a.png", b"")]
    bad = [upload(name, content), *others]
    files = given(("one", bad), ("two", bad))
    with pytest.raises(ValueError, match=told):
        create_page.make(person(store, "lea").id, "c", "from_uploads", files, ALONE)
    assert campaigns.listed(store, store.operator) == []


def test_uploaded_prompts_are_read_as_prompt_files_are() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        content = "a wall\r\n\r\na\u2028door".encode(encoding)
        assert create_page.prompt_texts(content, "p.txt") == {"a wall", "a\u2028door"}
    with pytest.raises(ValueError, match=r"p\.txt line 2 is not UTF-8"):
        create_page.prompt_texts(b"a wall\ncaf\xe9", "p.txt")


def test_uploads_and_paths_cannot_leave_their_folders(store: Store, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.png"
    create_page.uploaded([("../../one", [upload("..\\..\\../../outside.png", b"x")])], tmp_path)
    assert not outside.exists() and [p.name for p in tmp_path.rglob("outside.png")] == ["outside.png"]
    (tmp_path / "runs").mkdir()
    for path in ("../", "/etc", "../pictures"):
        with pytest.raises(ValueError, match="lies outside"):
            create_page.allowed(path)
    with pytest.raises(ValueError, match="both makers"):
        create_page.uploaded([("a", [upload("x.png", b"x")]), ("a", [upload("x.png", b"x")])], tmp_path / "runs")


def test_pages_below_a_base_path_answer_with_and_without_it(store: Store) -> None:
    served_store.use(store, base="annotate/")
    assert served_store.here().base == "/annotate"
    app = BasePath(Starlette(routes=under("/annotate", ROUTES)), "/annotate")
    client = TestClient(app)
    assert [client.get(path).text for path in ("/annotate/health", "/health")] == ["ok", "ok"]
    moved = client.get("/annotate?campaign=1", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "/annotate/?campaign=1"), (
        "whatever the host is called"
    )
    who = person(store, "ann")
    ticket = signed_tokens.sign(served_store.here().key, "enter", who.id, who.session, time.time() + 60)
    assert "path=/annotate;" in client.post("/annotate/session", content=ticket).headers["set-cookie"].lower()
    view = assignment.claim(store, who.id, fill(store, ["a wall"])).views[0]
    assert client.get(viewer.address(view.images[0])).status_code == 200
    assert viewer.address(view.images[0]).startswith("/annotate/picture/")
    for bad in ("a b", "/../x", "http://x/y", "a//b", "/é"):
        with pytest.raises(ValueError, match="base path"):
            served_store.base_path(bad)
    assert [served_store.base_path(x) for x in ("", "/", "/a/b/", "a")] == ["", "", "/a/b", "/a"]


WARM = """
import gc, sys
from starlette.applications import Starlette
from starlette.testclient import TestClient
from dashboards.annotate.server import started
with TestClient(Starlette(lifespan=started)):
    loaded = [name in sys.modules for name in ("pandas", "dashboards.annotate.annotation_page")]
    print(gc.get_freeze_count(), len(gc.get_objects()), *loaded)
"""


def test_what_never_becomes_garbage_is_not_looked_through_after_every_answer() -> None:
    done = subprocess.run([sys.executable, "-c", WARM], cwd=Path(__file__).parents[2], capture_output=True, text=True,
                          check=True)  # fmt: skip
    frozen, left, *loaded = done.stdout.split()
    assert loaded == ["True", "True"], "the first visitor waits for no import"
    assert int(frozen) > 100_000 and int(left) < int(frozen) / 4, done.stdout
