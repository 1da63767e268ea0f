"""Captions by a vision-language model, served or in this process: one question an image, one JSON answer, cached.

    {"caption": "...", "type": "...", "style": "...", "watermarks": ["..."], "abnormal": false}

An answer is checked field by field; what is wrong with it is sent back, `TRIES` times in all. What a caption quotes
must be read by the OCR engine, or the caption is not used. Each answer is a file of the set, named by image, question
and model (of one in this process by its weights), so an interrupted run asks for none twice, and another server of the
same model answers on.

Source: the single pass of the Qwen-Image technical report, section 3.3. Shapes: HW3 pixels.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.curation.measures.caption_facts import garbage
from experiments.curation.opened_image import OpenedImage
from experiments.record.whole_files import write_json

if TYPE_CHECKING:
    import numpy as np

QUESTION = """Look at the image and answer with one JSON object and nothing else:
{"caption": what the image shows in one to four sentences, with every text that can be read in it, word for word,
untranslated and between quotation marks; "type": one of photograph, portrait, illustration, poster, slide, screenshot,
document, product, other; "style": a few words about style, light and colours; "watermarks": a list of the texts of
watermarks, [] for none; "abnormal": true if it has mosaics, QR codes, barcodes or heavy damage, else false}"""
TYPES = ("photograph", "portrait", "illustration", "poster", "slide", "screenshot", "document", "product", "other")
ANSWERS = "answers"
TRIES = 3
TOKENS = 800
ATTEMPTS, PAUSE = 3, 1.0
REMEDIES = {
    "timeout": "; give it longer with captioner.timeout, or ask for less at once with fewer --processes",
    "connection": "; look whether it still runs",
}
"""what to do about a server that gives no answer"""
PIXELS = (56 * 56, 2048 * 28 * 28)
"""least and most area of an image that a model of this process is shown"""
ADVICE = "it takes the folder of a Qwen2-VL or Qwen2.5-VL model, or a hub name such as Qwen/Qwen2.5-VL-7B-Instruct"


@dataclass(frozen=True)
class Captioner:
    """Who writes captions, and how they are joined with those of the source; off without a url and weights."""

    url: str = ""
    """base of an OpenAI-compatible server, such as http://localhost:8000/v1; "" = off"""
    model: str = ""
    """name of the model, as the server lists it"""
    key_file: str = ""
    """file that holds the server's key, one line; "" = none"""
    weights: str = ""
    """folder or hub name of a Qwen2-VL or Qwen2.5-VL model that answers in this process, in place of a server"""
    dtype: str = ""
    """what such a model computes in; "" = bfloat16 on a GPU, float32 on the host"""
    batch: int = 8
    """images that such a model answers at once"""
    digest: str = ""
    """by what its weights were known when they were last looked at; the command sets it"""
    shares: tuple[float, float, float] = (0.2, 0.4, 0.4)
    """of images that keep the source's captions alone, get the model's alone, or have both"""
    verified: float = 0.8
    """least share of quoted characters that the OCR engine reads; below it the caption is not used"""
    timeout: float = 120.0
    """seconds in which the server must have answered; it is asked three times"""

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError(f"shares={self.shares} must be three shares of at least 0 that sum to 1")
        if not 0.0 < self.timeout < float("inf"):
            raise ValueError(f"captioner.timeout={self.timeout} must be seconds above 0")
        if self.url and not self.model:
            raise ValueError(f"captioner.url={self.url} needs captioner.model, the name of a model that it serves")
        if self.url and self.weights:
            raise ValueError(
                f"captioner.url={self.url} and captioner.weights={self.weights} both write captions: set one to nothing"
            )
        if self.batch < 1:
            raise ValueError(f"captioner.batch={self.batch} must be at least 1")

    @property
    def writes(self) -> bool:
        """Whether there is a model that writes captions."""
        return bool(self.url or self.weights)


@functools.lru_cache(maxsize=2)
def client(captioner: Captioner) -> Any:
    """The client of a server. Raises ConnectionError, PermissionError, or ValueError for a model that is not served."""
    from rewards.language.chat_client import Client, read_key

    opened = Client(captioner.url, read_key(captioner.key_file), captioner.timeout, ATTEMPTS, PAUSE)
    served = opened.models()
    if served and captioner.model not in served:
        raise ValueError(f"{captioner.url} does not serve {captioner.model!r}; it serves {', '.join(served[:10])}")
    return opened


