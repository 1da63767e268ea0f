"""A vision-language model as the backbone of a reward: its hidden state, and the adapter that it learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments import cli
from experiments.reward_models import train_reward as train_reward_file
from experiments.reward_models.train_reward import train_reward
from preference_data.comparisons import load
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.language.qwen_vl import QwenInputs
from rewards.language.rubric import read_rubric
from rewards.language.trained_judge import TrainedJudge
from rewards.learned import vlm_backbone
from rewards.learned.backbones import parse
from rewards.learned.reward import Learned
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, Likelihood, as_arrays
from rewards.learned.vlm_backbone import HiddenStates, VlmBackbone
from tests.fixtures.simulated_taste import simulate, write
from tests.fixtures.tiny.tiny_vlm import qwen_folder

PROMPT = Prompt.from_text("a warm ramp")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen_folder(tmp_path_factory.mktemp("base"))


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 40, 60), dtype=np.uint8)


def test_the_hidden_state_is_what_the_answer_is_read_from(base: Path) -> None:
    """Its product with the model's output weights is the logits of the first word of the answer."""
    from transformers import AutoModelForImageTextToText

    states = VlmBackbone(str(base)).load()
    row = states([PROMPT], [image()])[0]
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32).eval()
    question = read_rubric("alignment").question("yes", PROMPT)
    inputs = QwenInputs(base, 56 * 56, 1024 * 28 * 28)(question, [image().transpose(1, 2, 0)], "cpu")
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1]
    np.testing.assert_allclose(model.lm_head.weight.detach().numpy() @ row, logits.numpy(), rtol=1e-4, atol=1e-4)
    assert row.shape == (32,) and states.names[-1] == "hidden_31"
    both = states([Prompt.from_text("another"), PROMPT], [image(1), image()])
    assert np.array_equal(both[1], row) and not np.allclose(both[0], row)
    other = VlmBackbone(str(base), "aesthetics").load()
    assert not np.allclose(other([PROMPT], [image()])[0], row) and other.digest != states.digest


def test_what_cannot_be_asked_is_nan(base: Path) -> None:
    states = VlmBackbone(str(base), "text_correctness").load()
    command = Prompt("1", 'say "<|im_end|>"', ("<|im_end|>",))
    rows = states([PROMPT, command, Prompt("2", 'say "A"', ("A",))], [image()] * 3)
    assert np.isnan(rows[0]).all() and np.isnan(rows[1]).all() and np.isfinite(rows[2]).all()


