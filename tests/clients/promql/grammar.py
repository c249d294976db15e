"""Random PromQL, most of it well typed.

Invariant: an expression says whether its numbers are exact. Those of functions that Go and C compute each in its own way are not.
"""

import re

LABELS = ["job", "inst", "code", "le"]

# Waterclock rounds these sums once, Prometheus at each sample.
EXACT_SUMS = r"\b(rate|increase|sum_over_time|avg_over_time)\("

MATH = ["abs", "ceil", "floor", "sgn", "sqrt", "deg", "rad"]
INEXACT_MATH = ["exp", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"]
DATES = ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]
RANGES = [
    "rate", "rate", "increase", "delta", "irate", "idelta", "deriv", "changes", "resets",
    "avg_over_time", "sum_over_time", "count_over_time", "min_over_time", "max_over_time", "last_over_time",
    "present_over_time", "absent_over_time", "stddev_over_time", "stdvar_over_time",
]
HISTOGRAMS = ["histogram_avg", "histogram_count", "histogram_sum", "histogram_stddev", "histogram_stdvar"]
AGGREGATIONS = ["sum", "sum", "avg", "avg", "count", "min", "max", "group", "stddev", "stdvar"]
ARITHMETIC = ["+", "-", "*", "/", "%"]
COMPARISONS = ["==", "!=", ">", "<", ">=", "<="]
WINDOWS = ["1m", "90s", "2m", "5m", "5m", "15m", "1m * 2", "(5 + 1) * 30s", "-1m + 6m", "7m % 4m", "2 ^ 2 ^ 2 * 10"]
METRICS = ["hits_total", "temp", "errors_total", "limit", "lat_bucket", "lat_sum", "lat_count"]
NATIVES = ["nh", "nh", "nhg", "nhcb", "mix", "nhnan"]


def differs(text):
    """What Prometheus 3.5.3 answers otherwise for reasons of its own (docs/prometheus.md)."""
    # Resets of these are seen by Prometheus in the count alone, and not in every place.
    gauge_totals = "nhg" in text and re.search(r"histogram_(count|sum|avg)\(", text) and re.search(r"rate\(|increase\(", text)
    # Of the selectors of a query only the first is spared the buckets that nobody asks for, and so does not say that they do not go together.
    selectors = re.findall(r"\b(?:hits_total|temp|errors_total|limit|lat_\w+|nh\w*|mix|served_total|__name__)\b", text)
    second_totals = len(selectors) > 1 and re.search(r"histogram_(count|sum|avg)\(", text) and re.search(r"\bnh(cb)?\b|__name__", text)
    return (
        gauge_totals
        or second_totals
        or ("histogram_quantile" in text and "nhnan" in text)
        or ("histogram_fraction" in text and "lat_" in text)
        or ("changes(" in text and re.search("nh|mix|lat_b", text))
        # Of numbers that are large beside what they differ by, little is left.
        or re.search(r"std(dev|var).*time(stamp)?\(", text)
        or (re.search(r"(rate|increase)\(", text) and re.search(r"\b(temp|limit)\b", text))
        or ("timestamp(" in text and "@" in text and "offset" in text)
        # Where series come and go from step to step, it gives some of them the labels of others.
        or ("info(" in text and ":" in text)
        # There the operator behind the parenthesis is one of the duration.
        or re.search(r"offset -?\([^)]*\) [-+*/%^]", text)
        # Which of a group's histograms comes first there, and so which one does not go with it, is left to chance.
        or ("__name__=~" in text and re.search(r"\b(sum|avg)\b", text))
    )


