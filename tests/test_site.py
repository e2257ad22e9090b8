"""The site as a reader opens it: built whole, every link in it followed, and looked at in a browser."""

import importlib.util
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(importlib.util.find_spec("myst_nb") is None, reason="needs the extra `site`")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver here")
DESKTOP, PHONE = (1440, 900), (390, 844)
LOOKED_AT = (
    "index.html", "docs/index.html", "docs/training.html", "docs/which.html", "docs/troubleshooting.html",
    "docs/results.html", "docs/reference/fields.html", "docs/reference/api.html", "docs/reference/models.html",
    "source/src/muybridge/api.py.html", "search.html?q=pack",
)  # fmt: skip


def sphinx(root, out):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", out.with_name("cache")]
    return subprocess.run(
        [*command, "-c", "docs/site", ".", out], cwd=root, capture_output=True, text=True, check=False
    )


def build(out):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        out.with_name("cache"),
        "-c",
        "docs/site",
        ".",
        out,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Page(HTMLParser):
    """What a page leads to (`links`), what it loads by itself (`loads`), and the places in it (`ids`)."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif (
            tag == "link"
            and found.get("href")
            and found.get("rel") not in ("canonical", "index", "search", "next", "prev")
        ):
            self.loads.append(found["href"])
        elif found.get("src"):
            self.loads.append(found["src"])


def test_the_site_builds_without_a_warning_and_whole(tmp_path):
    """Every link and anchor leads to a place in it, nothing is loaded from elsewhere, and every page of the index is there."""
    site = build(tmp_path / "site")
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(pages) > 50
    faults = []
    for path, page in pages.items():
        for target in page.links + page.loads:
            url = urlsplit(target)
            if url.scheme in ("http", "https", "mailto"):
                if target in page.loads:
                    faults.append(f"{path.name} loads {target}")
                continue
            if url.scheme == "data":
                continue
            there = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not there.is_relative_to(site) or not there.is_file():
                faults.append(f"{path.name} leads to {target}, which is not in the site")
            elif url.fragment and there in pages and unquote(url.fragment) not in pages[there].ids:
                faults.append(f"{path.name} leads to {target}, and there is no such place")
    assert not faults, "\n".join(sorted(set(faults)))
    for style in (*site.rglob("*.css"), *site.rglob("*.js")):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"""(?:url\(|@import|import\s|fetch\(|src\s*=)\s*["']?https?:""", text), style.name

    index = ROOT / "docs" / "index.md"
    listed = re.findall(r"^\s*- \[[^]]*\]\(([^)#]+)\.(?:md|ipynb)\)", index.read_text(encoding="utf-8"), flags=re.M)
    beside = re.search(r'<div class="sidebar-tree">.*?</div>', (site / "docs" / "index.html").read_text("utf-8"), re.S)[
        0
    ]
    assert len(listed) > 40
    assert [name for name in listed if f'href="{name}.html"' not in beside] == []
    start = (site / "index.html").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    row = re.search(r"<!-- results -->.*?`(\w+)` \| ([\d.]+ \[[\d., ]+\])", readme, flags=re.S)
    assert row[1] in start
    assert row[2] in start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# One\n", ""),
        ("# One\n\n[two](two.md)\n", "two.md"),
        ("# One\n\n[x](#nowhere)\n", "nowhere"),
        ("# One\n\n![x](no.png)\n", "no.png"),
    ],
    ids=["sound", "no such page", "no such heading", "no such picture"],
)
def test_a_page_with_a_dead_link_stops_the_build(text, said, tmp_path):
    """What the test above rests on."""
    why = stopped(tmp_path, text, index="- [one](one.md): a page.")
    assert said in why
    assert bool(why) == bool(said)


def test_a_page_that_the_index_lacks_stops_the_build(tmp_path):
    assert "one.md" in stopped(tmp_path, "# One\n", index="- nothing yet")


