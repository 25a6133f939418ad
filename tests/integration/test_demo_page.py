"""Test the page of the demo in a browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import Select, WebDriverWait

PROJECT = Path(__file__).parents[2] / "examples" / "semantic_search"
CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.works("vector"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="No chromium and chromedriver on PATH: apt-get install chromium "
        "chromium-driver, https://packages.debian.org/stable/chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def server(tidb_server, tmp_path_factory):
    """Return the address of the page, and the password of the admin."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"demo_page_{os.getpid()}"
    output = tmp_path_factory.mktemp("demo") / "output"
    command = [sys.executable, "manage.py", "demo", "--serve", "--port", str(port)]
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "semantic_search.settings",
                "PYTHONDONTWRITEBYTECODE": "1",
                "TIDB_NAME": name,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not answers(address):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.5)
        yield address, re.search(r"password (\w+)", output.read_text())[1]
    finally:
        process.terminate()
        process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(address):  # noqa: S310 it is ours
            return True
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1000,900",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def names(browser):
    return [element.text for element in browser.find_elements(By.CLASS_NAME, "name")]


def distances(browser):
    found = browser.find_elements(By.CLASS_NAME, "distance")
    return [float(element.text) for element in found]


def click(browser, selector):
    """Click on an element that loads another page, and wait for that page."""
    element = browser.find_element(By.CSS_SELECTOR, selector)
    element.click()
    WebDriverWait(browser, 60).until(staleness_of(element))


def ask(browser, question):
    field = browser.find_element(By.NAME, "q")
    field.clear()
    field.send_keys(question)
    click(browser, "form button")


def test_page(server, browser):
    address, password = server
    browser.get(address)
    assert browser.title == "Semantic search in TiDB"
    assert "docstrings of Django" in browser.find_element(By.CLASS_NAME, "note").text

    ask(browser, "how do I run a migration backwards")
    found = names(browser)
    assert len(found) == 10
    assert (
        "django.db.migrations.executor.MigrationExecutor.unapply_migration" in found[:3]
    )
    assert distances(browser) == sorted(distances(browser))
    assert "Cosine distance" in browser.find_element(By.ID, "summary").text
    assert not browser.find_elements(By.ID, "sql")
    if folder := os.environ.get("DEMO_SCREENSHOT"):
        browser.save_screenshot(folder)

    # All vectors have length 1, so another metric gives the same order.
    Select(browser.find_element(By.NAME, "metric")).select_by_visible_text(
        "L2 distance"
    )
    browser.find_element(By.NAME, "explain").click()
    click(browser, "form button")
    assert names(browser) == found
    assert "L2 distance" in browser.find_element(By.ID, "summary").text
    assert "VEC_L2_DISTANCE" in browser.find_element(By.ID, "sql").text
    assert "TopN" in browser.find_element(By.ID, "plan").text

    # Filter by the module.
    Select(browser.find_element(By.NAME, "module")).select_by_visible_text(
        "django.core"
    )
    click(browser, "form button")
    inside = names(browser)
    assert len(inside) == 10
    assert all(name.startswith("django.core.") for name in inside)

    # This link searches for documents that are similar to the first hit.
    click(browser, ".like")
    assert f"More like {inside[0]}" in browser.find_element(By.ID, "summary").text
    assert inside[0] not in names(browser)
    assert all(name.startswith("django.core.") for name in names(browser))

    ask(browser, "zzyzx")
    error = browser.find_element(By.CLASS_NAME, "errorlist").text
    assert "No word of 'zzyzx' occurs in the documents" in error
    assert not names(browser)

    browser.get(f"{address}/admin/search/document/")
    browser.find_element(By.NAME, "username").send_keys("demo")
    browser.find_element(By.NAME, "password").send_keys(password)
    click(browser, "[type=submit]")
    cell = browser.find_element(By.CLASS_NAME, "field-embedding").text
    assert re.fullmatch(r"\[\S+, \S+, \S+, …\] \(512 dimensions\)", cell)
    click(browser, ".field-name a")
    field = browser.find_element(By.CLASS_NAME, "field-embedding").text
    assert re.search(r"\[\S+, \S+, \S+, …\] \(512 dimensions\)", field)
    assert field.count(",") < 5
    # The form field is empty, so saving the form keeps the vector.
    assert browser.find_element(By.NAME, "embedding").get_attribute("value") == ""
    click(browser, "[name=_save]")
    assert browser.find_element(By.CLASS_NAME, "success").text
    assert browser.find_element(By.CLASS_NAME, "field-embedding").text == cell
