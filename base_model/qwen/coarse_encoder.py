"""What the text encoder of small presets sees of the images that a prompt is about.

Dual encoding (Qwen-Image, arXiv:2508.02324, section 2.4) gives an edited image twice: to the text stream what it
shows, by a vision-language model, and to the image stream how it looks, as latents. Small presets have no such model.
Theirs is the frozen autoencoder, shown the image at half its size on either side: a quarter of the tokens and
of the pixels, enough for colour, position and coarse shape. Nothing is learned here, as nothing
is in the large model's encoder, and nothing has to be downloaded.

    (V1)  s = patchify(encode(resize(image, 1/2)))              tokens of C channels, row by row
    (V2)  token = [F s, 0, -8]                                    F [CODE, C] fixed, random, of orthogonal columns

F puts a token where a lower-case word has its code, at about a word's norm, and the last entry, which is +8 in the
token that ends every prompt, marks it. Tokens stand before the prompt, in the order of the images, as they do in the
templates of the large model; so a column of the image is always at one position of the text stream.

Shapes: B samples, L text tokens, N tokens of an image, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from base_model.interface import ConditionImages
from base_model.qwen import byte_encoder
from base_model.qwen.tokens import patchify
from base_model.qwen.vae import QwenImageVAE

COARSE = 2
"""an image is seen at this fraction of its sides"""
MARK = -8.0


@functools.cache
def frame(channels: int) -> Tensor:
    """(V2): F [CODE, channels], columns of length sqrt(CODE / channels), orthogonal when there are at most CODE."""
    random = torch.randn(byte_encoder.CODE, channels, generator=torch.Generator().manual_seed(2508))
    columns = torch.linalg.qr(random).Q if channels <= byte_encoder.CODE else random / byte_encoder.CODE**0.5
    return columns * (byte_encoder.CODE / channels) ** 0.5


class CoarseEncoder:
    """The byte-level encoder with sight. Without images it is `conditioner.ByteEncoder`, bit for bit."""

    nothing = ""

    def __init__(self, vae: QwenImageVAE) -> None:
        self.vae = vae

    def encode(self, texts: Sequence[str], images: ConditionImages = ()) -> tuple[Tensor, Tensor]:
        if not any(images):
            return byte_encoder.encode(texts)
        seen = self.see([image for own in images for image in own])
        rows: list[Tensor] = []
        index = 0
        for text, own in zip(texts, images, strict=True):
            rows.append(torch.cat([*seen[index : index + len(own)], byte_encoder.token_vectors(text)]))
            index += len(own)
        return byte_encoder.padded(rows)

    def check(self, text: str, images: int = 0) -> None:
        """See `TextEncoder.check`."""
        byte_encoder.token_vectors(text)

    @torch.no_grad()
    def see(self, images: Sequence[Tensor]) -> list[Tensor]:
        """(V1), (V2): [N, WIDTH] for each image [3, H, W] in [0, 1]; those of one size are encoded together."""
        table: dict[int, Tensor] = {}
        device = next(self.vae.parameters()).device
        for shape in dict.fromkeys(image.shape for image in images):
            chosen = [i for i, image in enumerate(images) if image.shape == shape]
            small = self.coarse(torch.stack([images[i] for i in chosen]).to(device))
            tokens = patchify(self.vae.encode(small * 2.0 - 1.0)).cpu()
            code = tokens @ frame(tokens.shape[-1]).T
            vectors = F.pad(code, (0, byte_encoder.WIDTH - byte_encoder.CODE))
            vectors[..., -1] = MARK
            table |= zip(chosen, vectors, strict=True)
        return [table[i] for i in range(len(images))]

    def coarse(self, images_B3HW: Tensor) -> Tensor:
        """At 1/COARSE of the sides, rounded up to whole tokens."""
        side = self.vae.cfg.factor * 2
        H, W = (-(-n // (COARSE * side)) * side for n in images_B3HW.shape[-2:])
        return F.interpolate(images_B3HW, (H, W), mode="bilinear", antialias=True, align_corners=False)

    def fitted(self, images: ConditionImages) -> ConditionImages:
        """Returns the images as they are."""
        return images


class SemanticEncoder(CoarseEncoder):
    """Sight alone: the image stream is shown nothing. For the ablation of dual encoding."""

    def fitted(self, images: ConditionImages) -> ConditionImages:
        """Returns no images."""
        return ()


def blind(vae: QwenImageVAE) -> byte_encoder.ByteEncoder:
    """No sight: images reach the network as latents alone. For the ablation of dual encoding."""
    return byte_encoder.ByteEncoder()
