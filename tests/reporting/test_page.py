"""The page in a real browser, moved and clicked with a real pointer. Marked slow: needs Chromium and its driver (Debian's
packages chromium and chromium-driver)."""

import json
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
from made_runs import PAIRS, made_scores, make_run

from muybridge.analysis.comparison import compared
from muybridge.data.sampling import ORDERS
from muybridge.recipe import replace as recipe_with
from muybridge.reporting.charts.style import FADED, contrast
from muybridge.reporting.report import Report, page_of
from muybridge.reporting.sections import Picture, Section, Table
from muybridge.storage import evaluations
from muybridge.storage.scores import ViewGrid
from muybridge.video.strips import jpeg_bytes, strip

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver here"),
]
DESKTOP, TABLET, PHONE = 1440, 800, 390

LOOK = """
const wide = box => box.scrollWidth - box.clientWidth;
const boxOf = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
const cross = (a, b) => a[0] < b[2] - 1 && b[0] < a[2] - 1 && a[1] < b[3] - 1 && b[1] < a[3] - 1;
const shown = text => text.textContent.trim() && text.getAttribute("opacity") !== "0" && getComputedStyle(text).opacity !== "0"
  && !/rotate/.test(text.getAttribute("transform") || "");
const crossing = [];
const charts = [...document.querySelectorAll(".chart")];
for (const chart of charts) {
  const texts = [...chart.querySelectorAll("svg text")].filter(shown).map(text => [text.textContent, boxOf(text)]);
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => { if (cross(a[1], b[1])) crossing.push([chart.id, a[0], b[0]]); }));
}
const clipped = charts.flatMap(chart => {
  const drawing = chart.querySelector("svg"), edge = boxOf(drawing);
  return [...drawing.querySelectorAll("text, .role-legend-symbol path, .mark-symbol path")]
    .filter(part => part.getClientRects().length && (part.tagName === "path" || part.textContent.trim()))
    .map(part => [part.textContent || "a symbol", boxOf(part)])
    .filter(([, box]) => box[0] < edge[0] - 1 || box[1] < edge[1] - 1 || box[2] > edge[2] + 1 || box[3] > edge[3] + 1)
    .map(([text]) => [chart.id, text]);
});
const outside = charts.flatMap(chart => {
  const drawing = chart.querySelector("svg"), view = drawing.viewBox.baseVal, inverse = drawing.getScreenCTM().inverse();
  return [...drawing.querySelectorAll("text")].filter(shown).flatMap(text => {
    const box = text.getBBox(), matrix = inverse.multiply(text.getScreenCTM());
    const corners = [[0, 0], [1, 0], [0, 1], [1, 1]]
      .map(([x, y]) => new DOMPoint(box.x + x * box.width, box.y + y * box.height).matrixTransform(matrix));
    const isInside = corners.every(one => one.x >= view.x - 1 && one.y >= view.y - 1
      && one.x <= view.x + view.width + 1 && one.y <= view.y + view.height + 1);
    return isInside ? [] : [[chart.id, text.textContent]];
  });
});
const texts = [...document.querySelectorAll("body *")].filter(element => element.getClientRects().length
  && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()));
const blocks = [...document.querySelector("main").querySelectorAll(
  ".charts > figure, .scroll, .tools, .more, .caption, h2, p:not([hidden]), .key, .pictures figure")]
  .filter(block => block.getClientRects().length && !block.closest("details:not([open])"));
const boxes = blocks.map(boxOf);
const piled = [];
blocks.forEach((a, i) => blocks.slice(i + 1).forEach((b, j) => {
  if (!a.contains(b) && !b.contains(a) && cross(boxes[i], boxes[i + 1 + j])) {
    piled.push([a.textContent.slice(0, 40), b.textContent.slice(0, 40)]);
  }
}));
return {
  overflow: wide(document.documentElement),
  empty: charts.filter(chart => !(chart.querySelector("svg")?.getBoundingClientRect().width > 50)).length,
  charts: charts.length, crossing, piled, clipped, outside,
  small: texts.filter(text => {
    const matrix = text.getScreenCTM?.();
    return parseFloat(getComputedStyle(text).fontSize) * (matrix ? Math.hypot(matrix.a, matrix.b) : 1) < 11.99;
  }).map(text => text.textContent.slice(0, 40)),
  families: [...new Set(texts.filter(text => !text.closest("pre, code")).map(text => getComputedStyle(text).fontFamily))],
  shortened: charts.flatMap(chart => [...chart.querySelectorAll(".role-legend-label text")]
    .filter(text => text.textContent.includes("…")).map(text => [chart.id, text.textContent])),
  unsaid: charts.flatMap(chart => [...chart.querySelectorAll(":is(.role-axis-label, .role-legend-label) text")]
    .filter(text => text.firstChild?.textContent.endsWith("…") && !text.querySelector("title"))
    .map(text => [chart.id, text.textContent])),
  scrolling: charts.filter(chart => wide(chart) > 1).map(chart => chart.id),
  cut: [...document.querySelectorAll(".scroll")].filter(box => box.getClientRects().length && wide(box) > 1).length,
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Six settings with three seeds each, and all that a report can hold but frames of videos."""
    folder = tmp_path_factory.mktemp("page")
    runs = [
        make_run(
            folder / f"{model}-{frames}-{seed}", model=model, seed=seed, videos=240, views=1, pairs=PAIRS, epochs=12,
            accuracy=accuracy + frames / 200 + seed / 100, macs=macs * frames, params=params,
            changes={"clip.num_frames": frames, "model.temporal_pooling": model == "s3d_resnet50"},
            speed={
                "forward_clips_per_s": 4e9 / macs / frames, "peak_memory_bytes": params * 20, "max_batch_size": 512,
                "max_batch_train_clips_per_s": 12.5, "max_batch_forward_clips_per_s": 4e9 / macs / frames,
            },
        )
        for model, accuracy, macs, params in [
            ("tam_resnet18", 0.6, 2e9, 11.2e6), ("tam_resnet50", 0.7, 4e9, 23.7e6), ("s3d_resnet50", 0.75, 5e9, 27.5e6),
        ]
        for frames in (8, 16)
        for seed in (0, 1, 2)
    ]  # fmt: skip
    for run in runs[:6]:
        run.diagnosis_folder.mkdir()
        for order in ORDERS:
            run.scores().save(run.diagnosis_folder / f"{order}.npz")
        (run.diagnosis_folder / "diagnosis.json").write_text(json.dumps({
            "split": "test", "num_frames": 8, "accuracy": dict.fromkeys(ORDERS, 0.5),
            "largest_change": dict.fromkeys(ORDERS[1:], 0.0),
        }))  # fmt: skip
    for run in runs[:6]:
        for sampling in ("uniform", "dense"):
            kept = replace(made_scores(run.scores().correct(), views=10), grid=ViewGrid(sampling, 10, 1))
            changed = recipe_with(run.recipe(), {"evaluation.num_clips": 10, "clip.sampling": sampling})
            name = evaluations.name_of(run, changed, split="test", checkpoint="last")
            evaluations.keep(run, name, kept, changed, split="test", checkpoint="last", cost=run.cost())
    made = Report.of({"set": compared(runs)}, beside="mini_ssv2")
    made.write(folder / "report.html")
    return made, folder / "report.html"


