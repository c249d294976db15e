// Answers as data frames, by Grafana's data plane contract.

import { createDataFrame, DataFrame, QueryResultMetaNotice } from '@grafana/data';

import { Answer } from '../answer';
import { logLines } from './logs';
import { Shape } from './shape';
import { numericLong, table } from './table';
import { timeSeries } from './timeseries';

export function framesOf(answer: Answer, shape: Shape): DataFrame[] {
  const frames = shaped(answer, shape);
  const first = frames[0];
  if (first !== undefined) {
    first.meta = {
      ...first.meta,
      executedQueryString: shape.text,
      notices: notices(answer),
      stats: stats(answer),
    };
  }
  return frames;
}

function shaped(answer: Answer, shape: Shape): DataFrame[] {
  if (answer.rows.length === 0 && shape.format !== 'table') {
    return [createDataFrame({ refId: shape.refId, fields: [] })];
  }
  switch (shape.format) {
    case 'logs':
      return [logLines(answer, shape)];
    case 'table':
      return [table(answer, shape)];
    case 'time_series': {
      const hasTime = answer.columns.some((column) => column.role === 'time');
      if (hasTime) {
        return timeSeries(answer, shape);
      }
      return [
        answer.columns.some((column) => column.role === 'value' && isNumeric(column.type))
          ? numericLong(answer, shape)
          : table(answer, shape),
      ];
    }
  }
}

const isNumeric = (type: string) => type === 'float' || type === 'integer' || type === 'unsigned';

// Which rollups gave the answer, and what the server warns of.
export function notices({ stats, warnings }: Answer): QueryResultMetaNotice[] {
  const count = (n: number, word: string) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;
  const from = stats.rollups.map(({ name, buckets, dirty_recomputed }) => {
    const again = dirty_recomputed === 0 ? 'none recomputed' : `${count(dirty_recomputed, 'bucket')} recomputed`;
    return `from ${name}, exact, ${count(buckets, 'bucket')}, ${again}`;
  });
  return [
    ...from.map((text): QueryResultMetaNotice => ({ severity: 'info', text, inspect: 'stats' })),
    ...warnings.map((text): QueryResultMetaNotice => ({ severity: 'warning', text })),
  ];
}

function stats({ stats, rows }: Answer) {
  return [
    { displayName: 'Rows', value: rows.length },
    { displayName: 'Series read', value: stats.series },
    { displayName: 'Points read', value: stats.rows_read },
    { displayName: 'Bytes read', value: stats.bytes_read, unit: 'bytes' },
    { displayName: 'Files read', value: stats.files },
    { displayName: 'Time in the server', value: stats.elapsed_ms, unit: 'ms' },
    ...stats.rollups.map(({ name, buckets }) => ({ displayName: `Buckets of ${name}`, value: buckets })),
  ];
}
