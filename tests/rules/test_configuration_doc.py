"""docs/configuration.md is made from the table of settings, and is current."""

from pathlib import Path

from app_srvc.settings import Settings
from app_srvc.settings_doc import configuration_page

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_configuration_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), (
        "Run: python -m app_srvc.settings_doc > docs/configuration.md"
    )


def test_the_configuration_page_has_every_setting_with_its_description() -> None:
    page = configuration_page()
    for name, field in Settings.model_fields.items():
        assert f"| `{name.upper()}`" in page
        assert field.description and field.description in page


def test_the_configuration_page_shows_no_default_of_a_secret() -> None:
    for name, field in Settings.model_fields.items():
        if "secret" in name or "token" in name or name.endswith(("_psw", "_url")):
            assert field.default is None, f"{name.upper()} has a default that would be public"
