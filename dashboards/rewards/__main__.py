"""`python -m dashboards.rewards FOLDER --store annotations`: the Rewards page, for the leads of an annotation store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.annotate import served_store
from dashboards.annotate.server import ROUTES, serve
from dashboards.rewards import comparison_rows, served_comparison
from preference_data.store.store import Store

SCRIPT = Path(__file__).with_name("app.py")
OWN = ("/session", "/health")
"""Routes of the annotation pages that this page needs: the same cookie lets the same people in."""


def main(arguments: list[str] | None = None) -> int:
    """Serve the page to this machine; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.rewards", description=__doc__)
    parser.add_argument("folder", type=Path, help="what glyphlab compare-rewards wrote")
    parser.add_argument("--store", default="annotations", help="annotation store, whose leads may see the page")
    parser.add_argument("--images", type=Path, help="folder of its images, where the store is on PostgreSQL")
    parser.add_argument("--address", default="127.0.0.1", help="to listen on")
    parser.add_argument("--port", type=int, default=8502)
    parser.add_argument("--base-path", default="", help="path under which a proxy shows the page, such as /rewards")
    args = parser.parse_args(arguments)
    try:
        comparison_rows.read(args.folder)
        served_store.base_path(args.base_path)
        if "://" not in args.store and not (Path(args.store) / "store.sqlite").exists():
            raise ValueError(f"there is no annotation store in {args.store}, so nobody could sign in; make one with "
                             "glyphlab annotate, or name another with --store")  # fmt: skip
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    sys.argv = sys.argv[:1]  # Streamlit reads it too
    served_store.use(Store.open(args.store, args.images), base=args.base_path)
    served_comparison.use(args.folder)
    print(f"open http://{args.address}:{args.port}{served_store.here().base}", flush=True)
    serve(args.address, args.port, SCRIPT, [r for r in ROUTES if r.path in OWN])
    return 0


if __name__ == "__main__":
    sys.exit(main())
