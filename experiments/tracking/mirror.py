"""Mirrors a run's folder into a tracker, from outside the process that trains: nothing there waits for it.

    RUN/tracking/NAME/       what the tracker writes
    RUN/tracking/NAME.json   how far the mirror is, so that it goes on there and tells nothing twice
    RUN/tracking/NAME.log    why it ended, where it failed

A mirror of a run that goes on looks into the folder every few seconds, and ends with the run. One that hangs after that
is ended by its own watchdog. Imports no torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.record.leftovers import is_locked
from experiments.record.record import EVIDENCE, RUN, Run, read_run
from experiments.record.whole_files import write_json
from experiments.tracking.trackers import Tracker, installation, open_tracker

TRACKING = "tracking"
EVERY, WAIT, HANGS = 2.0, 600.0, 120.0
"""Seconds between looks into the folder, that a run may take to begin, and that a tracker may take to end."""


class Mirror:
    """Tells a tracker what it was not told yet. Opens the tracker when there is something to tell."""

    def __init__(self, folder: Path, name: str, online: bool = False) -> None:
        self.folder, self.name, self._online = folder, name, online
        self._state = folder / TRACKING / f"{name}.json"
        known = json.loads(self._state.read_text(encoding="utf-8")) if self._state.exists() else {}
        self.sent: dict[str, Any] = {
            "settings": False,
            "step": -1,
            "seconds": -1.0,
            "images": [],
            "alarms": [],
            **known,
        }
        self._tracker: Tracker | None = None

    @property
    def tracker(self) -> Tracker:
        """The tracker, opened."""
        if self._tracker is None:
            path = self.folder / TRACKING / self.name
            self._tracker = open_tracker(self.name, path, self.folder.resolve().name, self._online)
        return self._tracker

    def catch_up(self, run: Run) -> int:
        """Tell what is new in a run; how many things that were."""
        try:
            return self._settings(run) + self._metrics(run) + self._images(run) + self._alarms(run)
        finally:
            if self._tracker is not None:  # also where it failed half way: what was told is not told again
                write_json(self._state, self.sent)

    def close(self) -> None:
        """Close the tracker, where it was opened."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None

    def _settings(self, run: Run) -> int:
        if self.sent["settings"]:
            return 0
        self.tracker.settings({**run.config, "git": run.git, "command": run.command})
        self.sent["settings"] = True
        return 1

    def _metrics(self, run: Run) -> int:
        step, seconds = self.sent["step"], self.sent["seconds"]
        # a run that went on from a checkpoint does updates again, later than it did them first
        new = [line for line in run.metrics if number(line["step"]) > step or number(line["seconds"]) > seconds]
        for line in new:
            done = int(line["step"] or 0)
            values = {name: number(value) for name, value in line.items() if name != "step"}
            self.tracker.metrics(done, moment(run, line["seconds"]), values)
            self.sent |= {"step": done, "seconds": line["seconds"]}
        return len(new)

    def _images(self, run: Run) -> int:
        count = 0
        for sample in run.samples:
            key = sample.picture.name
            if key not in self.sent["images"] and sample.picture.exists():
                name = f"samples/{key.removesuffix('.png').rpartition('_')[2]}"
                seconds = next((line["seconds"] for line in run.metrics if line["step"] == sample.step), None)
                self.tracker.image(sample.step, moment(run, seconds), name, sample.picture, sample.caption)
                self.sent["images"].append(key)
                count += 1
        return count

    def _alarms(self, run: Run) -> int:
        count = 0
        for check in run.monitors:
            for alarm in check.get("alarms", ()):
                rule = alarm["rule"]
                key = f"{check['step']}:{rule}"
                if key in self.sent["alarms"]:
                    continue
                when = moment(run, check.get("seconds"))
                text = f"{rule} changed by {alarm['change']}, threshold {alarm['threshold']}: {alarm['reason']}"
                self.tracker.alarm(check["step"], when, rule, text)
                for i, shown in enumerate(alarm.get("pictures", ())):
                    file = self.folder / EVIDENCE / shown["picture"]
                    if file.exists():
                        name = f"alarms/{rule}/{i:02d}"
                        self.tracker.image(check["step"], when, name, file, shown["caption"])
                self.sent["alarms"].append(key)
                count += 1
        return count


def runs_in(folder: Path) -> list[Path]:
    """The folder, or those of its stages where these have the updates. Raises FileNotFoundError without a run."""
    stages = [path.parent for path in sorted(folder.glob("*/run.json"))]
    return stages if stages and not read_run(folder).metrics else [folder]


def number(value: Any) -> float:
    """null is NaN; "inf" and "-inf" are texts in the file."""
    return float("nan") if value is None else float(value)


