"""Which source the settings name."""

from datetime import UTC, datetime

import pytest

from app_srvc.errors import ConfigurationError
from app_srvc.robots.sources.choose import make_source
from app_srvc.robots.sources.demo import DemoSource
from app_srvc.robots.sources.json_service import JsonService
from app_srvc.settings import Settings

ANCHOR = datetime(2026, 3, 1, tzinfo=UTC)


def test_demo_is_the_demo_source_with_the_page_size_of_the_settings() -> None:
    settings = Settings.from_env({"SOURCE_URL": "demo:", "SOURCE_PAGE_SIZE": "6"})
    source = make_source(settings, anchor=ANCHOR)

    assert isinstance(source, DemoSource)
    assert len(source.fetch_page(None, now=ANCHOR).records) == 6


def test_an_address_is_a_web_service_named_without_its_query() -> None:
    settings = Settings.from_env(
        {"SOURCE_URL": "https://todos.example.org/v2/todos?api_key=hidden", "SOURCE_TOKEN": "t"}
    )
    source = make_source(settings, anchor=ANCHOR)

    assert isinstance(source, JsonService)
    assert source.name == "https://todos.example.org/v2/todos"
    source.close()
    source.close()


def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_source(Settings.from_env({}), anchor=ANCHOR)

    assert caught.value.problems[0].startswith("SOURCE_URL must be set")


@pytest.mark.parametrize(
    "url",
    ["", "todos", "ftp://host/x", "http://", "http:///todos", "http://user:hidden@host/", "http://host:99999/"],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JsonService(url, token=None, timeout_s=1, page_size=10, max_bytes=1000)

    assert caught.value.message.startswith("SOURCE_URL must ")
    assert "hidden" not in caught.value.message
