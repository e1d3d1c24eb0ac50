"""Delete all parts, or those named.

Volumes, secrets and the image that was built stay, so that deploy brings back what was there.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Iterable

from names import names_of, present_among
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
    parts = choose_parts(arguments.parts) if arguments.parts else list(PARTS)
    app_name = arguments.app_name or DEFAULT_APP_NAME
    say(f"Deleting from the project {oc.namespace}:")
    deleted = []
    # The last part to come is the first to go: workers stop while Redis and the ledger still answer.
    for part in reversed(parts):
        if not part.on_request:
            _delete_labelled(oc, part, app_name, with_data=arguments.data)
        elif not _delete_named(oc, part, app_name, is_named=bool(arguments.parts)):
            continue
        deleted.append(part.name)
    say(f"Deleted: {' '.join(reversed(deleted))}.")
    if not arguments.data:
        say("Volumes, secrets and images were kept; --data deletes them too.")
    return 0


def _delete_labelled(oc: Oc, part: Part, app_name: str, *, with_data: bool) -> None:
    _delete(oc, part.name, part.kinds - KEPT, part.labels(app_name))
    if with_data:
        kept = part.kinds & KEPT
        _delete(oc, part.name, kept - IMAGE_KINDS, part.labels(app_name))
        _delete(oc, part.name, kept & IMAGE_KINDS, labels(app_name, "image"))


def _delete(oc: Oc, name: str, kinds: Iterable[str], selector: str) -> None:
    wanted = ",".join(sorted(kinds)).lower()
    if wanted:
        step = f"{name}: deleting"
        oc.change(step, "delete", wanted, "-l", selector, "--ignore-not-found", "--wait")


def _delete_named(oc: Oc, part: Part, app_name: str, *, is_named: bool) -> bool:
    """Delete a part that was brought up on request; return whether it was there."""
    names = names_of(oc, part, app_name)
    # Where all parts are meant, a cluster that does not know such objects has none.
    found = names if is_named else present_among(oc, names)
    if found:
        oc.change(f"{part.name}: deleting", "delete", *found, "--ignore-not-found", "--wait")
    return bool(found)
