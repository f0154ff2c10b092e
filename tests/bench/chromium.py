"""A real browser without a window, spoken to over a pair of pipes: Chromium's DevTools protocol, no package needed."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str | None:
    """Where a Chromium is, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserError(RuntimeError):
    """The browser did not answer, or a script in the page failed."""


class Chromium:
    """One page at a time. ``errors`` collects what the page wrote to its console as an error, or threw."""

    def __init__(self, *, seconds: float = 60.0) -> None:
        program = executable()
        assert program is not None
        self.seconds = seconds
        self.errors: list[str] = []
        self._width = 0
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (told, self._write), (self._read, answered) = os.pipe(), os.pipe()
        # Chromium reads its file 3 and writes its file 4
        inherit = f'exec "$0" "$@" 3<&{told} 4>&{answered}'
        flags = (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank",
        )  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", inherit, program, *flags],
            pass_fds=(told, answered),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        os.close(answered)
        os.set_blocking(self._read, False)
        self._buffer, self._count, self._session = b"", 0, ""
        (target,) = (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; what the page says meanwhile is kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            for answer in self._messages():
                if answer.get("id") == self._count:
                    if "error" in answer:
                        raise BrowserError(f"{method}: {answer['error']}")
                    result: dict[str, Any] = answer["result"]
                    return result
            time.sleep(0.01)
        raise BrowserError(f"{method}: no answer in {self.seconds} s")

    def _messages(self) -> list[dict[str, Any]]:
        try:
            while chunk := os.read(self._read, 1 << 20):
                self._buffer += chunk
        except BlockingIOError:
            pass
        *whole, self._buffer = self._buffer.split(b"\0")
        messages = [json.loads(each) for each in whole]
        for message in messages:
            self._listen(message.get("method"), message.get("params", {}))
        return messages

    def _listen(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file; whoever needs its scripts' work waits for it."""
        self.call("Page.navigate", url="about:blank")  # what a page before it still says is not of this one
        self.errors.clear()
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def resize(self, width: int, height: int = 900) -> None:
        """The size of the window in CSS pixels."""
        self._width = width
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression in the page is true."""
        until = time.monotonic() + self.seconds
        while not self.run(script):
            if time.monotonic() > until:
                raise BrowserError(f"not true in {self.seconds} s: {script}; the page says {self.errors}")
            time.sleep(0.03)

    def click(self, selector: str) -> None:
        """A real click into the middle of the first element that fits."""
        self._mouse(selector, "mousePressed", "mouseReleased")

    def hover(self, selector: str) -> None:
        """Move the pointer there."""
        self._mouse(selector)

    def _mouse(self, selector: str, *kinds: str) -> None:
        place = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.run(
            f"(() => {{ const b = {place}.getBoundingClientRect(); return [b.x, b.y, b.width, b.height] }})()"
        )
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in kinds:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """A PNG of the whole page: the window is made as high as it, since what lies outside may not be drawn yet."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        self.resize(self._width, math.ceil(size["height"]))
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
