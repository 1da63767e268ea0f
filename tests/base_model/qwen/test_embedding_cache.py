"""The text encoder and its cache on disk: what is a hit, what is not, and that a hit needs no encoder.

Shapes: B samples, L text tokens, D width.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from base_model.files.released import load_base, read_base
from base_model.qwen import embedding_cache
from base_model.qwen.embedding_cache import EmbeddingCache, encoder_identity, entry_name
from base_model.qwen.language_encoder import VisionLanguageEncoder
from base_model.qwen.prompt_templates import MARKERS, TASKS, fitted_size
from tests.fixtures.tiny.tiny_released import tokenizer

TEXTS = ["a red word", " ", "寫字 'GLYPH'"]


def encoder(folder: Path, cache: Path | None = None) -> VisionLanguageEncoder:
    return VisionLanguageEncoder(folder, read_base(folder).task, cache=cache)


def test_what_is_in_the_cache_needs_no_encoder(t2i, tmp_path, monkeypatch):
    first = encoder(t2i, tmp_path / "cache")
    plain, mask = first.encode(TEXTS)
    assert first.loaded
    first.unload()
    assert not first.loaded
    again = [first.encode(TEXTS), encoder(t2i, tmp_path / "cache").encode(TEXTS)]
    assert not first.loaded
    for text, known in again:
        assert torch.equal(text, plain) and torch.equal(known, mask)
    assert (encoder(t2i).encode(TEXTS)[0] - plain).abs().max() < 1e-6, "as without a cache"
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3


def test_only_what_is_new_is_encoded_and_repetitions_once(t2i, tmp_path, monkeypatch):
    ours, ran = encoder(t2i, tmp_path), []
    run = ours._run
    monkeypatch.setattr(ours, "_run", lambda prompts, shown: ran.append(len(prompts)) or run(prompts, shown))
    ours.encode(["a", "b", "a"])
    text, _ = ours.encode(["c", "b", "a", "c"])
    assert ran == [2, 1]
    assert torch.equal(text[0], text[3])
    assert (text[1] - encoder(t2i).encode(["b"])[0][0]).abs().max() < 1e-5


def test_a_prompt_that_was_not_encoded_ahead_is_named_once_the_model_is_gone(t2i, tmp_path):
    ours = encoder(t2i, tmp_path)
    ours.encode_ahead([*TEXTS, "a", "b"], chunk=2)
    ours.close()
    assert not ours.loaded
    known, _ = ours.encode(["b", *TEXTS])
    assert len(known) == 4 and not ours.loaded
    for asked in (["nobody said this"], ["a", "nobody said this", "b"]):
        with pytest.raises(ValueError, match=r"the prompt 'nobody said this' was not encoded before training") as error:
            ours.encode(asked)
        assert "name every prompt in the experiment's prompts, pairs, data or monitors" in str(error.value)
        assert "\n" not in str(error.value) and not ours.loaded, "and nothing was loaded again"


def test_without_a_cache_the_model_stays(t2i):
    ours = encoder(t2i)
    ours.encode_ahead(["a"])
    ours.close()
    assert ours.loaded and len(ours.encode(["b"])[0]) == 1


def test_pictures_and_their_order_are_part_of_the_key(plus, tmp_path):
    ours, random = encoder(plus, tmp_path), torch.Generator().manual_seed(0)
    a, b, c = torch.rand(3, 3, 64, 64, generator=random)
    shown = [[a], [b], [a, b], [b, a], [a, c]]
    first, _ = ours.encode(["x"] * 5, shown)
    ours.unload()
    again, _ = ours.encode(["x"] * 5, shown)
    assert not ours.loaded and torch.equal(first, again)
    assert len({row.sum().item() for row in first}) == 5


def test_another_encoder_template_or_type_is_another_key(t2i, tmp_path):
    folder = shutil.copytree(t2i / "text_encoder", tmp_path / "encoder")
    names = {encoder_identity([folder], "a"), encoder_identity([folder], "b")}
    weights = sorted(folder.glob("*.safetensors"))[0]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    names.add(encoder_identity([folder], "a"))
    assert len(names) == 3
    templates = [task.prompt("x", task.fewest_images) for task in TASKS.values()]
    assert len({entry_name("i", template, []) for template in templates}) == 3


def test_large_files_are_told_apart_by_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_cache, "SAMPLE", 4)
    seen = set()
    for content in (b"aaaa....bbbb", b"xaaa....bbbb", b"aaaa....bbbx", b"aaaa.....bbbb"):
        (tmp_path / "w").write_bytes(content)
        seen.add(encoder_identity([tmp_path], ""))
    assert len(seen) == 4


def test_a_damaged_entry_is_written_anew(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.write("abcd", torch.ones(2, 3), "x")
    (entry,) = tmp_path.rglob("*.safetensors")
    entry.write_bytes(entry.read_bytes()[:20])
    assert cache.read("abcd") is None
    cache.write("abcd", torch.ones(2, 3), "x")
    assert torch.equal(cache.read("abcd"), torch.ones(2, 3))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [entry.name], "nothing half-written stays"


def test_two_machines_may_write_one_entry_at_once(tmp_path, monkeypatch):
    """Processes of two containers have the same number, and one folder."""
    cache, written = EmbeddingCache(tmp_path), embedding_cache.save_file

    def beside_another(tensors, path, **rest):
        written(tensors, path, **rest)
        monkeypatch.setattr(embedding_cache, "save_file", written)
        cache.write("abcd", torch.ones(2, 3), "x")  # another machine's, from start to end

    monkeypatch.setattr(embedding_cache, "save_file", beside_another)
    cache.write("abcd", torch.ones(2, 3), "x")
    assert torch.equal(cache.read("abcd"), torch.ones(2, 3))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["abcd.safetensors"]


def test_an_entry_that_could_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(embedding_cache, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        EmbeddingCache(tmp_path).write("abcd", torch.ones(2, 3), "x")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_templates_drop_exactly_what_stands_before_the_user(plus, t2i):
    """34 and 64 tokens, and the first that is kept is the user's."""
    for folder in (t2i, plus):
        ours = encoder(folder)
        ours._load()
        task = ours.task
        prompt = task.prompt("WORD", task.fewest_images)
        head = ours._tokenizer(prompt[: prompt.index("user\n") + 5]).input_ids
        assert len(head) == task.dropped


