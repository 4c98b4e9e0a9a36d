"""Headless Chromium for tests of pages, driven through its debugging pipe: nothing but the standard library is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ON_3_AND_4 = "import os, sys; a, b = map(int, sys.argv[1:3]); c, d = os.dup(a), os.dup(b); os.dup2(c, 3); os.dup2(d, 4); "
_ON_3_AND_4 += "[os.set_inheritable(each, True) for each in (3, 4)]; os.execvp(sys.argv[3], sys.argv[3:])"


def find_chromium() -> str:
    """Path of a browser; skips the test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium here: the page cannot be opened (Debian: apt install chromium)")


class Chromium:
    """A browser with one page, with every name but this machine's own made unknown, and a list of all that it asked for."""

    def __init__(self, profile: Path, *, dark: bool = False) -> None:
        path = find_chromium()
        profile.mkdir(parents=True, exist_ok=True)
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        command = [
            path, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, str(from_us), str(to_us), *command],
            pass_fds=(from_us, to_us), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"HOME": str(profile)},
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._to, self._from, self._pending = to_browser, from_browser, b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        if dark:
            self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def _read(self, timeout_s: float = 120.0) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser says nothing"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser ended"
            self._pending += piece
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        """Value of an expression of JavaScript, a promise awaited."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, address: str, ready: str = "true", timeout_s: float = 120.0) -> None:
        """Open an address and wait until an expression is true."""
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href !== 'about:blank' && ({ready})", timeout_s)

    def wait(self, condition: str, timeout_s: float = 120.0) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + timeout_s
        while not self.run(condition):
            assert time.monotonic() < until, f"{condition}: not within {timeout_s} s; {self.complaints}"
            time.sleep(0.2)

    @property
    def requests(self) -> list[str]:
        """Addresses of everything that the page asked for, but for what it holds itself."""
        asked = [event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("data:", "blob:", "about:"))]

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and entries of the browser's log that are errors."""
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"])[:500])
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found

    def screenshot(self, path: Path) -> None:
        """A picture of what is visible."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it prints."""
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(20)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
