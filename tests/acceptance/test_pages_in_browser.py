"""What a person sees and presses, in a real browser, on the whole service."""

import re
import secrets
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import DESKTOP, PHONE, Watched, open_browser
from tests.support.service import Service
from tests.support.waiting import holds_for, wait_until

# One worker of the test run has the shared service.
pytestmark = pytest.mark.xdist_group("pages")

PAGES = ("/", "/about/", "/userreg/", "/userlist/", "/todos/", "/robots/todos", "/admin/task")

Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def watched(browser: Browser, shared_service: Service) -> Iterator[Watched]:
    """A page on a desk; whatever it complains of is an error of the test."""
    context = browser.new_context(viewport=DESKTOP)
    watched = Watched(context, shared_service.base_url)
    yield watched
    context.close()
    assert watched.complaints == []


@pytest.fixture
def stopped_robot(shared_service: Service) -> Iterator[Service]:
    shared_service.stop_robot()
    yield shared_service
    shared_service.stop_robot()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_its_screen_and_asks_nobody_else_for_anything(
    browser: Browser, shared_service: Service, scheme: Scheme, viewport: dict[str, int]
) -> None:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    watched = Watched(context, shared_service.base_url)
    for path in PAGES:
        page = watched.open(path)
        expect(page.locator("h1")).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], path
        background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (_lightness(background) > 128) == (scheme == "light"), path
    assert watched.complaints == []
    context.close()


def test_a_form_is_sent_and_its_answer_changes_by_itself(watched: Watched) -> None:
    login = _login()
    page = watched.open("/userreg/")
    _fill(page, login)
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#job-id")).to_have_text(re.compile("^[0-9a-f-]{36}$"))
    expect(page.locator("#progress")).to_contain_text("QUE_USRREG")
    expect(page.locator("#progress")).to_contain_text("You are registered.")
    expect(page.locator("#job-state")).to_have_text("done")
    watched.open("/userlist/")
    expect(page.get_by_text(f"{login}@example.org")).to_be_visible()


def test_a_finished_answer_asks_no_more_and_loading_it_again_sends_nothing(
    watched: Watched,
) -> None:
    page = watched.open("/userreg/")
    _fill(page, _login())
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#job-state")).to_have_text("done")
    asked = len(watched.requests)
    assert holds_for(lambda: _pumped(page) and len(watched.requests) == asked, 2.0)
    job_id = page.locator("#job-id").inner_text()
    page.reload()
    expect(page.locator("#job-id")).to_have_text(job_id)
    assert page.url.endswith(f"/userregres/{job_id}/")


def test_a_taken_login_is_told(watched: Watched) -> None:
    login = _login()
    for words in ("You are registered.", "This login is taken."):
        page = watched.open("/userreg/")
        _fill(page, login)
        page.get_by_role("button", name="Register").click()
        expect(page.locator("#progress")).to_contain_text(words)


def test_a_form_with_a_mistake_keeps_what_was_typed(
    browser: Browser, shared_service: Service
) -> None:
    # Not watched: a browser notes an answer of 422 as an error of the page.
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{shared_service.base_url}/userreg/")
    login = _login()
    _fill(page, login)
    page.get_by_label("E-mail").fill("nobody")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_label("E-mail")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Login")).to_have_value(login)
    page.get_by_label("E-mail").fill(f"{login}@example.org")
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#progress")).to_contain_text("You are registered.")
    context.close()


def test_the_form_works_without_scripts(browser: Browser, shared_service: Service) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{shared_service.base_url}/userreg/")
    _fill(page, _login())
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#progress")).to_contain_text("You are registered.", timeout=20_000)
    context.close()