def test_the_vectors_are_those_after_the_last_norm(t2i):
    ours = encoder(t2i)
    text, _ = ours.encode(["a red word"])
    tokens = ours._tokenizer(ours.task.prompt("a red word", 0), return_tensors="pt")
    out = ours._model(**tokens, output_hidden_states=True)
    assert (out.hidden_states[-1][0, 34:] - text[0]).abs().max() < 1e-5
    assert (out.hidden_states[-2][0, 34:] - text[0]).abs().max() > 1e-2
    assert not any(p.requires_grad for p in ours._model.parameters())


def test_tokens_of_the_tokenizers_own_and_what_is_no_text_are_refused(t2i, plus, tmp_path):
    model = load_base(read_base(t2i), (64, 64))
    own = set(tokenizer().get_added_vocab())
    assert own <= set(MARKERS) and {"<|video_pad|>", "<|endoftext|>", "<tool_call>"} <= set(MARKERS)
    for marker in MARKERS:
        with pytest.raises(
            ValueError, match=rf"contains {re.escape(marker)}, which the tokenizer takes for one of its own"
        ):
            model.encode_text([f"a {marker} cat"])
        with pytest.raises(ValueError, match=re.escape(marker)):
            TASKS["QwenImageEditPlusPipeline"].prompt(f"a {marker} cat", 1)
    for text in ("a \ud83d cat", "\udcff"):
        with pytest.raises(ValueError, match="one half of a character of two"):
            model.encode_text([text])
    with pytest.raises(ValueError, match="must be a text"):
        model.encode_text([None])
    assert not model.text.loaded, "it is said before the language model is read"
    for text in ("a < b | c > d", "<|no such token|>", "\U0001f600 cat"):
        model.base.task.prompt(text, 0)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_tokens_that_only_this_folders_tokenizer_has_are_refused(name, t2i, tmp_path):
    folder = shutil.copytree(t2i, tmp_path / "copy")
    path = folder / "tokenizer" / name
    content = json.loads(path.read_text()) if path.exists() else {}
    if name == "tokenizer.json":
        content["added_tokens"].append({**content["added_tokens"][0], "content": "<|mine|>", "id": 9999})
    elif name == "tokenizer_config.json":
        content["added_tokens_decoder"] = {"9999": {"content": "<|mine|>"}, "9998": {"content": ""}}
    else:
        content["<|mine|>"] = 9999
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"contains <\|mine\|>"):
        load_base(read_base(folder), (64, 64)).encode_text(["a <|mine|> cat"])
    path.write_text("{")
    with pytest.raises(ValueError, match=rf"cannot read .*{name}"):
        load_base(read_base(folder), (64, 64)).encode_text(["a cat"])


@pytest.mark.parametrize("value", [None, torch.nan])
def test_a_language_model_that_lacks_weights_or_failed_is_refused(value, t2i, tmp_path):
    folder = shutil.copytree(t2i, tmp_path / "copy")
    path = sorted((folder / "text_encoder").glob("*.safetensors"))[0]
    state = load_file(path)
    name = next(each for each in state if each.endswith("norm.weight"))
    weight = state.pop(name)
    kept = {} if value is None else {name: torch.full_like(weight, value)}
    save_file(state | kept, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights, first .*norm\.weight|norm\.weight holds numbers"):
        load_base(read_base(folder), (64, 64)).encode_text(["a cat"])


@pytest.mark.parametrize("size", [(70, 110), (90, 50), (1000, 1000), (64, 640), (1080, 1920)])
def test_pictures_are_resized_as_the_pipelines_do(size):
    pytest.importorskip("diffusers")
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

    for area in (384 * 384, 1024 * 1024):
        width, height = calculate_dimensions(area, size[1] / size[0])
        assert fitted_size(area, size) == (height, width)


def test_pictures_that_a_checkpoint_cannot_take_are_refused(t2i, plus, edit):
    picture = torch.zeros(3, 64, 64)
    with pytest.raises(ValueError, match="from text alone"):
        encoder(t2i).encode(["x"], [[picture]])
    with pytest.raises(ValueError, match="2 images given, but a QwenImageEditPipeline checkpoint takes 1"):
        encoder(edit).encode(["x"], [[picture, picture]])
    with pytest.raises(ValueError, match="0 images given"):
        encoder(plus).encode(["x"])