def emulate(driver, *, media="", scheme="light", motion="no-preference"):
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def resize(driver, width):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE,
    })  # fmt: skip


@contextmanager
def browser(address, *, width=DESKTOP):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-component-update",
        "disable-sync", "hide-scrollbars", "disable-quic",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        emulate(driver)
        resize(driver, width)
        driver.get(address)
        wait(lambda: driver.execute_script("return document.body.dataset.ready") == "yes")
        yield driver
        assert [line["message"] for line in driver.get_log("browser")] == []
    finally:
        driver.quit()


def wait(until, seconds=60):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [DESKTOP, TABLET, PHONE])
def test_nothing_lies_on_anything_else_at_any_width(page, width):
    made, file = page
    with browser(file.as_uri(), width=width) as driver:
        for scheme in ("light", "dark"):
            emulate(driver, scheme=scheme)
            seen = driver.execute_script(LOOK)
            assert seen["charts"] == sum(len(section.figures) for section in made.chapters[0].sections)
            assert (seen["overflow"], seen["empty"]) == (0, 0)
            assert seen["crossing"] == []
            assert seen["piled"] == []
            assert seen["clipped"] == [], "nothing in a drawing lies outside of it"
            assert seen["outside"] == [], "no text lies outside the view box"
            assert seen["shortened"] == [], "legends are whole"
            assert seen["scrolling"] == []
            assert seen["small"] == []
            assert len(seen["families"]) == 1, "charts have the page's font"
            assert seen["cut"] == 0 or width < DESKTOP
            colors = driver.execute_script("""
                const rgb = (element, name) => getComputedStyle(element)[name];
                const body = document.body;
                return [rgb(body, "backgroundColor"), [
                  rgb(body, "color"), rgb(document.querySelector(".caption"), "color"),
                  rgb(document.querySelector("summary"), "color"),
                  ...[...document.querySelectorAll(
                    ".chart svg :is(.role-axis-label, .role-title) text, .chart svg .mark-text:not([class*=counts]) text"
                  )].map(text => rgb(text, "fill")),
                ], rgb(document.querySelector("#contents"), "backgroundColor"),
                [...document.querySelectorAll("#contents :is(a, button)")].map(one => rgb(one, "color"))];
            """)
            paper, contents = as_hex(colors[0]), as_hex(colors[2])
            assert (paper == "#ffffff") == (scheme == "light")
            for behind, inks in ((paper, colors[1]), (contents, colors[3])):
                for color in set(map(as_hex, inks)):
                    assert contrast(color, behind) >= 4.5, (color, behind)  # WCAG 2.2, 1.4.3


