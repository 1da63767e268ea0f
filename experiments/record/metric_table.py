"""Says what every name in metrics.jsonl and monitors.jsonl means. A test holds that what runs log stands here.

A part in capitals stands for any name: `part/NAME` is `part/ocr` in a run that is rewarded by `ocr`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WATCHED = "runs with `monitors`"
RATIO = "GRPO, Guard, DPPO, AWM"
ONLINE = "algorithms that generate their own images"
PAIRWISE = "DPO, DPO with ties, online DPO"


class Metric(NamedTuple):
    """What a logged number means, and who logs it."""

    meaning: str
    by: str = "every run"


METRICS: dict[str, Metric] = {
    "step": Metric("number of the update, from 0"),
    "seconds": Metric("time that the run has been worked on, interruptions left out"),
    "images_per_second": Metric(
        "images that the update sampled or learned from, over all ranks, for each second of the update; saving and "
        "looking are left out"
    ),
    "mfu": Metric(
        "model FLOPs utilisation: FLOPs that the passes of the update need, without what is computed again, as a share "
        "of what the card could do in its time; left out where the card's peak (`peak_tflops`) or the passes are not "
        "known"
    ),
    "memory_gb": Metric(
        "most memory of the update in 10^9 bytes: what torch held on the GPU of rank 0; without a GPU, what the "
        "process has held since it began"
    ),
    "loss": Metric("what the update minimised, as a mean over micro-batches and ranks"),
    "grad_norm": Metric("norm of the whole gradient before clipping"),
    "lr": Metric("learning rate of AdamW in this update"),
    "skipped": Metric("1 when something in the update was not finite: all ranks left it out, and weights stayed"),
    "reconstruction": Metric("error of the decoded image", "autoencoder training"),
    "edge": Metric("error of the decoded image's edges", "autoencoder training"),
    "psnr": Metric("peak signal-to-noise ratio of decoded images in dB, higher is better", "autoencoder training"),
    "flow_error": Metric(
        "mean squared error of the predicted velocity", "pretraining, fine-tuning, AWM, RWR, best of n"
    ),
    "reward": Metric("mean reward of all images generated for the update, also of groups that were replaced", ONLINE),
    "unjudged": Metric("share of the generated images that some reward could not score; they teach nothing", ONLINE),
    "unjudged/CAUSE": Metric("number of images without a score for this cause, since the last line", ONLINE),
    "part/NAME": Metric("mean of one part of the reward over the images that it scored", ONLINE),
    "cost/NAME": Metric("what one scored image cost: seconds of one worker, requests, tokens", ONLINE),
    "zero_spread/NAME": Metric(
        "share of groups in which this part of the reward gave all images of the prompt one value, so that "
        "it told none of them apart and taught nothing; 0 is good, at 1 the part is idle. `zero_spread/reward` is the "
        "same for the whole reward. Logged in runs with monitors", ONLINE,
    ),
    "groups_without_spread": Metric(
        "share of the generated groups in which nothing can be compared: all alike, or fewer than two scored", ONLINE
    ),
    "window": Metric("first stochastic step of the rollout; it must move", ONLINE),
    "passed_over": Metric("prompts that waited, being always or never done right; only with `success`", ONLINE),
    "tries": Metric("rollouts of new prompts that the update took; only with `tries` above 1", ONLINE),
    "ratio": Metric("mean likelihood ratio of new to old policy at the last update of a rollout", RATIO),
    "ratio_gap": Metric("its largest distance from 1", RATIO),
    "ratio_first": Metric("`ratio` before the first update of the rollout: exactly 1", RATIO),
    "ratio_gap_first": Metric(
        "`ratio_gap` before the first update: exactly 0; else rollout and update compute differently",
        RATIO,
    ),
    "ratio/step_N": Metric("`ratio` of one denoising step, in runs with monitors", "GRPO, Guard, DPPO"),
    "clip_share": Metric("share of samples outside of the clip range, or masked", RATIO),
    "clip_share/step_N": Metric("`clip_share` of one denoising step, in runs with monitors", "GRPO, Guard, DPPO"),
    "log_ratio": Metric("mean of the centred log-ratio: 0 before the first update", "Guard"),
    "divergence": Metric("mean divergence between the new and the old policy's step", "DPPO"),
    "kl": Metric(
        "KL divergence to the reference: mean over steps (alignment, with `beta` above 0), or to the standard normal "
        "distribution (autoencoder training)", "GRPO and its variants, autoencoder training",
    ),
    "kl_rate": Metric("the KL per unit of noise level crossed: what `beta` weighs", "GRPO and its variants"),
    "moved": Metric("mean squared distance of the velocity from the old policy's", "NFT, AWM"),
    "towards": Metric("error of the implicit positive policy, weighted by the reward", "NFT"),
    "mirrored": Metric("error of the implicit negative policy, weighted by 1 - reward", "NFT"),
    "drift": Metric("mean squared distance from the reference's velocity (NFT), change of the error (KTO)", "NFT, KTO"),
    "weight_most": Metric("largest weight of an image in the update", "RWR, best of n"),
    "implicit_accuracy": Metric("share of answers that the model agrees with", f"{PAIRWISE}, KTO"),
    "margin": Metric("mean of what is inside the sigmoid of the loss", PAIRWISE),
    "chosen_drift": Metric("mean change of the chosen image's error; above 0 it is fitted worse than before", PAIRWISE),
    "rejected_drift": Metric("mean change of the rejected image's error", PAIRWISE),
    "tie_gap": Metric("mean gap that the model sees between the images of a tie; it should not grow", "DPO with ties"),
    "ties": Metric("share of ties in the update", "DPO with ties"),
    "good_reward": Metric("mean implicit reward of images called good", "KTO"),
    "bad_reward": Metric("mean implicit reward of images called bad", "KTO"),
    "baseline": Metric("the point z that good and bad images are measured from", "KTO"),
}  # fmt: skip
"""Of metrics.jsonl, a line an update."""
MEASURED = ("seconds", "images_per_second", "mfu", "memory_gb")
"""Metrics of the machine: two runs that are otherwise equal differ in them."""

MONITORED: dict[str, Metric] = {
    "step": Metric("update after which the prompts were sampled; -1 before the first", WATCHED),
    "trained": Metric("the reward that is trained on; rises further than a gold reward: alarm", WATCHED),
    "gold/NAME": Metric("a reward that nothing is trained on; the first is 1 - NED by the second OCR engine", WATCHED),
    "read/NAME": Metric("1 - NED by the OCR engine of the trained reward", WATCHED),
    "disagreement": Metric("1 - (1 - NED) between the two engines' readings, so 0 where they read alike", WATCHED),
    "extra_text": Metric("letters read beyond those asked for, as a share of them", WATCHED),
    "duplicate_text": Metric("share of runs of three letters that come again, less the word's own", WATCHED),
    "text_area": Metric("share of the image that is no ground; with `text_boxes`, of a detector's boxes", WATCHED),
    "dark": Metric("share of pixels with luma below 0.25", WATCHED),
    "edges": Metric("share of pixels whose luma steps by more than 0.1 to a neighbour", WATCHED),
    "colour_entropy": Metric("entropy in bits of colours told apart in 64 classes", WATCHED),
    "saturation": Metric("mean saturation of HSV", WATCHED),
    "diversity": Metric("root mean square distance of two images of one prompt", WATCHED),
    "unjudged": Metric("share of images without a score", WATCHED),
    "drift": Metric("mean squared velocity difference to the start, (M3)", WATCHED),
    "velocity_norm": Metric("length of the velocity over that of the start, (M4)", WATCHED),
    "not_risen_since": Metric("update of the highest gold reward, where training ended for want of patience", WATCHED),
    "loop/NAME": Metric("mean of that name in metrics.jsonl since the last line", WATCHED),
    "alarms": Metric("rules that were broken: change, error, threshold, reason, images that changed most", WATCHED),
}
"""Of monitors.jsonl, a line a look at held-out prompts."""


def explained(name: str, metrics: dict[str, Metric]) -> Metric | None:
    """Return what a logged name means, or None where no row of the table fits it."""
    for row, metric in metrics.items():
        if re.fullmatch(re.sub(r"[A-Z]+", ".+", re.escape(row)), name):
            return metric
    return None
