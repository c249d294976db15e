//! One small catalog for all tests of the planner, and short doors to it.
//!
//! Its rollups are made by planning their `create` statements, as in life.

use storage_format::point::{FieldType, Time};

use crate::ast::{Let, StatementKind};
use crate::catalog::{Catalog, FieldInfo, RollupInfo, TableInfo};
use crate::error::QueryError;
use crate::params::{ParamValue, Params};
use crate::plan::Plan;
use crate::planner::Context;

/// 2026-01-01T12:00:00Z.
pub const NOON: Time = 1_767_268_800_000_000_000;

pub struct TestCatalog {
    pub tables: Vec<TableInfo>,
    pub rollups: Vec<RollupInfo>,
}

impl Catalog for TestCatalog {
    fn table(&self, name: &str) -> Option<TableInfo> {
        self.tables.iter().find(|table| table.name == name).cloned()
    }

    fn tables(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).collect()
    }

    fn rollup(&self, name: &str) -> Option<RollupInfo> {
        self.rollups.iter().find(|rollup| rollup.name == name).cloned()
    }

    fn rollups(&self) -> Vec<RollupInfo> {
        self.rollups.clone()
    }

    fn is_metric(&self, name: &str) -> bool {
        self.metrics().iter().any(|metric| metric == name)
    }

    fn metrics(&self) -> Vec<String> {
        ["cpu", "http_requests_total", "up"].map(str::to_owned).into()
    }
}

pub fn catalog() -> TestCatalog {
    let mut catalog = TestCatalog {
        tables: vec![
            table("both", &["id"], &[("id", FieldType::Int), ("v", FieldType::Float)]),
            table(
                "cpu",
                &["dc", "host", "region"],
                &[
                    ("cores", FieldType::Int),
                    ("note", FieldType::Str),
                    ("usage_system", FieldType::Float),
                    ("usage_user", FieldType::Float),
                ],
            ),
            table("door", &["door"], &[("open", FieldType::Bool)]),
            table("mem", &["host"], &[("used_percent", FieldType::Float)]),
            table(
                "metrics",
                &["__name__", "job", "status"],
                &[("histogram", FieldType::Str), ("value", FieldType::Float)],
            ),
            table("my table", &["my tag"], &[("my field", FieldType::Float)]),
        ],
        rollups: Vec::new(),
    };
    for statement in [
        "create rollup cpu_1m as cpu | every 1m count, avg(usage_user), max(usage_user) by region, host",
        "create rollup cpu_1h as cpu_1m | every 1h avg(usage_user) by region",
        "create rollup cpu_eu as cpu{region=\"eu\"} | every 1m avg(usage_user) by host",
        "create rollup mem_5m as mem | every 5m avg",
    ] {
        match plan_in(&catalog, statement).unwrap() {
            Plan::CreateRollup(create) => catalog.rollups.push(create.rollup),
            other => panic!("{statement}: {other:?}"),
        }
        catalog.rollups.sort_by(|a, b| a.name.cmp(&b.name));
    }
    catalog
}

/// Plans the first statement after the `let`s at noon, without a range of the request, with rollups.
pub fn plan(text: &str) -> Result<Plan, QueryError> {
    plan_in(&catalog(), text)
}

pub fn plan_in(catalog: &TestCatalog, text: &str) -> Result<Plan, QueryError> {
    let script = crate::parse_with(text, &params())?;
    let lets: Vec<Let> = script
        .statements
        .iter()
        .filter_map(|statement| match &statement.kind {
            StatementKind::Let(named) => Some(named.clone()),
            _ => None,
        })
        .collect();
    let asked = script.statements.iter().find(|statement| !matches!(statement.kind, StatementKind::Let(_)));
    let statement = asked.unwrap_or(&script.statements[0]);
    crate::plan(statement, catalog, &Context { now: NOON, range: None, rollups: true, lets: &lets })
}

/// What the examples of the grammar page bind.
pub fn params() -> Params {
    let text = |text: &str| ParamValue::Text(text.to_owned());
    [
        ("host".to_owned(), text("web-1")),
        ("regions".to_owned(), ParamValue::List(vec![text("eu"), text("us")])),
        ("limit".to_owned(), ParamValue::Int(20)),
        ("least".to_owned(), ParamValue::Float(-0.5)),
        ("range".to_owned(), text("6h")),
    ]
    .into()
}

fn table(name: &str, tags: &[&str], fields: &[(&str, FieldType)]) -> TableInfo {
    TableInfo {
        name: name.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        fields: fields
            .iter()
            .map(|(name, field_type)| FieldInfo { name: (*name).to_owned(), field_type: *field_type })
            .collect(),
    }
}