def moment(run: Run, seconds: float | None) -> float:
    """When a run was so many seconds old, as seconds since 1970: without the pauses between its sessions."""
    return datetime.fromisoformat(run.started).timestamp() + (seconds or 0.0)


def mirror(folder: Path, name: str, online: bool = False) -> int:
    """Tell a tracker what it does not know of a run, finished or not; how many things it was. Raises as `read_run`."""
    run, one = read_run(folder), Mirror(folder, name, online)
    try:
        count = one.catch_up(run)
    finally:
        one.close()
    log_of(folder, name).unlink(missing_ok=True)
    return count


def follow(
    folder: Path, name: str, online: bool = False, after: int = 0, every: float = EVERY, wait: float = WAIT
) -> int:
    """Mirror a run until a session of work ends that is not among its first `after`; how many things were told.

    Nothing is written before the run has its first update. Raises ValueError where no session begins in `wait` seconds.
    """
    began, metrics, one = time.monotonic(), 0, Mirror(folder, name, online)
    try:
        while True:
            live = is_locked(folder)
            run = read_run(folder) if (folder / RUN).exists() else None
            over = run is not None and len(run.sessions) > after and not (live or is_locked(folder))
            if run and (run.metrics or over):
                metrics += one.catch_up(run)
            if over:
                return metrics
            if not live and time.monotonic() - began > wait:
                raise ValueError(f"no run began in {folder} within {wait:.0f} seconds, so there is nothing to track")
            time.sleep(every)
    finally:
        one.close()


def end_when_it_hangs(folder: Path) -> None:
    """End this process where it is still there long after nobody works in the folder any more."""

    def watch() -> None:
        last = time.monotonic() + WAIT
        while time.monotonic() < last + HANGS:
            time.sleep(EVERY)
            if is_locked(folder):
                last = time.monotonic()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def require_installed(names: Sequence[str]) -> None:
    """Raises ValueError for a tracker whose package is not installed, without importing it."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"the tracker {name} is not installed: {installation(name)}")


def start_sidecars(folder: Path, names: Sequence[str]) -> None:
    """Start the trackers of a run that begins or goes on in `folder`; of several ranks, the first one does it.

    Raises ValueError for one that is not installed, and for a run of several stages.
    """
    if (folder / RUN).exists() and "experiment" not in read_run(folder).config:
        raise ValueError(f"--track: {folder} is a run of several stages; afterwards: glyphlab track {folder}")
    if os.environ.get("RANK", "0") == "0":
        require_installed(names)
        start_side(folder, names)


def failures(folder: Path, names: Sequence[str]) -> list[str]:
    """What to tell, after a run, of trackers that failed beside it."""
    reasons = {name: log_of(folder, name) for name in names}
    return [
        f"the tracker {name} failed, which cost the run nothing: {log.read_text(encoding='utf-8').splitlines()[-1]} "
        f"({log}); when that is mended: glyphlab track {folder} --to {name}"
        for name, log in reasons.items() if log.exists()
    ]  # fmt: skip


def log_of(folder: Path, name: str) -> Path:
    """The file that says why a tracker failed."""
    return folder / TRACKING / f"{name}.log"


def start_side(folder: Path, names: Sequence[str]) -> list[int]:
    """Start a process for each tracker, which follows the run that begins in `folder`; their ids.

    They belong to no terminal, so Ctrl-C reaches the run alone, and nobody waits for them.
    """
    started = []
    sessions = len(read_run(folder).sessions) if (folder / RUN).exists() else 0
    for name in names:
        line = [sys.executable, "-m", "experiments.tracking.mirror", str(folder.resolve()), name, str(sessions)]
        log_of(folder, name).unlink(missing_ok=True)  # of an earlier failure
        nothing, paths = subprocess.DEVNULL, {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            process = subprocess.Popen(
                line, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, env={**os.environ, **paths}
            )
        except OSError as error:
            print(f"the tracker {name} could not be started: {error}; the run goes on without", file=sys.stderr)
            continue
        process.returncode = 0  # nobody waits for it, and that is no mistake
        started.append(process.pid)
    return started


def main(arguments: Sequence[str]) -> int:
    """Follow a run in a process of its own; why it failed is in tracking/NAME.log."""
    folder, name = Path(arguments[0]), arguments[1]
    os.nice(10)
    end_when_it_hangs(folder)
    try:
        follow(folder, name, after=int(arguments[2]))
    except BaseException:
        if (folder / RUN).exists():
            (folder / TRACKING).mkdir(exist_ok=True)
            log_of(folder, name).write_text(traceback.format_exc(), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
