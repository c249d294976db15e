"""Random expressions, each as WQL and as DuckDB's SQL, made side by side from one description.

The SQL says in macros what GRAMMAR.md says in words where DuckDB means something else: comparisons with NaN, whole numbers that
do not fit 64 bits, functions outside of their domain. `Expression` has the type `f` (float), `i` (integer), `u` (unsigned),
`b` (boolean) or `s` (text).
"""

from dataclasses import dataclass
from datetime import UTC, datetime

MACROS = """
create macro unordered(a, b) as isnan(a::double) or isnan(b::double);
create macro equal(a, b) as case when a is null or b is null then null when unordered(a, b) then false else a = b end;
create macro not_equal(a, b) as case when a is null or b is null then null when unordered(a, b) then true else a <> b end;
create macro less(a, b) as case when a is null or b is null then null when unordered(a, b) then false else a < b end;
create macro at_most(a, b) as case when a is null or b is null then null when unordered(a, b) then false else a <= b end;
create macro as_int(a) as case when a between -9223372036854775808 and 9223372036854775807 then a::bigint end;
create macro as_uint(a) as case when a between 0 and 18446744073709551615 then a::ubigint end;
create macro int_of_float(a) as case when a >= -9223372036854775808::double and a < 9223372036854775808::double
    and not isnan(a) then trunc(a)::bigint end;
create macro root(a) as case when a < 0 then 'nan'::double else sqrt(a) end;
create macro logarithm(a) as case when isnan(a) or a < 0 then 'nan'::double when a = 0 then '-inf'::double else ln(a) end;
create macro logarithm_of_2(a) as logarithm(a) / ln(2);
create macro logarithm_of_10(a) as logarithm(a) / ln(10);
create macro at_least_float(a, bound) as case when a is null or bound is null then null when less(a, bound) then bound else a end;
create macro at_most_float(a, bound) as case when a is null or bound is null then null when less(bound, a) then bound else a end;
create macro bucket(t, step, origin) as t - (((t - origin) % step) + step) % step;
"""


NOW = 1_793_016_000_000_000_000  # 2026-10-26T12:00:00Z, the day after clocks in Berlin were set back
SECOND = 1_000_000_000
MOMENTS = [NOW, NOW - 3_600 * SECOND, NOW - 5_000 * SECOND, NOW - 40 * 3_600 * SECOND, 0]


@dataclass(frozen=True)
class Expression:
    type: str
    wql: str
    sql: str


@dataclass(frozen=True)
class Column:
    name: str
    role: str  # time, tag or value
    type: str


def text(value):
    return Expression("s", '"' + value + '"', "'" + value + "'")


def number(value, type):
    wql = repr(value) if value >= 0 else f"-{repr(-value)}"
    sql = {"f": f"({value!r})::double", "i": f"({value})::bigint", "u": f"{value}::ubigint"}[type]
    return Expression(type, wql, sql)


def read(column):
    # A missing tag is the empty text in a condition, and null in an answer.
    sql = f"coalesce({column.name}, '')" if column.role == "tag" else column.name
    return Expression(column.type, column.name, sql)


