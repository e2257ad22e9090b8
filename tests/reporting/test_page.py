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
from muybridge.reporting.report import Report
from muybridge.storage import evaluations
from muybridge.storage.scores import ViewGrid

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver here"),
]
DESKTOP, PHONE = 1280, 390

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
const blocks = [...document.querySelectorAll(".charts > figure, .scroll, .caption, h2, p:not([hidden]), .key, .pictures figure")]
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
  charts: charts.length, crossing, piled, clipped,
  shortened: charts.flatMap(chart => [...chart.querySelectorAll(".role-legend-label text")]
    .filter(text => text.textContent.includes("…")).map(text => [chart.id, text.textContent])),
  scrolling: charts.filter(chart => wide(chart) > 1 && !chart.classList.contains("fixed")).map(chart => chart.id),
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


@contextmanager
def browser(address, *, width=DESKTOP, scheme="light"):
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
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE,
        })  # fmt: skip
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, 800, PHONE])
def test_nothing_lies_on_anything_else_at_any_width(page, width, scheme):
    made, file = page
    with browser(file.as_uri(), width=width, scheme=scheme) as driver:
        seen = driver.execute_script(LOOK)
        assert seen["charts"] == sum(len(section.figures) for section in made.chapters[0].sections)
        assert (seen["overflow"], seen["empty"]) == (0, 0)
        assert seen["crossing"] == []
        assert seen["piled"] == []
        assert seen["clipped"] == [], "nothing in a drawing lies outside of it"
        assert seen["shortened"] == [], "legends are whole"
        assert seen["scrolling"] == []
        assert seen["cut"] == 0 or width < DESKTOP
        colors = driver.execute_script("""
            const rgb = (element, name) => getComputedStyle(element)[name];
            const body = document.body;
            return [rgb(body, "backgroundColor"), [
              rgb(body, "color"), rgb(document.querySelector(".caption"), "color"), rgb(document.querySelector("nav a"), "color"),
              ...[...document.querySelectorAll(
                ".chart:not(.fixed) svg text, .chart svg :is(.role-axis-label, .role-title) text"
              )].map(text => rgb(text, "fill")),
            ]];
        """)
        paper = as_hex(colors[0])
        assert (paper == "#ffffff") == (scheme == "light")
        for color in set(map(as_hex, colors[1])):
            assert contrast(color, paper) >= 4.5, (color, paper)  # WCAG 2.2, 1.4.3


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
                return [...document.querySelectorAll('.chart:not(.fixed) [aria-roledescription="circle"]')].map(mark => [
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