def local_weights(captioner: Captioner) -> Path | str:
    """Where the model of this process is. Raises FileNotFoundError where it is not."""
    from rewards.published.published_weights import existing_or_hub

    return existing_or_hub(captioner.weights, "captioner.weights", ADVICE)


def ready(captioner: Captioner) -> Captioner:
    """The captioner with the digest of its weights, after all that can be said before an image is measured.

    Raises as `client`; FileNotFoundError for a folder that is not there, ValueError for one of another kind of model or
    with damaged weights, and for a `dtype` that there is not.
    """
    if captioner.url:
        client(captioner)
    if not captioner.weights:
        return captioner
    from base_model.files.shards import open_shards
    from rewards.language.qwen_vl import QwenInputs, float_kind, require_qwen_vl
    from rewards.published.published_weights import weights_digest

    weights = local_weights(captioner)
    float_kind(captioner.dtype or "float32")
    require_qwen_vl(weights, "captioner.weights", ADVICE)
    QwenInputs(weights, *PIXELS)
    if isinstance(weights, Path):
        with contextlib.ExitStack() as stack:
            open_shards(weights, stack, "model")
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(Path(weights).glob("*.*"))]
    stamp = sha256(repr(stamps).encode()).hexdigest()[:8]
    if stamps and captioner.digest.endswith(f"-{stamp}"):
        return captioner  # the same files as last time: reading gigabytes again would take longer than a new cut
    return replace(captioner, digest=f"{weights_digest(weights)}-{stamp}")


@functools.lru_cache(maxsize=1)
def local_model(weights: Path | str, dtype: str) -> Any:
    """The loaded model. Raises ValueError and OSError as transformers does."""
    from base_model.devices import GPU, best_device
    from rewards.language.qwen_vl import QwenVl

    device = best_device()
    return QwenVl(weights, device, dtype or ("bfloat16" if device == GPU else "float32"), *PIXELS)


def answer_key(captioner: Captioner) -> str:
    """What an answer depends on beside the image."""
    model = f"weights {captioner.digest.rpartition('-')[0]}" if captioner.weights else captioner.model
    return sha256(f"{QUESTION}\n{model}".encode()).hexdigest()[:12]


def answer_path(captioner: Captioner, folder: Path, image: OpenedImage) -> Path:
    """The file of an answer."""
    return folder / ANSWERS / f"{image.identity}-{answer_key(captioner)}.json"


def answered(captioner: Captioner, folder: Path, images: Sequence[OpenedImage]) -> list[Exception | None]:
    """Ask about images together and keep the answers; what went wrong with each, None where nothing did.

    Where one has its answer and another not, all are asked about again: which images are together changes how sums
    round, and a run that was killed is to have the same answers. What fails together is asked for one by one.
    """
    if all(answer_path(captioner, folder, image).exists() for image in images):
        return [None] * len(images)
    try:
        answers = ask(captioner, images)
    except Exception as error:  # of whatever library, such as a batch that is too large for the memory
        return [error] if len(images) == 1 else [each for one in images for each in answered(captioner, folder, [one])]
    for image, answer in zip(images, answers, strict=True):
        if isinstance(answer, dict):
            write_json(answer_path(captioner, folder, image), answer)
    return [None if isinstance(answer, dict) else answer for answer in answers]


def described(captioner: Captioner, folder: Path, image: OpenedImage) -> dict[str, Any]:
    """The model's caption and facts of an image, and `caption_read`, the share of its quotations that can be read.

    Raises ValueError when the model gives no right answer, and `Unjudged` when the server gives none.
    """
    if fault := answered(captioner, folder, [image])[0]:
        raise fault
    answer = json.loads(answer_path(captioner, folder, image).read_text(encoding="utf-8"))
    return {
        "model_caption": answer["caption"], "image_type": answer["type"], "image_style": answer["style"],
        "model_marks": float(len(answer["watermarks"])), "abnormal": float(answer["abnormal"]),
        "caption_read": quoted_share(answer["caption"], image),
    }  # fmt: skip


