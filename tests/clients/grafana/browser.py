"""The built Grafana plugin as a person uses it, in headless Chromium, on a stand-in for Grafana against a real server. Prints `ok`.

Usage: browser.py URL EXECUTABLE [SHOTS], of a server without data and the plugin's backend; SHOTS is a folder for screenshots.

The stand-in (grafana/plugin/standin) loads the plugin's module by SystemJS, as Grafana does; server.py is what Grafana's server is for it.
"""

import http.server
import json
import re
import shutil
import sys
import threading
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright
from plugin import Plugin, context
from server import GrafanasServer

URL, EXECUTABLE = sys.argv[1:3]
SHOTS = Path(sys.argv[3]) if len(sys.argv) > 3 else None
START = 1_767_225_600  # 2026-01-01T00:00:00Z

# Long enough for a loaded machine.
PATIENCE_MS = int(sys.argv[4]) if len(sys.argv) > 4 else 60_000


def asked():
    """The texts and values that were sent to the backend, the last ones first."""
    return [query for request in reversed(GrafanasServer.passed) for query in request["queries"]]


def write(lines):
    request = urllib.request.Request(f"{URL}/write?db=default", data="\n".join(lines).encode())
    assert urllib.request.urlopen(request).status == 204


def fill():
    hosts = [("web-1", "eu"), ("web-2", "eu"), ("db-1", "us")]
    write(
        f"cpu,host={host},region={region} usage={20 + 20 * place + 8 * ((second // 300 + place) % 3) + second % 60 / 20},n={second}i {(START + second) * 10**9}"
        for place, (host, region) in enumerate(hosts)
        for second in range(0, 3600, 10)
        # A gap, to be seen as one.
        if not (host == "db-1" and 1200 <= second < 1800)
    )
    write(f'events,host=web-1 message="restart {n}",level="info" {(START + 600 * n) * 10**9}' for n in range(6))
    request = urllib.request.Request(f"{URL}/api/wql", data=b"create rollup cpu_1m as cpu | every 1m avg(usage), max(usage) by host, region")
    assert urllib.request.urlopen(request).status == 200
    refresh = urllib.request.Request(f"{URL}/api/rollups/cpu_1m/refresh", method="POST")
    assert urllib.request.urlopen(refresh).status == 200


# Those that have not ended.
VISITS = []


class Visit:
    """A window of its own, which may have no error."""

    def __init__(self, browser, path="/", **options):
        self.context = browser.new_context(viewport={"width": 1280, "height": 860}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if self.is_error(line) else None)
        self.page.on("request", self.watch)
        VISITS.append(self)
        self.page.goto(GRAFANA + path)

    def is_error(self, line):
        # Refusals are noted by the browser; Monaco says that it works without workers.
        expected = "Failed to load resource" in line.text or "web worker" in line.text
        return line.type == "error" and not expected

    def watch(self, request):
        if not request.url.startswith((GRAFANA + "/", "data:", "blob:")):
            self.errors.append(f"asked {request.url}")

    def choose(self, box, label, exact=True):
        """Picks an option of a combobox, by its test id or a locator."""
        box = self.page.get_by_test_id(box) if isinstance(box, str) else box
        box.click()
        self.page.get_by_role("option", name=label, exact=exact).first.click()

    def radio(self, label):
        # Its label covers it.
        self.page.get_by_role("radio", name=label, exact=True).click(force=True)

    def expect_query(self, text):
        expect(self.page.get_by_test_id("query")).to_contain_text(json.dumps(text)[1:-1])

    def expect_series(self, names):
        expect(self.page.get_by_test_id("panel")).to_have_attribute("data-series", json.dumps(names, separators=(",", ":"), ensure_ascii=False))

    def shot(self, name):
        if SHOTS is not None:
            SHOTS.mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=SHOTS / f"{name}.png")

    def end(self):
        assert not self.errors, self.errors
        VISITS.remove(self)
        self.context.close()


