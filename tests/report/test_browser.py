"""The page in a real browser: nothing goes wrong, and what the reader does changes what is shown."""

import contextlib
import os
import re
import shutil
import time

import pytest

from jbn.report import write_page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
SETTLED = "document.body.dataset.settled === 'yes'"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        own = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield own
        own.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1366):
    """A page that has drawn everything; nothing was written to its console, and it asked for nothing."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)  # a machine may do other things too
    wrong, asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_function(SETTLED)
    yield page
    page.wait_for_function(SETTLED)
    assert wrong == []
    foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert foreign == []
    page.close()


@pytest.fixture(scope="module")
def halved(tmp_path_factory, recorded):
    """27 configurations, of which a policy stopped 18 and some diverged."""
    folder = tmp_path_factory.mktemp("page")
    write_page(
        recorded(folder / "run", configs=27, segments=9, diverged=0.1, halved=(2,)), folder / "report.html"
    )
    return (folder / "report.html").as_uri()


def shown(page):
    """How many configurations figures show, as the page says it."""
    page.wait_for_function(SETTLED)
    return int(re.search(r"\d+", page.locator("#shown").text_content())[0])


def lines(page, plot):
    """Curves that a figure has, without the ones drawn thick: as many as gaps between them."""
    page.wait_for_function(SETTLED)
    return page.evaluate(
        "id => document.getElementById(id).data.filter(t => t.rows && t.mode === 'lines')"
        ".reduce((sum, t) => sum + t.rows.length, 0)",
        plot,
    )


def test_all_parts_are_drawn(browser, halved):
    with opened(browser, halved) as page:
        names = ["Learning curves", "The best configurations", "Parallel coordinates", "What mattered",
                 "One hyper-parameter at a time", "Segments and rungs", "Batch norm of the winner",
                 "Planned and actual", "Run it again"]  # fmt: skip
        assert set(page.locator("main h2:visible").all_text_contents()) == set(names)
        for plot in ("curves", "coordinates", "slices", "importance", "timeline", "statistics"):
            assert page.locator(f"#{plot}-plot svg, #{plot}-plot canvas").count() > 0, plot
        named = page.locator("#coordinates-plot .annotation-text").all_text_contents()
        assert {"learningrate", "beta1", "hiddenunits", "val.accuracy"} <= set(named)
        assert shown(page) == 27


def test_the_best_so_many_are_left(browser, halved):
    with opened(browser, halved) as page:
        before = lines(page, "curves-plot")
        page.fill("#top", "5")
        assert shown(page) == 5
        assert lines(page, "curves-plot") < before
        page.click("#reset")
        assert shown(page) == 27
        assert lines(page, "curves-plot") == before


def test_statuses_can_be_hidden(browser, halved):
    with opened(browser, halved) as page:
        page.uncheck("[data-status=stopped]")
        assert 0 < shown(page) < 27
        names = page.evaluate("document.getElementById('curves-plot').data.map(t => t.name)")
        assert "stopped by the policy" not in names


def test_a_brush_keeps_what_crosses_it_in_all_figures(browser, halved):
    with opened(browser, halved) as page:
        strip = page.locator(".brush[data-axis=learning_rate]")
        strip.scroll_into_view_if_needed()
        box = strip.bounding_box()
        middle = box["x"] + box["width"] / 2
        page.mouse.move(middle, box["y"] + box["height"] * 0.9)
        page.mouse.down()
        page.mouse.move(middle, box["y"] + box["height"] * 0.5, steps=5)
        page.mouse.up()
        left = shown(page)
        assert 0 < left < 27
        rates = page.evaluate(
            "visible().map(row => content.axes.find(a => a.name === 'learning_rate').values[row])"
        )
        assert len(rates) == left
        assert max(rates) < 0.1  # the upper half of the axis, from 1e-4 to 1, is out
        page.mouse.click(middle, box["y"] + box["height"] * 0.7)  # a click lets go
        assert shown(page) == 27


def test_ranges_can_be_typed(browser, halved):
    with opened(browser, halved) as page:
        page.locator("#ranges summary").click()
        page.get_by_label("learning rate, least").fill("0.01")
        page.get_by_label("learning rate, least").press("Enter")
        left = shown(page)
        assert 0 < left < 27
        values = "content.axes.find(a => a.name === 'learning_rate').values"
        assert left == page.evaluate(f"Array.from({values}).filter(v => v >= 0.01).length")


def test_curves_are_smoothed_and_on_a_log_axis(browser, halved):
    with opened(browser, halved) as page:

        def rough():
            """How much the best curve goes up and down."""
            page.wait_for_function(SETTLED)
            return page.evaluate(
                "(() => { const t = document.getElementById('curves-plot').data.at(-1).y;"
                "return [...t].slice(2).reduce((s, v, i) => s + Math.abs(v - 2 * t[i + 1] + t[i] || 0), 0); })()"
            )

        first = rough()
        page.locator("#smoothing").fill("0.9")
        assert rough() < first
        page.locator("#smoothing").fill("0")
        page.set_checked("#curves-log", not page.is_checked("#curves-log"))
        assert rough() != first


def test_a_configuration_is_marked_in_all_figures(browser, halved):
    with opened(browser, halved) as page:
        before = page.evaluate("document.getElementById('coordinates-plot').data.length")
        page.locator("#best-table tbody tr").nth(3).locator("input, button, td").first.click()
        page.wait_for_function(SETTLED)
        assert page.evaluate("document.getElementById('coordinates-plot').data.length") == before + 1


@pytest.mark.parametrize("width", [1366, 420])
def test_nothing_is_wider_than_the_window(browser, halved, width):
    with opened(browser, halved, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def seconds(begun):
    return time.monotonic() - begun


@pytest.mark.alone
def test_a_thousand_configurations_with_a_hundred_segments_are_usable(browser, halved, tmp_path, recorded):
    """With 400 times the points, it opens in less than ten times the time of a small one; a filter is faster."""
    folder = recorded(tmp_path / "run", configs=1000, segments=100, diverged=0.05, halved=(10, 30))
    write_page(folder, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 10e6
    begun = time.monotonic()
    with opened(browser, halved):
        small = seconds(begun)
    begun = time.monotonic()
    with opened(browser, (tmp_path / "report.html").as_uri()) as page:
        large = seconds(begun)
        assert large < 10 * small
        begun = time.monotonic()
        page.fill("#top", "50")
        page.wait_for_function("visible().length === 50 && document.body.dataset.settled === 'yes'")
        assert seconds(begun) < large / 2


def test_a_page_follows_its_run(browser, tmp_path, recorded, served):
    """A served page has news without a click."""
    folder = recorded(tmp_path / "run", configs=6, segments=6, ended=False, written=2)
    with served(folder) as address, opened(browser, address) as page:
        assert page.evaluate("content.segments") == 2
        shutil.rmtree(folder)
        recorded(folder, configs=6, segments=6)
        page.wait_for_function("content.segments === 6")
        assert page.evaluate("content.state") == "done"
