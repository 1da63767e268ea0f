"""What the text stream sees of images: nothing without them, a coarse view with them, alike in any batch.

Shapes: 3HW pixels, L text tokens.
"""

from __future__ import annotations

import torch

from base_model.qwen import byte_encoder
from base_model.qwen.coarse_encoder import MARK, CoarseEncoder, SemanticEncoder, blind, frame
from base_model.qwen.model import QwenImage
from base_model.qwen.tokens import patchify
from tests.fixtures.tiny.tiny_model import tiny_model

TEXTS = ['change the word to "AB"', "blue", "make it red"]


def picture(seed: int, size: tuple[int, int] = (32, 96)) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def test_without_pictures_it_is_the_byte_encoder_bit_for_bit():
    encoder, plain = CoarseEncoder(tiny_model().vae), byte_encoder.ByteEncoder()
    for pictures in ((), [[], [], []]):
        for ours, theirs in zip(encoder.encode(TEXTS, pictures), plain.encode(TEXTS), strict=True):
            assert torch.equal(ours, theirs)
    assert encoder.nothing == plain.nothing == ""


def test_tokens_of_a_picture_by_hand():
    """An image of even patches of 2 x 2 pixels is halved without loss, so (V1) and (V2) can be written out."""
    model = tiny_model()
    small = torch.rand(1, 3, 16, 48, generator=torch.Generator().manual_seed(1))
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    encoder = CoarseEncoder(model.vae)
    encoder.coarse = lambda pictures: pictures[:, :, ::2, ::2]  # type: ignore[method-assign]
    text, mask = encoder.encode(["blue"], [[large[0]]])
    seen = patchify(model.vae.encode(small * 2 - 1))[0]
    expected = seen @ frame(16).T
    assert text.shape == (1, 3 + 2, byte_encoder.WIDTH) and mask.all()
    torch.testing.assert_close(text[0, :3, : byte_encoder.CODE], expected)
    assert not text[0, :3, byte_encoder.CODE : -1].any() and (text[0, :3, -1] == MARK).all()
    assert torch.equal(text[0, 3:], byte_encoder.token_vectors("blue"))


def test_the_view_is_coarse():
    """Half of either side, in whole tokens: the finest stripes are gone, colours stay."""
    encoder = CoarseEncoder(tiny_model().vae)
    assert encoder.coarse(torch.rand(2, 3, 32, 96)).shape == (2, 3, 16, 48)
    assert encoder.coarse(torch.rand(2, 3, 48, 80)).shape == (2, 3, 32, 48)
    stripes = torch.zeros(1, 3, 32, 96)
    stripes[..., ::2] = 1.0
    assert encoder.coarse(stripes)[..., 2:-2].std() < 0.1
    flat = torch.full((1, 3, 32, 96), 0.3)
    torch.testing.assert_close(encoder.coarse(flat), torch.full((1, 3, 16, 48), 0.3))


def test_the_frame_keeps_lengths_in_proportion():
    for channels in (16, 64, byte_encoder.CODE):
        gram = frame(channels).T @ frame(channels)
        torch.testing.assert_close(gram, torch.eye(channels) * byte_encoder.CODE / channels, atol=1e-4, rtol=0)
    assert frame(128).shape == (byte_encoder.CODE, 128)


def test_a_batch_sees_what_its_samples_see_alone():
    """Mixed sizes, numbers of images and texts, right-padded."""
    encoder = CoarseEncoder(tiny_model().vae)
    pictures = [[picture(1), picture(2, (32, 80))], [], [picture(3)]]
    text, mask = encoder.encode(TEXTS, pictures)
    for i, (prompt, own) in enumerate(zip(TEXTS, pictures, strict=True)):
        alone, real = encoder.encode([prompt], [own])
        L = alone.shape[1]
        assert real.all() and mask[i].tolist() == [True] * L + [False] * (text.shape[1] - L)
        torch.testing.assert_close(text[i, :L], alone[0], atol=1e-5, rtol=1e-5)
        assert not text[i, L:].any()


def test_both_encodings_or_one_reach_the_conditioning():
    model: QwenImage = tiny_model()
    pictures = [[picture(1)], [picture(2)], []]
    dual = model.encode_text(TEXTS, pictures)
    assert dual.image_grids == (((2, 6),), ((2, 6),), ()) and dual.mask_BL.sum(1).tolist() == [10, 5, 4]
    model.text = SemanticEncoder(model.vae)
    semantic = model.encode_text(TEXTS, pictures)
    assert semantic.images_BRC is None and torch.equal(semantic.text_BLD, dual.text_BLD)
    model.text = blind(model.vae)
    latents = model.encode_text(TEXTS, pictures)
    assert torch.equal(latents.images_BRC, dual.images_BRC) and latents.mask_BL.sum(1).tolist() == [7, 2, 4]
