import { AdHocVariableFilter, DataQueryRequest, DataQueryResponse, dateTime, LoadingState } from '@grafana/data';
import { BackendSrvRequest, FetchResponse, TemplateSrv } from '@grafana/runtime';
import { lastValueFrom, NEVER, Observable, of, throwError, toArray } from 'rxjs';

import { Answer } from './answer';
import { WaterclockDataSource } from './datasource';
import { WaterclockQuery } from './query';
import { WaterclockVariables } from './variables/support';

const asked: BackendSrvRequest[] = [];
let reply: (request: BackendSrvRequest) => Observable<unknown>;

// The editor needs all of @grafana/ui, which is not looked at here.
jest.mock('./variables/VariableEditor', () => ({ VariableEditor: () => null }));

jest.mock('@grafana/runtime', () => ({
  getBackendSrv: () => ({
    fetch: (request: BackendSrvRequest) => {
      asked.push(request);
      return reply(request);
    },
  }),
  getTemplateSrv: () => ({}),
  isFetchError: (error: unknown) => typeof error === 'object' && error !== null && 'status' in error,
}));

const ANSWER: Answer = {
  columns: [
    { name: 'time', role: 'time', type: 'time' },
    { name: 'u', role: 'value', type: 'float' },
  ],
  rows: [[5, 1]],
  stats: { series: 1, rows_read: 1, bytes_read: 0, files: 0, elapsed_ms: 1, rollups: [] },
  warnings: [],
};
const rows = (...found: string[][]): Answer => ({
  ...ANSWER,
  columns: [{ name: 'x', role: 'value', type: 'string' }],
  rows: found,
});
const ok = (data: unknown) => of({ data } as FetchResponse);

// Variables as Grafana hands them over: to a formatter, with what it knows of the variable.
const VARIABLES: Record<string, { value: string | string[]; multi: boolean; custom?: string }> = {
  host: { value: 'web-1', multi: false },
  hosts: { value: ['a', 'b'], multi: true },
  everything: { value: '', multi: true, custom: '.*' },
};
const templates = {
  getVariables: () => Object.keys(VARIABLES).map((name) => ({ name })),
  replace: (target: string, _: unknown, format: (value: unknown, variable: unknown) => string) =>
    target.replace(/\$\{(\w+)\}/g, (whole, name: string) => {
      const held = VARIABLES[name];
      return held === undefined ? whole : (held.custom ?? format(held.value, { name, multi: held.multi }));
    }),
} as unknown as TemplateSrv;

function source() {
  const settings = { url: '/proxy', jsonData: { database: 'plant' } } as ConstructorParameters<
    typeof WaterclockDataSource
  >[0];
  return new WaterclockDataSource(settings, templates);
}

function request(
  targets: Array<Partial<WaterclockQuery>>,
  filters: AdHocVariableFilter[] = []
): DataQueryRequest<WaterclockQuery> {
  const range = { from: dateTime(1000), to: dateTime(61_000), raw: { from: 'now-1m', to: 'now' } };
  const full = targets.map((target, at) => ({ refId: 'ABC'.charAt(at), query: '', ...target }));
  return {
    requestId: 'Q1',
    app: 'dashboard',
    timezone: 'utc',
    startTime: 0,
    scopedVars: {},
    interval: '10s',
    intervalMs: 10_000,
    maxDataPoints: 100,
    range,
    targets: full,
    filters,
  };
}

const run = (...of: Parameters<typeof request>): Promise<DataQueryResponse> =>
  lastValueFrom(source().query(request(...of)));

beforeEach(() => {
  asked.length = 0;
  reply = () => ok(ANSWER);
});

it('sends the text with its values beside it, and the range', async () => {
  const response = await run([
    { query: 'cpu{host=$host, h in $hosts, x=~$everything} | every $__interval avg(u)', withoutRollups: true },
  ]);
  expect(asked).toEqual([
    {
      url: '/proxy/api/wql',
      method: 'POST',
      showErrorAlert: false,
      data: {
        q: 'cpu{host=$host, h in $hosts, x=~$everything} | every 10s avg(u)',
        params: { host: 'web-1', hosts: ['a', 'b'], everything: '.*' },
        db: 'plant',
        time: 'ms',
        rollups: 'off',
        from: '1000ms',
        to: '61000ms',
      },
    },
  ]);
  expect(response.state).toBe(LoadingState.Done);
  expect(response.data[0].refId).toBe('A');
});

it('asks nothing where there is nothing to ask', async () => {
  const response = await run([{ query: ' ' }, { query: 'cpu', hide: true }]);
  expect([asked.length, response.data, response.state]).toEqual([0, [], LoadingState.Done]);
});

it('shows what has come, and the error of one beside the rows of the other', async () => {
  reply = ({ data }) =>
    data.q.startsWith('cpu')
      ? ok(ANSWER)
      : throwError(() => ({
          status: 400,
          data: { error: { message: 'no stage evry', hint: 'did you mean `every`?', line: 1, column: 19 } },
        }));
  const all = await lastValueFrom(
    source()
      .query(request([{ query: 'cpu' }, { query: 'm{h="$host"} | evry 5m' }]))
      .pipe(toArray())
  );
  expect(all.map(({ state }) => state)).toEqual([LoadingState.Loading, LoadingState.Error]);
  expect(all[1]?.data).toHaveLength(1);
  // The place in what was written: the server saw `m{h=$host} | evry`, two characters shorter.
  expect(all[1]?.errors).toEqual([
    { refId: 'B', status: 400, message: 'line 1, column 21: no stage evry (did you mean `every`?)' },
  ]);
});