# How many colours the chart has of which there are many points.
COLOURED = """() => {
    const canvas = document.querySelector('[data-testid=panel] canvas');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Map();
    for (let at = 0; at < data.length; at += 4) {
        const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
        if (data[at + 3] > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) {
            const colour = `${red >> 4} ${green >> 4} ${blue >> 4}`;
            seen.set(colour, (seen.get(colour) ?? 0) + 1);
        }
    }
    return [...seen].filter(([, points]) => points > 100).map(([colour]) => colour);
}"""
# Where a character of the editor's first line stands.
LEFT_OF = """(offset) => {
    const walker = document.createTreeWalker(document.querySelector('.view-line'), NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(), left = offset; node !== null; left -= node.length, node = walker.nextNode()) {
        if (left < node.length) {
            const range = document.createRange();
            range.setStart(node, left);
            range.setEnd(node, left + 1);
            return range.getBoundingClientRect().x;
        }
    }
}"""
EACH_HOST = [f'avg_usage {{host="{host}", region="{region}"}}' for host, region in (("db-1", "us"), ("web-1", "eu"), ("web-2", "eu"))]
FROM_ROLLUP = re.compile("from cpu_1m, exact, 120 buckets, none recomputed")


def building_by_clicking(browser):
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.expect_query("cpu | every $__interval avg(n)")
    visit.choose("waterclock-field", re.compile("^usage"))
    visit.expect_query("cpu | every $__interval avg(usage)")
    visit.expect_series(EACH_HOST)
    coloured = page.evaluate(COLOURED)
    assert len(coloured) >= 3, f"three lines in three colours: {coloured}"

    page.get_by_role("button", name="Filter", exact=True).click()
    visit.choose("waterclock-tag", re.compile("^region"))
    visit.choose("waterclock-value", re.compile("^eu"))
    visit.expect_query('cpu{region="eu"} | every $__interval avg(usage)')
    visit.radio("By tags")
    visit.choose("waterclock-by", re.compile("^host"))
    page.keyboard.press("Escape")
    visit.expect_query('cpu{region="eu"} | every $__interval avg(usage) by host')
    visit.expect_series(["avg_usage web-1", "avg_usage web-2"])
    expect(page.get_by_test_id("notice-info")).to_have_text(FROM_ROLLUP)
    # Of the values of a second filter only those that the first one leaves.
    page.get_by_role("button", name="Filter", exact=True).click()
    visit.choose(page.get_by_test_id("waterclock-tag").nth(1), re.compile("^host"))
    page.get_by_test_id("waterclock-value").nth(1).click()
    expect(page.get_by_role("option")).to_have_text(["$regionvariable", "$hostvariable", "web-1", "web-2"])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove filter").nth(1).click()

    page.get_by_label("Legend").fill("{{host}}")
    page.get_by_label("Legend").press("Tab")
    visit.expect_series(["web-1", "web-2"])
    visit.choose("waterclock-fill", "previous")
    visit.expect_query('cpu{region="eu"} | every $__interval avg(usage) by host | fill previous')
    visit.shot("builder")

    # Raw points give the same, and no rollup is named.
    page.get_by_role("switch", name="Rollups").click(force=True)
    expect(page.get_by_test_id("notice-info")).to_have_count(0)
    visit.expect_series(["web-1", "web-2"])
    visit.end()


def write_anew(page, text):
    page.locator(".monaco-editor textarea").focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.type(text, delay=40)


