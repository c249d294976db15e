"""Prometheus' own scripts with the native histograms in them, which the runner of ../shared/conformance/promql leaves out.

natives.py RUNNER ARGS...: reads the histograms of the scripts, sends them by remote write and compares those of the answers. All else is done
by the runner, which is loaded from its file and takes its own arguments.

Invariant: a case counts as passed only if all of its histograms have the buckets, counts and sums that the script says, to one part in 10^6.
"""

import importlib.util
import re
import sys

from wire import Histogram

EPSILON = 1e-6
CUSTOM = -53

LITERAL = re.compile(r"\{\{([^}]*)\}\}")
SEQUENCE = re.compile(r"(\{\{[^}]*\}\})(?:([+-])(\{\{[^}]*\}\}))?(?:x(\d+))?(?=\s|$)")


class Spec:
    """A histogram as a script writes it: floats, and buckets by index."""

    def __init__(self, schema=0):
        self.schema, self.sum, self.count, self.zero, self.width = schema, 0.0, 0.0, 0.0, 0.0
        self.positive, self.negative, self.custom, self.hint = {}, {}, [], "unknown"

    @staticmethod
    def parse(text):
        spec, lists, offsets = Spec(), {}, {"offset": 0, "n_offset": 0}
        for key, listed, plain in re.findall(r"(\w+):(?:\[([^\]]*)\]|(\S+))", LITERAL.match(text).group(1)):
            numbers = [float(word) for word in listed.split()]
            if key in ("buckets", "n_buckets", "custom_values"):
                lists[key] = numbers
            elif key == "counter_reset_hint":
                spec.hint = {"not_reset": "no"}.get(plain, plain)
            elif key in offsets:
                offsets[key] = int(plain)
            else:
                name = {"z_bucket": "zero", "z_bucket_w": "width"}.get(key, key)
                assert hasattr(spec, name), key
                setattr(spec, name, int(plain) if key == "schema" else float(plain.lower()))
        at = lambda key, offset: {offsets[offset] + place: count for place, count in enumerate(lists.get(key, []))}
        spec.positive, spec.negative = at("buckets", "offset"), at("n_buckets", "n_offset")
        spec.custom = lists.get("custom_values", [])
        return spec

    def plus(self, other, sign):
        """In the buckets of this one, which may be wider."""
        out = Spec(self.schema)
        down = other.schema - self.schema
        for name in ("sum", "count", "zero"):
            setattr(out, name, getattr(self, name) + sign * getattr(other, name))
        out.width, out.custom = max(self.width, other.width), self.custom
        for side in ("positive", "negative"):
            counts = dict(getattr(self, side))
            for at, count in getattr(other, side).items():
                at = at if self.schema == CUSTOM else ((at - 1) >> down) + 1
                counts[at] = counts.get(at, 0.0) + sign * count
            setattr(out, side, counts)
        out.hint = "unknown" if self.hint != "gauge" else "gauge"
        return out

    def sent(self):
        return Histogram(
            self.schema, self.count, self.sum, self.zero, self.width, self.positive, self.negative, self.custom, self.hint
        )

    def shown(self):
        """Count, sum, and the buckets that are not empty by their bounds, as an answer has them."""
        buckets = {}
        if self.schema == CUSTOM:
            bounds = [float("-inf"), *self.custom, float("inf")]
            for at, count in self.positive.items():
                buckets[(bounds[at], bounds[at + 1])] = count
        else:
            bound = lambda at: 2.0 ** (at * 2.0**-self.schema)
            for at, count in self.positive.items():
                buckets[(bound(at - 1), bound(at))] = count
            for at, count in self.negative.items():
                buckets[(-bound(at), -bound(at - 1))] = count
            # The API of Prometheus shows it only so.
            if self.zero > 0:
                buckets[(-self.width, self.width)] = self.zero
        return Shown(self.count, self.sum, buckets)

    def __repr__(self):
        return repr(self.shown())


class Shown:
    def __init__(self, count, total, buckets):
        self.count, self.sum = count, total
        self.buckets = {bounds: number for bounds, number in buckets.items() if number != 0}

    @staticmethod
    def of(answer):
        buckets = {(float(low), float(high)): float(number) for _, low, high, number in answer.get("buckets", [])}
        return Shown(float(answer["count"]), float(answer["sum"]), buckets)

    def __repr__(self):
        return "{count:%r sum:%r %r}" % (self.count, self.sum, sorted(self.buckets.items()))


def as_shown(value):
    return value.shown() if isinstance(value, Spec) else value


