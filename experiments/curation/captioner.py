"""Captions by a vision-language model behind OpenAI's chat interface: one question an image, one JSON answer, cached.

    {"caption": "...", "type": "...", "style": "...", "watermarks": ["..."], "abnormal": false}

An answer is checked field by field; what is wrong with it is sent back, `TRIES` times in all. What a caption quotes
must be read by the OCR engine, or the caption is not used. Each answer is a file of the set, named by image, question
and model, so an interrupted run asks for none twice, and another server of the same model answers on.

Source: the single pass of the Qwen-Image technical report, section 3.3. Shapes: HW3 pixels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.curation.measures.caption_facts import garbage
from experiments.curation.opened_image import OpenedImage
from experiments.record.whole_files import write_json

QUESTION = """Look at the image and answer with one JSON object and nothing else:
{"caption": what the image shows in one to four sentences, with every text that can be read in it, word for word,
untranslated and between quotation marks; "type": one of photograph, portrait, illustration, poster, slide, screenshot,
document, product, other; "style": a few words about style, light and colours; "watermarks": a list of the texts of
watermarks, [] for none; "abnormal": true if it has mosaics, QR codes, barcodes or heavy damage, else false}"""
TYPES = ("photograph", "portrait", "illustration", "poster", "slide", "screenshot", "document", "product", "other")
ANSWERS = "answers"
TRIES = 3
TOKENS = 800
TIMEOUT, ATTEMPTS, PAUSE = 120.0, 3, 1.0


@dataclass(frozen=True)
class Captioner:
    """Who writes captions, and how they are joined with those of the source; off without a url."""

    url: str = ""
    """base of an OpenAI-compatible server, such as http://localhost:8000/v1; "" = off"""
    model: str = ""
    """name of the model, as the server lists it"""
    key_file: str = ""
    """file that holds the server's key, one line; "" = none"""
    shares: tuple[float, float, float] = (0.2, 0.4, 0.4)
    """of images that keep the source's captions alone, get the model's alone, or have both"""
    verified: float = 0.8
    """least share of quoted characters that the OCR engine reads; below it the caption is not used"""

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1.0) > 1e-6:
            raise ValueError(f"shares={self.shares} must be three shares of at least 0 that sum to 1")
        if self.url and not self.model:
            raise ValueError(f"captioner.url={self.url} needs captioner.model, the name of a model that it serves")


@functools.lru_cache(maxsize=2)
def client(captioner: Captioner) -> Any:
    """The client of a server. Raises ConnectionError, PermissionError, or ValueError for a model that is not served."""
    from rewards.language.chat_client import Client, read_key

    opened = Client(captioner.url, read_key(captioner.key_file), TIMEOUT, ATTEMPTS, PAUSE)
    served = opened.models()
    if served and captioner.model not in served:
        raise ValueError(f"{captioner.url} does not serve {captioner.model!r}; it serves {', '.join(served[:10])}")
    return opened


def answer_key(captioner: Captioner) -> str:
    """What an answer depends on beside the image."""
    return sha256(f"{QUESTION}\n{captioner.model}".encode()).hexdigest()[:12]


def described(captioner: Captioner, folder: Path, image: OpenedImage) -> dict[str, Any]:
    """The model's caption and facts of an image, and `caption_read`, the share of its quotations that can be read.

    Raises ValueError when the model gives no right answer, and `Unjudged` when the server gives none.
    """
    path = folder / ANSWERS / f"{image.identity}-{answer_key(captioner)}.json"
    if path.exists():
        answer = json.loads(path.read_text(encoding="utf-8"))
    else:
        answer = ask(captioner, image)
        write_json(path, answer)
    return {
        "model_caption": answer["caption"], "image_type": answer["type"], "image_style": answer["style"],
        "model_marks": float(len(answer["watermarks"])), "abnormal": float(answer["abnormal"]),
        "caption_read": quoted_share(answer["caption"], image),
    }  # fmt: skip


def ask(captioner: Captioner, image: OpenedImage) -> dict[str, Any]:
    """The checked answer of the model. Raises ValueError with the last fault after `TRIES` answers."""
    from rewards.language.chat_client import message

    messages = message(QUESTION, [image.reduced])
    fault = ""
    for _ in range(TRIES):
        request = {"model": captioner.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0.0}
        choice = client(captioner).ask(request)
        text = str((choice.get("message") or {}).get("content") or "")
        fault = "it was cut off; write less" if choice.get("finish_reason") == "length" else ""
        try:
            if not fault:
                return checked(text)
        except ValueError as error:
            fault = str(error)
        again = f"That was not right: {fault}. Answer again with the JSON object alone."
        messages = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": again}]
    raise ValueError(f"{captioner.model} gave no right answer in {TRIES} tries: {fault}")


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
    if not captioner.url or not written or read < captioner.verified:
        return own, "raw"
    if not own:
        return [written], "model"
    share = int(identity[:8], 16) / 2**32
    if share < captioner.shares[0]:
        return own, "raw"
    if share < captioner.shares[0] + captioner.shares[1]:
        return [written], "model"
    return list(dict.fromkeys([*own, written])), "fused"
