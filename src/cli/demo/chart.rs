//! The live picture: CPU usage as steps, one step per bucket of a rollup, and what gave the numbers.
//!
//! Invariant: a step spans exactly its bucket, the open one ends at now; where there is no bucket there is no line.
//! Not here: the terminal and its events (`screen`).

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType};
use serde_json::Value;

use crate::cli::answer::{Answer, elapsed};

/// What is asked once a second. By the rollup's name, so that it says something if the rollup is gone.
pub const STATEMENT: &str = "cpu_10s | last 10m | every 10s avg(usage) by cpu";

const BUCKET_S: f64 = 10.0;
/// The time axis grows from the first to the second, so that a new demo does not begin at the edge of an empty picture.
const SPAN_S_MIN: f64 = 60.0;
const SPAN_S_MAX: f64 = 600.0;

/// More lines than this are a knot; the busiest are shown.
const CPUS_MAX: usize = 5;
const TOTAL: &str = "total";
const COLOURS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Green, Color::Blue];

/// One second's picture.
pub struct Picture {
    now_s: f64,
    /// The CPUs in order of their numbers, the total last, so that it is drawn over the others.
    lines: Vec<Series>,
    cpus: usize,
    source: String,
    elapsed_ms: f64,
}

struct Series {
    name: String,
    /// Bucket starts and their averages, in order of time.
    buckets: Vec<(f64, f64)>,
}

impl Picture {
    /// None until there is a bucket. The answer's times are whole seconds.
    pub fn new(answer: &Answer, now_s: i64) -> Option<Picture> {
        let (time, cpu) = (answer.column("time")?, answer.column("cpu")?);
        let value = answer.columns.len().checked_sub(1)?;
        let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for row in &answer.rows {
            let cell = |at: usize| row.get(at).unwrap_or(&Value::Null);
            if let (Some(time), Some(cpu), Some(value)) =
                (cell(time).as_f64(), cell(cpu).as_str(), cell(value).as_f64())
            {
                series.entry(cpu).or_default().push((time, value));
            }
        }
        let total = series.remove(TOTAL)?;
        let cpus = series.len();
        let mut lines: Vec<Series> =
            series.into_iter().map(|(name, buckets)| Series { name: name.to_string(), buckets }).collect();
        lines.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
        lines.truncate(CPUS_MAX);
        lines.sort_by_key(|line| (line.name.len(), line.name.clone()));
        lines.push(Series { name: TOTAL.to_string(), buckets: total });
        for line in &mut lines {
            line.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let mut source = answer.stats.source().unwrap_or_else(|| "nothing".into());
        if answer.stats.rollups.iter().any(|rollup| rollup.buckets > 0) {
            // The open buckets of a rollup are computed from them at every look.
            source.push_str(" and the newest points");
        }
        Some(Picture { now_s: now_s as f64, lines, cpus, source, elapsed_ms: answer.stats.elapsed_ms })
    }

    pub fn draw(&self, frame: &mut Frame<'_>) {
        let [title, legend, chart, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(), title);
        frame.render_widget(self.legend(), legend);
        self.draw_chart(frame, chart);
        frame.render_widget(self.foot(), foot);
    }

    fn title(&self) -> Line<'static> {
        let lines = self.lines.len() - 1;
        let which = match self.cpus > lines {
            true => format!("the {lines} busiest of {} CPUs and all together", self.cpus),
            false => "each CPU and all together".to_string(),
        };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        Line::from(vec![Span::styled("CPU usage in %", bold), Span::raw(format!(", 10 s averages: {which}"))])
    }

