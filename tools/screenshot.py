"""The picture of the report in the documentation: ``python tools/screenshot.py docs/report.png``.

The page of the example's EfficientNet-Lite0, quantized with fbgemm, as Debian's chromium shows it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--page", type=Path, help="an existing page instead of the example's")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no browser is installed: make browser")
    with tempfile.TemporaryDirectory() as folder:
        shoot(browser, (options.page or example(Path(folder) / "report.html")).resolve(), options.picture.resolve())


def example(path: Path) -> Path:
    import torch2circle

    os.chdir(ROOT)  # which source lines are shown below
    zoo: Any = import_module("zoo")
    model, x = zoo.efficientnet_lite0()
    torch2circle.write_report(torch2circle.export(model, (x,)), path, model="efficientnet_lite0")
    return path


def shoot(browser: str, page: Path, picture: Path) -> None:
    """The upper part of the page, with the third operator chosen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])  # which root cannot have
        tab = opened.new_page(viewport={"width": 1400, "height": 1400}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]")
        tab.locator(".node", has_text="CONV_2D").first.click()
        tab.wait_for_timeout(500)  # figures are drawn when the browser has time
        tab.screenshot(path=picture)
        opened.close()


if __name__ == "__main__":
    main()
