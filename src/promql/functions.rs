//! The functions there are: names, what they take, what they give.
//!
//! Invariant: each function of the table is evaluated somewhere (`eval` sends it there by its [`Work`]). Those that Prometheus has only
//! behind `--enable-feature` are marked, and always enabled here.

use crate::promql::ast::Type;

#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [Type],
    /// How many of `args`, from the end, may be left out.
    pub optional: usize,
    /// Whether the last of `args` may be repeated, or left out.
    pub repeats: bool,
    pub returns: Type,
    pub work: Work,
}

/// How a function is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Each sample by itself.
    Sample(SampleFunction),
    /// Each time by itself, of the argument or of the time of evaluation.
    Date(DatePart),
    /// Each native histogram by itself.
    Histogram(HistogramFunction),
    /// The samples of a window, series by series.
    Window(WindowFunction),
    AbsentOverTime,
    Absent,
    Scalar,
    Vector,
    Time,
    Pi,
    Timestamp,
    LabelReplace,
    LabelJoin,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    Info,
    /// Of what the query asks for.
    Asked(AskedPart),
    /// The larger or the smaller of two scalars.
    Pick {
        larger: bool,
    },
}

/// Times of a query, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedPart {
    Start,
    End,
    /// 0 at one time, as is the range.
    Step,
    Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleFunction {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Clamp,
    ClampMax,
    ClampMin,
    Cos,
    Cosh,
    Deg,
    Exp,
    Floor,
    Ln,
    Log10,
    Log2,
    Rad,
    Round,
    Sgn,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramFunction {
    Avg,
    Count,
    Stddev,
    Stdvar,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowFunction {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Changes,
    Resets,
    Avg,
    Sum,
    Count,
    Min,
    Max,
    Last,
    First,
    Present,
    Quantile,
    Stddev,
    Stdvar,
    Mad,
    TsOfFirst,
    TsOfLast,
    TsOfMin,
    TsOfMax,
}

impl WindowFunction {
    /// Whether the name of the metric stays.
    pub fn keeps_name(self) -> bool {
        matches!(self, WindowFunction::Last | WindowFunction::First)
    }
}

impl Function {
    /// Whether it asks a native histogram for its count and sum alone; None if it does not look into one.
    pub fn totals_only(&self) -> Option<bool> {
        match self.work {
            Work::Histogram(HistogramFunction::Avg | HistogramFunction::Count | HistogramFunction::Sum) => {
                Some(true)
            }
            Work::HistogramQuantile | Work::HistogramQuantiles | Work::HistogramFraction => Some(false),
            _ => None,
        }
    }
}

pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// Every function by name, for those who write queries.
pub fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

use Type::{Matrix, Scalar, Text, Vector};

const fn f(name: &'static str, args: &'static [Type], returns: Type, work: Work) -> Function {
    Function { name, args, optional: 0, repeats: false, returns, work }
}

const fn sample(name: &'static str, function: SampleFunction) -> Function {
    f(name, &[Vector], Vector, Work::Sample(function))
}

const fn date(name: &'static str, part: DatePart) -> Function {
    Function { optional: 1, ..f(name, &[Vector], Vector, Work::Date(part)) }
}

const fn histogram(name: &'static str, function: HistogramFunction) -> Function {
    f(name, &[Vector], Vector, Work::Histogram(function))
}

const fn window(name: &'static str, function: WindowFunction) -> Function {
    f(name, &[Matrix], Vector, Work::Window(function))
}

const fn sort_by_label(name: &'static str, descending: bool) -> Function {
    Function { repeats: true, ..f(name, &[Vector, Text], Vector, Work::SortByLabel { descending }) }
}

/// Quantiles of one `histogram_quantiles`.
const QUANTILES_MAX: usize = 10;

/// A vector, the name of a label, and the quantiles.
const QUANTILES: [Type; 2 + QUANTILES_MAX] = {
    let mut args = [Scalar; 2 + QUANTILES_MAX];
    (args[0], args[1]) = (Vector, Text);
    args
};

/// Sorted by name.
static FUNCTIONS: &[Function] = &[
    sample("abs", SampleFunction::Abs),
    f("absent", &[Vector], Vector, Work::Absent),
    f("absent_over_time", &[Matrix], Vector, Work::AbsentOverTime),
    sample("acos", SampleFunction::Acos),
    sample("acosh", SampleFunction::Acosh),
    sample("asin", SampleFunction::Asin),
    sample("asinh", SampleFunction::Asinh),
    sample("atan", SampleFunction::Atan),
    sample("atanh", SampleFunction::Atanh),
    window("avg_over_time", WindowFunction::Avg),
    sample("ceil", SampleFunction::Ceil),
    window("changes", WindowFunction::Changes),
    f("clamp", &[Vector, Scalar, Scalar], Vector, Work::Sample(SampleFunction::Clamp)),
    f("clamp_max", &[Vector, Scalar], Vector, Work::Sample(SampleFunction::ClampMax)),
    f("clamp_min", &[Vector, Scalar], Vector, Work::Sample(SampleFunction::ClampMin)),
    sample("cos", SampleFunction::Cos),
    sample("cosh", SampleFunction::Cosh),
    window("count_over_time", WindowFunction::Count),
    date("day_of_month", DatePart::DayOfMonth),
    date("day_of_week", DatePart::DayOfWeek),
    date("day_of_year", DatePart::DayOfYear),
    date("days_in_month", DatePart::DaysInMonth),
    sample("deg", SampleFunction::Deg),
    window("delta", WindowFunction::Delta),
    window("deriv", WindowFunction::Deriv),
    // --enable-feature=promql-experimental-functions
    f(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Vector,
        Work::Window(WindowFunction::DoubleExponentialSmoothing),
    ),
    // --enable-feature=promql-experimental-functions
    f("end", &[], Scalar, Work::Asked(AskedPart::End)),
    sample("exp", SampleFunction::Exp),
    // --enable-feature=promql-experimental-functions
    window("first_over_time", WindowFunction::First),
    sample("floor", SampleFunction::Floor),
    histogram("histogram_avg", HistogramFunction::Avg),
    histogram("histogram_count", HistogramFunction::Count),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector, Work::HistogramFraction),
    f("histogram_quantile", &[Scalar, Vector], Vector, Work::HistogramQuantile),
    // --enable-feature=promql-experimental-functions
    Function {
        optional: QUANTILES_MAX - 1,
        ..f("histogram_quantiles", &QUANTILES, Vector, Work::HistogramQuantiles)
    },
    histogram("histogram_stddev", HistogramFunction::Stddev),
    histogram("histogram_stdvar", HistogramFunction::Stdvar),
    histogram("histogram_sum", HistogramFunction::Sum),
    date("hour", DatePart::Hour),
    window("idelta", WindowFunction::Idelta),
    window("increase", WindowFunction::Increase),
    // --enable-feature=promql-experimental-functions
    Function { optional: 1, ..f("info", &[Vector, Vector], Vector, Work::Info) },
    window("irate", WindowFunction::Irate),
    Function { repeats: true, ..f("label_join", &[Vector, Text, Text, Text], Vector, Work::LabelJoin) },
    f("label_replace", &[Vector, Text, Text, Text, Text], Vector, Work::LabelReplace),
    window("last_over_time", WindowFunction::Last),
    sample("ln", SampleFunction::Ln),
    sample("log10", SampleFunction::Log10),
    sample("log2", SampleFunction::Log2),
    // --enable-feature=promql-experimental-functions
    window("mad_over_time", WindowFunction::Mad),
    // --enable-feature=promql-experimental-functions
    f("max_of", &[Scalar, Scalar], Scalar, Work::Pick { larger: true }),
    window("max_over_time", WindowFunction::Max),
    // --enable-feature=promql-experimental-functions
    f("min_of", &[Scalar, Scalar], Scalar, Work::Pick { larger: false }),
    window("min_over_time", WindowFunction::Min),
    date("minute", DatePart::Minute),
    date("month", DatePart::Month),
    f("pi", &[], Scalar, Work::Pi),
    f("predict_linear", &[Matrix, Scalar], Vector, Work::Window(WindowFunction::PredictLinear)),
    window("present_over_time", WindowFunction::Present),
    f("quantile_over_time", &[Scalar, Matrix], Vector, Work::Window(WindowFunction::Quantile)),
    sample("rad", SampleFunction::Rad),
    // --enable-feature=promql-experimental-functions
    f("range", &[], Scalar, Work::Asked(AskedPart::Range)),
    window("rate", WindowFunction::Rate),
    window("resets", WindowFunction::Resets),
    Function { optional: 1, ..f("round", &[Vector, Scalar], Vector, Work::Sample(SampleFunction::Round)) },
    f("scalar", &[Vector], Scalar, Work::Scalar),
    sample("sgn", SampleFunction::Sgn),
    sample("sin", SampleFunction::Sin),
    sample("sinh", SampleFunction::Sinh),
    f("sort", &[Vector], Vector, Work::Sort { descending: false }),
    // --enable-feature=promql-experimental-functions, these two
    sort_by_label("sort_by_label", false),
    sort_by_label("sort_by_label_desc", true),
    f("sort_desc", &[Vector], Vector, Work::Sort { descending: true }),
    sample("sqrt", SampleFunction::Sqrt),
    // --enable-feature=promql-experimental-functions
    f("start", &[], Scalar, Work::Asked(AskedPart::Start)),
    window("stddev_over_time", WindowFunction::Stddev),
    window("stdvar_over_time", WindowFunction::Stdvar),
    // --enable-feature=promql-experimental-functions
    f("step", &[], Scalar, Work::Asked(AskedPart::Step)),
    window("sum_over_time", WindowFunction::Sum),
    sample("tan", SampleFunction::Tan),
    sample("tanh", SampleFunction::Tanh),
    f("time", &[], Scalar, Work::Time),
    f("timestamp", &[Vector], Vector, Work::Timestamp),
    // --enable-feature=promql-experimental-functions, these four
    window("ts_of_first_over_time", WindowFunction::TsOfFirst),
    window("ts_of_last_over_time", WindowFunction::TsOfLast),
    window("ts_of_max_over_time", WindowFunction::TsOfMax),
    window("ts_of_min_over_time", WindowFunction::TsOfMin),
    f("vector", &[Scalar], Vector, Work::Vector),
    date("year", DatePart::Year),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_sorted_so_that_each_is_found() {
        assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
        assert!(names().all(|name| find(name).is_some_and(|found| found.name == name)));
        assert!(find("holt_winters").is_none());
    }
}
