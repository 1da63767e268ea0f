"""Text rendering metrics of published benchmarks, by their own definitions, each beside a strict twin.

A published number can only be compared with the same rule, defects included; each function names its rule's defects.
The strict twins share one idea: what is extra, repeated or out of order costs, and a failed reading is left out and
counted, never 0.

    CVTG-2K          word accuracy and NED                    Du et al. 2025
    LongText-Bench   recall of words or characters            Geng et al. 2025 (X-Omni)
    OneIG            score of edit distance, completion rate and word accuracy   Chang et al. 2025
    ChineseWord      accuracy by level of character           Wu et al. 2025 (Qwen-Image)

Every function takes what was asked for and what was read, one entry an image; None = the reading failed. `measured`
takes a benchmark's name, and is what `glyphlab evaluate --benchmark NAME` calls.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from preference_data.records import Prompt, quoted_spans
from preference_data.spelling import unknown

Read = Sequence[str] | None
"""The lines on an image, in reading order."""

LEVELS = {1: 3500, 2: 3000, 3: 1605}
"""Characters of each level of the Table of General Standard Chinese Characters (2013)."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SINGLE_QUOTED = re.compile(r"(?<!\w)['\u2018](.+?)['\u2019](?!\w)")
_LONG_TEXT = re.compile(r"[^\u4e00-\u9fa5A-Za-z0-9\sàâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ]")
_CHINESE, _NOT_CHINESE = re.compile(r"[\u4e00-\u9fa5]"), re.compile(r"[^\u4e00-\u9fa5]")


def cvtg_2k(prompts: Sequence[str], readings: Sequence[Read]) -> dict[str, float]:
    """CVTG-2K's word accuracy and NED (a similarity; higher is better), both micro averages over words.

    Words stand in single quotes in the prompt; both sides in small letters, split at white space. A word is right when
    it is among the words read; its NED is that of the word that difflib finds closest.

    Defects: one word read satisfies all its repetitions; extra words and word order cost nothing; an apostrophe in a
    text ends its quotes; punctuation sticks to words; a failed reading scores 0.
    """
    hits, similarities = 0, []
    for prompt, reading in zip(prompts, readings, strict=True):
        wanted = [word for quoted in re.findall(r"'(.*?)'", prompt) for word in quoted.lower().split()]
        read = sorted({word for line in reading or () for word in line.lower().split()} or {""})
        hits += sum(word in read for word in wanted)
        for word in wanted:
            closest = difflib.get_close_matches(word, read, n=1, cutoff=0.0)
            similarities.append(_similarity(word, closest[0]) if closest and reading is not None else 0.0)
    count = len(similarities)
    return {"word_accuracy": hits / count if count else np.nan, "ned": _mean(similarities), "words": float(count)}


def _similarity(a: str, b: str) -> float:
    return 1.0 - Levenshtein.distance(a, b) / (max(len(a), len(b)) + 1e-5)