class Expressions:
    """Expressions over the columns that there are."""

    def __init__(self, dice, columns):
        self.dice = dice
        self.columns = columns

    def of(self, type, depth=2):
        """A random expression of a type."""
        leaf = depth == 0 or self.dice.random() < 0.25
        return (self.leaf if leaf else getattr(self, f"make_{type}"))(type, depth - 1)

    def leaf(self, type, _depth):
        fitting = [column for column in self.columns if column.type == type and column.role != "time"]
        if fitting and self.dice.random() < 0.8:
            return read(self.dice.choice(fitting))
        if type == "f":
            return number(self.dice.choice([0.0, 0.5, 1.0, 3.0, 7.25, -2.5, 1e300, 1e18]), "f")
        if type == "i":
            return number(self.dice.choice([0, 1, 2, 3, 7, -1, -5, 4611686018427387904, 9223372036854775807]), "i")
        if type == "s":
            return text(self.dice.choice(["", "a", "b", "xy", "é€"]))
        if type == "b":
            value = self.dice.choice(["true", "false"])
            return Expression("b", value, value)
        # There is no unsigned constant by itself.
        return read(self.dice.choice(fitting)) if fitting else self.leaf("i", 0)

    def numeric(self, depth):
        kinds = "f" + "i" * self.has("i") + "u" * self.has("u")
        return self.of(self.dice.choice(kinds), depth)

    def has(self, type):
        return any(column.type == type and column.role != "time" for column in self.columns)

    def as_float(self, made):
        return made.sql if made.type == "f" else f"({made.sql})::double"

    def call(self, type, name, *arguments, sql):
        return Expression(type, f"{name}({', '.join(made.wql for made in arguments)})", sql)

    def make_f(self, _type, depth):
        kind = self.dice.choice(["+", "-", "*", "/", "%", "-x", "f", "f", "round", "clamp", "if", "coalesce", "float", "pow", "exp", "time"])
        if kind == "exp":
            # Of infinite samples the increase is infinite or not a number, and which of them is nobody's promise.
            a = self.of("f", depth)
            return Expression("f", f"exp(clamp_max({a.wql}, 9.0))", f"exp(at_most_float({a.sql}, 9.0::double))")
        if kind == "time":
            return self.of_time("f") or self.leaf("f", 0)
        if kind == "pow":
            a, b = self.of("f", depth), number(self.dice.choice([0.0, 1.0, 2.0, 0.5, -1.0, 3.0]), "f")
            return self.call("f", "pow", a, b, sql=f"pow({a.sql}, {b.sql})")
        if kind == "-x":
            a = self.of("f", depth)
            return Expression("f", f"(-{a.wql})", f"(-{a.sql})")
        if kind == "f":
            a = self.numeric(depth)
            name, function = self.dice.choice(
                [
                    ("abs", "abs"), ("ceil", "ceil"), ("floor", "floor"), ("sqrt", "root"), ("ln", "logarithm"),
                    ("log2", "logarithm_of_2"), ("log10", "logarithm_of_10"),
                ]
            )
            if name in ("abs", "ceil", "floor") and a.type != "f":
                a = self.of("f", depth)
            return self.call("f", name, a, sql=f"{function}({self.as_float(a)})")
        if kind == "round":
            a, digits = self.of("f", depth), self.dice.choice([0, 1, 2])
            return Expression("f", f"round({a.wql}, {digits})", f"round({a.sql}, {digits})")
        if kind == "clamp":
            a, b = self.of("f", depth), self.numeric(depth)
            name = self.dice.choice(["clamp_min", "clamp_max"])
            macro = {"clamp_min": "at_least_float", "clamp_max": "at_most_float"}[name]
            return self.call("f", name, a, b, sql=f"{macro}({a.sql}, {self.as_float(b)})")
        if kind == "if":
            return self.chosen("f", self.of("b", depth), self.of("f", depth), self.numeric(depth))
        if kind == "coalesce":
            a, b = self.of("f", depth), self.numeric(depth)
            return self.call("f", "coalesce", a, b, sql=f"coalesce({a.sql}, {self.as_float(b)})")
        if kind == "float":
            a = self.of(self.dice.choice([type for type in "iub" if self.has(type)] or ["f"]), depth)
            sql = f"({a.sql})::int::double" if a.type == "b" else self.as_float(a)
            return self.call("f", "float", a, sql=sql)
        a, b = self.of("f", depth), self.numeric(depth)
        if self.dice.random() < 0.5:
            a, b = b, a
        if a.type != "f" and b.type != "f" and kind != "/":
            kind = "/"
        return Expression("f", f"({a.wql} {kind} {b.wql})", f"({self.as_float(a)} {kind} {self.as_float(b)})")

    def chosen(self, type, condition, a, b):
        sides = [self.as_float(side) if type == "f" else side.sql for side in (a, b)]
        sql = f"case when {condition.sql} then {sides[0]} else {sides[1]} end"
        return self.call(type, "if", condition, a, b, sql=sql)

    def make_i(self, _type, depth):
        kind = self.dice.choice(["+", "-", "*", "%", "+", "-", "-x", "abs", "int", "bool", "length", "if", "clamp"])
        if kind == "-x":
            a = self.of(self.dice.choice("i" + "u" * self.has("u")), depth)
            return Expression("i", f"(-{a.wql})", f"as_int(0 - ({a.sql})::hugeint)")
        if kind == "abs":
            a = self.of("i", depth)
            return self.call("i", "abs", a, sql=f"as_int(abs(({a.sql})::hugeint))")
        if kind == "int":
            a = self.of("f", depth)
            return self.call("i", "int", a, sql=f"int_of_float({a.sql})")
        if kind == "bool":
            a = self.of("b", depth)
            return self.call("i", "int", a, sql=f"({a.sql})::int::bigint")
        if kind == "length":
            a = self.of("s", depth)
            return self.call("i", "length", a, sql=f"length({a.sql})::bigint")
        if kind == "if":
            return self.chosen("i", self.of("b", depth), self.of("i", depth), self.of("i", depth))
        if kind == "clamp":
            a, b = self.of("i", depth), self.of("i", depth)
            sql = f"case when {a.sql} is null or {b.sql} is null then null else greatest({a.sql}, {b.sql}) end"
            return self.call("i", "clamp_min", a, b, sql=sql)
        a, b = self.of("i", depth), self.of("i", depth)
        if self.has("u") and self.dice.random() < 0.3:
            b = self.leaf("u", 0)
            if self.is_constant(a):
                return a
        sides = f"({a.sql})::hugeint {kind} ({b.sql})::hugeint"
        if kind == "%":
            sides = f"({a.sql})::hugeint % nullif(({b.sql})::hugeint, 0)"
        return Expression("i", f"({a.wql} {kind} {b.wql})", f"as_int({sides})")

    @staticmethod
    def is_constant(made):
        return made.wql.lstrip("-").isdigit()

    def make_u(self, _type, depth):
        """With a whole constant that is not negative, unsigned stays unsigned."""
        if not self.has("u"):
            return self.of("i", depth)
        a = self.of("u", depth)
        b = number(self.dice.choice([0, 1, 3, 1000]), "u") if self.dice.random() < 0.5 else self.leaf("u", 0)
        if a.type != "u":
            return a
        kind = self.dice.choice("+-*%")
        sql = f"({a.sql} % nullif({b.sql}, 0))" if kind == "%" else f"try({a.sql} {kind} {b.sql})"
        return Expression("u", f"({a.wql} {kind} {b.wql})", sql)

    def make_b(self, _type, depth):
        kind = self.dice.choice(["compare"] * 4 + ["time", "texts", "and", "or", "not", "exists", "in", "match", "starts"])
        if kind == "time":
            return self.of_time("b") or self.leaf("b", 0)
        if kind in ("and", "or"):
            a, b = self.of("b", depth), self.of("b", depth)
            return Expression("b", f"({a.wql} {kind} {b.wql})", f"({a.sql} {kind} {b.sql})")
        if kind == "not":
            a = self.of("b", depth)
            return Expression("b", f"(not {a.wql})", f"(not {a.sql})")
        if kind == "exists":
            a = self.leaf(self.dice.choice("fis"), 0)
            return self.call("b", "exists", a, sql=f"({a.sql} is not null)")
        if kind == "in":
            a = self.leaf("s", 0)
            values = [text(value) for value in self.dice.sample(["", "a", "b", "x", "xy"], 2)]
            negated = self.dice.choice(["", "not "])
            lists = [", ".join(getattr(value, side) for value in values) for side in ("wql", "sql")]
            return Expression("b", f"({a.wql} {negated}in ({lists[0]}))", f"({a.sql} {negated}in ({lists[1]}))")
        if kind == "match":
            a, pattern = self.leaf("s", 0), self.dice.choice(["", "a|b", "x.*", ".", "[^a]*"])
            operator, negation = self.dice.choice([("=~", ""), ("!~", "not ")])
            sql = f"({negation}regexp_full_match({a.sql}, '{pattern}'))"
            return Expression("b", f'({a.wql} {operator} "{pattern}")', sql)
        if kind == "starts":
            a, b = self.of("s", depth), self.leaf("s", 0)
            name, function = self.dice.choice(
                [("starts_with", "starts_with"), ("ends_with", "suffix"), ("contains", "contains")]
            )
            return self.call("b", name, a, b, sql=f"{function}({a.sql}, {b.sql})")
        if kind == "texts":
            a, b = self.of("s", depth), self.of("s", depth)
            operator = self.dice.choice(["=", "!=", "<", "<=", ">", ">="])
            return Expression("b", f"({a.wql} {operator} {b.wql})", f"({a.sql} {operator} {b.sql})")
        a, b = self.numeric(depth), self.numeric(depth)
        if "f" in (a.type, b.type):
            sides = (self.as_float(a), self.as_float(b))
        else:
            sides = (f"({a.sql})::hugeint", f"({b.sql})::hugeint")
        name, (macro, order) = self.dice.choice(
            list({
                "=": ("equal", 1), "!=": ("not_equal", 1), "<": ("less", 1), ">": ("less", -1), "<=": ("at_most", 1),
                ">=": ("at_most", -1),
            }.items())
        )
        return Expression("b", f"({a.wql} {name} {b.wql})", f"{macro}({', '.join(sides[::order])})")

    def of_time(self, type):
        """Times and durations: a condition on them, or the ratio of two durations."""
        if not any(column.role == "time" for column in self.columns):
            return None
        moment, seconds = self.dice.choice(MOMENTS), self.dice.choice([1, 10, 1800])
        written = datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if type == "f":
            sql = f"((time - {moment})::double / {seconds * SECOND}::double)"
            return Expression("f", f"((time - {written}) / {seconds}s)", sql)
        operator = self.dice.choice(["=", "!=", "<", "<=", ">", ">="])
        kind = self.dice.choice(["time", "moved", "apart", "half"])
        if kind == "time":
            return Expression("b", f"(time {operator} {written})", f"(time {operator} {moment})")
        if kind == "moved":
            sql = f"(time + {seconds * SECOND} {operator} {moment})"
            return Expression("b", f"(time + {seconds}s {operator} {written})", sql)
        if kind == "apart":
            sql = f"(time - {moment} {operator} {seconds * SECOND})"
            return Expression("b", f"(time - {written} {operator} {seconds}s)", sql)
        sql = f"(({moment} - time) * 2 {operator} {seconds * SECOND})"
        return Expression("b", f"(({written} - time) * 2 {operator} {seconds}s)", sql)

    def make_s(self, _type, depth):
        kind = self.dice.choice(["lower", "upper", "trim", "concat", "replace", "substr", "text", "if", "coalesce"])
        a = self.of("s", depth)
        if kind == "trim":
            return Expression("s", f'trim(concat("  ", {a.wql}, " "))', f"trim('  ' || {a.sql} || ' ')")
        if kind in ("lower", "upper"):
            return self.call("s", kind, a, sql=f"{kind}({a.sql})")
        if kind == "concat":
            b = self.of("s", depth)
            return self.call("s", "concat", a, b, sql=f"({a.sql} || {b.sql})")
        if kind == "replace":
            what, by = self.dice.choice([("a", "bb"), ("x", ""), ("", "z"), ("é", "e")])
            sql = f"replace({a.sql}, '{what}', '{by}')" if what else a.sql
            return self.call("s", "replace", a, text(what), text(by), sql=sql)
        if kind == "substr":
            start, length = self.dice.choice([(1, 1), (2, 5), (1, 0), (3, 1)])
            return Expression("s", f"substr({a.wql}, {start}, {length})", f"substr({a.sql}, {start}, {length})")
        if kind == "text":
            a = self.of(self.dice.choice([type for type in "iub" if self.has(type)] or ["i"]), depth)
            return self.call("s", "text", a, sql=f"({a.sql})::varchar")
        if kind == "coalesce":
            b = self.of("s", depth)
            return self.call("s", "coalesce", a, b, sql=f"coalesce({a.sql}, {b.sql})")
        return self.chosen("s", self.of("b", depth), a, self.of("s", depth))