    /// The newest value of each line in the line's colour.
    fn legend(&self) -> Line<'static> {
        let mut spans = Vec::new();
        for (at, line) in self.lines.iter().enumerate().rev() {
            let value = line.buckets.last().map_or(0.0, |(_, value)| *value);
            spans.push(Span::styled("━━ ", self.style(at)));
            spans.push(Span::raw(format!("{} {value:<6.1}", line.name)));
        }
        Line::from(spans)
    }

    fn foot(&self) -> Line<'static> {
        let text = format!("from {} in {} · q stops", self.source, elapsed(self.elapsed_ms));
        Line::styled(text, Style::new().add_modifier(Modifier::DIM))
    }

    fn draw_chart(&self, frame: &mut Frame<'_>, area: Rect) {
        let [from, to] = self.times();
        let top = self.top();
        let pieces: Vec<(usize, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(at, line)| {
                steps(&line.buckets, from, self.now_s).into_iter().map(move |piece| (at, piece))
            })
            .collect();
        let datasets = pieces.iter().map(|(at, piece)| {
            let dataset = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
            dataset.style(self.style(*at)).data(piece)
        });
        let dim = Style::new().add_modifier(Modifier::DIM);
        let marks = if area.width >= 100 { 5 } else { 3 };
        let time_at = |mark: usize| from + (to - from) * mark as f64 / (marks - 1) as f64;
        let chart = Chart::new(datasets.collect())
            .x_axis(
                Axis::default()
                    .style(dim)
                    .bounds([from, to])
                    .labels((0..marks).map(|mark| clock_text(time_at(mark), mark == marks - 1))),
            )
            .y_axis(Axis::default().style(dim).bounds([0.0, top]).labels([
                "0".to_string(),
                format!("{}", top / 2.0),
                format!("{top}"),
            ]))
            .legend_position(None);
        frame.render_widget(chart, area);
    }

    fn style(&self, at: usize) -> Style {
        if at == self.lines.len() - 1 {
            return Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        }
        // By the CPU's number, so that a line keeps its colour when others come and go.
        let number: usize = self.lines[at].name.trim_start_matches("cpu").parse().unwrap_or(at);
        Style::new().fg(COLOURS[number % COLOURS.len()])
    }

    fn times(&self) -> [f64; 2] {
        let starts = self.lines.iter().filter_map(|line| line.buckets.first());
        let first = starts.map(|(start, _)| *start).fold(self.now_s, f64::min);
        let span = (self.now_s - first).clamp(SPAN_S_MIN, SPAN_S_MAX);
        // In its first minute the picture fills from the left; later it moves.
        let from = if self.now_s - first < SPAN_S_MIN { first } else { self.now_s - span };
        [from, from + span]
    }

    /// A round number above everything shown, so that a calm machine is no flat line.
    fn top(&self) -> f64 {
        let values = self.lines.iter().flat_map(|line| &line.buckets).map(|(_, value)| *value);
        let highest = values.fold(0.0, f64::max);
        [4.0, 10.0, 20.0, 50.0].into_iter().find(|top| highest <= *top).unwrap_or(100.0)
    }
}

impl Series {
    fn mean(&self) -> f64 {
        self.buckets.iter().map(|(_, value)| value).sum::<f64>() / self.buckets.len().max(1) as f64
    }
}

/// Polylines of steps within the times, one per run of buckets without a gap.
fn steps(buckets: &[(f64, f64)], from: f64, now: f64) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut ended_at = f64::NEG_INFINITY;
    for &(start, value) in buckets.iter().filter(|(start, _)| start + BUCKET_S > from) {
        let end = (start + BUCKET_S).min(now);
        if start > ended_at {
            runs.push(Vec::new());
        }
        let run = runs.last_mut().expect("the first bucket began a run");
        run.extend([(start.max(from), value), (end, value)]);
        ended_at = start + BUCKET_S;
    }
    runs
}

/// `14:05:10`, the last one of an axis with its zone.
fn clock_text(time_s: f64, last: bool) -> String {
    let second = (time_s as i64).rem_euclid(86_400);
    let zone = if last { " UTC" } else { "" };
    format!("{:02}:{:02}:{:02}{zone}", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn answer(rows: Value) -> Answer {
        serde_json::from_value(json!({
            "columns": [{"name": "time"}, {"name": "cpu"}, {"name": "avg_usage"}],
            "rows": rows,
            "stats": {"elapsed_ms": 1.24, "series": 2, "rollups": [
                {"name": "cpu_10s", "buckets": 4, "dirty_recomputed": 2}]},
        }))
        .unwrap()
    }

    fn screen(picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(70, 12)).unwrap();
        terminal.draw(|frame| picture.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_picture_names_lines_times_and_source() {
        let rows =
            json!(
                [[1000, "cpu0", 10.0], [1010, "cpu0", 40.0], [1000, "total", 5.0], [1010, "total", 20.25],]
            );
        let picture = Picture::new(&answer(rows), 1015).unwrap();
        let screen = screen(&picture);
        for part in [
            "CPU usage in %, 10 s averages: each CPU and all together",
            "━━ total 20.2",
            "━━ cpu0 40.0",
            "00:16:40",
            "00:17:40 UTC",
            "from cpu_10s (4 buckets, 2 recomputed) and the newest points in 1.2 ms",
        ] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
    }

    #[test]
    fn a_step_ends_at_now_and_a_gap_stays_a_gap() {
        let buckets = [(0.0, 1.0), (10.0, 2.0), (40.0, 3.0)];
        let runs = steps(&buckets, 5.0, 43.0);
        assert_eq!(
            runs,
            [vec![(5.0, 1.0), (10.0, 1.0), (10.0, 2.0), (20.0, 2.0)], vec![(40.0, 3.0), (43.0, 3.0)]]
        );
    }

    #[test]
    fn the_busiest_are_shown_in_order() {
        let mut rows: Vec<Value> = (0..12).map(|cpu| json!([1000, format!("cpu{cpu}"), cpu])).collect();
        rows.push(json!([1000, "total", 6]));
        let picture = Picture::new(&answer(json!(rows)), 1001).unwrap();
        let names: Vec<&str> = picture.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["cpu7", "cpu8", "cpu9", "cpu10", "cpu11", "total"]);
        assert!(Picture::new(&answer(json!([])), 1001).is_none());
    }
}