def completing_code(browser):
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.radio("Code")
    expect(page.locator(".view-lines")).to_contain_text("avg")
    # Words are painted by what they are.
    paint = lambda word: page.locator(".view-line span span", has_text=word).first.get_attribute("class")
    expect(page.locator(".view-line span span", has_text=re.compile("^avg$"))).to_have_count(1)
    assert paint("every") != paint("avg") != paint("cpu"), [paint(word) for word in ("every", "avg", "cpu")]

    # Completion asks the server.
    write_anew(page, "cp")
    suggest = page.locator(".suggest-widget")
    expect(suggest).to_contain_text("cpu_1m")
    page.keyboard.press("Escape")
    page.keyboard.type('u{ho')
    expect(suggest).to_contain_text("host")
    page.keyboard.press("Tab")
    page.keyboard.type("=")
    expect(suggest).to_contain_text("web-2")
    visit.shot("completion")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    visit.expect_query('cpu{host="web-1"}')
    page.keyboard.type(" | every $__inter")
    expect(suggest).to_contain_text("$__interval_ms")
    page.keyboard.press("Tab")
    page.keyboard.type(" max(usage), avg(usage)")
    page.keyboard.press("Escape")
    visit.expect_query('cpu{host="web-1"} | every $__interval max(usage), avg(usage)')
    page.keyboard.press("Control+Enter")
    visit.expect_series(['max_usage {host="web-1", region="eu"}', 'avg_usage {host="web-1", region="eu"}'])

    visit.end()


def errors_of_code(browser):
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.radio("Code")
    expect(page.locator(".view-lines")).to_contain_text("avg")
    # An error stands at its place while it is typed, in what was written and not in what is sent.
    write_anew(page, 'cpu{host=~"$host", region in $region} | evry 5m avg(usage)')
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("waterclock-problem")).to_have_text(re.compile(r"^line 1, column 41: .*evry.*did you mean `every`\?"))
    wrong = page.locator(".squiggly-error")
    expect(wrong).to_have_count(1)
    left, box = page.evaluate(LEFT_OF, 40), wrong.bounding_box()
    assert abs(box["x"] - left) < 2, (box, left)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("error")).to_contain_text("line 1, column 41")
    visit.shot("error")

    # What the builder cannot show stays code, and it says why.
    write_anew(page, "cpu | where usage > 60 | every 5m max(usage) by host")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("waterclock-problem")).to_have_count(0)
    visit.radio("Builder")
    expect(page.get_by_role("status").or_(page.get_by_role("alert")).filter(has_text="It has a stage where")).to_be_visible()
    visit.expect_query("cpu | where usage > 60 | every 5m max(usage) by host")
    write_anew(page, "cpu_1m{host!='db-1'}|every 5m max(usage) by host;")
    page.keyboard.press("Escape")
    visit.radio("Builder")
    expect(page.get_by_test_id("waterclock-source")).to_have_value("cpu_1m")
    expect(page.get_by_test_id("waterclock-operator")).to_have_value("!=")
    visit.expect_query("cpu_1m{host!='db-1'}|every 5m max(usage) by host;")
    assert not page.locator(".monaco-editor").count()
    visit.end()


def typing_fast(browser):
    """A long text, typed as fast as keys can be told, stands there as it was typed, and the page still answers."""
    visit = Visit(browser)
    page = visit.page
    visit.radio("Code")
    text = "cpu | where usage > 1 " + "".join(f"or usage = {n} and n != {n} " for n in range(15)) + "| every 5m max(usage) by host"
    page.locator(".monaco-editor textarea").focus()
    began = time.time()
    page.keyboard.type(text)
    page.keyboard.press("Escape")
    visit.expect_query(text)
    print(f"  {len(text)} characters in {time.time() - began:.1f} s", flush=True)
    expect(page.get_by_test_id("waterclock-problem")).to_have_count(0)
    page.keyboard.press("Control+Enter")
    visit.expect_series(["max_usage db-1", "max_usage web-1", "max_usage web-2"])
    visit.end()


def changing_variables(browser):
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.choose("waterclock-field", re.compile("^usage"))
    page.get_by_role("button", name="Filter", exact=True).click()
    visit.choose("waterclock-tag", re.compile("^host"))
    visit.choose("waterclock-operator", "in", exact=True)
    visit.choose("waterclock-values", "$host", exact=False)
    page.keyboard.press("Escape")
    visit.expect_query("cpu{host in $host} | every $__interval avg(usage)")
    visit.expect_series(EACH_HOST)
    # The hosts follow the regions, and the panel follows both.
    visit.choose("variable-region", re.compile("^us"))
    page.keyboard.press("Escape")
    visit.expect_series(EACH_HOST[1:])
    last = asked()[0]
    assert last["params"]["host"] == ["web-1", "web-2"], last
    assert last["query"] == "cpu{host in $host} | every $__interval avg(usage)", last
    visit.choose("range", "10m")
    expect(page.get_by_test_id("panel")).to_have_attribute("data-state", "Done")
    visit.shot("variables")
    visit.end()