it('ends the request when Grafana has no use for it', async () => {
  let ended = false;
  reply = () => new Observable(() => () => (ended = true));
  const running = source()
    .query(request([{ query: 'cpu' }]))
    .subscribe();
  await new Promise((done) => setTimeout(done));
  expect([asked.length, ended]).toEqual([1, false]);
  running.unsubscribe();
  expect(ended).toBe(true);
});

it('puts ad-hoc filters into the tables that have the tag, and says where not', async () => {
  reply = ({ data }) => {
    const names: Record<string, Answer> = {
      'show rollups': rows(['cpu_1m', 'cpu', '', '', '', '', 'create rollup cpu_1m as cpu | every 1m avg(u) by host']),
      'show tags from cpu': rows(['host'], ['region']),
    };
    return ok(names[data.q] ?? ANSWER);
  };
  const filters = [
    { key: 'host', operator: '=|', value: 'a', values: ['a', 'b'] },
    { key: 'region', operator: '!=', value: 'eu' },
  ];
  const response = await run(
    [{ query: 'cpu | every 1m avg(u)' }, { query: 'cpu_1m{host="a"} | every 1m avg(u)' }],
    filters
  );
  const sent = asked.map(({ data }) => data).filter(({ q }) => q.startsWith('cpu'));
  expect(sent.map(({ q, params }) => [q, params]).sort()).toEqual([
    ['cpu_1m{host in $filter_1, host="a"} | every 1m avg(u)', { filter_1: ['a', 'b'] }],
    ['cpu{host in $filter_1, region != $filter_2} | every 1m avg(u)', { filter_1: ['a', 'b'], filter_2: 'eu' }],
  ]);
  expect(response.data[0].meta.notices).toEqual([]);
  expect(response.data[1].meta.notices).toEqual([
    { severity: 'warning', text: 'cpu_1m has no tag region; the filter on it is left out' },
  ]);
});

it('offers keys and values in the range and under the other filters', async () => {
  reply = ({ data }) => {
    const names: Record<string, Answer> = {
      'show tables': rows(['cpu'], ['mem']),
      'show rollups': rows(),
      'show tags from cpu': rows(['region'], ['host']),
      'show values of host from cpu{region = $filter_1}': rows(['b'], ['a']),
    };
    return names[data.q] ? ok(names[data.q]) : throwError(() => ({ status: 404, data: {} }));
  };
  const { targets, range } = request([{ query: 'cpu | count' }]);
  expect(await source().getTagKeys({ filters: [], queries: targets })).toEqual([
    { text: 'host', value: 'host' },
    { text: 'region', value: 'region' },
  ]);
  const filters = [
    { key: 'region', operator: '=', value: 'eu' },
    { key: 'host', operator: '=', value: 'z' },
  ];
  const values = await source().getTagValues({ key: 'host', filters, queries: targets, timeRange: range });
  expect(values.map(({ value }) => value)).toEqual(['a', 'b']);
  expect(asked.at(-1)?.data).toMatchObject({ params: { filter_1: 'eu' }, from: '1000ms', to: '61000ms' });
});

it('checks along the way of queries, and says what helps', async () => {
  reply = () => ok(rows(['cpu'], ['mem']));
  expect(await source().testDatasource()).toEqual({
    status: 'success',
    message: 'Waterclock answers. The database plant has 2 tables.',
  });
  reply = ({ url }) => ok(url === '/proxy/query' ? { results: [{ series: [{ values: [['default']] }] }] } : rows());
  expect((await source().testDatasource()).message).toContain(
    'There is no database plant yet; it is made on first write. There are data in: default.'
  );
  reply = () => throwError(() => ({ status: 502, statusText: 'Bad Gateway', data: '' }));
  expect(await source().testDatasource()).toEqual({
    status: 'error',
    message: expect.stringMatching(/^Grafana cannot reach Waterclock: Bad Gateway \(it must run/),
  });
});

it('Explore gets texts without variables', () => {
  const [query] = source().interpolateVariablesInQueries(
    [{ refId: 'A', query: 'cpu{h in $hosts} | every $__interval avg(u)' }],
    {}
  );
  expect(query?.query).toBe('cpu{h in ("a", "b")} | every $__interval avg(u)');
});

it('a variable asks under the values of others', async () => {
  reply = ({ data }) =>
    ok(data.q === 'show values of host from cpu{region in $hosts}' ? rows(['x'], ['x'], ['y']) : ANSWER);
  const target = { refId: 'V', kind: 'values' as const, table: 'cpu', tag: 'host', conditions: 'region in $hosts' };
  const response = await lastValueFrom(new WaterclockVariables(source()).query({ ...request([]), targets: [target] }));
  expect(asked[0]?.data.params).toEqual({ hosts: ['a', 'b'] });
  expect(response.data[0].fields.map(({ name, values }: { name: string; values: string[] }) => [name, values])).toEqual(
    [
      ['text', ['x', 'y']],
      ['value', ['x', 'y']],
    ]
  );
});

it('a request that never answers keeps no other waiting', () => {
  reply = ({ data }) => (data.q === 'slow' ? NEVER : ok(ANSWER));
  return new Promise<void>((done) => {
    source()
      .query(request([{ query: 'slow' }, { query: 'cpu' }]))
      .subscribe((response) => {
        expect([response.state, response.data.length]).toEqual([LoadingState.Loading, 1]);
        done();
      });
  });
});
