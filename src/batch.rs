//! The points of one request, after parsing: names are numbers, types are checked.
//!
//! Invariant: every series, column and type in here is registered (see `series`); rows of one series keep
//! the order of the request, so that the last of equal times wins.
//! Not here: how points stand in bytes (`storage_format::wal`).

use std::sync::Arc;

use storage_format::wal::Points;

use crate::series::Pin;
use crate::series::Table;

#[derive(Default)]
pub struct Batch {
    pub parts: Vec<BatchPart>,
    /// Keeps the series from being forgotten. None while the log is read back, when nothing is.
    pub pin: Option<Pin>,
}

/// The rows of one table.
pub struct BatchPart {
    pub table: Arc<Table>,
    pub points: Points,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.points.rows.len()).sum()
    }

    pub fn values(&self) -> usize {
        self.parts.iter().map(|part| part.points.values.len()).sum()
    }

    /// About what it takes in memory while it waits for the disk.
    pub fn bytes(&self) -> usize {
        let of_part = |part: &BatchPart| {
            size_of_val(part.points.rows.as_slice()) + part.points.values.len() * 8 + part.points.text.len()
        };
        self.parts.iter().map(of_part).sum()
    }
}
