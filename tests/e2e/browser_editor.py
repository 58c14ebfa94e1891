"""Label Studio's labeling editor, worked with as an annotator does, in a real browser.

What it shows is read from its own store: regions and suggestions as it would save them, brush masks decoded and
encoded again by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from sam3_prelabel.demo.label_studio import LabelStudioServer

Json = dict[str, Any]

_PATIENCE = 60.0  # seconds
_MOVE = 20  # milliseconds of a mouse movement
_STORE = """
const shown = window.Htx && window.Htx.annotationStore && window.Htx.annotationStore.selected;
const image = shown && [...shown.names.values()].find(tag => tag.type === 'image');
"""
_READY = "return Boolean(image && image.imageIsLoaded && document.querySelector('.konvajs-content'));"
_STAGE = """
const {left, top} = document.querySelector('.konvajs-content').getBoundingClientRect();
return [left, top, image.stageWidth / image.naturalWidth, image.stageHeight / image.naturalHeight];
"""
_INTO_SIGHT = "document.querySelector('.konvajs-content').scrollIntoView({block: 'center'});"
_SUGGESTIONS = "return [...shown.suggestions.values()].flatMap(area => area.results.map(one => one.serialize()));"
_REGIONS = "return shown.serializeAnnotation();"
_ANSWERS = """
return performance.getEntriesByType('resource').filter(one => one.name.includes('/interactive-annotating')).length;
"""
_WAITING = "return Boolean(window.Htx.awaitingSuggestions);"
# The smart tools in the toolbar's order, by the control that they draw for.
_SMART_TOOLS = """
return image.getToolsManager().allTools().filter(tool => tool.dynamic).map(tool => tool.control.name);
"""
_SELECTED_TOOL = """
const tool = image.getToolsManager().allTools().find(tool => tool.selected);
return tool ? [tool.control.name, Boolean(tool.dynamic)] : null;
"""
_LABELERS = "return [...shown.names.values()].filter(tag => /labels$/.test(tag.type)).map(tag => tag.name);"
_TWO_FRAMES = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"


class Editor:
    """The editor in a logged-in browser. Coordinates are pixels of the displayed image.

    Every wait raises selenium's TimeoutException after a minute.
    """

    def __init__(self, driver: Any, server: LabelStudioServer) -> None:
        self._driver = driver
        self._server = server

    def open(self, project: int, task: int) -> None:
        """Open a task in the Data Manager and switch Auto-Annotation on."""
        self._driver.get("about:blank")
        self._driver.get(f"{self._server.url}/projects/{project}/data?task={task}")
        self._until(lambda: self._ask(_READY))
        self._driver.execute_script("performance.setResourceTimingBufferSize(100000);")
        self._switch("auto-annotation", on=True)
        self._switch("auto-accept", on=False)

    def choose(self, control: str, label: str, *, labeler: str | None = None) -> None:
        """Take the smart tool of a control, then a label: its own, or one of the Labels tag named `labeler`."""
        names = self._ask(_SMART_TOOLS)
        self._press_anew(lambda: self._all(".lsf-tool_smart[aria-label]")[names.index(control)])
        row = self._all(".lsf-labels")[self._ask(_LABELERS).index(labeler or control)]
        (entry,) = (one for one in row.find_elements(By.CSS_SELECTOR, ".lsf-label") if label in one.text.split("\n"))
        if "lsf-label_selected" not in (entry.get_attribute("class") or ""):
            self._press(entry)
        self._until(lambda: self._ask(_SELECTED_TOOL) == [control, True])

    def click(self, x: float, y: float, *, positive: bool = True, inside_region: bool = False) -> None:
        """Click with the chosen tool and wait for the answer.

        positive=False: with Alt. inside_region: with Ctrl, as the editor takes other clicks there for selecting.
        """
        keys = [*([Keys.ALT] if not positive else []), *([Keys.CONTROL] if inside_region else [])]
        with self._answered():
            self._hold(keys)
            self._mouse([(x, y)])
            self._release(keys)

    def draw(self, box: Sequence[float]) -> None:
        """Draw a box, xyxy, with the chosen tool and wait for the answer."""
        x0, y0, x1, y1 = box
        with self._answered():
            self._mouse([(x0, y0), ((x0 + x1) / 2, (y0 + y1) / 2), (x1, y1)])

    def type(self, control: str, text: str) -> None:
        """Type into a TextArea, press Enter and wait for the answer."""
        field = self._driver.find_element(By.CSS_SELECTOR, f"input[name={control}]")
        with self._answered():
            field.send_keys(text, Keys.ENTER)

    def suggestions(self) -> list[Json]:
        """What is suggested now, as results."""
        return cast(list[Json], self._ask(_SUGGESTIONS))

    def regions(self) -> list[Json]:
        """The annotation as it would be saved now; drawn prompts are in it, suggestions are not."""
        return cast(list[Json], self._ask(_REGIONS))

    def accept(self) -> None:
        """Accept all suggestions."""
        self._press(self._one("[data-testid=bottombar-accept-suggestions-button]"))
        self._until(lambda: not self.suggestions())

    def reject(self) -> None:
        """Reject all suggestions."""
        self._press(self._one("[data-testid=bottombar-reject-suggestions-button]"))
        self._until(lambda: not self.suggestions())

    def delete(self, region: str) -> None:
        """Delete a region by its id, as the Delete key does with the one that is chosen."""
        self._ask(f"shown.regions.find(one => one.cleanId === {region!r}).deleteRegion();")
        self._until(lambda: region not in {one["id"] for one in self.regions()})

    def submit(self) -> None:
        """Submit the annotation and wait until it is stored."""
        self._press(self._one("[data-testid=bottombar-submit-button]"))
        self._until(lambda: self._ask("return Boolean(shown && shown.pk);"))

    def auto_accept(self, *, on: bool) -> None:
        """Whether suggestions are accepted as they come."""
        self._switch("auto-accept", on=on)

    def screenshot(self) -> bytes:
        """The editor as PNG, once all is drawn."""
        self._driver.execute_async_script(_TWO_FRAMES)
        return self._one(".lsf-wrapper").screenshot_as_png

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Wait until the editor has the answer to the request that the body of this makes."""
        before = self._ask(_ANSWERS)
        yield
        self._until(lambda: self._ask(_ANSWERS) > before and not self._ask(_WAITING))
        self._driver.execute_async_script(_TWO_FRAMES)

    def _mouse(self, way: Sequence[tuple[float, float]]) -> None:
        """Press at the first place, move along the others, let go."""
        self._driver.execute_script(_INTO_SIGHT)
        left, top, across, down = self._ask(_STAGE)
        places = [(round(left + x * across), round(top + y * down)) for x, y in way]
        actions = ActionBuilder(self._driver, duration=_MOVE)
        pointer = actions.pointer_action
        pointer.move_to_location(*places[0]).pointer_down()
        for place in places[1:]:
            pointer.move_to_location(*place)
        pointer.pointer_up()
        actions.perform()

    def _hold(self, keys: Sequence[str]) -> None:
        for key in keys:
            ActionChains(self._driver).key_down(key).perform()

    def _release(self, keys: Sequence[str]) -> None:
        for key in keys:
            ActionChains(self._driver).key_up(key).perform()

    def _switch(self, name: str, *, on: bool) -> None:
        """Set a switch of the bottom bar; one that is not shown is off."""
        found = self._all(f"[data-testid=bottombar-{name}-toggle]")
        if not found and not on:
            return
        if found[0].is_selected() != on:
            self._press(found[0])
            self._until(lambda: found[0].is_selected() == on)

    def _press(self, element: WebElement) -> None:
        # From within the page: smart tools and labels may be folded away or scrolled out of sight.
        self._driver.execute_script("arguments[0].click();", element)

    def _press_anew(self, find: Callable[[], WebElement]) -> None:
        """Press what may be drawn anew between the look and the press."""

        def pressed(_: object) -> bool:
            self._press(find())
            return True

        WebDriverWait(self._driver, _PATIENCE, 0.05, (StaleElementReferenceException,)).until(pressed)

    def _one(self, selector: str) -> WebElement:
        return cast(WebElement, WebDriverWait(self._driver, _PATIENCE).until(lambda _: self._all(selector))[0])

    def _all(self, selector: str) -> list[WebElement]:
        return cast(list[WebElement], self._driver.find_elements(By.CSS_SELECTOR, selector))

    def _ask(self, script: str) -> Any:
        return self._driver.execute_script(_STORE + script)

    def _until(self, so: Callable[[], object]) -> None:
        WebDriverWait(self._driver, _PATIENCE, 0.05, (JavascriptException,)).until(lambda _: so())
