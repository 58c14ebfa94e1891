"""A headless Chromium that looks at Label Studio as an annotator does."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from sam3_prelabel.demo.label_studio import LabelStudioServer

# The editor's own store: its boxes come from polygons it has parsed and from masks it has decoded.
_BOXES = """
const shown = window.Htx && window.Htx.annotationStore && window.Htx.annotationStore.selected;
if (!shown || !shown.regions.length || !shown.regions.every(region => region.bboxCoords)) return null;
const found = shown.regions.map(region => {
    const {left, top, right, bottom} = region.bboxCoords;
    return {label: region.labels[0], box: [left, top, right, bottom]};
});
return found.every(region => region.box.every(Number.isFinite)) ? found : null;
"""
_TWO_FRAMES = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"


@contextlib.contextmanager
def logged_in_browser(server: LabelStudioServer, size: tuple[int, int] = (1600, 1000)) -> Iterator[Any]:
    """A selenium driver, logged in. Skips the test where there is no Chromium or no selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not chromium or not driver_path:
        pytest.skip("no browser: install Debian's chromium and chromium-driver, or their like")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        driver.get(f"{server.url}/user/login/")
        with server.login() as session:
            for cookie in session.cookies:
                driver.add_cookie({"name": cookie.name, "value": cookie.value, "path": "/"})
        yield driver
    finally:
        driver.quit()


def open_task(driver: Any, server: LabelStudioServer, project: int, task: int) -> list[dict[str, Any]]:
    """Open a task in the Data Manager and wait until its regions are drawn.

    Returns each as the editor has it: its `label`, and its `box`, xyxy in percent of the image.
    """
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"{server.url}/projects/{project}/data?task={task}")
    boxes: list[dict[str, Any]] = WebDriverWait(driver, 60).until(lambda page: page.execute_script(_BOXES))
    driver.execute_async_script(_TWO_FRAMES)
    return boxes