def tables_and_logs(browser):
    visit = Visit(browser, "/?light")
    page = visit.page
    visit.choose("waterclock-source", re.compile("^events"))
    panel = page.get_by_test_id("panel")
    # There is no number in it. Until that is said the page moves under the pointer.
    expect(panel).to_have_attribute("data-state", "Error")
    visit.radio("Table")
    page.get_by_role("button", name="Remove aggregate").click()
    visit.expect_query("events")
    expect(panel).to_have_attribute("data-kind", "table")
    expect(panel).to_contain_text("restart 5")
    visit.shot("table")
    visit.radio("Logs")
    expect(panel).to_have_attribute("data-kind", "logs")
    expect(panel).to_contain_text("restart 5")
    visit.end()


def filtering(browser):
    """Ad-hoc filters: keys and values of the query's table, under each other, in the query that is sent and in no text that is kept."""
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.choose("waterclock-field", re.compile("^usage"))
    visit.expect_series(EACH_HOST)
    page.get_by_test_id("filter-key").click()
    expect(page.get_by_role("option")).to_have_text(["host", "region"])
    page.get_by_role("option", name="region").click()
    page.get_by_test_id("filter-value").click()
    expect(page.get_by_role("option")).to_have_text(["eu", "us"])
    page.get_by_role("option", name="eu").click()
    visit.expect_series(EACH_HOST[1:])
    assert asked()[0]["query"] == "cpu{region = $filter_1} | every $__interval avg(usage)", asked()[0]
    assert asked()[0]["params"] == {"filter_1": "eu"}, asked()[0]
    visit.expect_query("cpu | every $__interval avg(usage)")
    # Of the second filter only the values that the first one leaves.
    visit.choose("filter-key", "host")
    visit.choose("filter-operator", "!=")
    page.get_by_test_id("filter-value").click()
    expect(page.get_by_role("option")).to_have_text(["web-1", "web-2"])
    page.get_by_role("option", name="web-2").click()
    visit.expect_series(EACH_HOST[1:2])
    visit.shot("filters")
    for _ in range(2):
        page.get_by_test_id("filter").first.click()
    visit.expect_series(EACH_HOST)
    # A table without the tag says so.
    visit.choose("filter-key", "region")
    visit.choose("filter-value", "eu")
    visit.choose("waterclock-source", re.compile("^events"))
    expect(page.get_by_test_id("panel")).to_have_attribute("data-state", "Error")
    page.get_by_role("button", name="Remove aggregate").click()
    expect(page.get_by_test_id("notice-warning")).to_have_text(re.compile("events has no tag region; the filter on it is left out"))
    visit.end()


def annotating(browser):
    visit = Visit(browser, "/#annotation")
    page = visit.page
    visit.radio("Code")
    # Grafana takes the column of this name, or else the first of texts.
    text = 'events{host="web-1"} | where level = "info" | extend text = message'
    write_anew(page, text)
    page.keyboard.press("Escape")
    visit.expect_query(text)
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_test_id("happenings")).to_contain_text("restart 5")
    found = json.loads(page.get_by_test_id("happenings").text_content())
    assert [one["time"] for one in found] == [(START + 600 * n) * 1000 for n in range(6)], found
    assert [one["text"] for one in found] == [f"restart {n}" for n in range(6)], found
    visit.end()