class Grammar:
    def __init__(self, dice, start, end):
        self.dice, self.start, self.end = dice, start, end
        self.exact = True

    def expression(self):
        """Text, and whether the numbers must be the same bit for bit."""
        while True:
            self.exact, self.discrete = True, False
            luck = self.dice.random()
            text = self.scalar(2) if luck < 0.04 else self.vector(self.dice.choice([1, 2, 2, 3]))
            self.exact = self.exact and not re.search(EXACT_SUMS, text)
            # A last place makes another label or another branch of these.
            if (self.exact or not self.discrete) and not differs(text):
                return text, self.exact

    def pick(self, *options):
        return self.dice.choice(options)

    def number(self):
        return self.pick("0", "1", "2", "0.5", "-1", "10", "100", "NaN", "Inf", "1e3", "3")

    def matchers(self):
        some = [
            'job="api"', 'job!="api"', 'job=~"a.*|web"', 'inst!~"c|x"', 'inst="a"', 'code=""', 'code!=""', 'job=~".+"', 'inst=~"[ab]"',
        ]
        return ",".join(self.dice.sample(some, self.dice.choice([0, 0, 0, 1, 1, 2])))

    def moved(self):
        luck = self.dice.random()
        text = ""
        if luck < 0.12:
            text = " @ " + self.pick("start()", "end()", "%d" % (self.dice.randrange(self.start, self.end) // 1000))
        if self.dice.random() < 0.15:
            text += " offset " + self.pick("1m", "37s", "-2m", "10m", "(2m - 17s)", "-(30s * 2)", "(1m ^ 1 + 5)")
        return text

    def selector(self):
        if self.dice.random() < 0.05:
            return "{__name__=~\"%s\",%s}" % (self.pick("hits_total|temp", "nh|nhg|nhcb", "lat_.*"), self.matchers())
        name = self.pick(*METRICS, *NATIVES, *NATIVES)
        matchers = self.matchers()
        return name + ("{%s}" % matchers if matchers else "")

    def instant(self):
        return self.selector() + self.moved()

    def matrix(self, depth):
        if depth > 0 and self.dice.random() < 0.2:
            inner = self.vector(depth - 1)
            # Of what it goes over, `changes` and others see a last place.
            self.discrete = True
            return "(%s)[%s:%s]%s" % (inner, self.pick("5m", "3m", "100s", "90s * 2"), self.pick("", "30s", "1m", "17s", "2m / 4"), self.moved())
        return "%s[%s]%s" % (self.selector(), self.pick(*WINDOWS), self.moved())

    def scalar(self, depth):
        luck = self.dice.random()
        if depth <= 0 or luck < 0.5:
            return self.number()
        if luck < 0.6:
            return "time()"
        if luck < 0.8:
            return "scalar(%s)" % self.vector(depth - 1)
        return "(%s %s %s)" % (self.scalar(depth - 1), self.pick(*ARITHMETIC), self.scalar(depth - 1))

    def grouping(self):
        if self.dice.random() < 0.3:
            return ""
        labels = ", ".join(self.dice.sample(LABELS, self.dice.choice([0, 1, 1, 2])))
        return " %s (%s)" % (self.pick("by", "by", "without"), labels)

    def vector(self, depth):
        if depth <= 0:
            return self.instant()
        make = self.pick(
            self.instant, self.over_range, self.over_range, self.over_range, self.aggregation, self.aggregation,
            self.binary, self.binary, self.function, self.histogram, self.histogram, self.label_function,
        )
        return make() if make == self.instant else make(depth - 1)

    def over_range(self, depth):
        luck = self.dice.random()
        if luck < 0.08:
            return "quantile_over_time(%s, %s)" % (self.pick("0.5", "0.9", "1.2", "0"), self.matrix(depth))
        if luck < 0.14:
            return "predict_linear(%s, %s)" % (self.matrix(depth), self.pick("60", "600"))
        if luck < 0.18:
            return "double_exponential_smoothing(%s, %s, %s)" % (self.matrix(depth), self.pick("0.5", "0.1"), self.pick("0.3", "0.9", "1.5"))
        if luck < 0.2:
            return "mad_over_time(%s)" % self.matrix(depth)
        return "%s(%s)" % (self.pick(*RANGES), self.matrix(depth))

    def aggregation(self, depth):
        grouping, luck = self.grouping(), self.dice.random()
        if 0.1 <= luck < 0.2:
            # Of equal ones those that come first stay, and of most vectors Prometheus knows no order.
            inner = self.pick(self.instant(), "rate(%s[5m])" % self.selector(), "last_over_time(%s[2m])" % self.selector())
            return "%s%s(%s, %s)" % (self.pick("topk", "bottomk"), grouping, self.pick("1", "2", "0", "5"), inner)
        if 0.26 <= luck < 0.29:
            return "limit_ratio%s(%s, %s)" % (grouping, self.pick("0.5", "-0.5", "0.1", "-0.9", "1.5", "-2", "0"), self.vector(depth))
        if 0.29 <= luck < 0.31:
            # Which of them stay, Prometheus leaves to the order of its series.
            return "count%s(limitk%s(%s, %s))" % (grouping, grouping, self.pick("1", "2", "0", "-1", "100"), self.vector(depth))
        if 0.31 <= luck < 0.34:
            served = self.pick("served_total", "rate(served_total[5m])", "served_total > 20", "sum by (job, instance) (served_total)")
            return "info(%s%s)" % (served, self.pick("", "", ", {version=~\".+\"}", ", {version=~\".*\"}", ", {zone=\"a\"}", ", {__name__=\"none_info\"}"))
        inner = self.vector(depth)
        if luck < 0.1:
            return "quantile%s(%s, %s)" % (grouping, self.pick("0.5", "0.25", "1.5", "-1"), inner)
        if luck < 0.26:
            self.discrete = True
            return "count_values%s(\"v\", %s)" % (grouping, inner)
        name = self.pick(*AGGREGATIONS)
        # They add up in the order of their series.
        self.exact = self.exact and name in ("count", "min", "max", "group")
        return "%s%s(%s)" % (name, grouping, inner)

    def binary(self, depth):
        luck = self.dice.random()
        operator = self.pick(*ARITHMETIC, *COMPARISONS)
        if luck < 0.04:
            self.exact = False
            operator = self.pick("^", "atan2")
        self.discrete = self.discrete or operator in COMPARISONS or operator == "%"
        if operator in COMPARISONS and self.dice.random() < 0.4:
            operator += " bool"
        if luck < 0.35:
            vector, scalar = self.vector(depth), self.scalar(depth)
            return "(%s %s %s)" % ((vector, operator, scalar) if self.dice.random() < 0.6 else (scalar, operator, vector))
        if luck < 0.5:
            operator = self.pick("and", "or", "unless")
            matching = self.matching()
            return "(%s %s%s %s)" % (self.vector(depth), operator, matching, self.vector(depth))
        if luck < 0.58:
            return "-(%s)" % self.vector(depth)
        left = self.vector(depth)
        right = left if self.dice.random() < 0.3 else self.vector(depth)
        matching = self.matching()
        if matching and self.dice.random() < 0.5:
            matching += " " + self.pick("group_left", "group_right") + self.pick("()", "", "(code)", "(inst)")
        return "(%s %s%s %s)" % (left, operator, matching, right)

    def matching(self):
        if self.dice.random() < 0.4:
            return ""
        labels = ", ".join(self.dice.sample(LABELS, self.dice.choice([1, 1, 2])))
        return " %s(%s)" % (self.pick("on", "ignoring"), labels)

    def function(self, depth):
        luck = self.dice.random()
        if luck < 0.1:
            self.exact = False
            return "%s(%s)" % (self.pick(*INEXACT_MATH), self.vector(depth))
        inner = self.vector(depth)
        if luck < 0.3:
            name = self.pick(*MATH)
            self.discrete = self.discrete or name in ("ceil", "floor", "sgn")
            return "%s(%s)" % (name, inner)
        if luck < 0.4:
            self.discrete = True
            # Of NaN and infinities they give what the machine makes of them.
            return "%s(%s)" % (self.pick(*DATES), self.pick("timestamp(%s)" % inner, "changes(%s)" % self.matrix(depth)))
        if luck < 0.5:
            return "clamp(%s, %s, %s)" % (inner, self.scalar(depth), self.scalar(depth))
        if luck < 0.58:
            self.discrete = True
            return "%s(%s, %s)" % (self.pick("clamp_min", "clamp_max", "round"), inner, self.pick("1", "0.5", "10"))
        if luck < 0.7:
            return "timestamp(%s)" % inner
        if luck < 0.78:
            return "absent(%s)" % inner
        if luck < 0.86:
            return "%s(%s)" % (self.pick("sort", "sort_desc"), inner)
        if luck < 0.93:
            return "%s(%s, \"%s\")" % (self.pick("sort_by_label", "sort_by_label_desc"), inner, self.pick(*LABELS))
        return "vector(%s)" % self.scalar(depth)

    def histogram(self, depth):
        inner = self.pick(self.vector(depth), "%s(%s[%s])" % (self.pick("rate", "increase", "sum_over_time"), self.pick(*NATIVES), self.pick("2m", "5m")))
        if self.dice.random() < 0.3:
            inner = "sum%s(%s)" % (self.pick("", " by (job)", " by (job, le)"), self.pick(inner, "rate(lat_bucket[5m])", "lat_bucket"))
        luck = self.dice.random()
        if luck < 0.3:
            self.exact = False
            return "histogram_quantile(%s, %s)" % (self.pick("0.5", "0.9", "0.1", "0", "1", "1.1", "NaN"), inner)
        if luck < 0.45:
            self.exact = False
            return "histogram_fraction(%s, %s, %s)" % (self.pick("-Inf", "0", "-1"), self.pick("+Inf", "1", "3", "0.3"), inner)
        return "%s(%s)" % (self.pick(*HISTOGRAMS), inner)

    def label_function(self, depth):
        inner = self.vector(depth)
        if self.dice.random() < 0.5:
            return "label_replace(%s, \"%s\", \"%s\", \"%s\", \"%s\")" % (
                inner, self.pick("new", "job", "inst"), self.pick("$1", "x-$1", ""), self.pick("job", "inst", "none"), self.pick("(.*)", "a(.*)", "b"),
            )
        return "label_join(%s, \"new\", \"-\", \"job\", \"%s\")" % (inner, self.pick(*LABELS))
