"""Pictures of pages for the gallery: the top of a page at 1440, 800 and 390 pixels, side by side, light and dark.

python docs/gallery/make.py after-demo=demo/report.html after-weizmann=study/report.html

writes `after-demo-light.jpg`, `after-demo-dark.jpg` and so on beside this file. Needs Chromium and its driver (Debian's packages
chromium and chromium-driver) and selenium. `NAME=PAGE#SECTION` begins at a section.
"""

import argparse
import base64
import shutil
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

SIZES = ((1440, 1000), (800, 1000), (390, 1000))
"""Width and height of a window."""
GAP = 24
SCALE = 0.62
"""Pixels of a picture per pixel of a window."""
QUALITY = 82
SECONDS = 60.0
"""Longest wait for a page to draw its charts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", metavar="NAME=PAGE[#SECTION]")
    asked = parser.parse_args()
    for one in asked.pages:
        name, _, address = one.partition("=")
        path, _, section = address.partition("#")
        for scheme in ("light", "dark"):
            file = Path(__file__).parent / f"{name}-{scheme}.jpg"
            file.write_bytes(picture(Path(path).resolve().as_uri(), section, scheme))
            print(file, file.stat().st_size)


def picture(address: str, section: str, scheme: str) -> bytes:
    """JPEG of a page at all sizes."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        shots = []
        for width, height in SIZES:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
            })  # fmt: skip
            driver.get(address)
            end = time.monotonic() + SECONDS
            while driver.execute_script("return document.body.dataset.ready") != "yes" and time.monotonic() < end:
                time.sleep(0.1)
            if section:
                driver.execute_script("document.getElementById(arguments[0]).scrollIntoView()", section)
            time.sleep(0.5)
            shots.append(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
        return _side_by_side(driver, shots)
    finally:
        driver.quit()


def _side_by_side(driver: webdriver.Chrome, shots: list[str]) -> bytes:
    """Screenshots (base64) in a row, laid out by the browser itself."""
    images = "".join(
        f'<img src="data:image/png;base64,{shot}" style="width:{width * SCALE}px; margin-right:{GAP * SCALE}px">'
        for (width, _), shot in zip(SIZES, shots, strict=True)
    )
    page = f'<body style="margin:0; background:#8d949c; display:flex; align-items:flex-start">{images}'
    size = {
        "width": round((sum(width for width, _ in SIZES) + GAP * (len(SIZES) - 1)) * SCALE),
        "height": round(max(height for _, height in SIZES) * SCALE),
    }
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": False})
    driver.get("data:text/html;base64," + base64.b64encode(page.encode()).decode())
    time.sleep(0.5)
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "jpeg", "quality": QUALITY})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    main()
