"""The same random data and queries to Waterclock and to Prometheus.

oracle.py OURS THEIRS SEED QUERIES: writes data to both, asks both, prints every difference and ends with `ok` if there is none.

Numbers are compared bit for bit, except where an expression has a function that Go's library and C's compute differently in the last
place; those may differ by one part in 10^9, as may bounds of custom buckets. Errors are compared by their type, annotations by their text.
"""

import json
import random
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

import data
import wire
from grammar import Grammar

TOLERANCE = 1e-9


def ask(base, path, params):
    url = "%s/api/v1/%s?%s" % (base, path, urllib.parse.urlencode(params))
    try:
        with urllib.request.urlopen(url) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return json.load(error)


def same_number(ours, theirs, exact):
    if ours == theirs:
        return True
    one, two = float(ours), float(theirs)
    if one != one or two != two:
        return one != one and two != two
    if exact:
        return struct.pack("<d", one) == struct.pack("<d", two)
    return one == two or abs(one - two) <= TOLERANCE * max(abs(one), abs(two))


def same_histogram(ours, theirs, exact):
    if not (same_number(ours["count"], theirs["count"], exact) and same_number(ours["sum"], theirs["sum"], exact)):
        return False
    one, two = ours.get("buckets", []), theirs.get("buckets", [])
    if ours["count"] in ("NaN", "+Inf", "-Inf"):
        # Then empty buckets are NaN, and how many of those Prometheus has goes by what it stores together.
        return True
    same = lambda a, b: a[0] == b[0] and all(same_number(x, y, exact) for x, y in zip(a[1:], b[1:]))
    return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two))


def same_samples(ours, theirs, same, exact):
    return len(ours) == len(theirs) and all(a[0] == b[0] and same(a[1], b[1], exact) for a, b in zip(ours, theirs))


def key(entry):
    return json.dumps(entry["metric"], sort_keys=True)


def same_entry(ours, theirs, exact):
    lists = lambda entry, name: entry.get(name + "s") or ([entry[name]] if name in entry else [])
    return (
        key(ours) == key(theirs)
        and same_samples(lists(ours, "value"), lists(theirs, "value"), same_number, exact)
        and same_samples(lists(ours, "histogram"), lists(theirs, "histogram"), same_histogram, exact)
    )


def difference(ours, theirs, exact, ordered):
    """What is not the same, in a few words; None if all is."""
    if ours["status"] != theirs["status"]:
        return "status: %s" % json.dumps([ours.get("error"), theirs.get("error")])
    if ours["status"] == "error":
        return None if ours["errorType"] == theirs["errorType"] else "type of error"
    for kind in ("warnings", "infos"):
        one, two = sorted(ours.get(kind, [])), sorted(theirs.get(kind, []))
        # Which of many are shown is left to chance.
        many = any("omitted" in text for text in one) and any("omitted" in text for text in two)
        if one != two and not many:
            return "%s: ours %s, theirs %s" % (kind, json.dumps(one), json.dumps(two))
    ours, theirs = ours["data"], theirs["data"]
    one, two = (data.get("stats", {}).get("samples", {}).get("totalQueryableSamplesPerStep") for data in (ours, theirs))
    if one is not None and two is not None and one != two:
        return "samples per step: ours %s, theirs %s" % (one, two)
    if ours["resultType"] != theirs["resultType"]:
        return "type of result"
    one, two = ours["result"], theirs["result"]
    if ours["resultType"] in ("scalar", "string"):
        same = one[0] == two[0] and same_number(one[1], two[1], exact)
        return None if same else "value: ours %s, theirs %s" % (one, two)
    if not ordered:
        one, two = sorted(one, key=key), sorted(two, key=key)
    if [key(entry) for entry in one] != [key(entry) for entry in two]:
        return "series: ours %s, theirs %s" % ([key(entry) for entry in one], [key(entry) for entry in two])
    for ours, theirs in zip(one, two):
        if not same_entry(ours, theirs, exact):
            return "samples:\n    ours   %s\n    theirs %s" % first_difference(ours, theirs, exact)
    return None


def first_difference(ours, theirs, exact):
    for name in ("values", "histograms"):
        one, two = ours.get(name, []), theirs.get(name, [])
        same = same_number if name == "values" else same_histogram
        for a, b in zip(one, two):
            if a[0] != b[0] or not same(a[1], b[1], exact):
                return "%s %s" % (key(ours), json.dumps(a)), json.dumps(b)
        if len(one) != len(two):
            longer = one if len(one) > len(two) else two
            return "%s %d %s" % (key(ours), len(one), name), "%d, the longer ends with %s" % (len(two), json.dumps(longer[-1]))
    return json.dumps(ours), json.dumps(theirs)


def main(ours, theirs, seed, count):
    dice = random.Random(seed)
    series = data.make(dice)
    for batch in data.batches(series):
        wire.write(ours, batch)
        wire.write(theirs, batch)
    grammar = Grammar(dice, data.START, data.END)
    wrong, failed, said, empty = 0, 0, 0, 0
    for number in range(count):
        text, exact = grammar.expression()
        at = dice.randrange(data.START + 600_000, data.END)
        # What `info` gives over a range is none of 3.5's strengths (`differs` in grammar.py).
        if number % 2 or "info(" in text:
            path, step = "query", None
            params = {"query": text, "time": at / 1000}
            if dice.random() < 0.1:
                params["query"] = text = "%s[%s]" % (grammar.selector(), dice.choice(["2m", "5m"]))
                exact = True
        else:
            step = dice.choice([15, 30, 60, 77])
            path, params = "query_range", {"query": text, "start": at / 1000 - 10 * step, "end": at / 1000 + 10 * step + dice.choice([0, 0, 7]), "step": step}
        # Histograms count by their size, which goes by what Prometheus stores together; fixed times count otherwise, and of info
        # series it looks only at those that it needs.
        if not any(word in text for word in ("nh", "mix", "lat_bucket", "__name__", "@", ":", "info(")):
            params["stats"] = "all"
        one, two = ask(ours, path, params), ask(theirs, path, params)
        ordered = path == "query" and text.startswith("sort_by_label")
        found = difference(one, two, exact, ordered)
        failed += two["status"] == "error"
        said += bool(two.get("warnings") or two.get("infos"))
        empty += two["status"] != "error" and not two["data"]["result"]
        if found:
            wrong += 1
            print("seed %d, query %d: %s %s\n  %s" % (seed, number, path, json.dumps(params), found))
    # A generator that makes only nonsense would find nothing.
    print("%d queries: %d errors, %d annotated, %d without a result, %d different" % (count, failed, said, empty, wrong))
    assert failed < count / 3 and said > count / 20 and empty < count / 2
    print("different" if wrong else "ok")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
