"""Random series of all kinds that PromQL knows, the same for the same seed.

Invariant: times of one series ascend, and what is written together lies within ten minutes, so that Prometheus takes it in order.
"""

import itertools

from wire import STALE, Histogram

# Both servers are empty before; any time will do.
START = 1_700_000_400_000
MINUTES = 50
END = START + MINUTES * 60_000


def times(dice, interval):
    """Scrapes with jitter, some of them missing, and now and then a long gap."""
    now, out = START + interval, [START]
    while now < END:
        if dice.random() > 0.04:
            out.append(now + dice.randrange(-interval // 20, interval // 20 + 1))
        now += interval * (dice.randrange(15, 40) if dice.random() < 0.01 else 1)
    return out


def counter(dice):
    value, step, samples = dice.choice([0, 0, 1000]), dice.choice([1, 7, 0.25]), []
    for time in times(dice, dice.choice([15_000, 30_000])):
        luck = dice.random()
        if luck < 0.02:
            value = dice.choice([0, step])
        elif luck < 0.03:
            samples.append((time, STALE))
            continue
        value += step * dice.randrange(12)
        samples.append((time, float(value)))
    return samples


def gauge(dice):
    value, samples = dice.randrange(-50, 50), []
    for time in times(dice, dice.choice([15_000, 30_000, 60_000])):
        luck = dice.random()
        value += dice.choice([-3, -1, -0.5, 0, 0.1, 1, 2])
        if luck < 0.02:
            samples.append((time, dice.choice([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e300])))
        elif luck < 0.03:
            samples.append((time, STALE))
        else:
            samples.append((time, float(value)))
    return samples


class Observed:
    """A native histogram that counts on."""

    def __init__(self, dice, custom, hint, whole):
        self.dice, self.custom, self.hint, self.whole = dice, custom, hint, whole
        self.schema = -53 if custom else dice.choice([-1, 0, 0, 1, 2, 3])
        self.threshold = 0.0 if custom else dice.choice([0.0, 0.001, 0.5])
        self.has_negative = not custom and dice.random() < 0.4
        self.clear()

    def clear(self):
        # Both signs have a bucket from the start, or never. Prometheus gives all histograms that it stores together the same buckets, and
        # whether there are empty ones of a sign changes what it takes the zero bucket for.
        one = 1 if self.whole else 0.5
        self.positive, self.negative = {1: one}, {1: one} if self.has_negative else {}
        self.zero, self.sum, self.nans = 0, 0.0, 0

    def observe(self):
        dice = self.dice
        for _ in range(dice.randrange(6)):
            count = dice.randrange(1, 5) if self.whole else dice.randrange(1, 20) / 4
            if self.custom:
                index = dice.randrange(len(self.custom) + 1)
            else:
                # Beyond what the zero bucket covers.
                index = dice.randrange(0, 6 << max(self.schema, 0)) + (1 if self.threshold else -3)
            side = self.negative if self.has_negative and dice.random() < 0.3 else self.positive
            side[index] = side.get(index, 0) + count
            self.sum += (index - 2) * count / 2
        if not self.custom and dice.random() < 0.3:
            self.zero += 1 if self.whole else 0.5

    def now(self):
        inside = self.zero + sum(self.positive.values()) + sum(self.negative.values())
        total = float("nan") if self.nans else self.sum
        return Histogram(
            schema=self.schema,
            count=inside + self.nans,
            sum=total,
            zero=self.zero,
            threshold=self.threshold,
            positive=self.positive,
            negative=self.negative,
            custom=self.custom,
            hint=self.hint,
        )


CUSTOM = [(0.5, 1.0, 5.0), (0.5, 1.0, 5.0), (-1.0, 0.0, 2.5, 10.0)]


def native(dice, kind, floats=0.0):
    """`floats` is the share of samples that are numbers."""
    custom = dice.choice(CUSTOM) if kind == "custom" else ()
    hint = "gauge" if kind == "gauge" else "unknown"
    observed, samples = Observed(dice, custom, hint, dice.random() < 0.7), []
    for time in times(dice, dice.choice([15_000, 30_000])):
        luck = dice.random()
        if kind == "gauge" and luck < 0.2 or luck < 0.02:
            observed.clear()
        elif luck < 0.03 and not custom:
            # Another resolution, as after an update of the program.
            observed = Observed(dice, custom, hint, observed.whole)
        elif luck < 0.1 and kind == "nan":
            observed.nans += 1
        elif luck < 0.045:
            samples.append((time, Histogram(sum=STALE)))
            continue
        observed.observe()
        is_float = (time - START) // 300_000 % 2 == 1 if floats else False
        samples.append((time, float(dice.randrange(100)) if is_float and dice.random() < floats else observed.now()))
    return samples


def classic(dice, labels):
    bounds, counts, total = ["0.1", "1", "2.5", "10", "+Inf"], [0] * 5, 0.0
    series = [({"__name__": "lat_bucket", "le": bound, **labels}, []) for bound in bounds]
    series += [({"__name__": "lat_count", **labels}, []), ({"__name__": "lat_sum", **labels}, [])]
    for time in times(dice, 15_000):
        if dice.random() < 0.02:
            counts, total = [0] * 5, 0.0
        for _ in range(dice.randrange(8)):
            first = dice.randrange(5)
            total += 1.5 * first
            for at in range(first, 5):
                counts[at] += 1
        for (_, samples), value in zip(series, [*counts, counts[4], total]):
            samples.append((time, float(value)))
    return series


def make(dice):
    series = []
    for job in ("api", "db"):
        for inst in ("a", "b", "c"):
            labels = {"job": job, "inst": inst}
            series.append(({"__name__": "hits_total", **labels}, counter(dice)))
            series.append(({"__name__": "temp", **labels}, gauge(dice)))
            if inst != "c":
                series.append(({"__name__": "errors_total", "code": dice.choice(["500", "503"]), **labels}, counter(dice)))
                series.append(({"__name__": "nh", **labels}, native(dice, "counter")))
            if inst == "a":
                series.append(({"__name__": "limit", "job": job}, gauge(dice)))
                series.append(({"__name__": "nhg", **labels}, native(dice, "gauge")))
                series.append(({"__name__": "nhnan", **labels}, native(dice, "nan")))
                series.append(({"__name__": "mix", **labels}, native(dice, "counter", 0.9)))
                series += classic(dice, labels)
            series.append(({"__name__": "nhcb", **labels}, native(dice, "custom")))
    # Some of what is served says more of itself.
    for job, instance, about in [("api", "a", {"version": "1", "zone": "a"}), ("api", "b", {"version": "2"}), ("db", "a", {})]:
        labels = {"job": job, "instance": instance}
        series.append(({"__name__": "served_total", "path": "/", **labels}, counter(dice)))
        series.append(({"__name__": "served_total", "path": "/x", **labels}, counter(dice)))
        if about:
            series.append(({"__name__": "target_info", **labels, **about}, [(time, 1.0) for time in times(dice, 30_000)]))
    # One name for exponential and custom buckets, and a native histogram beside classic buckets.
    series.append(({"__name__": "nh", "job": "web", "inst": "x"}, native(dice, "custom")))
    series.append(({"__name__": "lat_bucket", "job": "api", "inst": "a"}, native(dice, "counter")))
    return series


def batches(series):
    """In order of time, ten minutes each; the series in the order of their labels, in which Waterclock adds them up, too.

    Of one series and message Prometheus takes floats before histograms of whole and these before those of fractional counts, so that each
    message has one kind of them.
    """
    series = sorted(series, key=lambda one: sorted(one[0].items()))
    for start in range(START - 60_000, END + 60_000, 600_000):
        part = [(labels, [pair for pair in samples if start <= pair[0] < start + 600_000]) for labels, samples in series]
        runs = [(labels, [list(run) for _, run in itertools.groupby(samples, kind)]) for labels, samples in part]
        for number in range(max(len(of_series) for _, of_series in runs)):
            yield [(labels, of_series[number]) for labels, of_series in runs if number < len(of_series)]


def kind(sample):
    return sample[1].is_whole() if isinstance(sample[1], Histogram) else None
