"""`waterclock shell` in a terminal, key by key: what a person sees."""

import os
import pty
import re
import select
import sys
import time

binary, url, state = sys.argv[1:]
os.environ.update(XDG_STATE_HOME=state, TERM="xterm", NO_COLOR="1", COLUMNS="100", LINES="40", PAGER="cat")
child, terminal = pty.fork()
if child == 0:
    os.execv(binary, [binary, "shell", "--url", url])

seen = ""


def until(pattern):
    """Reads what is printed until the pattern has come since the last time."""
    global seen
    end = time.monotonic() + 60
    while not (found := re.search(pattern, seen, re.S)):
        left = end - time.monotonic()
        ready, _, _ = select.select([terminal], [], [], max(left, 0))
        assert ready, f"{pattern!r} did not come:\n{seen}"
        seen += os.read(terminal, 65536).decode(errors="replace")
    text, seen = seen[: found.end()], seen[found.end() :]
    return text


def send(keys):
    """Once it asks for them: what is typed before is thrown away."""
    until(r"\x1b\[Kdefault> ")
    os.write(terminal, keys.encode())


def go_on(keys):
    os.write(terminal, keys.encode())


send("cpu | max(usage) by host;\r")
text = until(r"h2\s+50\.0")
assert re.search(r"h1\s+12\.5", text), text
# A statement of several lines ends with an empty one.
send("cpu\r")
go_on("| count as n by ()\r\r")
until(r"\b2\b")
# A word of the server's own is completed.
send("cp\t | maxi(usage);\r")
until(r"cpu \| maxi")
until(r"\^ read `maxi`")
send("\\d cpu\r")
until("usage")
send("cpu | every 1m max(usage) by host;\r")
until(r"h2\s+50\.0")
# The answer of the last statement once more, as a chart.
send("\\chart\r")
until(r"host=h2|h2")
send("\\format csv\r")
send("cpu | count as n by ();\r")
until(r"n\r?\n2")
# Watching goes on until it is ended, and the shell lives on.
send("\\watch 1s\r")
until(r"n\r?\n2.*n\r?\n2")
go_on("\x03")
send("cpu | sum(n) as s by ();\r")
until(r"s\r?\n1001")
send("\x04")
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
history = open(os.path.join(state, "waterclock", "history")).read()
assert "max(usage) by host" in history, history
print("ok")