def editing_a_variable(browser):
    visit = Visit(browser, "/#variable")
    page = visit.page
    values = page.get_by_test_id("values")
    visit.choose("waterclock-variable-table", re.compile("^cpu(?!_)"))
    visit.choose("waterclock-variable-tag", re.compile("^host"))
    expect(values).to_have_text('["db-1","web-1","web-2"]')
    # Under the value of another variable, which here is eu.
    page.get_by_label("Where").fill("region in $region")
    page.get_by_label("Where").press("Tab")
    expect(values).to_have_text('["web-1","web-2"]')
    expect(page.get_by_text("show values of host from cpu{region in $region}")).to_be_visible()
    visit.shot("variable")
    for kind, found in (("Tags", '["host","region"]'), ("Fields", '["n","usage"]'), ("Tables", '["cpu","events"]')):
        visit.radio(kind)
        expect(values).to_have_text(found)
    visit.radio("WQL")
    write_anew(page, "cpu{region in $region} | max(usage) by host")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    expect(values).to_have_text('["web-1","web-2"]')
    visit.end()


def cancelling(browser):
    """A person who waits no more ends the query in the server."""
    visit = Visit(browser)
    page = visit.page
    running = lambda: json.loads(urllib.request.urlopen(f"{URL}/api/queries").read())["queries"]
    slow = "cpu | every 100ms over 30m exact_quantile(usage, 0.5) by ()"
    visit.radio("Code")
    write_anew(page, slow)
    page.keyboard.press("Escape")
    visit.expect_query(slow)
    page.keyboard.press("Control+Enter")
    until = time.time() + PATIENCE_MS / 1000
    while not any(slow in query["statement"] for query in running()):
        assert time.time() < until, "the query does not run"
        time.sleep(0.02)
    page.get_by_role("button", name="Cancel", exact=True).click()
    cancelled = time.time()
    while any(slow in query["statement"] for query in running()):
        assert time.time() < until, "the query goes on"
        time.sleep(0.02)
    assert time.time() - cancelled < 10, "it ended by itself"
    visit.end()


def exploring(browser):
    """Explore: values in place of variables, a history of what was asked, as many points as there is room for."""
    visit = Visit(browser)
    page = visit.page
    visit.choose("waterclock-source", re.compile("^cpu(?!_)"))
    visit.choose("waterclock-field", re.compile("^usage"))
    page.get_by_role("button", name="Filter", exact=True).click()
    visit.choose("waterclock-tag", re.compile("^host"))
    visit.choose("waterclock-operator", "in", exact=True)
    visit.choose("waterclock-values", "$host", exact=False)
    page.keyboard.press("Escape")
    visit.expect_series(EACH_HOST)
    page.get_by_role("button", name="Explore", exact=True).click()
    written = 'cpu{host in ("db-1", "web-1", "web-2")} | every $__interval avg(usage)'
    visit.expect_query(written)
    visit.expect_series(EACH_HOST)
    assert asked()[0]["query"] == written and asked()[0]["params"] == {}, asked()[0]
    visit.radio("Code")
    expect(page.locator(".view-lines")).to_contain_text("avg")
    write_anew(page, "cpu | limit $__maxDataPoints")
    page.keyboard.press("Escape")
    visit.radio("Table")
    visit.expect_query("cpu | limit $__maxDataPoints")
    expect(page.get_by_test_id("panel").locator("tbody tr")).to_have_count(60)
    history = page.get_by_test_id("history").get_by_role("button")
    expect(history.nth(0)).to_have_text("cpu | limit $__maxDataPoints")
    expect(history.nth(1)).to_have_text(written)
    visit.shot("explore")
    history.nth(1).click()
    visit.expect_query(written)
    visit.expect_series(EACH_HOST)
    visit.end()


