"""Random statements of several stages, each as WQL and as DuckDB's SQL, made side by side from one description.

Every stage becomes a common table expression over the one before it. Times are nanoseconds in bigints. The tags of a row are
its series, as in WQL.
"""

from expressions import SECOND, Column, Expressions, read

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
MONDAY = 4 * DAY
LOOK_BACK = 300 * SECOND
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"]
QUANTILES = {"0": (0, 1), "0.25": (1, 4), "0.5": (1, 2), "0.9": (9, 10), "1": (1, 1)}
STORED = ["f", "p", "value"]
OF_NUMBERS = ["sum", "avg", "min", "max", "spread", "variance", "stddev", "median", "exact_quantile"]
OF_ANY = ["count", "first", "last", "mode", "exact_distinct", "distinct"]
OF_STEPS = ["increase", "delta", "rate", "resets", "integral", "twa"]


def duration(nanoseconds):
    """In seconds where it can be."""
    whole, rest = divmod(nanoseconds, SECOND)
    return f"{nanoseconds}ns" if rest else f"{whole}s"


class Statement:
    def __init__(self, dice, tables, now):
        self.dice, self.tables, self.now = dice, tables, now
        self.wql, self.lets = [], []
        self.ctes = []
        self.columns = []
        self.start = self.end = self.zone = None
        self.window = None  # of fixed steps or of boundaries, for fill
        self.rough = {}  # columns that are near to what SQL says
        self.ordered = False

    # How stages are put together.

    def add(self, select):
        self.ctes.append(select.replace("{from}", f"s{len(self.ctes) - 1}"))

    @property
    def sql(self):
        return "with " + ",\n".join(f"s{at} as ({select})" for at, select in enumerate(self.ctes))

    def final(self):
        names = ", ".join(column.name for column in self.columns)
        return f"{self.sql}\nselect {names} from s{len(self.ctes) - 1}"

    def of(self, *roles):
        return [column for column in self.columns if column.role in roles]

    def names(self, *roles):
        return [column.name for column in self.of(*roles)]

    def numbers(self):
        return [column for column in self.of("value") if column.type in "fiu"]

    def expression(self, type, depth=2):
        return Expressions(self.dice, self.columns).of(type, depth)

    def chance(self, share):
        return self.dice.random() < share

    # Stages.

    def source(self, table, cut=True):
        self.columns = list(self.tables[table].columns)
        matcher, condition = "", "true"
        if self.chance(0.3):
            matcher, condition = self.dice.choice([
                ('{host="a"}', "host = 'a'"), ('{dc=""}', "dc is null"), ('{dc!="x"}', "coalesce(dc, '') <> 'x'"),
                ('{host=~"a|b", dc in ("x", "")}', "host in ('a', 'b') and coalesce(dc, '') in ('x', '')"),
                ('{dc!~"x.*"}', "not starts_with(coalesce(dc, ''), 'x')"),
            ])
        self.wql.append(table + matcher)
        self.add(f"select * from {table} where {condition}")
        self.range()
        if cut:
            self.cut()

    def range(self):
        # A time before 1970 cannot be written as digits.
        times = [time for time in self.tables["m"].times if time > 0]
        at = lambda: self.dice.choice(times) + self.dice.choice([0, 0, 1, 13 * SECOND])
        kind = self.dice.choice(["all", "all", "between", "between", "since", "last", "narrow"])
        if kind == "between":
            self.start, self.end = sorted((self.dice.choice([at(), times[0]]), at()))
            self.end += self.start == self.end
            self.wql.append(f"between {self.start}ns and {self.end}ns")
        elif kind == "narrow":
            self.start = at()
            self.end = self.start + self.dice.choice([SECOND, 5 * MINUTE, 3 * HOUR])
            self.wql.append(f"between {self.start}ns and {self.end}ns")
        elif kind == "since":
            self.start = at()
            self.wql.append(f"since {self.start}ns")
        elif kind == "last":
            length = self.dice.choice([10 * MINUTE, 3 * HOUR, DAY, 400 * DAY])
            self.start, self.end = self.now - length, self.now
            self.wql.append(f"last {duration(length)}")

    def inside(self, start=None):
        start = self.start if start is None else start
        bounds = ["true"] if start is None else [f"time >= {start}"]
        return " and ".join(bounds + ([] if self.end is None else [f"time < {self.end}"]))

    def cut(self):
        self.add(f"select * from {{from}} where {self.inside()}")

    def where(self):
        condition = self.expression("b", self.dice.choice([1, 2, 3]))
        self.wql.append(f"where {condition.wql}")
        self.add(f"select * from {{from}} where {condition.sql}")

    def extend(self, depth=2):
        made = self.expression(self.dice.choice("ffiusb"), depth)
        name = f"x{len(self.ctes)}"
        self.wql.append(f"extend {name} = {made.wql}")
        self.add(f"select *, {made.sql} as {name} from {{from}}")
        self.columns.append(Column(name, "value", made.type))

    def axis(self):
        """A function along time, of the rows of a group."""
        column = self.dice.choice(self.numbers())
        x, name = column.name, f"a{len(self.ctes)}"
        tags = self.names("tag")
        partition = f"partition by {', '.join(tags)} " if tags else ""
        over = f"({partition}order by time)"
        before = f"({partition}order by time rows between unbounded preceding and 1 preceding)"
        last = f"last_value({x} ignore nulls) over {before}"
        then = f"last_value(case when {x} is not null then time end ignore nulls) over {before}"
        kind = self.dice.choice(["shift", "time", "diff", "derivative", "moving_avg", "ewma", "cumulative"])
        type = "f"
        if kind == "shift":
            by = self.dice.choice([1, 2, -1, 0])
            wql, type = f"shift({x}, {by})", column.type
            sql = f"lag({x}, {by}) over {over}" if by >= 0 else f"lead({x}, {-by}) over {over}"
        elif kind == "time":
            by = self.dice.choice([10 * SECOND, HOUR, DAY])
            wql, type = f"shift({x}, {duration(by)})", column.type
            sql = (
                f"max({x}) over ({partition}order by time range between {by} preceding and {by} preceding)"
            )
        elif kind == "diff":
            wql, type = f"diff({x})", "f" if column.type == "f" else "i"
            sql = f"{x} - {last}" if column.type == "f" else f"as_int({x}::hugeint - ({last})::hugeint)"
        elif kind == "derivative":
            wql = f"derivative({x}, 1m)"
            sql = f"({x}::double - ({last})::double) * (60e9 / (time - {then}))"
        elif kind == "moving_avg":
            rows = self.dice.choice([1, 2, 5])
            wql = f"moving_avg({x}, {rows})"
            window = f"({partition}order by time rows between {rows - 1} preceding and current row)"
            # The list adds up anew in each row.
            sql = (
                f"case when row_number() over {over} >= {rows} then"
                f" list_avg(list({x}::double) filter ({x} is not null) over {window}) end"
            )
        elif kind == "ewma":
            weight = self.dice.choice([0.5, 0.25, 1.0, 0.1])
            wql = f"ewma({x}, {weight})"
            window = f"({partition}order by time rows between unbounded preceding and current row)"
            # The list is gone through anew in each row.
            sql = (
                f"case when {x} is not null then list_reduce(list({x}::double) filter ({x} is not null) over {window},"
                f" lambda before, x: {weight}::double * x + (1 - {weight}::double) * before) end"
            )
        else:
            wql, type = f"cumulative({x})", column.type
            value = {"f": "{}", "i": "as_int({})", "u": "as_uint({})"}[column.type]
            wide = x if column.type == "f" else f"{x}::hugeint"
            sql = f"case when {x} is not null then {value.format(f'sum({wide}) over {over}')} end"
        self.wql.append(f"extend {name} = {wql}")
        self.add(f"select *, {sql} as {name} from {{from}}")
        self.columns.append(Column(name, "value", type))

    # Aggregates.

    def by(self, tags):
        kind = self.dice.choice(["series", "none", "some", "some"])
        if kind == "series" or not tags:
            return "", tags
        if kind == "none":
            return " by ()", []
        some = self.dice.sample(tags, self.dice.randint(1, len(tags)))
        return f" by {', '.join(some)}", some

    def items(self, steps):
        """Columns of an aggregate: WQL, SQL, the condition that it has something to say, and the column."""
        made = []
        for at in range(self.dice.randint(1, 3)):
            if self.chance(0.15):
                made.append((f"count as c{at}", "count(*)", "count(*) > 0", Column(f"c{at}", "value", "i")))
                continue
            column = self.dice.choice(self.of("value"))
            functions = OF_ANY + OF_NUMBERS * (column.type in "fiu") + OF_STEPS * (steps and column.type in "fiu")
            function = self.dice.choice(functions)
            if function == "rate" and self.start is None or function == "mode" and column.type == "u":
                function = "count"
            if function in ("integral", "twa") and column.name in "ju":
                function = "increase"  # DuckDB's floats cancel near the limits of integers
            if function in ("variance", "stddev") and column.name not in ("f", "i"):
                function = "avg"
            computed = column.type == "f" and column.name not in STORED
            if computed and function in ["mode", "exact_distinct", "distinct", *OF_STEPS]:
                function = "count"  # what differs in its last bit here may be equal there, and steps of 1e18 lose all others
            name = f"{function[:9]}_{at}"
            made.append((*self.aggregate_of(function, column, name), Column(name, "value", self.type_of(function, column.type))))
        return made

    @staticmethod
    def type_of(function, type):
        if function in ("count", "exact_distinct", "distinct", "resets"):
            return "i"
        if function == "delta" and type in "iu":
            return "i"
        same = ("sum", "min", "max", "spread", "first", "last", "mode", "increase", "exact_quantile")
        return type if function in same else "f"

    def aggregate_of(self, function, column, name):
        x, type = column.name, column.type
        wql = f"{function}({x}) as {name}"
        speaks = f"count({x}) > 0"
        fit = {"f": "({})", "i": "as_int({})", "u": "as_uint({})"}.get(type, "({})")
        wide = x if type == "f" else f"{x}::hugeint"
        number = f"{x} is not null and not isnan({x}::double)"
        if function == "count":
            sql = f"count({x})"
        elif function in ("exact_distinct", "distinct"):
            sql = f"count(distinct {x})"
        elif function == "sum":
            sql = fit.format(f"sum({wide})")
        elif function == "avg":
            sql = f"sum({wide})::double / count({x})"
        elif function in ("min", "max"):
            sql = f"{function}({x}) filter ({number})"
            speaks = f"count({x}) filter ({number}) > 0"
        elif function == "spread":
            sql = fit.format(f"max({wide}) filter ({number}) - min({wide}) filter ({number})")
            speaks = f"count({x}) filter ({number}) > 0"
        elif function in ("variance", "stddev"):
            sql = f"{'var_samp' if function == 'variance' else 'stddev_samp'}({x}::double)"
            speaks = f"count({x}) > 1"
            self.rough[name] = 1e-5
        elif function in ("first", "last"):
            nan = f"isnan({x}), " if type == "f" else ""
            time = "" if not self.of("time") else "time desc, " if function == "last" else "time, "
            order = f"{time}{nan}{x} desc"
            sql = f"first({x} order by {order}) filter ({x} is not null)"
        elif function == "mode":
            nan = "not isnan(entry.key)" if type == "f" else "true"
            pairs = f"list_transform(map_entries(histogram({x})), lambda entry: {{n: -entry.value::bigint, z: {nan}, k: entry.key}})"
            sql = f"list_sort({pairs})[1].k"
        elif function in ("exact_quantile", "median"):
            text, (up, down) = self.dice.choice(list(QUANTILES.items()))
            if function == "median":
                up, down = 1, 2
                self.rough[name] = 0.0101
                cast = "::double"
            else:
                wql, cast = f"exact_quantile({x}, {text}) as {name}", ""
            values = f"list_sort(list({x}) filter ({number}))"
            sql = f"{values}[greatest(1, (len({values}) * {up} + {down - 1}) // {down})]{cast}"
            speaks = f"count({x}) filter ({number}) > 0"
        else:
            sql, speaks = self.step_of(function, column)
        return wql, sql, speaks

    def step_of(self, function, column):
        """Of the steps between the samples of a series, each of which counts where its later sample is."""
        x, type = column.name, column.type
        value = f"case when not isnan({x}::double) then {x} end"
        wide = f"({value})" if type == "f" else f"({value})::hugeint"
        before = f"px_{x}" if type == "f" else f"px_{x}::hugeint"
        step = f"case when {wide} < {before} then {wide} else {wide} - {before} end"
        fit = {"f": "({})", "i": "as_int({})", "u": "as_uint({})"}[type]
        speaks = f"count({wide} - {before}) > 0"
        if function == "increase":
            return fit.format(f"sum({step})"), speaks
        if function == "delta":
            return ("({})" if type == "f" else "as_int({})").format(f"sum({wide} - {before})"), speaks
        if function == "resets":
            # None are none, also where there are no samples.
            return f"count(*) filter ({wide} < {before})", "count(*) > 0"
        if function == "rate":
            return f"sum({step})::double / (any_value(width) / 1e9)", speaks
        area = f"sum(({wide}::double + {before}::double) / 2 * (time - pt_{x}))"
        if function == "integral":
            return f"{area} / 1e9", speaks
        lasted = f"sum(case when {wide} is not null then time - pt_{x} end)"
        return f"case when {lasted} > 0 then {area} / {lasted} else avg(({value})::double) end", f"count({value}) > 0"

    def with_steps(self):
        """For each number of a point the one before it in its series, and when that was."""
        tags = self.names("tag")
        partition = f"partition by {', '.join(tags)} " if tags else ""
        before = f"({partition}order by time rows between unbounded preceding and 1 preceding)"
        extra = []
        for column in self.numbers():
            x = column.name
            value = f"case when not isnan({x}::double) then {x} end"
            extra.append(f"last_value({value} ignore nulls) over {before} as px_{x}")
            extra.append(f"last_value(case when {value} is not null then time end ignore nulls) over {before} as pt_{x}")
        self.add(f"select *, {', '.join(extra)} from {{from}}")

    def aggregate(self, again=False):
        """The first aggregate cuts the range itself, since some functions and windows look before it."""
        kinds = ["every"] * 4 + ["over", "calendar", "whole", "session"]
        kind = self.dice.choice(["every", "whole", "by"] if again else kinds)
        has_time = bool(self.of("time"))
        kind = kind if has_time else "whole"
        steps = not again and kind in ("every", "over", "calendar", "whole")
        text, group = self.by(self.names("tag"))
        if kind == "by":
            group = self.dice.sample(self.names("tag"), min(1, len(self.of("tag"))))
            text = f" by {', '.join(group)}" if group else " by ()"
        if kind == "whole" and again and text and has_time:
            # `by` alone is at each time.
            kind = "by"
        items = self.items(steps)
        functions = ", ".join(item[0] for item in items)
        start, end = (None, None) if again else (self.start, self.end)
        # A rate is per second of what is looked at: not of the future.
        looked = [] if again or start is None else [start, min(end or self.now, max(self.now, start))]
        self.window = None
        prefix, suffix, zone = "", "", ""
        if kind in ("every", "over"):
            step = self.dice.choice([10 * SECOND, 30 * SECOND, MINUTE, 7 * MINUTE, HOUR, DAY, 7 * DAY])
            if step >= DAY and self.zone:
                step = HOUR  # days would be those of the statement's zone
            if kind == "over":
                step = self.dice.choice([30 * SECOND, MINUTE, 5 * MINUTE, 2 * HOUR])
            origin = MONDAY if step % (7 * DAY) == 0 else 0
            prefix = f"every {duration(step)} "
            over = step
            if kind == "over":
                over = step * self.dice.choice([2, 3, 5]) // self.dice.choice([1, 2, 4])
                prefix += f"over {duration(over)} "
            if self.chance(0.3):
                offset = self.dice.choice([5 * SECOND, 30 * MINUTE, 6 * HOUR])
                prefix += f"offset {duration(offset)} "
                origin += offset % step
            self.window = ("fixed", step, origin)
        wait = max(LOOK_BACK, over if kind in ("every", "over") else 0)
        if not again:
            if kind == "over" and over != step:
                first = None if start is None else start - (start - origin) % step + step - over
                read = None if start is None else min(first, start)
            else:
                over, read = step if kind in ("every", "over") else None, start
            floor = None if read is None else read - wait
            self.add(f"select * from {{from}} where {self.inside(floor)}")
            if any(item[0].split("(")[0] in OF_STEPS for item in items):
                self.with_steps()
            self.add(f"select * from {{from}} where {self.inside(read)}")
        if kind == "whole":
            width = looked[1] - looked[0] if looked else 1
            self.add(f"select *, {max(width, 1)} as width from {{from}}")
        elif kind == "by":
            self.add("select *, time as bucket from {from}")
        elif kind == "session":
            self.sessions(group)
            prefix = f"session {duration(self.gap)} "
        elif kind == "calendar":
            prefix, zone = self.calendar(looked)
        elif kind == "every" or over == step:
            inside = self.width(f"bucket(time, {step}, {origin})", step, looked)
            self.add(f"select *, bucket(time, {step}, {origin}) as bucket, {inside} as width from {{from}}")
        else:
            first = "null" if start is None else start - (start - origin) % step
            own = f"bucket(time, {step}, {origin})"
            self.add(f"select *, unnest(range({own}, time + {over - step} + 1, {step})) as bucket from {{from}}")
            ends = f"least(bucket + {step}, {looked[1] if looked else 'bucket + ' + str(step)})"
            self.add(
                f"select *, greatest({ends} - bucket - {step} + {over}, 1) as width from {{from}}"
                f" where bucket >= coalesce({first}, bucket) and bucket < coalesce({end or 'null'}, bucket + 1)"
            )
        timed = kind != "whole"
        keys = ["bucket as time"] * timed + group
        columns = ", ".join(keys + [f"{item[1]} as {item[3].name}" for item in items])
        ends = ", max(time) as session_end" if kind == "session" else ""
        speaks = " or ".join(["true"] * (kind == "session") + [item[2] for item in items])
        grouped = ", ".join(["bucket"] * timed + group) or "()"
        self.add(f"select {columns}{ends} from {{from}} group by {grouped} having count(*) > 0 and ({speaks})")
        self.wql.append(f"{prefix}{functions}{text}{zone}")
        known = {column.name: column for column in self.columns}
        self.columns = [Column("time", "time", "t")] * timed + [known[tag] for tag in group]
        self.columns += [item[3] for item in items]
        if kind == "session":
            self.columns.append(Column("session_end", "end", "t"))

    @staticmethod
    def width(bucket, step, looked):
        if not looked:
            return step
        inside = f"least({bucket} + {step}, {looked[1]}) - greatest({bucket}, {looked[0]})"
        return f"case when {inside} > 0 then {inside} else {step} end"

    def sessions(self, group):
        self.gap = self.dice.choice([10 * SECOND, 20 * SECOND, 5 * MINUTE, 2 * HOUR])
        partition = f"partition by {', '.join(group)} " if group else ""
        self.add(f"select *, coalesce(time - lag(time) over ({partition}order by time) > {self.gap}, true) as opens from {{from}}")
        self.add(f"select *, count(*) filter (opens) over ({partition}order by time) as session from {{from}}")
        sessions = ", ".join(group + ["session"])
        self.add(f"select *, min(time) over (partition by {sessions}) as bucket from {{from}}")

    def calendar(self, looked):
        unit, count = self.dice.choice([("d", 1), ("d", 2), ("d", 7), ("mo", 1), ("mo", 3), ("y", 1)])
        named = self.dice.choice([None] + ZONES if unit != "d" else ZONES)
        offset = self.dice.choice([0, 0, 6 * HOUR])
        prefix = f"every {count}{unit} " + (f"offset {duration(offset)} " if offset else "")
        if unit == "d":
            first = "date '1970-01-05'" if count % 7 == 0 else "date '1970-01-01'"
            days = f"(select {first} + (n * {count})::int as day from range(-500, 33000 // {count}) r(n))"
        else:
            months = count * 12 if unit == "y" else count
            days = f"(select date '1970-01-01' + to_months((n * {months})::int) as day from range(-100 // {months}, 1000 // {months}) r(n))"
        self.zone = named
        zone = named or "UTC"
        starts = (
            f"select start, lead(start) over (order by start) as next from (select epoch_ns(day::timestamp at time zone '{zone}')"
            f" + {offset} as start from {days})"
        )
        self.window = ("calendar", starts, None)
        width = "next - start"
        if looked:
            inside = f"least(next, {looked[1]}) - greatest(start, {looked[0]})"
            width = f"case when {inside} > 0 then {inside} else next - start end"
        self.add(f"select points.*, start as bucket, {width} as width from {{from}} points join ({starts}) on time >= start and time < next")
        return prefix, f' in "{named}"' if named else ""

    # What follows an aggregate.

    def fill(self):
        kind, step, origin = self.window
        tags = self.names("tag")
        how = self.dice.choice(["null", "previous", "linear", "0", "1.5", '"-"', "-3"])
        longest = self.dice.choice([None, None, MINUTE, HOUR, 2 * DAY])
        starts = "select null where false"
        low = "(select min(time) from {from})"
        if kind == "fixed":
            if self.start is not None:
                low = f"least({low}, {self.start - (self.start - origin) % step})"
            high = "(select max(time) from {from}) + 1"
            if self.end is not None:
                high = f"greatest({high}, {self.end})"
            starts = f"select unnest(range({low}, {high}, {step})) as time"
        else:
            if self.start is not None:
                low = f"least({low}, (select max(start) from ({step}) where start <= {self.start}))"
            high = "(select max(time) from {from})"
            if self.end is not None:
                high = f"greatest({high}, {self.end - 1})"
            starts = f"select start as time from ({step}) where start between {low} and {high}"
        # As many rows as may be.
        groups = f"select distinct {', '.join(tags)} from {{from}}" if tags else "select 1 where exists (from {from})"
        match = " and ".join(["rows.time = starts.time"] + [f"rows.{tag} is not distinct from groups.{tag}" for tag in tags])
        kept = ", ".join(["starts.time"] + [f"groups.{tag}" for tag in tags] + [f"rows.{name}" for name in self.names("value")])
        self.add(f"select {kept} from ({groups}) groups cross join ({starts}) starts left join {{from}} rows on {match}")
        partition = f"partition by {', '.join(tags)} " if tags else ""
        before = f"over ({partition}order by time rows between unbounded preceding and current row)"
        after = f"over ({partition}order by time rows between current row and unbounded following)"
        made, columns = [], []
        for column in self.of("value"):
            x = column.name
            has = f"case when {x} is not null then time end"
            then, next = f"last_value({has} ignore nulls) {before}", f"first_value({has} ignore nulls) {after}"
            left, right = f"last_value({x} ignore nulls) {before}", f"first_value({x} ignore nulls) {after}"
            edge = f"coalesce({next}, max(time) over ({partition or 'partition by 1'}))"
            lead = f"coalesce({then}, min(time) over ({partition or 'partition by 1'}))"
            fits = "true" if longest is None else f"{edge} - {lead} <= {longest}"
            type, value = column.type, None
            if how == "previous":
                value = left
            elif how == "linear" and type in "fiu":
                type = "f"
                value = f"({left})::double + (({right})::double - ({left})::double) * ((time - {then})::double / ({next} - {then}))"
            elif how in ("0", "-3") and type in "fiu":
                value = None if how == "-3" and type == "u" else how
            elif how == "1.5" and type in "fiu":
                type, value = "f", "1.5::double"
            elif how == '"-"' and type == "s":
                value = "'-'"
            cast = {"f": "::double", "i": "::bigint", "u": "::ubigint"}.get(type, "")
            filled = f"case when {fits} then ({value}){cast} end" if value else "null"
            made.append(f"coalesce({x}{cast}, {filled}) as {x}" if value else x)
            columns.append(Column(x, "value", type))
        self.add(f"select {', '.join(['time'] + tags + made)} from {{from}}")
        self.columns = self.of("time", "tag") + columns
        self.wql.append(f"fill {how}" + (f" max {duration(longest)}" if longest else ""))

    def order(self):
        """How rows stand before a sort: points by time and series, others by group and time."""
        tags = [f"{tag} nulls first" for tag in sorted(self.names("tag"))]
        time = self.names("time")
        return time + tags if not self.window_seen else tags + time

    window_seen = False

    def key(self, column, descending):
        nan = f"isnan({column.name}), " if column.type == "f" else ""
        return f"{column.name} is null, {nan}{column.name} {'desc' if descending else 'asc'}"

    def sort(self):
        choice = self.dice.sample(self.of("value", "time"), self.dice.choice([1, 1, 2]) if len(self.of("value", "time")) > 1 else 1)
        keys = [(column, self.chance(0.5)) for column in choice]
        self.wql.append("sort " + ", ".join(f"{column.name} {'desc' if down else 'asc'}" for column, down in keys))
        order = ", ".join([self.key(column, down) for column, down in keys] + self.order())
        self.add(f"select *, row_number() over (order by {order}) as place from {{from}}")
        self.ordered = True

    def top(self):
        column = self.dice.choice(self.of("value"))
        word, count = self.dice.choice(["top", "bottom"]), self.dice.choice([1, 3, 10])
        per = self.dice.sample(self.names("tag"), self.dice.choice([0, min(1, len(self.of("tag")))]))
        self.wql.append(f"{word} {count} by {column.name}" + (f" per {', '.join(per)}" if per else ""))
        order = ", ".join([self.key(column, word == "top")] + (self.order() or ["1"]))
        partition = f"partition by {', '.join(per)} " if per else ""
        self.add(f"select *, row_number() over ({partition}order by {order}) as place from {{from}} where {column.name} is not null")
        self.add(f"select * from {{from}} where place <= {count}")
        self.ordered = not per

    def limit(self):
        count, offset = self.dice.choice([0, 1, 5, 50]), self.dice.choice([0, 0, 3])
        self.wql.append(f"limit {count}" + (f" offset {offset}" if offset else ""))
        if not self.ordered:
            order = ", ".join(self.order() or ["1"])
            self.add(f"select *, row_number() over (order by {order}) as place from {{from}}")
        self.add(f"select *, row_number() over (order by place) as nth from {{from}}")
        self.add(f"select * from {{from}} where nth > {offset} and nth <= {offset + count}")
        self.ordered = True

    def join(self):
        """A second query, over the same range, beside the rows of this one."""
        other = Statement(self.dice, self.tables, self.now)
        other.columns = list(self.tables["q"].columns)
        kind = self.dice.choice(["join", "left join", "asof join", "asof join"])
        on = ["host"] if kind == "asof join" else self.dice.choice([["time", "host"], ["host", "time", "dc"]])
        on = [name for name in on if any(column.name == name for column in self.columns)]
        if "host" not in on or kind != "asof join" and "time" not in on or not self.of("time"):
            return
        within = self.dice.choice([None, 30 * SECOND, HOUR]) if kind == "asof join" else None
        low = self.start
        if kind == "asof join":
            low = None if within is None or low is None else low - within
        cut = self.inside(low) if low is not None or self.end is not None else "true"
        if low is None and self.end is not None:
            cut = f"time < {self.end}"
        elif low is None:
            cut = "true"
        right = f"(select * from q where {cut})"
        # Of rows with one time the one of the last series counts.
        if kind == "asof join":
            right = f"(select * from {right} qualify row_number() over (partition by host, time order by dc desc nulls last) = 1)"
        taken = {column.name for column in self.columns}
        brought, columns = [], []
        for column in other.columns:
            if column.name in on or kind == "asof join" and column.role == "time":
                continue
            here = f"q_{column.name}" if column.name in taken else column.name
            role = "value" if column.role == "time" else column.role
            brought.append(f"r.{column.name} as {here}")
            columns.append(Column(here, role, column.type))
        match = " and ".join(f"l.{name} = r.{name}" for name in on)
        if kind == "asof join":
            aged = f" and l.time - r.time <= {within}" if within is not None else ""
            pairs = f"select l.*, r.time as r_time, {', '.join(brought)} from {{from}} l asof left join {right} r on {match} and l.time >= r.time"
            if within is not None:
                names = ", ".join(f"case when time - r_time <= {within} then {column.name} end as {column.name}" for column in columns)
                pairs = f"select {', '.join(column.name for column in self.columns)}, {names} from ({pairs})"
            self.add(pairs)
        else:
            outer = "left join" if kind == "left join" else "join"
            self.add(f"select l.*, {', '.join(brought)} from {{from}} l {outer} {right} r on {match}")
        self.columns += columns
        self.wql.append(f"{kind} q on {', '.join(on)}" + (f" within {duration(within)}" if within is not None else ""))

    # Whole statements.

    def make(self):
        points = self.chance(0.3)
        self.source(self.dice.choice(["m", "m", "m", "q", "g"]), cut=points)
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            self.dice.choice([self.where, self.extend])()
        joined = False
        if points:
            if self.chance(0.3):
                self.axis()
            if self.chance(0.3):
                self.join()
                joined = True
        else:
            self.aggregate()
            self.window_seen = True
            if self.rough:
                return self  # what is made of a near value is not near
            if self.window and self.fillable() and self.chance(0.4):
                self.fill()
            if self.of("time") and self.numbers() and self.chance(0.3):
                self.axis()
            if self.chance(0.2):
                self.where()
            if self.of("value") and self.chance(0.25):
                self.aggregate(again=True)
                if self.rough:
                    return self
            elif self.chance(0.2):
                self.join()
                joined = True
                if self.of("value") and self.chance(0.4):
                    self.aggregate(again=True)
                    if self.rough:
                        return self
                    joined = False
        if not joined and self.of("value"):
            if self.chance(0.4):
                self.dice.choice([self.sort, self.top])()
            if self.chance(0.2) and (self.ordered or "place" not in self.ctes[-1]):
                self.limit()
        if self.ordered:
            self.ctes.append(f"select * from s{len(self.ctes) - 1} order by place")
        return self

    def fillable(self):
        """Not a hundred thousand rows."""
        kind, step, _ = self.window
        step = step if kind == "fixed" else DAY
        return ((self.end or self.now + 2 * DAY) - (self.start or 0)) // step < 1000

    @property
    def text(self):
        return " | ".join(self.wql)
