//! What a scan reads from memory: points of the head.
//!
//! Invariant: layers stand in the order in which they win, the last one last.

use std::sync::Arc;

use storage_format::point::{TagSet, Time, TimeRange};

use crate::error::{Error, Result};
use crate::head::Capture;
use crate::head::SeriesView;
use crate::rows::{Rows, Span};
use crate::series::Table;

/// Taken under the lock.
#[derive(Clone)]
pub(super) enum Layers {
    None,
    Points(Arc<[PointLayer]>),
}

/// What was captured of one layer of points, by name: numbers may be forgotten once the lock is gone.
pub(super) struct PointLayer {
    frozen_at: Option<u64>,
    series: Vec<(TagSet, SeriesView)>,
}

/// One series of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub layer: u32,
    series: u32,
}

/// What a decoder asks of a series in memory.
pub(super) struct Wanted<'a> {
    /// The columns as the head knows them.
    pub ids: &'a [u32],
    pub times: TimeRange,
}

/// Rows of equal standing, with the sequence above which deletes stand against them: a layer that takes points has applied
/// them all.
pub(super) struct Decoded {
    pub frozen_at: Option<u64>,
    pub rows: Vec<Rows>,
}

impl Layers {
    /// Under the lock under which the points were captured, or while their frozen partitions wait for their flush: until
    /// then the numbers are good.
    pub fn points(table: &Table, captures: Vec<Capture>) -> Layers {
        table.with_index(|index| {
            let name = |(series, view)| (index.key(series).clone(), view);
            let layer = |Capture { frozen_at, mut series }: Capture| {
                index.order_by_tags(&mut series);
                PointLayer { frozen_at, series: series.into_iter().map(name).collect() }
            };
            Layers::Points(captures.into_iter().map(layer).collect())
        })
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Layers::None => true,
            Layers::Points(layers) => layers.iter().all(|layer| layer.series.is_empty()),
        }
    }

    /// The series that were captured, with their tags.
    pub fn find(&self, mut found: impl FnMut(TagSet, Place)) {
        match self {
            Layers::None => {}
            Layers::Points(layers) => {
                for (layer, points) in (0..).zip(layers.iter()) {
                    for (place, (tags, _)) in (0..).zip(&points.series) {
                        found(tags.clone(), Place { layer, series: place });
                    }
                }
            }
        }
    }

    /// How often [`Layers::find`] finds one.
    pub fn series(&self) -> usize {
        match self {
            Layers::None => 0,
            Layers::Points(layers) => layers.iter().map(|layer| layer.series.len()).sum(),
        }
    }

    /// The newest row, if that is all there is of the series. Of layers that take points.
    pub fn newest(&self, place: Place) -> Option<Span<'_>> {
        match self {
            Layers::Points(layers) => layers[place.layer as usize].view(place).newest(),
            Layers::None => None,
        }
    }

    /// What a copy of this many series takes at least.
    pub fn heap_bytes_min(series: usize) -> usize {
        // The list without tags is there until the one with them is.
        let lists = size_of::<(u32, SeriesView)>() + size_of::<(TagSet, SeriesView)>();
        series * (lists + SeriesView::HEAP_BYTES_MIN)
    }

    /// What was copied to be read without the lock. Sealed chunks and states are shared.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Layers::None => 0,
            Layers::Points(layers) => {
                let views = layers.iter().flat_map(|layer| &layer.series);
                views.map(|(_, view)| size_of::<(TagSet, SeriesView)>() + view.heap_bytes()).sum()
            }
        }
    }

    /// At least as many rows as there are.
    pub fn rows_max(&self, place: Place) -> u64 {
        match self {
            Layers::None => 0,
            Layers::Points(layers) => layers[place.layer as usize].view(place).rows_max() as u64,
        }
    }

    /// The first time and the rows of each part that is decoded as a whole.
    pub fn parts(&self, place: Place, part: impl FnMut(Time, usize)) {
        match self {
            Layers::None => {}
            Layers::Points(layers) => layers[place.layer as usize].view(place).parts(part),
        }
    }

    /// Not what [`Layers::newest`] gives.
    pub fn decode(&self, place: Place, tags: &TagSet, wanted: &Wanted<'_>) -> Result<Decoded> {
        match self {
            Layers::None => Ok(Decoded { frozen_at: None, rows: Vec::new() }),
            Layers::Points(layers) => {
                let layer = &layers[place.layer as usize];
                let rows = layer.view(place).sources(wanted.ids, wanted.times).map_err(|damage| {
                    Error::corrupt(format!("a chunk in memory of series {tags}"), damage)
                })?;
                Ok(Decoded { frozen_at: layer.frozen_at, rows })
            }
        }
    }
}

impl PointLayer {
    fn view(&self, place: Place) -> &SeriesView {
        &self.series[place.series as usize].1
    }
}
