"""A real browser for tests, benchmarks and pictures: Chromium and its driver, as Debian has them.

Nothing is downloaded, and a page reaches no network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # in a container, root has none
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def missing() -> str:
    """Say what isn't here; nothing if a browser can be started."""
    wanted = {
        "Chromium": next(filter(None, map(shutil.which, _NAMES)), None),
        "chromedriver (Debian: chromium-driver)": shutil.which("chromedriver"),
        "Selenium (pip install selenium)": find_spec("selenium"),
    }
    return ", ".join(name for name, found in wanted.items() if not found)


@contextmanager
def started(downloads: Path | None = None) -> Iterator[Browser]:
    """Start a browser, and end it."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, _NAMES)))
    for flag in _FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads or "")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With a path, Selenium looks for no driver elsewhere.
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What tests do with the page to browse examples."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.resize()

    def resize(self, width: int = 1280, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Give the page so many CSS pixels, and a light or a dark system."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, page: Path, view: Mapping[str, str] | None = None) -> None:
        """Open a page anew, with what its address says of the view, and wait until it can be used."""
        from urllib.parse import urlencode

        self.driver.get("about:blank")
        self.driver.get(f"{page.resolve().as_uri()}#{urlencode(view or {})}")
        self.wait(lambda: "Reading" not in self.text("#said"))

    def wait(self, until: Callable[[], object]) -> None:
        """Wait until something holds."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: until())

    def run(self, script: str, *values: object) -> Any:
        return self.driver.execute_script(script, *values)

    def text(self, selector: str) -> str:
        """Read what is shown of the first element that fits."""
        return str(self.find(selector).text)

    def texts(self, selector: str) -> list[str]:
        shown = "[...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility())"
        texts = self.run(f"return {shown}.map((element) => element.innerText)", selector)
        return [str(text).strip() for text in texts]

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def choose(self, name: str, title: str) -> None:
        """Choose from a list by what it shows."""
        from selenium.webdriver.support.ui import Select

        Select(self.find(f"[name={name}]")).select_by_visible_text(title)

    def type(self, name: str, text: str) -> None:
        """Write into a field, in place of what was there."""
        field = self.find(f"[name={name}]")
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag between two places of an element, each as shares of its width and height from its lower left corner."""
        from selenium.webdriver import ActionChains

        element = self.find(selector)
        size = element.size
        (x, y), (to_x, to_y) = (
            (round((a - 0.5) * size["width"]), round((0.5 - b) * size["height"])) for a, b in (start, end)
        )
        chain = ActionChains(self.driver, duration=20).move_to_element_with_offset(element, x, y).click_and_hold()
        chain.move_by_offset(to_x - x, to_y - y).release().perform()

    def complaints(self) -> list[str]:
        """Give the messages in the console, and all that was asked for from elsewhere, since the last time."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return said + [url for url in asked if not url.startswith(("file:", "blob:", "about:"))]

    def picture(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        path.write_bytes(self.driver.get_screenshot_as_png())
