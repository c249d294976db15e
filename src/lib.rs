pub mod ingest; // what clients send -> checked parts of points
