import { DataFrame, DataFrameType, FieldType } from '@grafana/data';

import { Answer, Cell, Column } from '../answer';
import { Format } from '../query';
import { framesOf } from './frames';

const time: Column = { name: 'time', role: 'time', type: 'time' };
const host: Column = { name: 'host', role: 'tag', type: 'string' };
const value = (name: string, type: Column['type'] = 'float'): Column => ({ name, role: 'value', type });

function answer(columns: Column[], rows: Cell[][]): Answer {
  return {
    columns,
    rows,
    stats: { series: 1, rows_read: 9, bytes_read: 0, files: 0, elapsed_ms: 1, rollups: [] },
    warnings: [],
  };
}

function frames(from: Answer, format: Format = 'time_series', inBuckets = true, legend?: string) {
  return framesOf(from, { refId: 'A', format, inBuckets, legend, text: 'cpu' });
}

const shown = (frame: DataFrame) =>
  frame.fields.map(({ name, type, labels, values }) => ({ name, type, labels, values }));

it('rows of buckets are one wide frame, and what is missing is null', () => {
  const [frame, ...more] = frames(
    answer(
      [time, host, value('u'), value('n', 'integer')],
      [
        [0, 'a', 1, 1],
        [60, 'a', null, 2],
        [60, 'b', 3, 3],
      ]
    )
  );
  expect(more).toEqual([]);
  expect(frame?.meta).toMatchObject({
    type: DataFrameType.TimeSeriesWide,
    typeVersion: [0, 1],
    preferredVisualisationType: 'graph',
  });
  expect(frame && shown(frame)).toEqual([
    { name: 'time', type: FieldType.time, labels: undefined, values: [0, 60] },
    { name: 'u', type: FieldType.number, labels: { host: 'a' }, values: [1, null] },
    { name: 'n', type: FieldType.number, labels: { host: 'a' }, values: [1, 2] },
    { name: 'u', type: FieldType.number, labels: { host: 'b' }, values: [null, 3] },
    { name: 'n', type: FieldType.number, labels: { host: 'b' }, values: [null, 3] },
  ]);
});

it('points are a frame for each series, in order of time', () => {
  const found = frames(
    answer(
      [time, host, value('u'), value('up', 'boolean')],
      [
        [7, 'a', 2, null],
        [5, 'a', 1, true],
        [6, '', 3, false],
      ]
    ),
    'time_series',
    false
  );
  expect(found.map((frame) => frame.meta?.type)).toEqual(new Array(4).fill(DataFrameType.TimeSeriesMulti));
  expect(found.map(shown)).toEqual([
    [
      { name: 'time', type: FieldType.time, labels: undefined, values: [5, 7] },
      { name: 'u', type: FieldType.number, labels: { host: 'a' }, values: [1, 2] },
    ],
    [
      { name: 'time', type: FieldType.time, labels: undefined, values: [5] },
      { name: 'up', type: FieldType.boolean, labels: { host: 'a' }, values: [true] },
    ],
    [
      { name: 'time', type: FieldType.time, labels: undefined, values: [6] },
      { name: 'u', type: FieldType.number, labels: {}, values: [3] },
    ],
    [
      { name: 'time', type: FieldType.time, labels: undefined, values: [6] },
      { name: 'up', type: FieldType.boolean, labels: {}, values: [false] },
    ],
  ]);
});

it('a legend names series by their tags', () => {
  const from = answer([time, host, value('u')], [[0, 'a', 1]]);
  const [frame] = frames(from, 'time_series', true, '{{host}} {{ column }} {{nothing}}!');
  expect(frame?.fields[1]?.config.displayNameFromDS).toBe('a u !');
  expect(frames(from)[0]?.fields[1]?.config).toEqual({});
});

it('rows without a time are numbers of groups', () => {
  const [frame] = frames(
    answer(
      [host, value('peak')],
      [
        ['a', 1],
        ['b', 2],
      ]
    )
  );
  expect(frame?.meta).toMatchObject({ type: DataFrameType.NumericLong, typeVersion: [0, 1] });
  expect(frame?.fields.map(({ name, values }) => [name, values])).toEqual([
    ['host', ['a', 'b']],
    ['peak', [1, 2]],
  ]);
  expect(frames(answer([value('table', 'string')], [['cpu']]))[0]?.meta?.type).toBeUndefined();
});

it('a table has the columns of the answer, also when it is empty', () => {
  const [frame] = frames(answer([time, host, value('u')], []), 'table');
  expect(frame?.fields.map(({ name, type }) => [name, type])).toEqual([
    ['time', FieldType.time],
    ['host', FieldType.string],
    ['u', FieldType.number],
  ]);
});

it('no rows are a frame without fields', () => {
  expect(frames(answer([time, value('u')], [])).map((frame) => frame.fields)).toEqual([[]]);
});

it('texts are lines of a log', () => {
  const columns = [time, host, value('code', 'integer'), value('level', 'string'), value('message', 'string')];
  const [frame] = frames(
    answer(columns, [
      [5, 'a', 7, 'error', 'it broke'],
      [6, '', null, null, 'again'],
    ]),
    'logs'
  );
  expect(frame?.meta).toMatchObject({ type: DataFrameType.LogLines, preferredVisualisationType: 'logs' });
  expect(frame && shown(frame).map(({ name, values }) => [name, values])).toEqual([
    ['timestamp', [5, 6]],
    ['body', ['it broke', 'again']],
    ['severity', ['error', null]],
    ['labels', [{ host: 'a', code: '7' }, {}]],
  ]);
  expect(() => frames(answer([time, value('u')], [[1, 2]]), 'logs')).toThrow('no field that holds texts');
});

it('says which rollup answered', () => {
  const from = answer([time, value('u')], [[0, 1]]);
  from.stats.rollups = [
    { name: 'cpu_1m', buckets: 1200, dirty_recomputed: 3 },
    { name: 'cpu_10s', buckets: 1, dirty_recomputed: 0 },
  ];
  from.warnings = ['u holds NaN'];
  const [frame] = frames(from);
  expect(frame?.meta?.notices).toEqual([
    { severity: 'info', text: 'from cpu_1m, exact, 1,200 buckets, 3 buckets recomputed', inspect: 'stats' },
    { severity: 'info', text: 'from cpu_10s, exact, 1 bucket, none recomputed', inspect: 'stats' },
    { severity: 'warning', text: 'u holds NaN' },
  ]);
  expect(frame?.meta?.executedQueryString).toBe('cpu');
});
