"""Text, JSON lines and CSV as other programs write them: encodings, marks, line ends, and errors with file and line."""

from __future__ import annotations

import codecs
import json
import unicodedata
from pathlib import Path

import pytest

from preference_data.line_files import (
    decode_text,
    existing,
    parse_json,
    read_csv,
    read_json,
    read_json_lines,
    read_lines,
    read_text,
)

CASES = Path(__file__).parents[1] / "fixtures" / "cases"
ODD = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"
"""Every character at which str.splitlines parts lines, line ends apart."""


def file_of(folder: Path, content: bytes | str) -> Path:
    path = folder / "a.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_text(encoding: str, tmp_path: Path) -> None:
    text = "the word CAFÉ\n雪 \U0001f600\n"
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}
    assert read_text(file_of(tmp_path, marks.get(encoding, b"") + text.encode(encoding))) == text


def test_files_with_a_mark_that_were_put_together_have_no_mark_inside(tmp_path: Path) -> None:
    path = file_of(tmp_path, codecs.BOM_UTF8 + b'{"a": 1}\n' + codecs.BOM_UTF8 + b'{"a": 2}\n')
    assert [row["a"] for _, row in read_json_lines(path)] == [1, 2]


def test_lines_end_with_line_ends_only_and_keep_an_editors_numbers(tmp_path: Path) -> None:
    path = file_of(tmp_path, f"one\r\n\r\n{ODD}\n \t\nfour\rfive")
    assert list(read_lines(path)) == [(1, "one"), (3, ODD), (5, "four"), (6, "five")]
    path = file_of(tmp_path, "\n" + json.dumps({"text": ODD}, ensure_ascii=False) + "\r\n")
    assert list(read_json_lines(path)) == [(2, {"text": ODD})]
    assert list(read_lines(file_of(tmp_path, ""))) == []


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("one\ncaf\u00e9".encode("cp1252"), 2, "byte e9"),
        ("a shop \u201cX\u201d".encode("cp1252"), 1, "byte 93"),
        ("雪山红叶".encode("gb18030"), 1, "UTF-8"),
        ("one\ntwo".encode("utf-16-le"), 1, "UTF-16"),
        ("one\ntwo".encode("utf-16-be"), 1, "UTF-16"),
        (b"a\xed\xa0\xbd", 1, "UTF-8"),
        (codecs.BOM_UTF16_LE + b"a\0\n\0a", 2, "UTF-8"),
        (codecs.BOM_UTF16_LE + b"\x3d\xd8", 1, "UTF-8"),
        (b"a\nb\0", 2, "zero byte"),
    ],
)
def test_what_is_no_text_is_named_with_file_and_line(content: bytes, line: int, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"a\.txt line {line} .*{what}"):
        read_text(file_of(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1', "not JSON"),
        ("{'a': 1}", "not JSON"),
        ('{"a": "\\ud83d cat"}', r"\\ud83d, one half"),
        ('{"a": ["x", {"\\udc00": 1}]}', r"\\udc00, one half"),
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "'c' stands twice"),
        ('{"a": NaN}', "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "1e999 is too large"),
        ("9" * 5000, "too large"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_json_that_cannot_be_meant_is_named_with_file_and_line(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"a\.txt line 3: .*{what}"):
        list(read_json_lines(file_of(tmp_path, f"1\n\n{text}\n")))
    with pytest.raises(ValueError, match=rf"a\.txt: .*{what}"):
        read_json(file_of(tmp_path, text))


def test_json_as_it_should_be_is_read_as_it_stands() -> None:
    rows = [{"a": "\U0001f600", "b": [1, 2.5, None, True, -3e-7]}, "text", 10**18]
    for ascii_only in (True, False):
        assert [parse_json(json.dumps(r, ensure_ascii=ascii_only), "x") for r in rows] == rows


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_spreadsheets_is_read(mark: bytes, delimiter: str, end: str, tmp_path: Path) -> None:
    lines = [["sha256", "mine"], ["ab", "0.5"], [], ["cd", '"a\u2028""b"""']]
    text = end.join(delimiter.join(cells) for cells in lines) + end
    header, rows = read_csv(file_of(tmp_path, mark + text.encode()))
    assert header == ["sha256", "mine"] and list(rows) == [
        (2, {"sha256": "ab", "mine": "0.5"}), (4, {"sha256": "cd", "mine": 'a\u2028"b"'})]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("a,b,a\n", "'a' twice"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, its header 2"),
        ("a,b\n1\n", "line 2 has 1 cells"),
        ('a,b\n1,"2\n', "is not CSV"),
        ("a,b\n1," + "x" * 200000 + "\n", "line 2 is not CSV"),
    ],
)
def test_csv_that_is_none_is_named_with_file_and_line(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"a\.txt .*{what}"):
        list(read_csv(file_of(tmp_path, text))[1])


def test_a_name_is_found_however_its_accents_are_spelt(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    (tmp_path / apart).mkdir()
    (tmp_path / apart / f"{composed}.png").write_bytes(b"x")
    for folder in (composed, apart):
        for name in (composed, apart):
            assert existing(tmp_path / folder / f"{name}.png").read_bytes() == b"x"
    with pytest.raises(FileNotFoundError, match=r"cafe\.png"):
        existing(tmp_path / apart / "cafe.png")


def test_the_cases_of_other_peoples_text() -> None:
    assert read_text(CASES / "score/bom_txt/a.txt").startswith("the word")
    with pytest.raises(ValueError, match=r"a\.txt line 1 is not UTF-8"):
        read_text(CASES / "score/cp1252_txt/a.txt")
    ((number, row),) = read_json_lines(CASES / "score/jsonl_ls2028/captions.jsonl")
    assert number == 1 and "\u2028" in row["prompt"]
    with pytest.raises(ValueError, match=r"captions\.jsonl line 1: there is \\ud83d"):
        list(read_json_lines(CASES / "score/jsonl_surrogate/captions.jsonl"))
    assert decode_text(b"", "x") == ""