def streaming(browser):
    """A live panel: what there was, then points as they come, and an end when it is closed."""

    def write_the_last_minute():
        now = int(time.time())
        write(f"load,host={host} one={base + second % 7} {(now - second) * 10**9}" for host, base in (("a", 3), ("b", 13)) for second in range(1, 55))

    write_the_last_minute()
    visit = Visit(browser, "/?now")
    page = visit.page
    panel = page.get_by_test_id("panel")
    visit.choose("waterclock-source", re.compile("^load"))
    # On a busy machine the panel has taken longer than its range to be there.
    write_the_last_minute()
    page.get_by_role("switch", name="Live").click(force=True)
    expect(panel).to_have_attribute("data-state", "Streaming")
    visit.expect_series(["avg_one a", "avg_one b"])
    (channel,) = GrafanasServer.listening
    asked_before = len(GrafanasServer.passed)
    for value in range(3):
        write(f"load,host={host} one={base + value} {int(time.time() * 10**9)}" for host, base in (("a", 20), ("b", 30)))
        expect(panel).to_have_attribute("data-last", str(20 + value))
    visit.shot("live")
    assert len(GrafanasServer.passed) == asked_before, "a live panel asks nothing"
    # Another statement is another channel, and nobody is left in the old one.
    visit.choose("waterclock-function", "max")
    visit.expect_series(["max_one a", "max_one b"])
    expect_listening(lambda: len(GrafanasServer.listening) == 1 and GrafanasServer.listening != [channel])
    # What cannot go on is said.
    visit.radio("Code")
    write_anew(page, "load | limit 5")
    page.keyboard.press("Escape")
    visit.expect_query("load | limit 5")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("error")).to_contain_text("every")
    visit.end()
    expect_listening(lambda: GrafanasServer.listening == [])


def expect_listening(holds):
    until = time.time() + PATIENCE_MS / 1000
    while not holds():
        assert time.time() < until, GrafanasServer.listening
        time.sleep(0.2)


def settings(browser):
    visit = Visit(browser, "/#config")
    page = visit.page
    kept = lambda: json.loads(page.get_by_test_id("settings").text_content())
    test = page.get_by_role("button", name="Save & test")
    test.click()
    expect(page.get_by_text("the data source has no URL")).to_be_visible()
    page.get_by_placeholder("http://127.0.0.1:8086").fill(URL)
    test.click()
    expect(page.get_by_text(re.compile("Waterclock answers. The database default has [23] tables."))).to_be_visible()
    page.locator("#waterclock-database").fill("plant")
    test.click()
    expect(page.get_by_text("There is no database plant yet; it is made on first write. There are data in: default.")).to_be_visible()
    page.locator("#waterclock-token").fill("s3cret")
    expect(page.get_by_test_id("settings")).to_contain_text("Bearer s3cret")
    visit.shot("settings")
    test.click()
    expect(page.get_by_test_id("settings")).not_to_contain_text("s3cret")
    # Saved, it is the server's and not the browser's.
    saved = kept()
    assert saved["jsonData"] == {"database": "plant", "httpHeaderName1": "Authorization"}, saved
    assert saved["secureJsonFields"] == {"httpHeaderValue1": True} and not saved.get("secureJsonData"), saved
    held = GrafanasServer.sources["settings"].dataSourceInstanceSettings
    assert dict(held.decryptedSecureJsonData) == {"httpHeaderValue1": "Bearer s3cret"}, held
    # Something on the way to the server.
    page.get_by_placeholder("http://127.0.0.1:8086").fill("http://127.0.0.1:9")
    test.click()
    expect(page.get_by_text("Waterclock cannot be reached at http://127.0.0.1:9: Connection refused")).to_be_visible()
    visit.end()


PARTS = (
    building_by_clicking,
    completing_code,
    errors_of_code,
    typing_fast,
    changing_variables,
    editing_a_variable,
    filtering,
    annotating,
    exploring,
    cancelling,
    tables_and_logs,
    streaming,
    settings,
)
expect.set_options(timeout=PATIENCE_MS)
fill()
GrafanasServer.backend = Plugin(EXECUTABLE)
GrafanasServer.sources["waterclock"] = context(URL)
SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GrafanasServer)
GRAFANA = f"http://127.0.0.1:{SERVER.server_port}"
threading.Thread(target=SERVER.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make test` installs it"
    # As root, in a container, there is no sandbox; the only page it opens is ours.
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
    wanted = sys.argv[5:] or [part.__name__ for part in PARTS]
    for part in (part for part in PARTS if part.__name__ in wanted):
        print(part.__name__, flush=True)
        try:
            part(browser)
        except Exception:
            for visit in VISITS:
                print(visit.errors, flush=True)
                visit.shot("failed")
            raise
    browser.close()
GrafanasServer.backend.end()
print("ok")
