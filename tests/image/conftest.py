"""The image that was built, and one installation of it with its servers."""

from collections.abc import Iterator

import pytest

from tests.image.containers import Image
from tests.image.installation import Installation, image_that_was_built, installed


@pytest.fixture(scope="session")
def image() -> Image:
    return image_that_was_built()


@pytest.fixture(scope="session")
def installation(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installed(image, tmp_path_factory.mktemp("image")) as running:
        yield running
