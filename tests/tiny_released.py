"""Released folders that diffusers and transformers made themselves, with random weights and a few thousand parameters.

The tokenizer is a byte-level BPE trained on the templates alone, so each of their words is one token, as in the real
one: the real numbers of dropped tokens (34 and 64) hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

T2I, EDIT, PLUS = "QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
WIDTH = 32
SCHEDULER = {
    "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9,
    "base_image_seq_len": 256, "max_image_seq_len": 8192, "invert_sigmas": False, "shift_terminal": 0.02,
    "use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False,
    "time_shift_type": "exponential", "stochastic_sampling": False,
}  # fmt: skip
"""The released one's."""
TEXTS = (
    "system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of "
    "the objects and background:",
    "user\n", "assistant\n", "Picture :",
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain how "
    "the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate.",
)  # fmt: skip


def tokenizer() -> Any:
    """Qwen's tokenizer with a vocabulary of the templates' words and all bytes."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=5000, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(core.to_str())["model"]
    made = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        model_max_length=131072,
    )
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


def text_encoder(ids: dict[str, int], size: int) -> Any:
    """A Qwen2.5-VL of two layers over `size` tokens, seeing pictures through two more."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {
        "vocab_size": size, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
        "window_size": 112, "fullatt_block_indexes": [1],
    }  # fmt: skip
    cfg = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    torch.manual_seed(1)
    model = Qwen2_5_VLForConditionalGeneration(cfg).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(mean=float("norm" in name or "ln_q" in name), std=0.2)
    return model


def make(folder: Path, pipeline: str = T2I, zero_cond_t: bool = False, layers: int = 2, shard: str = "10GB") -> Path:
    """Write a released folder of the kind that `pipeline` reads."""
    import diffusers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    words = tokenizer()
    ids = {token: words.convert_tokens_to_ids(token) for token in SPECIAL}
    torch.manual_seed(0)
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=layers, attention_head_dim=32, num_attention_heads=2,
        joint_attention_dim=WIDTH, axes_dims_rope=(8, 12, 12), zero_cond_t=zero_cond_t,
    )  # fmt: skip
    with torch.no_grad():
        for weight in transformer.parameters():
            weight.normal_(std=0.15).add_(0.5 if weight.ndim == 1 else 0.0)
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.2, 2.0],
    )  # fmt: skip
    parts: dict[str, Any] = {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**SCHEDULER), "vae": vae,
        "text_encoder": text_encoder(ids, len(words)), "tokenizer": words, "transformer": transformer,
    }  # fmt: skip
    made = diffusers.QwenImagePipeline(**parts)
    made.save_pretrained(folder, max_shard_size=shard)
    if pipeline != T2I:  # a Qwen2VLProcessor can be neither built nor saved where there is no torchvision
        index = json.loads((folder / "model_index.json").read_text())
        index |= {"_class_name": pipeline, "processor": ["transformers", "Qwen2VLProcessor"]}
        (folder / "model_index.json").write_text(json.dumps(index))
        words.save_pretrained(folder / "processor")
        Qwen2VLImageProcessorPil().save_pretrained(folder / "processor")
    return folder


def open_pipeline(folder: Path, pipeline: str = T2I) -> Any:
    """The folder as diffusers reads it, in float32."""
    import diffusers
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    if pipeline == T2I:
        opened = diffusers.QwenImagePipeline.from_pretrained(folder, local_files_only=True)
    else:
        words = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
        checked = Qwen2VLProcessor.check_argument_for_proper_class
        Qwen2VLProcessor.check_argument_for_proper_class = lambda *_: None  # it asks for torchvision's video processor
        try:
            processor = Qwen2VLProcessor(Qwen2VLImageProcessorPil.from_pretrained(folder / "processor"), words)
        finally:
            Qwen2VLProcessor.check_argument_for_proper_class = checked
        opened = getattr(diffusers, pipeline)(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
            vae=diffusers.AutoencoderKLQwenImage.from_pretrained(folder / "vae"),
            text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder"),
            tokenizer=words, processor=processor,
            transformer=diffusers.QwenImageTransformer2DModel.from_pretrained(folder / "transformer"),
        )  # fmt: skip
    opened.set_progress_bar_config(disable=True)
    return opened


def tell_picture_tokens(pipe: Any) -> None:
    """Make the pipeline's encoder know which tokens are a picture's, as it did when the released weights were trained:
    with transformers 5 the pipelines of diffusers 0.42 leave that out (issue 14194)."""
    place = pipe.text_encoder.config.image_token_id

    def types(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"mm_token_type_ids": (kwargs["input_ids"] == place).int()}

    pipe.text_encoder.register_forward_pre_hook(types, with_kwargs=True)
