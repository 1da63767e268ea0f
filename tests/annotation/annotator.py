"""People who label as fast as they can, as threads of a process of their own.

    python -m tests.annotation.annotator PLACE PICTURES CAMPAIGN NAMES...

One thread a name; prints a line for every receipt. With `--die-inside` the process is killed inside its first answer's
transaction, after the answer was written and before it was committed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

from preference_data import accounts, answering
from preference_data.answering import answer
from preference_data.answers import Given
from preference_data.assignment import claim, save_draft
from preference_data.store import Store


def label(store: Store, who: int, campaign: int, said: list[int], failures: list[str]) -> None:
    """Claim and answer until nothing is left; receipts go to `said`."""
    try:
        while True:
            got = claim(store, who, campaign, hold=2)
            if got.status in ("finished", "closed"):
                return
            if not got.views:
                time.sleep(0.01)
                continue
            said.append(answer(store, who, got.views[0].token, Given("left", duration_ms=900), uuid.uuid4().hex).answer)
    except Exception as error:  # a thread's error must reach the test
        failures.append(repr(error))


def label_together(store: Store, people: list[int], campaign: int) -> list[int]:
    """One thread a person; the receipts of all. Raises RuntimeError with what went wrong."""
    said: list[int] = []
    failures: list[str] = []
    threads = [threading.Thread(target=label, args=(store, who, campaign, said, failures)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[:3])
    return said


def die(*_: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    place, pictures, campaign, *names = sys.argv[1:]
    store = Store.open(place, Path(pictures))
    inside = "--die-inside" in names
    ids = store.read(lambda db: [accounts.by_name(db, name).id for name in names if name != "--die-inside"])
    if inside:
        token = claim(store, ids[0], int(campaign)).views[0].token
        save_draft(store, ids[0], token, {"outcome": "left"})
        answering.settle = die  # type: ignore[assignment]
        answer(store, ids[0], token, Given("left"), "key-of-the-dead")
    for receipt in label_together(store, ids, int(campaign)):
        print(receipt, flush=True)
