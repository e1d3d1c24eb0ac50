"""What the image weighs, what is in it, how fast its parts start, and what they take when idle.

Run by `build_and_run.sh --measure`, since that makes the image and a network for it. Prints Markdown.
"""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil

from tests.image.containers import Container, Image
from tests.image.installation import Installation, image_that_was_built, installed
from tests.support.manifests import APPLICATION

ROUNDS = 5
SETTLED_AFTER_S = 10.0


def main() -> None:
    image = image_that_was_built()
    print("| packages of Python in it | MB |\n|---|---|")
    for name, size in packages(image):
        print(f"| {name} | {size / 1e6:.1f} |")
    with tempfile.TemporaryDirectory() as folder, installed(image, Path(folder)) as running:
        print(
            "\n| part | ready after (median of 5), s | slowest, s | idle, MB |\n|---|---|---|---|"
        )
        for part in APPLICATION:
            starts = sorted(start_again(running, part) for _ in range(ROUNDS))
            time.sleep(SETTLED_AFTER_S)
            memory = pss_mb(running.containers[part])
            print(f"| {part} | {median(starts):.2f} | {starts[-1]:.2f} | {memory:.0f} |")


def packages(image: Image) -> Iterator[tuple[str, int]]:
    """Name and version of what is installed, and the bytes of its files, the largest first."""
    (folder,) = image.root.glob("opt/app-srvc/lib/python3.*/site-packages")
    found = []
    for record in folder.glob("*.dist-info/RECORD"):
        sizes = re.findall(r",(\d+)$", record.read_text(), re.MULTILINE)
        found.append((record.parent.name.removesuffix(".dist-info"), sum(map(int, sizes))))
    yield from sorted(found, key=lambda each: -each[1])


def start_again(running: Installation, part: str) -> float:
    """Seconds from the start of its process to the first time that it was ready."""
    running.containers[part].stop(120)
    began = time.monotonic()
    running.start(part)
    return running.wait_until_ready(part) - began


def pss_mb(container: Container) -> float:
    """Memory of all its processes; what several share is counted once."""
    first = psutil.Process(container.pid)
    total_kb = 0
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            (kb,) = re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)
            total_kb += int(kb)
    return total_kb / 1024


if __name__ == "__main__":
    main()
