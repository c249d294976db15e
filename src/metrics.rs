//! What the server counts about itself: the names, in one place, with their help texts.
//!
//! Invariant: every metric begins with `waterclock_` and ends with its unit or `_total`.
//! Not here: how they are printed (`server`).

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub const POINTS_WRITTEN: &str = "waterclock_ingest_points_total";
pub const VALUES_WRITTEN: &str = "waterclock_ingest_values_total";
pub const LINES_REFUSED: &str = "waterclock_ingest_refused_lines_total";
pub const SAMPLES_REFUSED: &str = "waterclock_ingest_refused_samples_total";
pub const LATE_POINTS: &str = "waterclock_ingest_late_points_total";
pub const WAL_BYTES: &str = "waterclock_wal_bytes";
pub const WAL_SYNCS: &str = "waterclock_wal_syncs_total";
pub const WAL_SYNC_SECONDS: &str = "waterclock_wal_sync_seconds";
pub const HEAD_BYTES: &str = "waterclock_head_bytes";
pub const HEAD_ROWS: &str = "waterclock_head_rows";
pub const SERIES: &str = "waterclock_head_series";
pub const SERIES_FORGOTTEN: &str = "waterclock_head_forgotten_series_total";
pub const BLOCKS: &str = "waterclock_blocks";
pub const BLOCK_BYTES: &str = "waterclock_block_bytes";
pub const FLUSHES: &str = "waterclock_flushes_total";
pub const COMPACTIONS: &str = "waterclock_compactions_total";
pub const COMPACTION_BYTES: &str = "waterclock_compaction_bytes_total";
pub const COMPACTION_BEHIND: &str = "waterclock_compaction_waiting_blocks";
pub const COMPACTION_RUNNING_BYTES: &str = "waterclock_compaction_running_bytes";
pub const DELETES_STANDING: &str = "waterclock_deletes_standing";
pub const EXPIRED_BLOCKS: &str = "waterclock_retention_removed_blocks_total";
pub const INDEX_CACHE_BYTES: &str = "waterclock_index_cache_bytes";
pub const PAGE_CACHE_BYTES: &str = "waterclock_page_cache_bytes";
pub const QUERIES_MEMORY_BYTES: &str = "waterclock_queries_memory_bytes";
pub const QUERIES: &str = "waterclock_queries_total";
pub const QUERY_SECONDS: &str = "waterclock_query_seconds";
pub const QUERIES_RUNNING: &str = "waterclock_queries_running";
pub const QUERIES_FROM_ROLLUPS: &str = "waterclock_queries_from_rollups_total";
pub const ROLLUP_DIRTY: &str = "waterclock_rollup_dirty_buckets";
pub const ROLLUP_REFRESHED: &str = "waterclock_rollup_refreshed_buckets_total";
pub const ROLLUP_COMPUTED_UNTIL: &str = "waterclock_rollup_computed_until_seconds";
pub const HTTP_REQUESTS: &str = "waterclock_http_requests_total";
pub const HTTP_SECONDS: &str = "waterclock_http_request_seconds";
pub const OBJECT_REQUESTS: &str = "waterclock_object_requests_total";
pub const OBJECT_BYTES_READ: &str = "waterclock_object_read_bytes_total";
pub const OBJECT_BYTES_WRITTEN: &str = "waterclock_object_written_bytes_total";
pub const JOB_FAILURES: &str = "waterclock_job_failures_total";

pub fn describe() {
    describe_counter!(POINTS_WRITTEN, "Points made durable");
    describe_counter!(VALUES_WRITTEN, "Field values made durable");
    describe_counter!(LINES_REFUSED, "Lines refused with an error of their own");
    describe_counter!(SAMPLES_REFUSED, "Series and samples of Prometheus refused with a reason of their own");
    describe_counter!(
        LATE_POINTS,
        "Points that came when the points of their time were gone, by outcome: taken for rollups, which also those are that wait to be merged; refused"
    );
    describe_gauge!(WAL_BYTES, Unit::Bytes, "Size of the write-ahead log");
    describe_counter!(WAL_SYNCS, "Group commits");
    describe_histogram!(WAL_SYNC_SECONDS, Unit::Seconds, "Time of a group commit: write and fsync");
    describe_gauge!(HEAD_BYTES, Unit::Bytes, "Points in memory, compressed");
    describe_gauge!(HEAD_ROWS, "Points in memory");
    describe_gauge!(SERIES, "Series in memory");
    describe_counter!(SERIES_FORGOTTEN, "Series forgotten because all their points had gone to blocks");
    describe_gauge!(BLOCKS, "Live block files");
    describe_gauge!(BLOCK_BYTES, Unit::Bytes, "Size of the live block files");
    describe_counter!(FLUSHES, "Partitions written to blocks");
    describe_counter!(COMPACTIONS, "Merges of blocks");
    describe_counter!(COMPACTION_BYTES, Unit::Bytes, "Size of the blocks that merges have read");
    describe_gauge!(COMPACTION_BEHIND, "Blocks that wait to be merged");
    describe_gauge!(COMPACTION_RUNNING_BYTES, Unit::Bytes, "Size of the blocks that are being merged now");
    describe_gauge!(DELETES_STANDING, "Deletes that some blocks have yet to be rewritten for");
    describe_counter!(EXPIRED_BLOCKS, "Blocks removed because retention ended");
    describe_gauge!(INDEX_CACHE_BYTES, Unit::Bytes, "Indexes of the blocks that are open");
    describe_gauge!(PAGE_CACHE_BYTES, Unit::Bytes, "Decoded pages of blocks that are kept for queries");
    describe_gauge!(
        QUERIES_MEMORY_BYTES,
        Unit::Bytes,
        "Memory of the queries that run or are being answered"
    );
    describe_counter!(
        QUERIES,
        "Requests with statements that have ended, by outcome: ok, error, cancelled, killed"
    );
    describe_gauge!(QUERIES_RUNNING, "Queries that wait, run or are being answered");
    describe_histogram!(QUERY_SECONDS, Unit::Seconds, "Time of a statement");
    describe_counter!(QUERIES_FROM_ROLLUPS, "Answers that a rollup gave at least in part");
    describe_gauge!(ROLLUP_DIRTY, "Buckets of a rollup that a write has made dirty");
    describe_counter!(ROLLUP_REFRESHED, "Buckets of a rollup computed");
    describe_gauge!(ROLLUP_COMPUTED_UNTIL, Unit::Seconds, "End of the newest computed bucket of a rollup");
    describe_counter!(HTTP_REQUESTS, "HTTP requests, by path, method and status");
    describe_histogram!(
        HTTP_SECONDS,
        Unit::Seconds,
        "Time from a request's head to its answer's head, by path"
    );
    describe_counter!(OBJECT_REQUESTS, "Requests to the object store, by method, without their repetitions");
    describe_counter!(OBJECT_BYTES_READ, Unit::Bytes, "Bytes fetched from the object store");
    describe_counter!(OBJECT_BYTES_WRITTEN, Unit::Bytes, "Bytes of blocks put into the object store");
    describe_counter!(JOB_FAILURES, "Background work that failed and will be tried again, by job");
}
