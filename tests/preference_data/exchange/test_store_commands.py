"""Commands about a store: looking makes none, and accounts can be made without a terminal."""

from __future__ import annotations

import getpass
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from experiments.preferences import manage_accounts as commands
from experiments.preferences.run_campaigns import open_store
from preference_data.campaign import campaigns
from preference_data.store import accounts
from preference_data.store.roles import Forbidden
from preference_data.store.store import Store, exists

PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    "command",
    ["campaign status c", "campaign list", "campaign open c", "campaign close c", "campaign export c -o out.jsonl",
     "account list", "account change ada --role admin", "account delete ada", "account retain --days 9",
     "train nano_dpo --parent p --out new --pairs store:c"],
)  # fmt: skip
def test_looking_for_a_store_makes_none(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--store", "nostore"]) == 2
    assert not (tmp_path / "nostore").exists()
    if not command.startswith("train"):  # which looks for its parent first
        assert "there is no store at nostore" in capsys.readouterr().err


def test_a_database_without_a_store_stays_without_one(place: str, tmp_path: Path) -> None:
    assert not exists(place)
    with pytest.raises(ValueError, match="there is no store at"):
        open_store(place, tmp_path / "pictures")
    assert not exists(place) and not (tmp_path / "pictures").exists()
    open_store(place, tmp_path / "pictures", make=True).close()
    assert exists(place)
    open_store(place, tmp_path / "pictures").close()
    with pytest.raises(ValueError, match="mysql is not a database"):
        exists("mysql://a/b")


def test_an_account_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = str(tmp_path / "s")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\r\n"))
    assert main(["account", "add", "bob", "--store", here]) == 0
    store = Store.open(here)
    assert accounts.log_in(store, "bob", PASSWORD).name == "bob"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["account", "add", "eve", "--store", here]) == 2
    assert "no terminal" in capsys.readouterr().err
    monkeypatch.setattr(commands, "ask_password", lambda: pytest.fail("asked for the password of a name that is taken"))
    assert main(["account", "add", "bob", "--store", here]) == 2
    assert main(["account", "change", "nobody", "--password", "--store", here]) == 2
    assert "there is no account 'nobody'" in capsys.readouterr().err
    store.close()


def test_a_terminal_is_asked_twice_and_may_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    said = iter([PASSWORD, PASSWORD, PASSWORD, "another one"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(said))
    assert commands.ask_password() == PASSWORD
    with pytest.raises(ValueError, match="differ"):
        commands.ask_password()
    monkeypatch.setattr(getpass, "getpass", lambda _: (_ for _ in ()).throw(EOFError()))
    with pytest.raises(ValueError, match="no password was given"):
        commands.ask_password()


def test_many_accounts_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, file, out = str(tmp_path / "s"), tmp_path / "people.csv", tmp_path / "out" / "passwords.csv"
    file.write_text("\ufeffname;role\nada;lead\nbo;\n李雷;annotator\n", encoding="utf-8")
    assert main(["account", "add-many", str(file), "-o", str(out), "--store", here]) == 0
    assert "warning" not in capsys.readouterr().err
    assert out.stat().st_mode & 0o777 == 0o600
    store = Store.open(here)
    lines = [line.split(",") for line in out.read_text(encoding="utf-8").splitlines()[1:]]
    assert [(name, role) for name, role, _ in lines] == [
        ("ada", "lead"),
        ("bo", "annotator"),
        ("李雷", "annotator"),
    ]
    assert accounts.log_in(store, "ada", lines[0][2]).role == "researcher", "as stores have it from the start"
    assert accounts.log_in(store, "李雷", lines[2][2]).role == "annotator" and len({p for *_, p in lines}) == 3
    for text, said in (("name\nada\nnew\n", "already"),
                       ("name,role\nx,boss\n", "line 2: role is 'boss'"),
                       ("name\n", "nobody"), ("name\nx\nx\n", "line 3: 'x' stands"),
                       ("who\nx\n", "needs name"), ("name\nnew\n", "new file")):  # fmt: skip
        file.write_text(text)
        target = out if said == "new file" else tmp_path / "p.csv"
        assert main(["account", "add-many", str(file), "-o", str(target), "--store", here]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "p.csv").exists()
    assert len(accounts.listed(store, store.operator)) == 3
    store.close()


def test_a_lead_is_called_lead_and_the_old_word_goes_on_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = str(tmp_path / "s")
    monkeypatch.setattr(commands, "ask_password", lambda: PASSWORD)
    for name, word in (("ada", "lead"), ("bo", "researcher"), ("cy", "annotator")):
        assert main(["account", "add", name, "--role", word, "--store", here]) == 0
        said = capsys.readouterr()
        assert (": annotator," if word == "annotator" else ": lead,") in said.out
        assert ("the role researcher is called lead now" in said.err) == (word == "researcher")
    for word in ("lead", "researcher"):
        assert main(["account", "change", "cy", "--role", word, "--store", here]) == 0
        assert ("write lead" in capsys.readouterr().err) == (word == "researcher")
    assert main(["account", "list", "--store", here]) == 0
    listed = capsys.readouterr().out
    assert listed.count(" lead ") == 3 and "researcher" not in listed
    assert main(["account", "change", "cy", "--role", "boss", "--store", here]) == 2
    assert "choose one of annotator, adjudicator, lead, admin" in capsys.readouterr().err
    store = Store.open(here)
    assert {a.role for a in accounts.listed(store, store.operator)} == {"researcher"}
    number = accounts.listed(store, store.operator)[0].id
    with pytest.raises(Forbidden, match="the role lead may not do this; it takes admin"):
        accounts.listed(store, number)
    store.close()
    with pytest.raises(SystemExit):
        main(["account", "add", "--help"])
    assert "lead" in (shown := capsys.readouterr().out) and "researcher" not in shown


def test_an_import_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    rows = [{"text": "a", "path1": f"{i}.png", "path2": f"{j}.png"} for i, j in ((0, 1), (1, 1), (1, 2))]
    (tmp_path / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["pairs", "import", "h.jsonl", "c", "--format", "hpdv3", "--fields", "prompt=text", "--store", "s"]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "line 2: both images are" in err and not list((tmp_path / "s").glob("pictures/*"))
    assert main([*command, "--skip-malformed"]) == 0
    assert "1 malformed rows were left out:\n  line 2" in capsys.readouterr().out
    store = Store.open(tmp_path / "s")
    assert [c.name for c in campaigns.listed(store, store.operator)] == ["c"]
    assert len(list(store.images.root.iterdir())) == 3
    store.close()
    assert main(["pairs", "import", "missing.jsonl", "d", "--store", "t"]) == 2 and not (tmp_path / "t").exists()
