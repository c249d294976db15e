// Where a query is edited: the range and step it would run with.

import { DataQueryRequest, dateTime, PanelData, TimeRange } from '@grafana/data';

import { WaterclockQuery } from '../query';

type Request = Pick<DataQueryRequest<WaterclockQuery>, 'range' | 'intervalMs' | 'interval' | 'maxDataPoints'>;

export function requestOf({ range, data }: { range?: TimeRange; data?: PanelData }): Request {
  const { intervalMs = 60_000, interval = '1m', maxDataPoints } = data?.request ?? {};
  return { range: range ?? data?.request?.range ?? lastHour(), intervalMs, interval, maxDataPoints };
}

function lastHour(): TimeRange {
  const [from, to] = [dateTime().subtract(1, 'hour'), dateTime()];
  return { from, to, raw: { from: 'now-1h', to: 'now' } };
}
