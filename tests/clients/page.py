"""The page as a person uses it, in headless Chromium. Prints `ok`, or fails at the first thing that is not as it should be.

Usage: page.py URL, of a server without data. No check is about time; waits are for what the page shows.
"""

import json
import math
import re
import shutil
import sys
import urllib.request

from playwright.sync_api import expect, sync_playwright

URL = sys.argv[1]
START = 1_767_225_600  # 2026-01-01T00:00:00Z
BIG = 100_000
HOUR = "cpu | between 2026-01-01 and 2026-01-01T01:00:00Z | every 1m avg(usage) by host"


def write(lines):
    request = urllib.request.Request(f"{URL}/write?db=default", data="\n".join(lines).encode())
    assert urllib.request.urlopen(request).status == 204


def fill():
    hosts = [("web-1", "eu"), ("web-2", "us")]
    write(
        f"cpu,host={host},region={region} usage={10 * place + 20 + second % 60 / 60},busy=t {(START + second) * 10**9}"
        for place, (host, region) in enumerate(hosts)
        for second in range(0, 3600, 10)
    )
    write(f"big,sensor=s1 v={math.sin(n / 9000):.4f} {(START + n) * 10**9}" for n in range(BIG))
    write(["fresh,host=a v=1", "`odd` v=1"])
    write([r"two\ words,a\ tag=x v=1"])


class Visit:
    """A window of its own, which may ask nobody but the server and may have no error."""

    def __init__(self, browser, path="/", **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("request", self.watch)
        self.page.on("response", self.look)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if self.is_error(line) else None)
        self.page.goto(URL + path)
        expect(self.page.locator("#tables summary").first).to_be_attached()

    def is_error(self, line):
        # The browser itself notes each refusal; the page's own files are looked at below.
        return line.type == "error" and "Failed to load resource" not in line.text

    def look(self, response):
        # Statements are refused on purpose.
        if response.status >= 400 and "/api/wql" not in response.url:
            self.errors.append(f"{response.status} of {response.url}")

    def watch(self, request):
        if not request.url.startswith((URL + "/", "blob:" + URL, "data:")):
            self.errors.append(f"asked {request.url}")

    def run(self, statement):
        self.page.fill("#text", statement)
        self.page.locator("#text").press("Control+Enter")
        expect(self.page.locator("#cancel")).to_be_hidden()

    def chart(self):
        return self.page.evaluate("document.getElementById('chart').chart()")

    def end(self):
        assert not self.errors, self.errors
        self.context.close()