def install(runner):
    numbers_alike, values_of, written_to, query, number, files = (
        runner.almost, runner.parse_values, runner.f64, runner.Server.query, runner.pf, runner.parse_file,
    )

    def alike(a, b):
        a, b = as_shown(a), as_shown(b)
        if not (isinstance(a, Shown) and isinstance(b, Shown)):
            return not isinstance(a, Shown) and not isinstance(b, Shown) and numbers_alike(a, b)
        if not (numbers_alike(a.count, b.count) and numbers_alike(a.sum, b.sum) and len(a.buckets) == len(b.buckets)):
            return False
        pairs = zip(sorted(a.buckets.items()), sorted(b.buckets.items()))
        return all(
            numbers_alike(one, two) for (x, m), (y, n) in pairs for one, two in zip((*x, m), (*y, n))
        )

    def values(text):
        out, rest = [], text
        while "{{" in rest:
            before, rest = rest.split("{{", 1)
            out += values_of(before)
            found = SEQUENCE.match("{{" + rest)
            assert found, text
            first, sign, step, times = found.groups()
            value = Spec.parse(first)
            for _ in range(int(times or 0) + 1):
                out.append(value)
                if step:
                    value = value.plus(Spec.parse(step), 1 if sign == "+" else -1)
            rest = ("{{" + rest)[found.end() :]
        return out + values_of(rest)

    def message(series):
        out = bytearray()
        for labels, points in series:
            one = bytearray()
            for name in sorted(labels):
                one += runner.field(1, runner.field(1, runner.enc(name)) + runner.field(2, runner.enc(labels[name])))
            for time, value in points:
                if isinstance(value, Spec):
                    one += runner.field(4, value.sent().encode(time))
                else:
                    one += runner.field(2, written_to(1, value) + runner.i64(2, time))
            out += runner.field(1, bytes(one))
        return bytes(out)

    def asked(self, path, params):
        status, answer = query(self, path, params)
        data = answer.get("data") if isinstance(answer, dict) else None
        for one in data["result"] if isinstance(data, dict) and data.get("resultType") in ("vector", "matrix") else []:
            if "histogram" in one:
                time, found = one.pop("histogram")
                one["value"] = [time, Shown.of(found)]
            if one.get("histograms"):
                more = [[time, Shown.of(found)] for time, found in one.pop("histograms")]
                one["values"] = sorted(one.get("values", []) + more, key=lambda point: point[0])
        return status, answer

    def parsed(path):
        commands = files(path)
        for command in commands:
            if isinstance(command, runner.Load) and command.nhcb:
                with_custom_buckets(command)
        return commands

    runner.almost, runner.parse_values, runner.rw1, runner.parse_file = alike, values, message, parsed
    runner.pf = lambda value: value if isinstance(value, Shown) else number(value)
    runner.Server.query = asked


def with_custom_buckets(load):
    """Beside classic histograms the native ones that they make (`load_with_nhcb`)."""
    made = {}
    for labels, points in load.series:
        name = labels.get("__name__", "")
        kind = next((end for end in ("_bucket", "_count", "_sum") if name.endswith(end)), None)
        if kind is None:
            continue
        bare = {key: value for key, value in labels.items() if key != "le"} | {"__name__": name[: -len(kind)]}
        _, by_time = made.setdefault(frozenset(bare.items()), (bare, {}))
        for time, value in points:
            parts = by_time.setdefault(time, {"_bucket": {}})
            if kind == "_bucket":
                parts[kind][float(labels["le"].lower())] = value
            else:
                parts[kind] = value
    for bare, by_time in made.values():
        points = []
        for time, parts in sorted(by_time.items()):
            spec, before = Spec(CUSTOM), 0.0
            bounds = sorted(parts["_bucket"])
            spec.custom = [bound for bound in bounds if bound != float("inf")]
            for at, bound in enumerate(bounds):
                spec.positive[at], before = parts["_bucket"][bound] - before, parts["_bucket"][bound]
            spec.count, spec.sum = parts.get("_count", before), parts.get("_sum", 0.0)
            points.append((time, spec))
        load.series.append((bare, points))
    load.dropped = [labels for labels in load.dropped if frozenset(labels.items()) not in made]


def main():
    place = importlib.util.spec_from_file_location("runner", sys.argv[1])
    runner = importlib.util.module_from_spec(place)
    place.loader.exec_module(runner)
    install(runner)
    sys.argv = [sys.argv[1], *sys.argv[2:]]
    runner.main()


if __name__ == "__main__":
    main()