def ask(captioner: Captioner, images: Sequence[OpenedImage]) -> list[dict[str, Any] | ValueError]:
    """The checked answer of the model about each image, or else the last fault after `TRIES` answers."""
    turns: list[list[str]] = [[] for _ in images]
    results: list[dict[str, Any] | ValueError] = [ValueError()] * len(images)
    reply = reply_here if captioner.weights else reply_of_server
    waiting = list(range(len(images)))
    for _ in range(TRIES):
        replies = reply(captioner, [images[i].reduced for i in waiting], [turns[i] for i in waiting])
        for i, (text, ended) in zip(list(waiting), replies, strict=True):
            try:
                results[i] = checked(text) if ended else cut_off()
                waiting.remove(i)
            except ValueError as error:
                name = captioner.weights or captioner.model
                results[i] = ValueError(f"{name} gave no right answer in {TRIES} tries: {error}")
                turns[i] += [text, f"That was not right: {error}. Answer again with the JSON object alone."]
        if not waiting:
            break
    return results


def cut_off() -> dict[str, Any]:
    """Raises ValueError for an answer that did not come to its end."""
    raise ValueError("it was cut off; write less")


def reply_here(
    captioner: Captioner, images_HW3: Sequence[np.ndarray], turns: Sequence[Sequence[str]]
) -> list[tuple[str, bool]]:
    """What the model of this process says about each image after some turns, and whether it came to its end."""
    model = local_model(local_weights(captioner), captioner.dtype)
    replies: list[tuple[str, bool]] = model.answers(QUESTION, images_HW3, turns, TOKENS)
    return replies


def reply_of_server(
    captioner: Captioner, images_HW3: Sequence[np.ndarray], turns: Sequence[Sequence[str]]
) -> list[tuple[str, bool]]:
    """What the server's model says about each image after some turns, and whether it came to its end."""
    from rewards.image_scorer import Unjudged
    from rewards.language.chat_client import message

    replies = []
    for image, own in zip(images_HW3, turns, strict=True):
        later = [{"role": ("assistant", "user")[i % 2], "content": text} for i, text in enumerate(own)]
        request = {"messages": [*message(QUESTION, [image]), *later], "max_tokens": TOKENS, "temperature": 0.0}
        try:
            choice = client(captioner).ask({"model": captioner.model, **request})
        except Unjudged as error:
            raise Unjudged(error.cause, f"{error}{REMEDIES.get(error.cause, '')}") from error
        text = str((choice.get("message") or {}).get("content") or "")
        replies.append((text, choice.get("finish_reason") != "length"))
    return replies


def checked(text: str) -> dict[str, Any]:
    """The fields of an answer. Raises ValueError that says what is wrong."""
    start, end = text.find("{"), text.rfind("}")
    try:
        answer = json.loads(text[start : end + 1])
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    wanted: Mapping[str, type] = {"caption": str, "type": str, "style": str, "watermarks": list, "abnormal": bool}
    for name, kind in wanted.items():
        if not isinstance(answer.get(name), kind):
            raise ValueError(f"{name!r} must be a {kind.__name__}, and it is {answer.get(name)!r}")
    if not all(isinstance(each, str) for each in answer["watermarks"]):
        raise ValueError(f"'watermarks' must be a list of texts, and it is {answer['watermarks']!r}")
    if answer["type"] not in TYPES:
        raise ValueError(f"'type' must be one of {', '.join(TYPES)}, and it is {answer['type']!r}")
    answer["caption"] = " ".join(answer["caption"].split())
    if why := garbage(answer["caption"]) if answer["caption"] else "is empty":
        raise ValueError(f"the caption {why}")
    return {name: answer[name] for name in wanted}


def quoted_share(caption: str, image: OpenedImage) -> float:
    """Share of a caption's quoted characters that the OCR engine reads; NaN where it quotes nothing that it knows."""
    from experiments.curation.measures.text_reading import quoted_read, reader, spans

    quoted = spans([caption])
    return quoted_read(quoted, [line for line, _ in reader().read_boxes(image.reduced)]) if quoted else float("nan")


def fused(captioner: Captioner, identity: str, own: list[str], written: str, read: float) -> tuple[list[str], str]:
    """The captions of an image and where they are from: raw, model or fused. Its hash decides which.

    A caption of which too little can be read is left out, and of an image without captions the model's counts.
    """
    if not captioner.writes or not written or read < captioner.verified:
        return own, "raw"
    if not own:
        return [written], "model"
    share = int(identity[:8], 16) / 2**32
    if share < captioner.shares[0]:
        return own, "raw"
    if share < captioner.shares[0] + captioner.shares[1]:
        return [written], "model"
    return list(dict.fromkeys([*own, written])), "fused"
