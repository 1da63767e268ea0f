"""Items of a campaign sampled from models: every prompt by each of them, from the same noise."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from base_model.generate import generate_chunks, prompted
from base_model.policy_model import PolicyModel
from experiments.evaluation.evaluate import fixed_noise
from experiments.preferences.from_people import keep_latent
from preference_data.campaign.campaigns import Item
from preference_data.campaign.sources import finished, last_update
from preference_data.image_files import source_readers
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store.store import Store


def sample_items(
    store: Store, prompts: Sequence[Prompt], models: Sequence[tuple[str, PolicyModel, str]], seed: int, copies: int
) -> list[Item]:
    """Items that compare each model, (name, model, run), with every other; one model with itself.

    `copies` images a prompt and model. Their latents are kept in the store's folder.
    """
    samples = {
        (name, index): _images(store, model, name, run, prompt, seed + index, copies)
        for name, model, run in models
        for index, prompt in enumerate(prompts)
    }
    items = []
    for index, prompt in enumerate(prompts):
        if len(models) == 1:
            couples = list(itertools.combinations(samples[models[0][0], index], 2))
        else:
            couples = [
                couple
                for (a, *_), (b, *_) in itertools.combinations(models, 2)
                for couple in zip(samples[a, index], samples[b, index], strict=True)
            ]
        items += [
            Item(prompt, couple, labels=tuple(_label(ref) for ref in couple))
            for couple in couples
            if couple[0].sha256 != couple[1].sha256
        ]
    return items


def _label(ref: ImageRef) -> str:
    """The maker's name with the update of its run, where there is a run."""
    made = ref.provenance
    return finished(made.model, made.step) if (Path(made.run) / "metrics.jsonl").exists() else made.model


def _images(
    store: Store, model: PolicyModel, name: str, run: str, prompt: Prompt, seed: int, copies: int
) -> list[ImageRef]:
    sampler = model.sampler
    shown = model.read_images(source_readers([prompt.sources] * copies))
    requested = prompted(model, [prompt.text] * copies, sampler.guidance, shown)
    chunks = generate_chunks(model, requested, fixed_noise(model, copies, seed), sampler)
    refs, last = [], last_update(Path(run))
    for latent, image in ((x, image) for _, x0, images in chunks for x, image in zip(x0, images, strict=True)):
        content = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(content, format="PNG")
        sha, width, height = store.images.add(content.getvalue(), f"an image by {name}")
        keep_latent(store.images.root, sha, latent.clone())
        made = Provenance(name, "", seed, sampler.steps, sampler.guidance, run, last)
        refs.append(ImageRef(sha, str(store.images.path(sha)), width, height, made))
    return refs
