// What is known of an answer beside its rows, and how Grafana's data plane contract names each kind of frame.

import { DataFrameType } from '@grafana/data';

import { Format } from '../query';

export interface Shape {
  refId: string;
  format: Format;
  legend?: string;
  // Whether rows stand at buckets' starts, so that a missing row is a gap.
  inBuckets: boolean;
  // The text that was run.
  text: string;
}

// The version of each kind of frame in the data plane contract.
export const WIDE = { type: DataFrameType.TimeSeriesWide, typeVersion: [0, 1] satisfies [number, number] };
export const MULTI = { type: DataFrameType.TimeSeriesMulti, typeVersion: [0, 1] satisfies [number, number] };
export const NUMERIC_LONG = { type: DataFrameType.NumericLong, typeVersion: [0, 1] satisfies [number, number] };
export const LOG_LINES = { type: DataFrameType.LogLines, typeVersion: [0, 0] satisfies [number, number] };
