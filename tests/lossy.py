"""The real binary on a disk that loses what was not fsynced, is full, or answers EIO: a FUSE file system (lossyfs.py, which
stands beside the checkout). `tests/conformance.sh` calls this.

    lossy.py BINARY LOSSYFS.PY [SEED]

Several clients write, overwrite and delete, one flushes, merges and refreshes a rollup all the time. After each fault: what
was acknowledged is there, nothing else is, and the rollup equals its raw points. Lines of success begin with `ok`; the
first thing that is wrong ends it with exit code 1 and the seed.
"""

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

WRITERS = 3
POWERCUTS = 8
FLAGS = ["wal_segment_bytes_max=8KiB", "head_bytes_max=1MiB", "flush_after=1ms", "flush_small_after=1ms"]
FLAGS += ["delete_after=1ms", "refresh_every=20ms"]
NOON = 1_767_268_800
ROLLUP = "load | every 1m count, sum(v), max(v) by writer"


class Wrong(Exception):
    pass


def wait_for(what, ready, seconds=30):
    for _ in range(seconds * 50):
        found = ready()
        if found:
            return found
        time.sleep(0.02)
    raise Wrong(f"{what} took longer than {seconds} s")


class Disk:
    """The backing folder, and the lossy view of it that the server gets."""

    def __init__(self, folder, lossyfs):
        self.backing, self.mount = folder + "/backing", folder + "/mount"
        self.control, self.log, self.lossyfs = folder + "/control", folder + "/lossyfs.log", lossyfs
        os.mkdir(self.backing)
        os.mkdir(self.mount)
        self.start()

    def start(self):
        command = [sys.executable, self.lossyfs, self.backing, self.mount, self.control]
        self.process = subprocess.Popen(command, stdout=open(self.log, "w"), stderr=subprocess.STDOUT)

        def mounted():
            if self.process.poll() is not None:
                raise Wrong("FUSE cannot be used here: " + open(self.log).read())
            return os.path.ismount(self.mount)

        wait_for("mounting", mounted)

    def tell(self, command, answer=None):
        with open(self.control, "w") as control:
            control.write(command + "\n")
        if answer:
            return wait_for(command, lambda: [line for line in open(self.log) if answer in line])[-1].strip()
        # The others are read by a thread of their own and answer nothing.
        time.sleep(0.5)

    def stop(self):
        if self.process.poll() is None:
            for _ in range(100):
                if subprocess.run(["umount", self.mount], capture_output=True).returncode == 0:
                    break
                time.sleep(0.05)
            else:
                subprocess.run(["umount", "-l", self.mount])
            self.process.kill()
        self.process.wait()

    def remount(self):
        """Also forgets what the kernel has cached."""
        self.stop()
        self.start()