def typing_and_completion(browser):
    visit = Visit(browser)
    page, text = visit.page, visit.page.locator("#text")
    text.click()
    offered = page.locator("#choices [aria-selected=true]")

    def pick(typed, label, key="Tab"):
        page.keyboard.type(typed)
        expect(offered).to_contain_text(label)
        page.keyboard.press(key)
        expect(page.locator("#choices")).to_be_hidden()

    pick("cp", "cpu")
    pick("{ho", "host")
    pick("=", "web-1")
    page.keyboard.type("} | since 2026-01-01 ")
    pick("| eve", "every")
    pick(" 1m av", "avg")
    pick("(us", "usage")
    page.keyboard.type(")")
    page.keyboard.type(" by ")
    expect(page.locator("#choices li")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(offered).to_contain_text("region")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expected = 'cpu{host="web-1"} | since 2026-01-01 | every 1m avg(usage) by host'
    assert text.input_value() == expected, text.input_value()
    # What is painted is what is typed.
    assert page.locator("#painted").text_content().rstrip("\n") == expected
    assert page.locator("#painted .function").text_content() == "avg"
    page.keyboard.press("Control+Enter")
    expect(page.locator("#stats")).to_contain_text("60 rows")
    expect(page.locator("#own-range")).to_be_visible()

    # What a stage has made, and what a `let` has named.
    page.fill("#text", "")
    page.keyboard.type("let busy = cpu | every 1m avg(usage) by host | where avg_")
    expect(offered).to_contain_text("avg_usage")
    page.keyboard.type("usage > 1; bu")
    expect(offered).to_contain_text("busy")

    # Escape closes, and the text stays.
    page.fill("#text", "")
    page.keyboard.type("c")
    expect(offered).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#choices")).to_be_hidden()
    assert text.input_value() == "c"
    # A name with a blank is quoted.
    page.fill("#text", "")
    pick("two", "two words")
    assert text.input_value() == "`two words`"
    visit.end()


def errors_stand_at_their_place(browser):
    visit = Visit(browser)
    page, wrong = visit.page, visit.page.locator("#painted .wrong")
    # Without running it, and with characters outside of the basic plane before it.
    page.fill("#text", "cpu{host=\"\U0001f600\"}\n  | evry 5m avg(usage)")
    expect(wrong).to_have_text("evry")
    expect(page.locator("#problem")).to_contain_text("line 2, column 5")
    expect(page.locator("#problem")).to_contain_text("did you mean `every`?")
    painted, box = page.locator("#painted").bounding_box(), wrong.bounding_box()
    assert box["y"] - painted["y"] > 25, "it stands in the second line"
    page.fill("#text", "cpu{host=\"\U0001f600\"} | every 5m avgg(usage)")
    expect(wrong).to_have_text("avgg")
    page.fill("#text", "show tables; cpu | lst 5m")
    expect(wrong).to_have_text("lst")
    # What is not written to its end is not called wrong, until it is run.
    with page.expect_response("**/api/wql/explain**"):
        page.fill("#text", "cpu{host")
    expect(page.locator("#problem")).to_be_hidden()
    page.locator("#text").press("Control+Enter")
    expect(page.locator("#problem")).to_contain_text("line 1, column 9")
    # A change takes the mark away; a statement that runs has none.
    visit.run(HOUR)
    expect(wrong).to_have_count(0)
    expect(page.locator("#problem")).to_be_hidden()
    visit.run("nothing | last 5m")
    expect(wrong).to_have_text("nothing")
    visit.end()


def chart_and_table(browser):
    visit = Visit(browser)
    page = visit.page
    visit.run(HOUR)
    expect(page.locator("#answered-by")).to_have_text("answered from raw points")
    chart = visit.chart()
    assert [one["label"] for one in chart["series"]] == ["host=web-1", "host=web-2"], chart
    assert chart["points"] == 60, chart
    coloured = page.evaluate("""() => {
        const canvas = document.querySelector('#chart canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let blue = 0;
        for (let at = 0; at < data.length; at += 4) if (data[at + 2] - data[at] > 100 && data[at + 3] > 128) blue += 1;
        return blue;
    }""")
    assert coloured > 200, f"{coloured} pixels of the first line"

    over = page.locator("#chart .u-over").bounding_box()
    middle = over["x"] + over["width"] / 2, over["y"] + over["height"] / 2
    page.mouse.move(*middle)
    expect(page.locator("#hover")).to_contain_text(re.compile(r"2026-01-01 00:(29|30):00 UTC"))
    expect(page.locator("#hover")).to_contain_text("20.4167")
    expect(page.locator("#hover")).to_contain_text("30.4167")

    page.mouse.move(over["x"] + over["width"] * 0.25, middle[1])
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.5, middle[1], steps=5)
    page.mouse.up()
    expect(page.locator("#unzoom")).to_be_visible()
    zoomed = visit.chart()
    width = (zoomed["to"] - zoomed["from"]) / (chart["to"] - chart["from"])
    assert 0.2 < width < 0.3, (chart, zoomed)
    page.click("#unzoom")
    expect(page.locator("#unzoom")).to_be_hidden()
    assert visit.chart()["to"] == chart["to"]

    page.click("#legend button >> nth=0")
    assert [one["shown"] for one in visit.chart()["series"]] == [False, True]
    page.click("#legend button >> nth=0")
    page.dblclick("#legend button >> nth=1")
    assert [one["shown"] for one in visit.chart()["series"]] == [False, True]

    page.click("#tab-table")
    expect(page.locator("#table-view th")).to_have_count(3)
    expect(page.locator("#table-view tbody tr:not(.gap)").first).to_contain_text("2026-01-01T00:00:00Z")
    with page.expect_download() as download:
        page.click("#download")
    lines = open(download.value.path(), encoding="utf-8").read().splitlines()
    assert lines[0] == "time,host,avg_usage" and len(lines) == 121, lines[:3]
    # Without times there is nothing to draw.
    page.click("#tab-chart")
    visit.run("cpu | since 2026-01-01 | max(usage) by host")
    expect(page.locator("#table-view")).to_contain_text("web-2")
    visit.end()


