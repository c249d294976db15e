// Live panels: a channel of Grafana Live for each question, which the backend fills. Each of its messages is a whole frame of the panel's range,
// which takes the place of the one before.

import {
  DataFrameJSON,
  dataFrameFromJSON,
  DataQueryRequest,
  DataQueryResponse,
  isLiveChannelMessageEvent,
  isLiveChannelStatusEvent,
  LiveChannelAddress,
  LiveChannelEvent,
  LiveChannelScope,
  LoadingState,
} from '@grafana/data';
import { GrafanaLiveSrv } from '@grafana/runtime';
import { mergeMap, Observable, of } from 'rxjs';

import { PreparedQuery, WaterclockQuery } from './query';

// What has happened does not go on.
export function goesOn({ live, format }: WaterclockQuery, { range }: DataQueryRequest<WaterclockQuery>): boolean {
  return live === true && (format ?? 'time_series') === 'time_series' && range.raw.to === 'now';
}

// Unsubscribing leaves the channel, and Grafana ends one that nobody is in.
export function stream(
  live: GrafanaLiveSrv,
  uid: string,
  target: PreparedQuery,
  request: DataQueryRequest<WaterclockQuery>
): Observable<DataQueryResponse> {
  const { refId } = target;
  const key = `live-${refId}`;
  const response = (event: LiveChannelEvent<DataFrameJSON>): Observable<DataQueryResponse> => {
    const failed = (message: string): Observable<DataQueryResponse> =>
      of({ key, data: [], errors: [{ refId, message }], state: LoadingState.Error });
    // What there was comes with the first status.
    const isStatus = isLiveChannelStatusEvent(event);
    const message: DataFrameJSON | undefined =
      isLiveChannelMessageEvent(event) || isStatus ? (event.message as DataFrameJSON | undefined) : undefined;
    if (isStatus && event.error) {
      return failed(`the channel is closed: ${textOf(event.error)}`);
    }
    if (message?.schema === undefined) {
      return of();
    }
    const wrong: unknown = message.schema.meta?.custom?.error;
    if (typeof wrong === 'string') {
      return failed(wrong);
    }
    return of({ key, data: [{ ...dataFrameFromJSON(message), refId }], state: LoadingState.Streaming });
  };
  return live.getStream<DataFrameJSON>(addressOf(uid, target, request)).pipe(mergeMap(response));
}

const textOf = (error: unknown) =>
  typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);

// Equal questions share a channel, and different ones have none in common: Grafana asks the backend once for each channel.
export function addressOf(
  uid: string,
  { refId, query, params, legend, withoutRollups, notes }: PreparedQuery,
  { range, intervalMs, maxDataPoints }: DataQueryRequest<WaterclockQuery>
): LiveChannelAddress {
  const spanMs = Math.max(1, range.to.valueOf() - range.from.valueOf());
  const data = { refId, query, params, legend, withoutRollups, notes, spanMs, intervalMs, maxDataPoints };
  const path = `live/${fingerprint(JSON.stringify(data))}`;
  return { scope: LiveChannelScope.DataSource, stream: uid, path, data };
}

// FNV-1a in 64 bits.
function fingerprint(text: string): string {
  const prime = BigInt('0x100000001b3');
  let hash = BigInt('0xcbf29ce484222325');
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * prime);
  }
  return hash.toString(16).padStart(16, '0');
}