def test_settings_are_read_from_a_name(base: Path, tmp_path: Path) -> None:
    backbone = parse(f"vlm:weights={base},rubric=aesthetics,rank=4,updates=7")
    assert backbone == VlmBackbone(str(base), "aesthetics", 4, updates=7) and parse(f"vlm:{base}").weights == str(base)
    for text, said in (
        ("vlm:x,rang=4", "did you mean rank"), ("vlm:x,rank=-1", "rank at least 0"), ("vlm:x,dtype=int8", "dtype is"),
        ("pixels:3", "the backbone pixels has no setting"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            parse(text)
    with pytest.raises(FileNotFoundError, match="weights is not set"):
        parse("vlm").load()
    judge = shutil.copytree(base, tmp_path / "judge")
    (judge / "judge.json").write_text(TrainedJudge("text_correctness", "", False, 1.0).to_json())
    assert VlmBackbone(str(judge)).read_rubric().name == "text_correctness"


def few(folder: Path) -> Path:
    """Answers about sixteen prompts of two images each."""
    return write(simulate(32, seed=1, bad="", per_prompt=2), folder)


def trained_reward(pairs: Path, backbone: str, out: Path) -> None:
    train_reward(pairs, out, backbone, TrainReward(heads=0, folds=2, decays=(0.1,)), print)


def values(folder: Path, pairs: Path) -> np.ndarray:
    c = load(pairs)[0]
    return Learned(folder).load()([c.prompt, PROMPT], to_float(np.stack([image(), image(1)]))).value_B


def test_features_are_described_once_and_belong_to_their_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = few(tmp_path)
    vlm = shutil.copytree(base, tmp_path / "vlm")
    trained_reward(pairs, f"vlm:{vlm}", tmp_path / "reward")
    assert "described 32 images" in capsys.readouterr().out
    before, view = values(tmp_path / "reward", pairs), Learned(tmp_path / "reward").sees(2800, 1400)
    assert view.height * view.width <= 1024 * 28 * 28 and view.height > view.width > 500
    assert np.isfinite(before).all() and before[0] != before[1]
    with monkeypatch.context() as patch:
        patch.setattr(HiddenStates, "__call__", lambda *_: pytest.fail("described again"))
        trained_reward(pairs, f"vlm:{vlm}", tmp_path / "again")
    weights = load_file(vlm / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in weights.items()}, vlm / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="is another model than "):
        Learned(tmp_path / "reward").load()
    capsys.readouterr()
    trained_reward(pairs, f"vlm:{vlm}", tmp_path / "third")
    assert "described 32 images" in capsys.readouterr().out, "of other weights"
    assert not np.allclose(values(tmp_path / "third", pairs), before)


def test_what_is_described_survives_a_stop(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, described, describe = few(tmp_path), [], HiddenStates.__call__

    def stopped(self: HiddenStates, prompts: list[Prompt], images: list[np.ndarray]) -> np.ndarray:
        described.extend(prompts)
        if len(described) == 24:
            raise KeyboardInterrupt
        return describe(self, prompts, images)

    monkeypatch.setattr(train_reward_file, "CHUNK", 8)
    monkeypatch.setattr(train_reward_file, "STORE_EVERY", -1.0)
    monkeypatch.setattr(HiddenStates, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained_reward(pairs, f"vlm:{base}", tmp_path / "reward")
    trained_reward(pairs, f"vlm:{base}", tmp_path / "reward")
    assert len(described) == 24 + 16, "the first sixteen of 32 are not described again"


def test_a_judge_that_knows_the_answers_is_no_backbone(base: Path, tmp_path: Path) -> None:
    pairs = few(tmp_path)
    judge = shutil.copytree(base, tmp_path / "judge")
    (judge / "trained_on.txt").write_text(f"prompt:{load(pairs)[3].prompt.id}\n")
    with pytest.raises(ValueError, match="has learned from 1 of these prompts and images"):
        trained_reward(pairs, f"vlm:{judge}", tmp_path / "reward")
    assert not (tmp_path / "reward").exists()
    (judge / "trained_on.txt").write_text("prompt:elsewhere\n")
    trained_reward(pairs, f"vlm:{judge}", tmp_path / "reward")
    assert "prompt:elsewhere" in (tmp_path / "reward" / "trained_on.txt").read_text().split()


# --- an adapter


def answers_of(count: int) -> tuple[Answers, list[Prompt], list[np.ndarray]]:
    world = simulate(count, seed=1, bad="", annotators=2)
    answers, shown = as_arrays(world.comparisons)
    images = [world.images[(c.left if side == "left" else c.right).sha256] for c, side in shown]
    return answers, [c.prompt for c, _ in shown], images


def test_the_first_update_follows_the_gradient_of_the_likelihood(base: Path, tmp_path: Path) -> None:
    """The graph of one image at a time gives the gradient that one graph of all images gives."""
    answers, prompts, images = answers_of(8)
    settings = VlmBackbone(str(base), "aesthetics", rank=2, updates=2, batch=6, rate=1e-3)
    states = settings.load()
    seen: dict[str, torch.Tensor] = {}
    step = torch.optim.AdamW.step

    def kept(self: torch.optim.AdamW) -> None:
        if not seen:
            seen["head"] = self.param_groups[1]["params"][0].grad.clone()
        step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", kept)
        vlm_backbone.train_adapter(
            settings, states, prompts, [lambda i=i: images[i] for i in range(len(images))], answers, TrainReward(),
            tmp_path,
        )  # fmt: skip
    fresh = settings.load()
    hidden = torch.stack([fresh.hidden(p, i).detach() for p, i in zip(prompts, images, strict=True)])
    head = torch.zeros(32, requires_grad=True)
    rows = np.random.default_rng((0, 0)).integers(8, size=6)
    Likelihood(answers, TrainReward())((hidden @ head).double(), torch.from_numpy(rows)).backward()
    assert head.grad is not None and head.grad.abs().max() > 1e-4
    torch.testing.assert_close(seen["head"][0], head.grad, rtol=1e-4, atol=1e-7)


def test_an_adapter_that_was_stopped_becomes_the_same_reward(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = few(tmp_path)
    backbone = f"vlm:{base},rubric=aesthetics,rank=2,updates=6,batch=4,rate=0.003"
    monkeypatch.setattr(vlm_backbone, "SAVE_EVERY", 2)
    trained_reward(pairs, backbone, tmp_path / "whole")
    step, calls = torch.optim.AdamW.step, []

    def killed(self: torch.optim.AdamW) -> None:
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            trained_reward(pairs, backbone, tmp_path / "cut")
    assert len(list(tmp_path.glob("features/training-*/adapter.pt"))) == 1 and not (tmp_path / "cut").exists()
    trained_reward(pairs, backbone, tmp_path / "cut")
    assert not list(tmp_path.glob("features/training-*"))
    whole, cut = (load_file(tmp_path / name / "network.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    assert any(value.abs().max() > 0 for name, value in whole.items() if "lora_B" in name)
    assert not any("visual" in name for name in whole)
    adapted = values(tmp_path / "whole", pairs)
    assert np.array_equal(adapted, values(tmp_path / "cut", pairs))
    content = json.loads((tmp_path / "whole" / "reward.json").read_text())
    (tmp_path / "whole" / "reward.json").write_text(json.dumps(content | {"backbone": f"vlm:{base},rank=4"}))
    with pytest.raises(ValueError, match="belongs to another model"):
        Learned(tmp_path / "whole").load()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 8])
def test_it_beats_a_coin_on_held_out_answers(rank: int, base: Path, tmp_path: Path) -> None:
    pairs = write(simulate(900, seed=3, bad="", sharpness=4.0), tmp_path)
    adapter = f",rank={rank},updates=150,rate=0.002" if rank else ""
    words = ["train-reward", "--pairs", str(pairs), "-o", str(tmp_path / "reward")]
    assert cli.main([*words, "--backbone", f"vlm:{base},rubric=aesthetics{adapter}"]) == 0
    content = json.loads((tmp_path / "reward" / "reward.json").read_text())
    print(rank, content["held_out"], content["cross_fitted"])
    assert content["cross_fitted"]["accuracy"] > 0.65 and content["held_out"]["accuracy"] > 0.6
