"""The OCR engine's own list of characters: one a line, whatever else ends a line elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rewards.text.recognisers import characters


class _Session:
    def __init__(self, listed: str, classes: int) -> None:
        self.listed, self.classes = listed, classes

    def get_modelmeta(self) -> SimpleNamespace:
        return SimpleNamespace(custom_metadata_map={"character": self.listed})

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(shape=[1, "L", self.classes])]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\u3000", "\r"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_separator_is_a_character_like_any_other(mark: str, end: str) -> None:
    session = _Session("\n".join(["a", mark, "b"]) + end, 5)
    assert characters(session) == ["", "a", mark, "b", " "]


def test_an_alphabet_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="6 classes but their metadata lists 5"):
        characters(_Session("a\nb\nc", 6))
