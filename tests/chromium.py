"""Drive a headless Chromium through its DevTools protocol over a pipe; needs the program, and nothing else.

A message is JSON that ends in a zero byte: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = os.environ.get("VP3D_CHROMIUM") or next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
)  # fmt: skip
# Keys that are no character: their codes in events of the browser.
_KEYS = {"Home": 36, "End": 35, "ArrowLeft": 37, "ArrowRight": 39}

# The browser reads commands from descriptor 3 and answers on descriptor 4; the pipe may have either number already.
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Tab:
    """One page of a browser.

    Attributes:
        faults: console errors, exceptions and failed resources so far.
        requests: addresses that the page asked for so far.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.faults: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol and return its result; what happens meanwhile is noted."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited.

        Raises:
            AssertionError: it throws.
        """
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path, *, size: tuple[int, int] = (1280, 720), dark: bool = False, touch: bool = False) -> None:
        """Open a file in a window of this size in pixels."""
        width, height = size
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.send("Page.navigate", url=page.resolve().as_uri())

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; the test's own time limit ends a wait in vain."""
        self.evaluate(
            f"new Promise(done => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 20); look(); }})"
        )

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        number = _KEYS.get(key, ord(key[0].upper()))
        event = {"key": key, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        if len(key) == 1:
            event["text"] = key
        self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        event.pop("text", None)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def click(self, x: float, y: float) -> None:
        """Press and release the mouse at a place of the page, pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def swipe(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Touch the page at a place, move the finger to another, and lift it; pixels."""
        for kind, points in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            touches = [{"x": x, "y": y} for x, y in points]
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._from, 1 << 16)
            assert data, "the browser ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.faults.append(str(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.faults.append(str(facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.faults.append(str(facts["entry"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])


@contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """A tab of a new Chromium that keeps its files in the folder ``profile``."""
    assert PROGRAM is not None
    their_input, to_browser = os.pipe()
    from_browser, their_output = os.pipe()
    flags = [*_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(their_input), str(their_output), PROGRAM, *flags],
        pass_fds=(their_input, their_output), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(their_input)
    os.close(their_output)
    try:
        yield Tab(to_browser, from_browser)
    finally:
        os.close(to_browser)  # the end of its commands is the end of the browser
        os.close(from_browser)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
