"""`python -m dashboards.annotate`: serve a store. People start it with `glyphlab annotate`, which also fills one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.annotate import served_store
from dashboards.annotate.server import serve
from preference_data.store.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Open the store and serve it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.annotate", description=__doc__)
    parser.add_argument("--store", required=True, help="folder of the store, or postgresql://user@host/database")
    parser.add_argument("--images", type=Path, help="folder of the images, where the store is on PostgreSQL")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where forms look for runs and images")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--base-path", default="", help="path under which a proxy shows the pages, such as /annotate")
    parser.add_argument("--new-role", choices=["annotator"], help="let unknown OIDC identities in, with this role")
    args = parser.parse_args(arguments)
    sys.argv = sys.argv[:1]  # Streamlit reads it too
    served_store.base_path(args.base_path)  # before anything is opened
    served_store.use(Store.open(args.store, args.images), args.runs, args.new_role, args.base_path)
    serve(args.address, args.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