def cvtg_2k_strict(prompts: Sequence[str], readings: Sequence[Read]) -> dict[str, float]:
    """The twin: words as a multiset without punctuation, quotes of any kind, apostrophes allowed; F1 punishes extras.

    ``ned`` is the mean over images of 1 - normalised edit distance of the whole text, order included.
    """
    right = wanted = read = failed = 0
    similarities = []
    for prompt, reading in zip(prompts, readings, strict=True):
        if reading is None:
            failed += 1
            continue
        spans = quoted_spans(prompt) or tuple(match[1] for match in _SINGLE_QUOTED.finditer(prompt))
        requested, result = words(" ".join(spans)), words(" ".join(reading))
        right += sum((Counter(requested) & Counter(result)).values())
        wanted, read = wanted + len(requested), read + len(result)
        similarities.append(Levenshtein.normalized_similarity(" ".join(requested), " ".join(result)))
    precision, recall = right / max(read, 1), right / max(wanted, 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    unjudged = float(failed)
    return {"f1": f1, "precision": precision, "recall": recall, "ned": _mean(similarities), "unjudged": unjudged}


def words(text: str) -> list[str]:
    """Words in small letters, without the punctuation around them."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def long_text(texts: Sequence[Sequence[str]], readings: Sequence[Read], chinese: bool) -> dict[str, float]:
    """LongText-Bench's recall: words (English) or characters (Chinese) asked for that were read, a micro average.

    English: everything but letters, digits and spaces is dropped, spaces are joined, small letters. Chinese: everything
    but Chinese characters is dropped.

    Defects: order, extra text and most repetition cost nothing; a failed reading scores 0.
    """
    result = wanted = 0
    for text, reading in zip(texts, readings, strict=True):
        requested = Counter(long_text_tokens(" ".join(text), chinese))
        read = Counter(long_text_tokens(" ".join(reading or ()), chinese))
        result, wanted = result + sum((requested & read).values()), wanted + sum(requested.values())
    return {"recall": result / wanted if wanted else np.nan}


def long_text_tokens(text: str, chinese: bool) -> list[str]:
    cleaned = _LONG_TEXT.sub("", text)
    return list(_NOT_CHINESE.sub("", cleaned)) if chinese else cleaned.lower().split()


def long_text_strict(texts: Sequence[Sequence[str]], readings: Sequence[Read], chinese: bool) -> dict[str, float]:
    """The twin: F1 of the same tokens, and 1 - normalised edit distance over tokens, which order and extras lower."""
    result = wanted = read = failed = 0
    similarities = []
    for text, reading in zip(texts, readings, strict=True):
        if reading is None:
            failed += 1
            continue
        requested, seen = (long_text_tokens(" ".join(each), chinese) for each in (text, reading))
        result += sum((Counter(requested) & Counter(seen)).values())
        wanted, read = wanted + len(requested), read + len(seen)
        similarities.append(Levenshtein.normalized_similarity(requested, seen))
    f1 = 2 * result / (wanted + read) if result else 0.0
    return {"f1": f1, "ned": _mean(similarities), "unjudged": float(failed)}


def one_ig(texts: Sequence[str], readings: Sequence[Read], chinese: bool) -> dict[str, float]:
    """OneIG's text score of edit distance ED, completion rate CR and word (character) accuracy WAC:

        score = 1 - min(M, ED) (1 - CR) (1 - WAC) / M        M = 100, 50 for Chinese

    ED is the mean Levenshtein distance, CR the share of images with distance 0, WAC the share of words found.

    Defects: a product, so that a perfect third alone gives 1; ED is in characters and not relative to the text's
    length; extra words cost in ED alone, and nothing beyond M; a failed reading counts as an empty one.
    """
    distances, result, wanted = [], 0, 0
    for text, reading in zip(texts, readings, strict=True):
        requested, read = (_one_ig_text(each, chinese) for each in (text, " ".join(reading or ())))
        distances.append(Levenshtein.distance(requested, read))
        requested_tokens, read_tokens = (list(each) if chinese else each.split() for each in (requested, read))
        result += sum((Counter(requested_tokens) & Counter(read_tokens)).values())
        wanted += len(requested_tokens)
    most = 50.0 if chinese else 100.0
    ed, cr = _mean(distances), _mean([float(distance == 0) for distance in distances])
    wac = result / wanted if wanted else np.nan
    score = 1.0 - min(most, ed) * (1.0 - cr) * (1.0 - wac) / most
    return {"score": score, "edit_distance": ed, "completion_rate": cr, "word_accuracy": wac}


def _one_ig_text(text: str, chinese: bool) -> str:
    tokens = long_text_tokens(text, chinese)
    return "".join(tokens) if chinese else " ".join(tokens)


def one_ig_strict(texts: Sequence[str], readings: Sequence[Read], chinese: bool) -> dict[str, float]:
    """The twin: the mean over images of 1 - normalised edit distance, which no other term can lift to 1."""
    judged = [(text, reading) for text, reading in zip(texts, readings, strict=True) if reading is not None]
    pairs = [(_one_ig_text(text, chinese), _one_ig_text(" ".join(reading), chinese)) for text, reading in judged]
    exact = [float(a == b) for a, b in pairs]
    failed = float(len(texts) - len(judged))
    return {
        "score": _mean([Levenshtein.normalized_similarity(a, b) for a, b in pairs]),
        "completion_rate": _mean(exact),
        "unjudged": failed,
    }


def chinese_word(characters: Sequence[str], levels: Sequence[int], readings: Sequence[Read]) -> dict[str, float]:
    """ChineseWord: share of characters rendered right by level, and overall, weighted by the size of the levels.

    The report publishes neither recogniser nor rule; here a character is right when it is among what was read.

    Defects: other characters beside the right one cost nothing; a failed reading is wrong.
    """
    right = [
        bool(reading) and wanted in "".join(reading or ()) for wanted, reading in zip(characters, readings, strict=True)
    ]
    return _by_level(levels, [float(each) for each in right])


def chinese_word_strict(characters: Sequence[str], levels: Sequence[int], readings: Sequence[Read]) -> dict[str, float]:
    """The twin: the character alone, in that very form, is all that was read."""
    right = [
        np.nan if reading is None else float("".join("".join(reading).split()) == wanted)
        for wanted, reading in zip(characters, readings, strict=True)
    ]
    return {**_by_level(levels, right), "unjudged": float(np.isnan(right).sum())}


def _by_level(levels: Sequence[int], right: Sequence[float]) -> dict[str, float]:
    unknown = set(levels) - set(LEVELS)
    if unknown:
        raise ValueError(f"levels {sorted(unknown)}: a character's level is 1, 2 or 3")
    shares = {n: _mean([r for level, r in zip(levels, right, strict=True) if level == n]) for n in LEVELS}
    overall = sum(LEVELS[n] * shares[n] for n in LEVELS) / sum(LEVELS.values())  # NaN when a level has no image
    return {**{f"level_{n}": share for n, share in shares.items()}, "overall": overall}


def _mean(numbers: Sequence[float]) -> float:
    """Of those that are not NaN; NaN when none is left."""
    judged = [number for number in numbers if not np.isnan(number)]
    return float(np.mean(judged)) if judged else float("nan")


BENCHMARKS: Mapping[str, tuple[Callable[..., dict[str, float]], Callable[..., dict[str, float]]]] = {
    "cvtg_2k": (cvtg_2k, cvtg_2k_strict),
    "long_text": (long_text, long_text_strict),
    "one_ig": (one_ig, one_ig_strict),
    "chinese_word": (chinese_word, chinese_word_strict),
}
"""name -> (the published rule, its strict twin)"""


def require_benchmark(name: str, prompts: Sequence[Prompt]) -> None:
    """Raises ValueError where there is no such benchmark, or a prompt lacks what its rule compares with."""
    if name not in BENCHMARKS:
        raise ValueError(unknown("benchmark", name, BENCHMARKS))
    for prompt in prompts:
        if name == "cvtg_2k" and not _SINGLE_QUOTED.search(prompt.text):
            raise ValueError(
                f"cvtg_2k compares with words in single quotes, and {prompt.text!r} has none; write: a sign with 'OPEN'"
            )
        if name != "cvtg_2k" and not prompt.spans:
            raise ValueError(f"{name} compares with the texts of a prompt, and {prompt.text!r} quotes none; quote it "
                             "in the prompt, or name it under spans")  # fmt: skip
        if name == "chinese_word" and (len(prompt.category) != 1 or prompt.category[0] not in map(str, LEVELS)):
            raise ValueError(f"the category of {prompt.text!r} is {', '.join(prompt.category) or 'not given'}; for "
                             "chinese_word it must be the level of its character: 1, 2 or 3")  # fmt: skip


def measured(name: str, prompts: Sequence[Prompt], readings: Sequence[Read]) -> dict[str, dict[str, float]]:
    """A benchmark's metrics by its published rule, and by the strict twin: {"published": {...}, "strict": {...}}.

    Of rules that differ for Chinese, prompts with Chinese texts are apart: "published, zh", "strict, zh". Raises
    ValueError as `require_benchmark`.
    """
    require_benchmark(name, prompts)
    rules = dict(zip(("published", "strict"), BENCHMARKS[name], strict=True))
    if name == "cvtg_2k":
        return {rule: of([p.text for p in prompts], readings) for rule, of in rules.items()}
    if name == "chinese_word":
        characters, levels = [p.spans[0] for p in prompts], [int(p.category[0]) for p in prompts]
        return {rule: of(characters, levels, readings) for rule, of in rules.items()}
    results = {}
    by_script = [(_CHINESE.search("".join(p.spans)) is not None, p.spans) for p in prompts]
    for chinese in sorted({each for each, _ in by_script}):
        own = [(spans, read) for (each, spans), read in zip(by_script, readings, strict=True) if each == chinese]
        texts = [spans if name == "long_text" else " ".join(spans) for spans, _ in own]
        for rule, of in rules.items():
            results[f"{rule}, zh" if chinese else rule] = of(texts, [read for _, read in own], chinese)
    return results
