"""The chat in the browser, in a real one: headless Chromium, the real web application, a real Redis."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from bots.console.web import serve
from bots.conversation import Conversation
from quantahr.bus import Asking
from quantahr.settings import Console, Secrets, Settings
from quantahr.store import Store
from tests.fakes.scripted_worker import ScriptedWorker

pytestmark = pytest.mark.e2e

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
PATIENCE = 30
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver_path = shutil.which("chromedriver")
    assert driver_path, "these tests need Chromium: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(settings: Settings, store: Store, worker: ScriptedWorker) -> Iterator[Serve]:
    """Serve the page in a thread of its own; returns its address."""
    assert worker
    ends: list[Callable[[], None]] = []

    def start(token: str | None = None) -> str:
        loop = asyncio.new_event_loop()
        ready = threading.Event()
        address: list[str] = []
        ended = asyncio.Event()
        secrets = Secrets(quantahr_console_token=SecretStr(token) if token else None)

        async def run() -> None:
            bus = Asking(settings)
            conversation = Conversation(settings, bus, store)
            served = settings.model_copy(update={"console": Console(port=0)})
            async with serve(served, secrets, conversation) as where:
                address.append(where)
                ready.set()
                await ended.wait()
            await conversation.close(0.5)
            await bus.close()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        assert ready.wait(10)

        def end() -> None:
            loop.call_soon_threadsafe(ended.set)
            thread.join(10)

        ends.append(end)
        return address[0]

    yield start
    for end in ends:
        end()


class Page:
    """What a person does on the page, and sees."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver = driver
        driver.get_log("browser")
        driver.get(address)
        driver.execute_script("sessionStorage.clear()")
        driver.get(address)
        self.until(lambda: self.all("#prompts button"))

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def until(self, true: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: true())

    def ask(self, text: str) -> None:
        self.one("#question").send_keys(text, Keys.ENTER)

    def answers(self, count: int = 1) -> list[str]:
        """The texts of the first `count` answers, once they are whole."""
        self.until(lambda: len(self.all('.answer[aria-busy="false"]')) >= count)
        return [found.text for found in self.all(".answer .text")]

    def complaints(self) -> list[str]:
        """What the browser put into its console: blocked scripts, errors."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture
def page(browser: Any, open_page: Serve) -> Page:
    return Page(browser, open_page())


def test_a_question_is_answered_with_sources_that_unfold(page: Page) -> None:
    page.ask("How many days of leave?")
    assert page.answers() == ["You get 30 days of leave. Ask <!channel> & @here <b>nobody</b>. [1]"]
    source = page.one(".sources summary")
    assert source.text == "[1] Annual leave > Entitlement"
    assert not page.one(".sources p").is_displayed()
    source.click()
    assert "30 days of leave <a year> & may" in page.one(".sources p").text
    assert "Leave.docx, version abc123def456, effective 2026-01-01" in page.one(".sources .meta").text
    assert page.complaints() == []


def test_nothing_that_is_typed_or_quoted_becomes_markup(page: Page) -> None:
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    page.ask(attack)
    page.answers()
    assert page.one(".asked").text == attack
    assert page.driver.title == "QuantaHR"
    assert page.all(".turn img, .turn script, .turn b") == []
    assert page.complaints() == []


def test_the_answer_grows_while_it_is_written_and_can_be_stopped(page: Page) -> None:
    page.ask("slow please")
    page.until(lambda: "Sentence 1." in page.one(".answer .text").text)
    assert page.one(".answer").get_attribute("aria-busy") == "true"
    page.one(".stop").click()
    (text,) = page.answers()
    assert "Sentence 1." in text
    assert "Sentence 199." not in text


def test_a_reload_in_the_middle_of_an_answer_goes_on_and_ends_whole(page: Page) -> None:
    page.ask("slow please")
    page.until(lambda: "Sentence 2." in page.one(".answer .text").text)
    page.driver.refresh()
    page.until(lambda: "Sentence 5." in page.one(".answer .text").text)
    page.one(".stop").click()
    (text,) = page.answers()
    assert text.count("Sentence 2.") == 1
    page.driver.refresh()
    assert page.answers() == [text]


def test_a_follow_up_belongs_to_its_tab_and_survives_a_reload(page: Page) -> None:
    page.ask("How many days of leave?")
    page.answers()
    page.driver.refresh()
    page.answers()
    page.ask("and for part-timers?")
    assert page.answers(2)[1] == "Following ['How many days of leave?']: half of it."


def test_a_second_tab_is_a_conversation_of_its_own(page: Page) -> None:
    page.ask("How many days of leave?")
    page.answers()
    first, address = page.driver.current_window_handle, page.driver.current_url
    page.driver.switch_to.new_window("tab")
    try:
        page.driver.get(address)
        page.until(lambda: page.all("#prompts button"))
        page.ask("and for part-timers?")
        assert page.answers() == ["Following []: half of it."]
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)
    assert len(page.all(".turn")) == 1


def test_a_sensitive_question_is_gone_after_a_reload(page: Page) -> None:
    page.ask("I am harassed")
    assert "Ada, the counsellor" in page.answers()[0]
    page.driver.refresh()
    page.until(lambda: page.all("#prompts button"))
    assert page.all(".turn") == []
    assert "harass" not in page.driver.execute_script("return JSON.stringify({...sessionStorage})")


def test_without_an_answer_the_closest_passages_are_unfolded(page: Page) -> None:
    page.ask("Is there a parrot allowance?")
    page.answers()
    assert page.one(".closest").get_attribute("open") is not None
    assert page.one(".closest li summary").text == "Pets"


def test_a_rating_is_kept_and_a_human_is_named(page: Page, store: Store) -> None:
    page.ask("How many days of leave?")
    page.answers()
    page.one(".up").click()
    page.until(lambda: page.one(".thanks").text == "Thank you, noted.")
    assert page.one(".up").get_attribute("aria-pressed") == "true"
    page.one(".human").click()
    assert page.one(".thanks").text == "Please contact Hanna of HR (hr@example.com)."
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT rating FROM feedback").fetchall()
    assert [row[0] for row in rows] == [1]


def test_everything_is_reached_and_heard_without_a_mouse_or_a_screen(page: Page) -> None:
    page.ask("How many days of leave?")
    page.answers()
    assert page.one("[role=status]#live").get_attribute("textContent").startswith("You get 30 days")
    assert page.driver.switch_to.active_element.get_attribute("id") == "question"
    unnamed = page.driver.execute_script(
        "return [...document.querySelectorAll('button, textarea, summary, ol[aria-label]')]"
        ".filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert unnamed == 0
    page.one(".sources summary").send_keys(Keys.ENTER)
    assert page.one(".sources p").is_displayed()


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_desktop_by_day_and_night(page: Page, tmp_path: Path, *, dark: bool) -> None:
    page.ask("How many days of leave?")
    page.answers()
    page.one(".sources summary").click()
    page.ask("Is there a parrot allowance?")
    page.answers(2)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        for name, width, height in (("phone", 390, 844), ("desktop", 1280, 800)):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.driver.execute_script(wider) == 0
            page.driver.save_screenshot(str(tmp_path / f"{name}-{scheme['value']}.png"))
        background = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in background.strip("rgb()").split(","))
        assert (light < 300) == dark
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_with_a_token_only_its_bearer_gets_in_and_it_leaves_the_address(browser: Any, open_page: Serve) -> None:
    address = open_page(token="a-long-random-word")
    browser.delete_all_cookies()
    browser.get(address)
    assert "as your administrator gave it to you" in browser.page_source
    page = Page(browser, f"{address}?token=a-long-random-word")
    assert "token" not in browser.current_url
    page.ask("How many days of leave?")
    assert page.answers()[0].startswith("You get 30 days")
    browser.delete_all_cookies()