def as_hex(rgb):
    parts = [int(float(part)) for part in rgb[rgb.index("(") + 1 : -1].split(",")[:3]]
    return "#" + "".join(f"{part:02x}" for part in parts)


def test_hovering_names_a_model_and_a_click_isolates_it(page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    made, file = page
    model = made.comparisons["set"].models[0].name
    with browser(file.as_uri()) as driver:
        marks = driver.find_elements(By.CSS_SELECTOR, '#cost-macs, section .chart [aria-roledescription="point"]')
        mark = next(m for m in marks if f"model: {model};" in m.get_attribute("aria-label"))
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
        ActionChains(driver).move_to_element(mark).perform()
        tip = driver.find_element(By.ID, "vg-tooltip-element")
        wait(lambda: model in tip.text, 5)
        assert str(made.comparisons["set"].models[0].accuracy) in tip.text

        def opacities():
            """Of every symbol of every chart, by its model."""
            found = driver.execute_script("""
                return [...document.querySelectorAll('.chart [aria-roledescription="circle"]')].map(mark => [
                  /model: ([^;]*)/.exec(mark.getAttribute("aria-label"))?.[1], Number(mark.getAttribute("opacity") ?? 1)]);
            """)
            return {name: {value for other, value in found if other == name} for name, _ in found if name}

        assert all(max(values) > FADED for values in opacities().values())
        ActionChains(driver).click(mark).perform()
        wait(lambda: driver.execute_script("return document.body.dataset.isolated") == model, 5)
        wait(lambda: all(values == {FADED} for name, values in opacities().items() if name != model), 5)
        assert min(opacities()[model]) > FADED
        assert driver.find_element(By.ID, "isolated").text == f"Only {model} stands out. Show all"
        pressed = driver.find_elements(By.CSS_SELECTOR, '.key button[aria-pressed="true"]')
        assert {button.text for button in pressed} == {model}
        ActionChains(driver).send_keys(Keys.ESCAPE).perform()
        wait(lambda: driver.execute_script("return document.body.dataset.isolated") == "", 5)
        wait(lambda: all(max(values) > FADED for values in opacities().values()), 5)

        button = driver.find_elements(By.CSS_SELECTOR, ".key button")[1]
        other = button.text
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        ActionChains(driver).click(button).perform()
        wait(lambda: driver.execute_script("return document.body.dataset.isolated") == other, 5)


def test_any_two_models_are_held_against_each_other_on_the_page(page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    made, file = page
    models = made.comparisons["set"].models
    with browser(file.as_uri()) as driver:
        form = driver.find_element(By.CSS_SELECTOR, ".vega-bindings:has(select)")
        chart = form.find_element(By.XPATH, "ancestor::*[contains(@class, 'chart')]")

        def gains():
            bars = chart.find_elements(By.CSS_SELECTOR, '[aria-roledescription="bar"]')
            labels = [bar.get_attribute("aria-label") for bar in bars]
            parts = [dict(part.rsplit(": ", 1) for part in label.split("; ")) for label in labels]
            return {part["class"]: float(part["gain"].replace("−", "-")) for part in parts}

        first, second = (Select(box) for box in form.find_elements(By.TAG_NAME, "select"))
        assert (first.first_selected_option.text, second.first_selected_option.text) == (models[0].name, models[1].name)
        for a, b in ((0, 1), (5, 2)):
            first.select_by_visible_text(models[a].name)
            second.select_by_visible_text(models[b].name)
            expected = models[a].class_accuracy_K - models[b].class_accuracy_K
            known = dict(zip(made.comparisons["set"].classes, expected, strict=True))
            wait(lambda known=known: gains() == pytest.approx(known, abs=2e-3), 5)


def test_text_from_data_is_text(tmp_path):
    """Scripts, templates, expressions, markup and control characters in every name that a report shows."""
    from selenium.webdriver import ActionChains

    odd = [
        "<img src=x onerror=window.PWN=1>", "</script><script>window.PWN=2</script>",
        "{{7*7}}{% if 1 %}'\"`;window.PWN=3//\u2028<!--<script>",
        "datum.model", "[/b]run", "\x1b[31mA\x07\u202e",
    ]  # fmt: skip
    runs = []
    for seed in (0, 1, 2):
        for model in ("<b onmouseover=window.PWN=5>:f", "tsm_resnet_tiny"):
            name = f"run<svg onload=window.PWN=6>{seed}{model[:2]}".replace("/", "_")
            run = make_run(
                tmp_path / name, model=model, seed=seed, classes=odd, accuracy=0.5 + seed / 10, groups=12,
                pairs=((odd[0], odd[1]),), changes={"data.manifest": "/x/<script>window.PWN=7</script>.csv"},
            )  # fmt: skip
            scores = run.scores()
            ids_N = np.array([f'=1"><svg onload=window.PWN=4>{one}' for one in scores.ids_N])
            run.save_scores(
                "test", replace(scores, ids_N=ids_N, groups_N=np.array([f"<i>{g}" for g in scores.groups_N]))
            )
            runs.append(run)
    title = "</title><script>window.PWN=9</script>"
    Report.of({"<script>window.PWN=8</script>": compared(runs)}, title=title).write(tmp_path / "report.html")
    with browser((tmp_path / "report.html").as_uri()) as driver:
        assert driver.title == title
        marks = driver.find_elements("css selector", ".chart svg path, .chart svg rect")
        for mark in marks[:: max(1, len(marks) // 40)]:
            with suppress(Exception):  # what has no size cannot be pointed at
                ActionChains(driver).move_to_element(mark).perform()
        assert driver.execute_script("return window.PWN") is None
        assert (
            driver.execute_script(
                "return document.querySelectorAll('img[src=x], main svg[onload], b[onmouseover]').length"
            )
            == 0
        )
        assert driver.execute_script("return document.scripts.length") == 2
        shown = driver.execute_script("return document.body.textContent")
        assert odd[0] in shown
        assert "{{7*7}}" in shown


def test_it_opens_from_disk_and_asks_for_nothing(page):
    _, file = page
    with browser(file.as_uri()) as driver:
        asked = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in asked if not name.startswith(("data:", file.as_uri()))] == []


# --- the page around the charts

RATES = ("120 k", "1.5 M", "900", "–", "2.25 G", "< 0.001")
MIDDLES = ("0.5", "0.75", "0.25", "0.9", "0.125", "0.6")


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory):
    """A page without charts, as `muybridge doctor` writes: a short table, a long one with a foot, a strip, a command."""
    rows = [[f"model-{n}", f"{MIDDLES[n % 6]} [0.{n:02d}, 0.99]", RATES[n % 6], "ab"[n % 2]] for n in range(40)]
    foot = [["chance", "0.100", "–", "–"], ["majority class", "0.200", "–", "–"]]
    header = ["model", "accuracy [95 %]", "rate", "letter"]
    frames = np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 60 * 80 * 3).reshape(6, 60, 80, 3)
    parts = [
        Section("Answer", "Take it.", (("91 %", "[88, 94]", "of videos right"),), ("It is the best.",),
                ("muybridge predict RUN VIDEO",), kind="verdict"),
        Section("Questions", tables=(Table(["question", "answer", "why", "command"],
                [["Is it so?", "yes", "it is", "–"], ["Is it?", "can't tell", "few", "muybridge diagnose RUN"]], "words"),),
                kind="questions"),
        Section("Short", tables=(Table(header, rows[:8]),), caption="A row a model."),
        Section("Long", text=("Text. " * 80,), tables=(Table(header, rows + foot, foot=2),)),
        Section("Frames", pictures=(Picture("one", "six frames", jpeg_bytes(strip(frames, height=60)), 6),
                                    Picture("key", "no frames", jpeg_bytes(frames[0]))), caption="From left to right."),
        *(Section(f"More {n}", text=("Text. " * 400,)) for n in range(3)),
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("plain") / "plain.html"
    file.write_text(page_of(parts, "Plain", "plain.files"), encoding="utf-8")
    return rows, file


def test_long_tables_are_sorted_and_filtered(plain_page):
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    rows, file = plain_page
    with browser(file.as_uri()) as driver:
        assert len(driver.find_elements(By.CSS_SELECTOR, "input[type=search]")) == 1, "of the long table alone"
        table = driver.find_element(By.CSS_SELECTOR, "#long table")
        box = driver.find_element(By.CSS_SELECTOR, "#long input")
        more = driver.find_element(By.CSS_SELECTOR, "#long .more")
        headings = table.find_elements(By.CSS_SELECTOR, "th button")

        def shown(column=0):
            found = driver.execute_script(
                "return [...arguments[0].tBodies[0].rows].filter(row => row.getClientRects().length)"
                ".map(row => row.cells[arguments[1]].textContent)", table, column
            )  # fmt: skip
            if column == 0:
                assert found[-2:] == ["chance", "majority class"], "what is set apart stays last"
            return found[:-2]

        def orders():
            return [th.get_attribute("aria-sort") for th in table.find_elements(By.TAG_NAME, "th")]

        assert shown() == [row[0] for row in rows[:15]]
        more.click()
        assert shown() == [row[0] for row in rows]

        headings[1].click()
        assert orders() == ["none", "descending", "none", "none"]
        assert shown() == [row[0] for row in sorted(rows, key=lambda row: -float(row[1].split()[0]))]
        headings[1].send_keys(Keys.ENTER)
        assert orders()[1] == "ascending"
        assert shown() == [row[0] for row in sorted(rows, key=lambda row: float(row[1].split()[0]))]
        headings[1].click()
        assert (orders(), shown()) == (["none"] * 4, [row[0] for row in rows])

        headings[2].click()
        assert list(dict.fromkeys(shown(2))) == ["2.25 G", "1.5 M", "120 k", "900", "< 0.001", "–"]
        headings[0].click()
        assert shown()[:3] == ["model-0", "model-1", "model-2"], "numbers in names by their value"

        box.send_keys("MODEL-3 b")
        assert shown() == [name for name, *_, letter in rows if name.startswith("model-3") and letter == "b"]
        assert "6 of 40 rows" in driver.find_element(By.CSS_SELECTOR, "#long .count").text
        box.clear()
        box.send_keys(" ")
        assert len(shown()) == 40


def test_the_contents_mark_the_section_in_view(plain_page):
    from selenium.webdriver.common.by import By

    _, file = plain_page
    with browser(file.as_uri()) as driver:
        marked = "#contents a[aria-current]"
        assert driver.find_element(By.CSS_SELECTOR, marked).text == "Answer"
        driver.find_element(By.LINK_TEXT, "Frames").click()
        wait(lambda: driver.find_element(By.CSS_SELECTOR, marked).text == "Frames", 5)
        assert driver.execute_script("return document.querySelector('#contents').getBoundingClientRect().top") == 0

        resize(driver, PHONE)
        opener = driver.find_element(By.CSS_SELECTOR, "#contents button")
        wait(opener.is_displayed, 5)
        link = driver.find_element(By.LINK_TEXT, "Long") if driver.find_elements(By.LINK_TEXT, "Long") else None
        assert link is None or not link.is_displayed()
        opener.click()
        assert opener.get_attribute("aria-expanded") == "true"
        driver.find_element(By.LINK_TEXT, "Long").click()
        wait(lambda: opener.text == "Long", 5)
        assert opener.get_attribute("aria-expanded") == "false"
        covered = "const top = document.querySelector('#long h2').getBoundingClientRect().top;"
        assert driver.execute_script(covered + "return top >= document.querySelector('#contents').offsetHeight")


def test_a_strip_plays_when_it_is_pressed_or_pointed_at(plain_page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    _, file = plain_page
    with browser(file.as_uri()) as driver:
        wait(lambda: driver.find_elements(By.CSS_SELECTOR, ".player"), 5)
        [player] = driver.find_elements(By.CSS_SELECTOR, ".player")
        assert driver.find_element(By.CSS_SELECTOR, ".frames img").is_displayed(), "the strip stays"

        def playing():
            return driver.execute_script("return getComputedStyle(arguments[0]).animationName", player) == "play"

        assert not playing()
        ActionChains(driver).move_to_element(player).perform()
        assert playing()
        emulate(driver, motion="reduce")
        assert not playing(), "not by itself for those who asked for less motion"
        player.click()
        assert player.get_attribute("aria-pressed") == "true"
        assert playing()
        # every frame in turn, and nothing between: the strip is moved by whole frames
        places = driver.execute_script("""
            const [animation] = arguments[0].getAnimations(), { duration } = animation.effect.getComputedTiming();
            animation.pause();
            return [...Array(6).keys()].map(n => {
              animation.currentTime = (n + 0.5) / 6 * duration;
              return parseFloat(getComputedStyle(arguments[0]).backgroundPositionX);
            });
        """, player)  # fmt: skip
        width = driver.execute_script("return parseFloat(arguments[0].style.backgroundSize)", player)
        whole = width / (6 * 80 + 5 * 2) * 82
        assert places == pytest.approx([-n * whole for n in range(6)], abs=0.01)


def test_the_policy_lets_nothing_in(plain_page):
    """Scripts, styles and addresses that a name might smuggle in are refused by the browser itself."""
    _, file = plain_page
    with browser(file.as_uri()) as driver:
        refused = driver.execute_async_script("""
            const done = arguments[0], seen = [];
            addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
            const add = (name, of) => document.body.append(Object.assign(document.createElement(name), of));
            add("script", { textContent: "window.PWN = 1" });
            add("style", { textContent: "body { display: none }" });
            add("img", { src: "http://127.0.0.1:9/x.png" });
            document.body.insertAdjacentHTML("beforeend", "<b onclick='window.PWN = 2'>b</b><p style='color: red'>p</p>");
            document.querySelector("b[onclick]").click();
            add("iframe", { src: "data:text/html,x" });
            fetch("http://127.0.0.1:9/").catch(() => {});
            setTimeout(() => {
              seen.push(window.PWN === undefined ? "nothing ran" : "it ran", getComputedStyle(document.body).display);
              done(seen);
            }, 500);
        """)  # fmt: skip
        assert {"script-src-elem", "script-src-attr", "style-src-elem", "style-src-attr", "img-src", "frame-src",
                "connect-src", "nothing ran"} <= set(refused)  # fmt: skip
        assert "none" not in refused
        driver.get_log("browser")  # holds these refusals


def test_paper_has_all_and_only_the_content(page):
    from selenium.webdriver.common.by import By

    _, file = page
    with browser(file.as_uri(), width=TABLET) as driver:
        emulate(driver, media="print", scheme="dark")
        driver.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert driver.find_elements(By.CSS_SELECTOR, "details:not([open])") == []
        assert not driver.find_element(By.ID, "contents").is_displayed()
        assert not any(one.is_displayed() for one in driver.find_elements(By.CSS_SELECTOR, ".tools, .more, .player"))
        assert as_hex(driver.execute_script("return getComputedStyle(document.body).backgroundColor")) == "#ffffff"
        cut = driver.execute_script("""
            return [...document.querySelectorAll(".chart svg")].filter(drawing => {
              const box = drawing.getBoundingClientRect(), room = drawing.closest("figure").getBoundingClientRect();
              return box.right > room.right + 1 || box.height > 24 * 38;
            }).length;
        """)
        assert cut == 0
        driver.execute_script("dispatchEvent(new Event('afterprint'))")
        assert driver.find_elements(By.CSS_SELECTOR, "details:not([open])")


def test_names_may_have_any_length(tmp_path):
    """Without a place to break, too; and the drawings follow the window."""
    classes = ["a" * 120, "of many words " * 12, "short", "b_" * 50]
    runs = [
        make_run(tmp_path / f"{n}-{seed}", model=f"research.models_{n}:{'build_' * 12}network_{n}", seed=seed, classes=classes,
                 accuracy=0.5 + n / 10, videos=120, epochs=2, pairs=((classes[0], classes[1]),))
        for n in range(2)
        for seed in range(3)
    ]  # fmt: skip
    Report.of({"set" * 40: compared(runs)}, title="t" * 150).write(tmp_path / "report.html")
    with browser((tmp_path / "report.html").as_uri(), width=PHONE) as driver:
        for width in (PHONE, DESKTOP):
            resize(driver, width)
            wait(lambda: not driver.execute_script(LOOK)["scrolling"], 10)
            wait(lambda width=width: width == PHONE or driver.execute_script(
                "return document.querySelector('.chart svg').getBoundingClientRect().width") > PHONE, 10)  # fmt: skip
            time.sleep(1)
            seen = driver.execute_script(LOOK)
            for name in ("clipped", "outside", "crossing", "piled", "scrolling", "unsaid"):
                assert seen[name] == [], name
            assert seen["overflow"] == 0