def stopped(folder, text, *, index):
    """What stops the build of a site of one page."""
    docs = folder / "copy" / "docs"
    shutil.copytree(ROOT / "docs" / "site", docs / "site", dirs_exist_ok=True)
    shutil.copy(ROOT / "docs" / "report.png", docs)
    readme = re.sub(r"\]\((?!https?:)", "](https://example.org/", (ROOT / "README.md").read_text())
    (folder / "copy" / "README.md").write_text(readme)
    (docs / "index.md").write_text(f"# Docs\n\n## Start\n\n{index}\n")
    (docs / "one.md").write_text(text)
    done = sphinx(folder / "copy", folder / "out")
    assert (done.returncode == 0) == (not done.stderr)
    return done.stderr


@contextmanager
def browser(size):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(tmp_path_factory.mktemp("built") / "site")


@pytest.mark.slow
@in_a_browser
def test_the_search_works_from_a_folder(site):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def first(driver, words):
        driver.get((site / "search.html").as_uri() + "?q=" + words)
        found = WebDriverWait(driver, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li a"))
        return found[0].get_attribute("href").removeprefix(site.as_uri() + "/")

    with browser(DESKTOP) as driver:
        assert first(driver, "tsm") == "docs/networks/tsm.html"
        assert first(driver, "muybridge.train") == "docs/reference/api.html#train"
        assert first(driver, "--seeds").startswith("docs/reference/commands.html#")
        driver.get((site / "index.html").as_uri())
        box = driver.find_element(By.CSS_SELECTOR, ".sidebar-search")
        box.send_keys("temporal shift")
        box.submit()
        found = WebDriverWait(driver, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li a"))
        pieces = WebDriverWait(driver, 20).until(lambda d: d.find_elements(By.CSS_SELECTOR, "#search-results li p"))
        assert "shift" in pieces[0].text.lower()
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
        found[0].click()
        headings = [heading.text.lower() for heading in driver.find_elements(By.CSS_SELECTOR, "h1, h2")]
        assert any("temporal shift" in heading for heading in headings), f"{driver.current_url} comes first"


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_drawings_follow_the_button_of_the_page(site, theme, tmp_path):
    from PIL import Image

    with browser(DESKTOP) as driver:
        media = [{"name": "prefers-color-scheme", "value": "light" if theme == "dark" else "dark"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        driver.get((site / "docs" / "networks" / "tsm.html").as_uri())
        driver.execute_script(f"document.body.dataset.theme = '{theme}'")
        drawing = driver.find_element("css selector", "img[src$='.svg']")
        driver.execute_script("arguments[0].scrollIntoView()", drawing)
        driver.save_screenshot(tmp_path / "page.png")
        corner = driver.execute_script("return [arguments[0].getBoundingClientRect().x]", drawing)[0]
    paper = Image.open(tmp_path / "page.png").convert("L").getpixel((round(corner) + 6, 450))
    assert (paper < 64) == (theme == "dark")


@pytest.mark.slow
@in_a_browser
def test_the_results_on_the_start_page_are_seen_whole(site):
    """On a desk all columns, on a telephone those up to the accuracy."""
    column = "return [...document.querySelectorAll('.table-wrapper')][0].querySelectorAll('th')[arguments[0]]"
    for size, last in ((DESKTOP, 6), (PHONE, 2)):
        with browser(size) as driver:
            driver.get((site / "index.html").as_uri())
            edges = (
                driver.execute_script(f"{column}.getBoundingClientRect().right", last),
                driver.execute_script("return document.querySelector('.table-wrapper').getBoundingClientRect().right"),
            )
            assert edges[0] <= edges[1] + 1


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_is_wider_than_the_screen(site, size):
    with browser(size) as driver:
        for name in LOOKED_AT:
            driver.get((site / name.partition("?")[0]).as_uri() + "?" * ("?" in name) + name.partition("?")[2])
            assert driver.execute_script("return document.documentElement.scrollWidth") <= size[0], name
            hidden = driver.execute_script(
                "return [...document.querySelectorAll('article *')].filter(e => e.getClientRects().length"
                " && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.table-wrapper, pre, .highlight'))"
                ".map(e => e.tagName + ' ' + e.textContent.slice(0, 60)).slice(0, 3)"
            )
            assert hidden == [], f"{name}: cut off at the edge"