class Server:
    def __init__(self, binary, data, folder):
        self.log = folder + "/server.log"
        command = [binary, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--log", "json"]
        for flag in FLAGS:
            command += ["--set", flag]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WATERCLOCK_")}
        self.process = subprocess.Popen(command, stderr=open(self.log, "w"), env=environment)

        def address():
            if self.process.poll() is not None:
                raise Wrong("the server does not start: " + open(self.log).read())
            for line in open(self.log):
                if '"address":"' in line:
                    return line.split('"address":"')[1].split('"')[0]

        self.address = wait_for("the start", address)

    def send(self, method, path, body=""):
        """Status and text; None if the server died."""
        try:
            connection = http.client.HTTPConnection(self.address, timeout=60)
            connection.request(method, path, body.encode())
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return None

    def must(self, method, path, body=""):
        answer = self.send(method, path, body)
        if answer is None or answer[0] >= 300:
            raise Wrong(f"{method} {path} {body}: {answer}")
        return answer[1]

    def rows(self, statement, rollups="on"):
        return json.loads(self.must("POST", f"/api/wql?time=s&rollups={rollups}", statement))["rows"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Ledger:
    """Per point what may be read: the last acknowledged operation, or one sent after it. None is deleted."""

    def __init__(self):
        self.points, self.number, self.lock = {}, 0, threading.Lock()

    def next(self, writer, dice):
        with self.lock:
            self.number += 1
            number, moment = self.number, lambda: NOON + dice.randrange(40) * 10 + dice.randrange(3) * 86_400
            if dice.randrange(10) == 0:
                start, end = sorted([moment(), moment()])
                body = f'delete from load{{writer="{writer}"}} between {start}s and {end + 1}s'
                points = [point for point in self.points if point[0] == writer and start <= point[2] <= end]
                operation = ("/api/wql", body, points, (number, None))
            else:
                points = list({(writer, dice.randrange(4), moment()) for _ in range(1 + dice.randrange(6))})
                line = "load,writer={},series={} v=%di {}" % number
                body = "\n".join(line.format(*point) for point in points)
                operation = ("/write?precision=s", body, points, (number, number))
            for point in points:
                self.points.setdefault(point, [None, []])[1].append(operation[3])
            return operation

    def acknowledge(self, operation):
        self.change(operation, lambda allowed, told: [told, [sent for sent in allowed[1] if sent > told]])

    def refuse(self, operation):
        self.change(operation, lambda allowed, told: [allowed[0], [sent for sent in allowed[1] if sent != told]])

    def change(self, operation, change):
        with self.lock:
            for point in operation[2]:
                self.points[point] = change(self.points[point], operation[3])

    def check(self, server, story):
        found = {}
        for when, series, writer, value in server.rows("load | limit 1000000"):
            found[(int(writer), int(series), when)] = value
        for point, (acknowledged, sent) in self.points.items():
            value = found.pop(point, None)
            seen = [told for told in [acknowledged] + sent if told and told[1] == value]
            if not seen and not (acknowledged is None and value is None):
                raise Wrong(f"{story}: {point} is {value}, which is none of {acknowledged} and {sent}")
            self.points[point] = [seen[-1] if seen else None, []]
        if found:
            raise Wrong(f"{story}: nobody has sent {found}")
        for query in [ROLLUP, "by_minute"]:
            if server.rows(query) != server.rows(query, "off"):
                raise Wrong(f"{story}: {query} differs from its raw points")


def load(server, ledger, dice, operations):
    """Runs all clients until that many operations are acknowledged or the server dies; tells what was refused."""
    over, refused, counted = threading.Event(), [], threading.Semaphore(0)

    def write(writer, dice):
        while not over.is_set():
            operation = ledger.next(writer, dice)
            answer = server.send("POST", operation[0], operation[1])
            if answer is None:
                continue
            if answer[0] < 300:
                ledger.acknowledge(operation)
            elif "cannot sync" not in answer[1]:
                # After a failed fsync nobody knows; any other refusal is final.
                ledger.refuse(operation)
            if answer[0] >= 300:
                refused.append(answer)
            counted.release()

    def keep(dice):
        steps = ["/api/flush", "/api/compact?force=on", "/api/rollups/by_minute/refresh"]
        while not over.is_set():
            answer = server.send("POST", dice.choice(steps))
            if answer and answer[0] >= 300:
                refused.append(answer)

    seeds = [random.Random(dice.random()) for _ in range(WRITERS + 1)]
    threads = [threading.Thread(target=write, args=(writer, seeds[writer])) for writer in range(WRITERS)]
    threads.append(threading.Thread(target=keep, args=(seeds[WRITERS],)))
    for thread in threads:
        thread.start()

    def end():
        over.set()
        for thread in threads:
            thread.join()
        return refused

    for _ in range(operations):
        if not counted.acquire(timeout=60):
            over.set()
            raise Wrong("no answer for 60 s")
    return end


def run(binary, lossyfs, seed, folder):
    dice, ledger = random.Random(seed), Ledger()
    disk = Disk(folder, lossyfs)
    server = None
    data = disk.mount + "/data"

    def start():
        if os.path.exists(data):
            checked = subprocess.run([binary, "check", "--rollups", data], capture_output=True, text=True)
            if checked.returncode:
                raise Wrong("`waterclock check` finds " + checked.stdout + checked.stderr)
        return Server(binary, data, folder)

    try:
        server = start()
        server.must("POST", "/write?precision=s", "load,writer=9,series=9 v=0i 1")
        server.must("POST", "/api/wql", "delete from load")
        server.must("POST", "/api/rollups/by_minute", ROLLUP)
        lost = 0
        for cut in range(POWERCUTS):
            # A slow disk has more that is not yet synced.
            disk.tell(f"slow {cut % 4 * 2}")
            end = load(server, ledger, dice, 20 + dice.randrange(300))
            time.sleep(dice.random() * 0.05)
            server.kill()
            refused = end()
            disk.tell("slow 0")
            if refused:
                raise Wrong(f"refused on a sound disk: {refused[0]}")
            how = ("powercut", "powercut dropped") if cut % 2 == 0 else (f"torn {seed * 100 + cut}", "torn done")
            said = disk.tell(*how)
            lost += int(said.split()[-2]) if "dropped" in said else 0
            disk.remount()
            server = start()
            ledger.check(server, f"power cut {cut}")
            print(f"ok power cut {cut}: {said}, {ledger.number} operations so far", flush=True)

        if not lost:
            raise Wrong("no power cut met anything that was not synced: this has tested nothing")

        disk.tell("enospc 30000")
        end = load(server, ledger, dice, 400)
        refused = end()
        full = [text for status, text in refused if status in (400, 503) and "the disk is full; free some space" in text]
        if not full or len(full) < len(refused):
            other = [answer for answer in refused if "the disk is full" not in answer[1]]
            raise Wrong(f"a full disk should be named: {(other or refused)[:1]}")
        ledger.check(server, "full disk")
        disk.tell("enospc off")
        refused = load(server, ledger, dice, 100)()
        if refused:
            raise Wrong(f"there is room again: {refused[0]}")
        server.kill()
        disk.tell("powercut", "powercut dropped")
        disk.remount()
        server = start()
        ledger.check(server, "full disk, power cut")
        print(f"ok full disk: {len(full)} requests were refused", flush=True)

        disk.tell("eio fsync 1")
        refused = load(server, ledger, dice, 30)()
        first = [text for _, text in refused if "cannot sync" in text or "cannot write" in text]
        later = [text for _, text in refused if "writes are refused since the fsync of" in text]
        if not first or not later:
            raise Wrong(f"a failed fsync should be named: {refused[:3]}")
        server.rows("load | limit 1")
        disk.tell("eio off")
        status, text = server.send("POST", "/write", "other v=1")
        if status != 503 or "writes are refused since" not in text:
            raise Wrong(f"writes are refused until a restart: {status} {text}")
        if server.send("GET", "/health")[0] != 503:
            raise Wrong("/health says that all is well")
        server.kill()
        disk.tell("powercut", "powercut dropped")
        disk.remount()
        server = start()
        ledger.check(server, "failed fsync")
        if load(server, ledger, dice, 50)():
            raise Wrong("a restart does not end the refusal")
        print("ok failed fsync", flush=True)

        server.must("POST", "/api/flush")
        server.kill()
        disk.remount()
        server = start()
        disk.tell("eio read 1")
        status, text = server.send("POST", "/api/wql?rollups=off", "load | limit 1000000")
        if status != 500 or "/blocks/" not in text:
            raise Wrong(f"an unreadable file should be named: {status} {text}")
        server.must("POST", "/write", "other v=1")
        if server.rows("other | count() by ()") != [[1]]:
            raise Wrong("another table cannot be read")
        disk.tell("eio off")
        ledger.check(server, "read errors")
        print("ok read errors", flush=True)
        server.kill()
    finally:
        if server and server.process.poll() is None:
            server.kill()
        disk.stop()


def main():
    binary, lossyfs = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    folder = tempfile.mkdtemp(prefix="lossy-")
    try:
        run(binary, lossyfs, seed, folder)
    except Wrong as wrong:
        sys.exit(f"seed {seed}: {wrong}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