def a_hundred_thousand_points(browser):
    visit = Visit(browser)
    page = visit.page
    visit.run("big | since 2026-01-01")
    expect(page.locator("#stats")).to_contain_text("100,000 rows")
    assert visit.chart()["points"] == BIG
    over = page.locator("#chart .u-over").bounding_box()
    page.mouse.move(over["x"] + 100, over["y"] + 100)
    expect(page.locator("#hover")).to_contain_text("sensor=s1")
    page.click("#tab-table")
    view = page.locator("#table-view")
    expect(view.locator("table")).to_have_attribute("aria-rowcount", str(BIG + 1))
    view.evaluate("view => view.scrollTo(0, view.scrollHeight)")
    expect(view.locator(f"tr[aria-rowindex='{BIG + 1}']")).to_contain_text("2026-01-02T03:46:39Z")
    assert view.locator("tr").count() < 100
    visit.end()


def ranges(browser):
    visit = Visit(browser)
    page = visit.page
    page.select_option("#range", "-15m")
    visit.run("fresh | limit 5")
    expect(page.locator("#stats")).to_contain_text("1 row ·")
    page.select_option("#range", "custom")
    page.fill("#from", "2026-01-01T00:00:00")
    page.fill("#to", "2026-01-01T00:01:00")
    visit.run("cpu")
    expect(page.locator("#stats")).to_contain_text("12 rows")
    visit.run("fresh")
    expect(page.locator("#stats")).to_contain_text("0 rows")
    visit.end()


def links_and_history(browser):
    visit = Visit(browser)
    page = visit.page
    page.select_option("#range", "")
    visit.run("cpu{host=\"web-2\"} | every 10m max(usage)  # ünï&=+%\n")
    expect(page.locator("#stats")).to_contain_text("6 rows")
    address = page.url
    page.reload()
    page.click("#tab-history")
    page.click("#history .past >> nth=0")
    assert page.input_value("#text").endswith("# ünï&=+%\n")
    visit.end()

    other = Visit(browser, address[len(URL):])
    expect(other.page.locator("#stats")).to_contain_text("6 rows")
    assert other.page.input_value("#text").endswith("# ünï&=+%\n")
    assert other.page.input_value("#range") == ""
    other.end()
    # A link does not change anything.
    harmful = Visit(browser, "/#q=delete%20from%20cpu&range=")
    assert harmful.page.input_value("#text") == "delete from cpu"
    harmful.run("cpu | since 2026-01-01 | count by ()")
    harmful.page.click("#tab-table")
    expect(harmful.page.locator("#table-view")).to_contain_text("720")
    harmful.end()


def side_panel(browser):
    visit = Visit(browser)
    page = visit.page
    tables = page.locator("#tables > details > summary")
    expect(tables).to_have_count(5)
    cpu = page.locator("#tables > details", has=page.locator("summary", has_text="cpu"))
    cpu.locator("summary").first.click(position={"x": 8, "y": 12})
    expect(cpu).to_contain_text("boolean")
    page.fill("#text", "")
    cpu.locator("button.name", has_text="cpu").click()
    page.keyboard.type(" | max(")
    page.keyboard.press("Escape")
    cpu.locator("button.name", has_text="usage").click()
    assert page.input_value("#text") == "cpu | max(usage"
    host = cpu.locator("details", has=page.locator("summary", has_text="host"))
    host.locator("summary").click(position={"x": 8, "y": 12})
    page.fill("#text", "")
    host.locator("button.name", has_text="web-2").click()
    assert page.input_value("#text") == 'host="web-2"'
    visit.end()


