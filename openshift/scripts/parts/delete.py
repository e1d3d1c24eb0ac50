"""Delete all parts, or those named.

Volumes, secrets and the image that was built stay, so that deploy brings back what was there.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from oc import Oc, say
from table import DEFAULT_APP_NAME, KEPT, PARTS, Part, choose_parts, labels

# The objects of the web part that belong to the image, and are labelled so.
IMAGE_KINDS = frozenset({"ImageStream", "BuildConfig"})


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        action="store_true",
        help="also delete volumes, secrets and images. What they hold is lost",
    )


def run(arguments: Namespace, oc: Oc) -> int:
    parts = choose_parts(arguments.parts)
    if not arguments.parts:
        parts = [part for part in PARTS if not part.on_request or _is_there(oc, part, arguments)]
    app_name = arguments.app_name or DEFAULT_APP_NAME
    # The last part to come is the first to go: workers stop while Redis and the ledger still answer.
    for part in reversed(parts):
        _delete(oc, part.name, part.kinds - KEPT, part.labels(app_name))
        if arguments.data:
            kept = part.kinds & KEPT
            _delete(oc, part.name, kept - IMAGE_KINDS, part.labels(app_name))
            _delete(oc, part.name, kept & IMAGE_KINDS, labels(app_name, "image"))
    say(f"Deleted: {' '.join(part.name for part in parts)}.")
    if not arguments.data:
        say("Volumes, secrets and images were kept; --data deletes them too.")
    return 0


def _is_there(oc: Oc, part: Part, arguments: Namespace) -> bool:
    """Whether a part that not every cluster can have is on this one; some do not know its kinds."""
    selector = part.labels(arguments.app_name or DEFAULT_APP_NAME)
    kinds = ",".join(sorted(part.kinds)).lower()
    return bool((oc.attempt("get", kinds, "-l", selector, "-o", "name") or "").strip())


def _delete(oc: Oc, name: str, kinds: Iterable[str], selector: str) -> None:
    wanted = ",".join(sorted(kinds)).lower()
    if wanted:
        oc.change(
            f"{name}: deleting", "delete", wanted, "-l", selector, "--ignore-not-found", "--wait"
        )
