"""The page in a real browser: a silent console, no network, filter, sort, open, play, two screens in light and dark."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hs_data.manifests.dataset import open_dataset
from hs_data.pipeline.report.page import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def demo_page(demo_dataset: Path) -> Path:
    """The demo's page with two films."""
    return write_report(open_dataset(demo_dataset), {}, num_previews=2)


@pytest.fixture(scope="module")
def crowd_page(nasty_crowd: Path) -> Path:
    """A page with all the rows it may have, and names that try to run."""
    return write_report(open_dataset(nasty_crowd), {})


class Visit:
    """A page that was opened, and everything it complained about or asked of the network."""

    def __init__(self, browser: "Browser", path: Path, size: dict[str, int], scheme: str = "light") -> None:
        self.context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)  # type: ignore[arg-type]
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", self._note)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".tabulator-row")

    def _note(self, request: "Request") -> None:
        if not request.url.startswith(("data:", "file:")):
            self.complaints.append(request.url)

    def scroll_through(self) -> None:
        """Bring every chart into view."""
        for place in range(self.page.locator("[data-chart]").count()):
            chart = self.page.locator("[data-chart]").nth(place)
            chart.scroll_into_view_if_needed()
            chart.locator("svg").wait_for()

    def shown(self) -> str:
        return self.page.locator("#shown").inner_text()

    def cells(self, field: str) -> list[str]:
        return self.page.locator(f'.tabulator-row .tabulator-cell[tabulator-field="{field}"]').all_inner_texts()

    def is_wider_than_the_screen(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_chart_is_drawn_on_any_screen(browser, demo_page, size, scheme, tmp_path):
    visit = Visit(browser, demo_page, size, scheme)
    visit.scroll_through()
    assert not visit.is_wider_than_the_screen()
    back, ink = (
        visit.page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
    )
    brightness = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (back, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert abs(brightness[0] - brightness[1]) > 150
    visit.page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert visit.complaints == []
    visit.context.close()


def test_the_table_is_searched_filtered_and_sorted(browser, demo_page):
    visit = Visit(browser, demo_page, DESKTOP)
    assert visit.shown() == "23 of 23 rows"
    visit.page.locator("#search").fill("SOUND")
    assert visit.shown() == "6 of 23 rows"
    assert len(visit.cells("path")) == 6
    assert all("sound" in name for name in visit.cells("path"))
    visit.page.locator("#verdict").select_option("dropped")
    assert sorted(visit.cells("reason")) == ["low_sync_conf", "offset_out_of_range"]
    visit.page.locator("#search").fill("")
    visit.page.locator("#verdict").select_option("kept")
    visit.page.locator('.tabulator-col[tabulator-field="audio_lead_frames"]').click()
    leads = [float(word) for word in visit.cells("audio_lead_frames")]
    assert leads == sorted(leads)
    assert leads[0] == pytest.approx(-4, abs=1.25)
    assert leads[-1] == pytest.approx(5, abs=1.25)
    assert visit.complaints == []
    visit.context.close()


def test_a_clip_opens_plays_and_goes_on_to_the_next(browser, demo_page):
    visit = Visit(browser, demo_page, DESKTOP)
    visit.page.locator("#with-film").check()
    assert visit.shown() == "2 of 23 rows"
    first = visit.page.locator(".tabulator-row").first
    first.focus()
    first.press("Enter")
    film = visit.page.locator("dialog video")
    film.wait_for()
    film.evaluate("film => film.readyState >= 3 || new Promise(done => { film.oncanplay = done; })")
    assert film.evaluate("film => [film.videoWidth, film.videoHeight, Math.round(film.duration)]") == [256, 256, 4]
    film.evaluate("film => { film.muted = true; return film.play(); }")
    film.evaluate("film => new Promise(done => { film.ontimeupdate = () => film.currentTime > 0.4 && done(); })")
    assert film.evaluate("film => film.webkitAudioDecodedByteCount") > 1000
    assert "KEPT as" in visit.page.locator("#story").inner_text()
    assert visit.page.locator("dialog svg").count() == 3
    assert visit.page.locator("#scores dt").count() > 30
    title = visit.page.locator("#clip-title").inner_text()
    visit.page.locator("#next").click()
    assert visit.page.locator("#clip-title").inner_text() != title
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("dialog").is_visible()
    assert visit.complaints == []
    visit.context.close()


def test_a_face_of_a_contact_sheet_opens_its_clip(browser, demo_page):
    visit = Visit(browser, demo_page, PHONE)
    visit.page.locator("#sheet-offset_out_of_range summary").click()
    visit.page.locator("#sheet-offset_out_of_range .faces button").click()
    assert visit.page.locator("#clip-title").inner_text().startswith("sound_early_12.mp4")
    assert "Only kept clips" in visit.page.locator("#picture").inner_text()
    assert not visit.is_wider_than_the_screen()
    assert visit.complaints == []
    visit.context.close()


def test_thousands_of_rows_stay_quick_and_names_do_not_run(browser, crowd_page, nasty_name):
    visit = Visit(browser, crowd_page, DESKTOP)
    assert visit.shown() == "3000 of 3000 rows"
    began = time.perf_counter()
    visit.page.locator("#search").fill("onerror")
    assert visit.cells("path")[0] == nasty_name
    visit.page.locator("#search").fill("")
    visit.page.locator('.tabulator-col[tabulator-field="sharpness"]').click()
    assert float(visit.cells("sharpness")[0]) < float(visit.cells("sharpness")[-1])
    assert time.perf_counter() - began < 5
    visit.page.locator("#search").fill("onerror")
    visit.page.locator(".tabulator-row").first.click(position={"x": 30, "y": 10})
    assert visit.page.locator("#clip-title").inner_text().startswith(nasty_name[:20])
    visit.page.locator("#close").click()
    visit.page.locator("details summary", has_text="Files").click()
    visit.scroll_through()
    assert visit.page.title().endswith("hs-data report")
    assert visit.complaints == []
    visit.context.close()