def rollups(browser):
    visit = Visit(browser)
    page = visit.page
    page.click("#tab-rollups")
    expect(page.locator("#rollups")).to_contain_text("No rollups")
    # What the server says at first is shown as it is; only the numbers of a longer work are put in.
    missing = 40

    def slower(route):
        body = route.fetch().json()
        for rollup in body.get("rollups", [body]):
            rollup["missing_buckets"] = missing
        route.fulfill(body=json.dumps(body), content_type="application/json")

    page.route("**/api/rollups**", slower)
    page.route("**/api/rollups/**", slower)
    visit.run("create rollup cpu_1m as cpu | every 1m count, avg(usage) by host")
    expect(page.locator("#rollups .state")).to_contain_text("40 buckets to compute")
    missing = 10
    expect(page.locator("#rollups .state")).to_contain_text("10 buckets to compute")
    bar = page.locator("#rollups progress")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("30", "40")
    page.unroute("**/api/rollups**")
    page.unroute("**/api/rollups/**")
    expect(page.locator("#rollups .state")).to_contain_text("up to date")
    expect(page.locator("#rollups .state")).to_contain_text(re.compile(r"computed to 2026-01-01 0[12]:00"))
    visit.run(HOUR)
    expect(page.locator("#answered-by")).to_contain_text("answered by rollup cpu_1m (120 buckets")
    visit.end()


def cancelling(browser):
    visit = Visit(browser)
    page = visit.page
    page.route("**/api/wql?**", lambda route: None)
    page.fill("#text", HOUR)
    page.click("#run")
    expect(page.locator("#cancel")).to_be_visible()
    page.click("#cancel")
    expect(page.locator("#stats")).to_have_text("cancelled")
    expect(page.locator("#run")).to_be_enabled()
    page.click("#run")
    page.keyboard.press("Escape")
    expect(page.locator("#stats")).to_have_text("cancelled")
    page.unroute("**/api/wql?**")
    visit.run(HOUR)
    expect(page.locator("#stats")).to_contain_text("120 rows")
    visit.end()


def colours_and_phones(browser):
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = Visit(browser, color_scheme="light"), Visit(browser, color_scheme="dark")
    backs = [visit.page.evaluate(background) for visit in (light, dark)]
    assert backs[0] != backs[1], backs
    light.page.click("#theme")
    assert light.page.evaluate(background) == backs[1]
    light.page.reload()
    assert light.page.evaluate(background) == backs[1], "the choice is kept"
    light.end()
    dark.run(HOUR)
    axes = """() => {
        const canvas = document.querySelector('#chart canvas');
        const data = canvas.getContext('2d').getImageData(0, canvas.height - 40, canvas.width, 40).data;
        let bright = 0;
        for (let at = 0; at < data.length; at += 4) if (Math.min(data[at], data[at + 1], data[at + 2]) > 130 && data[at + 3] > 200) bright += 1;
        return bright;
    }"""
    assert dark.page.evaluate(axes) > 20, "the axis is light on dark"
    dark.page.click("#theme")
    dark.page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert dark.page.evaluate(axes) == 0, "and dark on light"
    dark.end()

    options = {"viewport": {"width": 360, "height": 700}, "has_touch": True}
    phone = Visit(browser, **options)
    expect(phone.page.locator("#tables")).to_be_hidden()
    for step in (lambda: phone.run(HOUR), lambda: phone.page.click("#tab-table"), lambda: phone.page.click("#side-toggle")):
        step()
        wide = phone.page.evaluate("document.documentElement.scrollWidth")
        assert wide == 360, f"the page is {wide} wide"
    expect(phone.page.locator("#tables")).to_be_visible()
    phone.end()


def keyboard_alone(browser):
    visit = Visit(browser)
    page = visit.page
    visit.run(HOUR)
    page.keyboard.press("Tab")
    focused = "document.activeElement.id"
    assert page.evaluate(focused) == "run", "Tab leaves the editor"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "and the focus is seen"
    page.focus("#tab-chart")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "tab-table"
    expect(page.locator("#table-view")).to_be_visible()
    unnamed = page.evaluate("""[...document.querySelectorAll('button, select, input, textarea')].filter((one) =>
        !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length).map((one) => one.id)""")
    assert unnamed == [], unnamed
    visit.end()


# Long enough for a loaded machine.
expect.set_options(timeout=60_000)
fill()
with sync_playwright() as playwright:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make test` installs it"
    # As root, in a container, there is no sandbox; the only page it opens is ours.
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
    for part in (
        typing_and_completion,
        errors_stand_at_their_place,
        chart_and_table,
        a_hundred_thousand_points,
        ranges,
        links_and_history,
        side_panel,
        rollups,
        cancelling,
        colours_and_phones,
        keyboard_alone,
    ):
        print(part.__name__, flush=True)
        part(browser)
    browser.close()
print("ok")
