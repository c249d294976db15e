"""The built Grafana plugin as a person uses it, in headless Chromium, on a stand-in for Grafana against a real server. Prints `ok`.

Usage: grafana.py URL [SHOTS], of a server without data; SHOTS is a folder for screenshots.

The stand-in (grafana/plugin/standin) loads the plugin's module by SystemJS, as Grafana does. This program is what Grafana's server is for
it: it serves the files, and passes requests on to the data source, adding the credentials.
"""

import http.server
import json
import re
import shutil
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

URL = sys.argv[1]
SHOTS = Path(sys.argv[2]) if len(sys.argv) > 2 else None
PLUGIN = Path(__file__).parents[2] / "grafana/plugin"
ID = "waterclock-waterclock-datasource"
PROXY = "/api/datasources/proxy/uid/waterclock"
TOKEN = "Bearer of-the-server-alone"
START = 1_767_225_600  # 2026-01-01T00:00:00Z

# Long enough for a loaded machine.
PATIENCE_MS = int(sys.argv[3]) if len(sys.argv) > 3 else 60_000

FOLDERS = {
    f"/public/plugins/{ID}/": PLUGIN / "dist",
    "/standin/": PLUGIN / "standin/dist",
    "/public/build/img/icons/": PLUGIN / "node_modules/@grafana/ui/dist/public/img/icons",
    "/public/img/icons/": PLUGIN / "node_modules/@grafana/ui/dist/public/img/icons",
}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}


class GrafanasServer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Of all servers here: what to say instead of asking, and what was asked.
    broken = None
    passed = []

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith(PROXY + "/"):
            return self.send(*self.ask(self.path[len(PROXY):], body))
        path = "/standin/index.html" if self.path.split("?")[0] == "/" else self.path.split("?")[0]
        for prefix, folder in FOLDERS.items():
            file = folder / path[len(prefix):]
            if path.startswith(prefix) and file.is_file():
                return self.send(200, TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes())
        self.send(404, "text/plain", b"not here")

    def ask(self, path, body):
        if self.broken is not None:
            return self.broken
        # The browser has no credentials, and they are added on the way.
        assert "authorization" not in self.headers, self.headers
        headers = {"Content-Type": self.headers.get("content-type", ""), "Authorization": TOKEN}
        request = urllib.request.Request(URL + path, data=body or None, method=self.command, headers=headers)
        self.passed.append((path, body.decode()))
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.headers["content-type"], response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["content-type"], error.read()

    def send(self, status, content_type, body):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        # A browser that goes away, or cancels, is no error.
        try:
            super().handle_one_request()
        except (ConnectionResetError, BrokenPipeError):
            self.close_connection = True


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
    values = [json.loads(body) for path, body in GrafanasServer.passed if path == "/api/wql" and "host in $host" in body]
    assert values[-1]["params"]["host"] == ["web-1", "web-2"], values[-1]
    assert values[-1]["q"] == "cpu{host in $host} | every 1m avg(usage)", values[-1]
    visit.choose("range", "10m")
    expect(page.get_by_test_id("panel")).to_have_attribute("data-state", "Done")
    visit.shot("variables")
    visit.end()


def tables_and_logs(browser):
    visit = Visit(browser, "/?light")
    page = visit.page
    visit.choose("waterclock-source", re.compile("^events"))
    panel = page.get_by_test_id("panel")
    # Until then the page moves under the pointer.
    expect(panel).to_have_attribute("data-state", "Done")
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


def settings(browser):
    visit = Visit(browser, "/#config")
    page = visit.page
    kept = lambda: json.loads(page.get_by_test_id("settings").text_content())
    page.get_by_role("button", name="Save & test").click()
    expect(page.get_by_text("Waterclock answers. The database default has 2 tables.")).to_be_visible()
    page.locator("#waterclock-database").fill("plant")
    page.get_by_role("button", name="Save & test").click()
    expect(page.get_by_text("There is no database plant yet; it is made on first write. There are data in: default.")).to_be_visible()
    page.locator("#waterclock-token").fill("s3cret")
    expect(page.get_by_test_id("settings")).to_contain_text("Bearer s3cret")
    saved = kept()
    assert saved["jsonData"] == {"database": "plant", "httpHeaderName1": "Authorization"}, saved
    assert saved["secureJsonData"] == {"httpHeaderValue1": "Bearer s3cret"}, saved
    visit.shot("settings")
    # Something on the way to the server.
    GrafanasServer.broken = (502, "application/json", b'{"message": "Bad Gateway"}')
    page.get_by_role("button", name="Save & test").click()
    expect(page.get_by_text("Grafana cannot reach Waterclock: Bad Gateway")).to_be_visible()
    GrafanasServer.broken = None
    visit.end()


expect.set_options(timeout=PATIENCE_MS)
fill()
SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GrafanasServer)
GRAFANA = f"http://127.0.0.1:{SERVER.server_port}"
threading.Thread(target=SERVER.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make test` installs it"
    # As root, in a container, there is no sandbox; the only page it opens is ours.
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
    for part in (building_by_clicking, completing_code, errors_of_code, changing_variables, tables_and_logs, settings):
        print(part.__name__, flush=True)
        try:
            part(browser)
        except Exception:
            for visit in VISITS:
                print(visit.errors, flush=True)
                visit.shot("failed")
            raise
    browser.close()
print("ok")