def test_the_robot_is_started_watched_and_stopped_by_buttons(
    watched: Watched, stopped_robot: Service
) -> None:
    page = watched.open("/robots/todos")
    page.get_by_label("Seconds between cycles").fill("2")
    page.get_by_label("Note").fill("started in a browser")
    page.get_by_role("button", name="Start the robot").click()
    expect(page.locator("#status")).to_contain_text("running")
    expect(page.locator("#status")).to_contain_text("started in a browser")
    expect(page.locator(".countdown")).to_have_text(re.compile(r"^(in \d+ s|now)$"))
    before = page.locator("#cycles tbody tr").count()
    expect(page.locator("#cycles tbody tr")).not_to_have_count(before)
    expect(page.locator("#cycles tbody tr").first).to_contain_text("balanced")
    page.get_by_role("button", name="Stop the robot").click()
    expect(page.locator("#status")).to_contain_text("It is stopped.")
    assert stopped_robot.robot()["state"] == "stopped"
    watched.open("/todos/")
    expect(page.locator("td[data-label=Title]").first).to_be_visible()


def test_what_is_typed_and_where_the_keyboard_is_survive_an_update(
    watched: Watched, stopped_robot: Service
) -> None:
    page = watched.open("/robots/todos")
    page.get_by_label("Note").fill("half a sen")
    asked = len(watched.requests)
    wait_until(lambda: _pumped(page) and len(watched.requests) >= asked + 2, 10)
    expect(page.get_by_label("Note")).to_be_focused()
    expect(page.get_by_label("Note")).to_have_value("half a sen")


def test_somebody_else_s_start_is_seen_without_loading_again(
    watched: Watched, stopped_robot: Service
) -> None:
    page = watched.open("/robots/todos")
    expect(page.locator("#start")).to_be_visible()
    assert stopped_robot.start_robot(timedelta=60).status_code == 200
    expect(page.locator("#stop")).to_be_visible()


def test_a_hidden_tab_asks_for_nothing(watched: Watched) -> None:
    page = watched.open("/robots/todos")
    asked = len(watched.requests)
    wait_until(lambda: _pumped(page) and len(watched.requests) > asked, 10)
    _set_hidden(page, is_hidden=True)
    page.wait_for_load_state("networkidle")
    asked = len(watched.requests)
    assert holds_for(lambda: _pumped(page) and len(watched.requests) == asked, 3.5)
    _set_hidden(page, is_hidden=False)
    wait_until(lambda: _pumped(page) and len(watched.requests) > asked, 5)


def test_a_page_that_gets_no_answer_says_how_old_it_is(
    browser: Browser, shared_service: Service
) -> None:
    # Not watched: the requests that fail here are the test's own doing.
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{shared_service.base_url}/robots/todos")
    context.route("**/*", lambda route: route.abort())
    expect(page.locator("#stale")).to_contain_text("No answer since", timeout=20_000)
    context.unroute_all()
    expect(page.locator("#stale")).to_be_hidden(timeout=20_000)
    context.close()


def test_the_queues_and_the_home_page_show_the_parts_alive(watched: Watched) -> None:
    page = watched.open("/")
    for name in ("QUE_USRREG", "QUE_ROBOT", "QUE_OUTMSG", "QUE_TASKS"):
        row = page.locator("#parts li", has_text=f"Workers of {name}")
        expect(row).to_contain_text(re.compile(r"[1-9]\d* up"))
    watched.open("/admin/task")
    expect(page.locator("section.queue")).to_have_count(4)


def test_everything_is_reached_by_keyboard(watched: Watched) -> None:
    page = watched.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    names = []
    for _ in range(7):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert names[1:] == ["Register", "Users", "Todos", "Robot", "Queues", "About"]


def _login() -> str:
    return f"user-{secrets.token_hex(5)}"


def _fill(page: Page, login: str) -> None:
    page.get_by_label("First name").fill("Olena")
    page.get_by_label("Last name").fill("Koval")
    page.get_by_label("Login").fill(login)
    page.get_by_label("E-mail").fill(f"{login}@example.org")
    page.get_by_label("Phone").fill("+380441234567")


def _pumped(page: Page) -> bool:
    """Let the page's events arrive: they come only while the browser is spoken with."""
    page.evaluate("0")
    return True


def _set_hidden(page: Page, *, is_hidden: bool) -> None:
    page.evaluate(
        """isHidden => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def _lightness(colour: str) -> float:
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    return sum(numbers) / 3
