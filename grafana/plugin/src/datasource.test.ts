import {
  AdHocVariableFilter,
  DataQueryRequest,
  DataQueryResponse,
  dateTime,
  LiveChannelAddress,
  LiveChannelConnectionState,
  LiveChannelEvent,
  LiveChannelEventType,
  LoadingState,
} from '@grafana/data';
import { BackendSrvRequest, FetchResponse, TemplateSrv } from '@grafana/runtime';
import { lastValueFrom, Observable, of, Subject, throwError } from 'rxjs';

import { Answer } from './answer';
import { WaterclockDataSource } from './datasource';
import { WaterclockQuery } from './query';
import { WaterclockVariables } from './variables/support';

const asked: BackendSrvRequest[] = [];
let reply: (request: BackendSrvRequest) => Observable<unknown>;
const channels: LiveChannelAddress[] = [];
let channel: Subject<LiveChannelEvent>;

// All of @grafana/ui, which is not looked at here.
jest.mock('./variables/VariableEditor', () => ({ VariableEditor: () => null }));
jest.mock('@grafana/ui', () => ({ createLogger: () => ({}), attachDebugger: () => undefined }));

// The services of Grafana that are looked at; its data source with a backend is its own.
jest.mock('@grafana/runtime', () => {
  const runtime = jest.requireActual('@grafana/runtime');
  runtime.config.bootData = { user: {} };
  runtime.setBackendSrv({
    fetch: (request: BackendSrvRequest) => {
      asked.push(request);
      return reply(request);
    },
  });
  runtime.setGrafanaLiveSrv({
    getStream: (address: LiveChannelAddress) => {
      channels.push(address);
      return channel;
    },
  });
  return runtime;
});

const rows = (...found: string[][]): Answer => ({
  columns: [{ name: 'x', role: 'value', type: 'string' }],
  rows: found,
});
const ok = (data: unknown) => of({ data } as FetchResponse);
const FRAME = {
  schema: {
    fields: [
      { name: 'time', type: 'time' },
      { name: 'u', type: 'number' },
    ],
  },
  data: { values: [[5], [1]] },
};
// Of every query the same frame.
const frames = ({ data }: BackendSrvRequest) =>
  ok({ results: Object.fromEntries(data.queries.map(({ refId }: WaterclockQuery) => [refId, { frames: [FRAME] }])) });
const sent = () => asked.filter(({ url }) => url.startsWith('/api/ds/query')).flatMap(({ data }) => data.queries);
const statement = ({ url, data }: BackendSrvRequest) =>
  url.endsWith('/resources/wql') ? String(data.query) : undefined;

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
  const settings = { uid: 'w', type: 'waterclock', jsonData: {} } as ConstructorParameters<
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
  channels.length = 0;
  channel = new Subject();
  reply = frames;
});

it('asks the backend, with the values of variables beside the text', async () => {
  const response = await run([
    { query: 'cpu{host=$host, h in $hosts, x=~$everything} | every $__interval avg(u)', withoutRollups: true },
  ]);
  expect(asked).toHaveLength(1);
  expect(asked[0]).toMatchObject({ url: '/api/ds/query?ds_type=waterclock&requestId=Q1', method: 'POST' });
  expect(asked[0]?.data).toMatchObject({ from: '1000', to: '61000' });
  expect(sent()).toEqual([
    expect.objectContaining({
      refId: 'A',
      datasource: { uid: 'w', type: 'waterclock' },
      query: 'cpu{host=$host, h in $hosts, x=~$everything} | every $__interval avg(u)',
      params: { host: 'web-1', hosts: ['a', 'b'], everything: '.*' },
      withoutRollups: true,
      notes: [],
      intervalMs: 10_000,
      maxDataPoints: 100,
    }),
  ]);
  expect(response.state).toBe(LoadingState.Done);
  expect(response.data[0].refId).toBe('A');
});

it('asks nothing where there is nothing to ask', async () => {
  const response = await run([{ query: ' ' }, { query: 'cpu', hide: true }]);
  expect([asked.length, response.data, response.state]).toEqual([0, [], LoadingState.Done]);
});

it('shows the error of one query beside the rows of the others, at its place in what was written', async () => {
  reply = () =>
    throwError(() => ({
      status: 400,
      data: {
        results: {
          A: { frames: [FRAME] },
          // The backend saw `m{h=$host} | evry`, two characters shorter.
          B: { error: 'line 1, column 19: no stage evry (did you mean `every`?)', status: 400 },
        },
      },
    }));
  const response = await run([{ query: 'cpu' }, { query: 'm{h="$host"} | evry 5m' }, { query: 'cpu | $host(u)' }]);
  expect(response.state).toBe(LoadingState.Error);
  expect(response.data).toHaveLength(1);
  // What cannot be asked is not.
  expect(sent().map(({ refId }) => refId)).toEqual(['A', 'B']);
  expect(response.errors).toEqual([
    { refId: 'C', status: 0, message: 'line 1, column 7: web-1 is no function of WQL' },
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

describe('a live query', () => {
  const live = (to: string, parts: Partial<WaterclockQuery> = {}) => {
    const asking = request([{ query: 'cpu | every 10s avg(u)', live: true, ...parts }]);
    return { ...asking, range: { ...asking.range, raw: { from: 'now-1m', to } } };
  };
  const listen = async (asking: DataQueryRequest<WaterclockQuery>) => {
    const told: DataQueryResponse[] = [];
    const running = source()
      .query(asking)
      .subscribe((response) => told.push(response));
    await new Promise((done) => setTimeout(done));
    return { told, running };
  };

  it('is a channel, each message of which is all there is to show', async () => {
    const { told, running } = await listen(live('now'));
    expect(asked).toEqual([]);
    expect(channels).toEqual([
      {
        scope: 'ds',
        stream: 'w',
        path: expect.stringMatching(/^live\/[0-9a-f]{16}$/),
        data: expect.objectContaining({ query: 'cpu | every 10s avg(u)', spanMs: 60_000, intervalMs: 10_000 }),
      },
    ]);
    const status = {
      type: LiveChannelEventType.Status,
      id: 'x',
      timestamp: 0,
      state: LiveChannelConnectionState.Connected,
    };
    channel.next({ ...status, message: FRAME } as LiveChannelEvent);
    channel.next({
      type: LiveChannelEventType.Message,
      message: {
        ...FRAME,
        data: {
          values: [
            [5, 6],
            [1, 2],
          ],
        },
      },
    });
    const wrong = { schema: { fields: [], meta: { custom: { error: 'line 1, column 7: gone' } } } };
    channel.next({ type: LiveChannelEventType.Message, message: wrong });
    channel.next({ ...status, error: { message: 'no rights' } } as LiveChannelEvent);
    expect(told.map(({ key, state }) => [key, state])).toEqual([
      ['live-A', LoadingState.Streaming],
      ['live-A', LoadingState.Streaming],
      ['live-A', LoadingState.Error],
      ['live-A', LoadingState.Error],
    ]);
    expect(told[1]?.data[0].fields[1].values).toEqual([1, 2]);
    expect(told.map(({ errors }) => errors?.[0]?.message)).toEqual([
      undefined,
      undefined,
      'line 1, column 7: gone',
      'the channel is closed: no rights',
    ]);
    running.unsubscribe();
    expect(channel.observed).toBe(false);
  });

  it('has a channel with equal ones, and none with others', async () => {
    const path = async (asking: DataQueryRequest<WaterclockQuery>) => {
      (await listen(asking)).running.unsubscribe();
      return channels.at(-1)?.path;
    };
    const one = await path(live('now'));
    expect(await path(live('now'))).toBe(one);
    expect(await path(live('now', { query: 'cpu | every 10s max(u)' }))).not.toBe(one);
    expect(await path(live('now', { legend: '{{host}}' }))).not.toBe(one);
  });

  it('is a query like others where nothing goes on', async () => {
    await listen(live('now-1h'));
    await listen(live('now', { format: 'table' }));
    expect([channels.length, sent().length]).toEqual([0, 2]);
  });
});

it('puts ad-hoc filters into the tables that have the tag, and says where not', async () => {
  reply = (request) => {
    const names: Record<string, Answer> = {
      'show rollups': rows(['cpu_1m', 'cpu', '', '', '', '', 'create rollup cpu_1m as cpu | every 1m avg(u) by host']),
      'show tags from cpu': rows(['host'], ['region']),
    };
    const name = statement(request);
    return name === undefined ? frames(request) : ok(names[name]);
  };
  const filters = [
    { key: 'host', operator: '=|', value: 'a', values: ['a', 'b'] },
    { key: 'region', operator: '!=', value: 'eu' },
  ];
  await run([{ query: 'cpu | every 1m avg(u)' }, { query: 'cpu_1m{host="a"} | every 1m avg(u)' }], filters);
  expect(sent().map(({ query, params, notes }) => [query, params, notes])).toEqual([
    ['cpu{host in $filter_1, region != $filter_2} | every 1m avg(u)', { filter_1: ['a', 'b'], filter_2: 'eu' }, []],
    [
      'cpu_1m{host in $filter_1, host="a"} | every 1m avg(u)',
      { filter_1: ['a', 'b'] },
      ['cpu_1m has no tag region; the filter on it is left out'],
    ],
  ]);
});

it('offers keys and values in the range and under the other filters', async () => {
  reply = (request) => {
    const names: Record<string, Answer> = {
      'show tables': rows(['cpu'], ['mem']),
      'show rollups': rows(),
      'show tags from cpu': rows(['region'], ['host']),
      'show values of host from cpu{region = $filter_1}': rows(['b'], ['a']),
    };
    const found = names[statement(request) ?? ''];
    return found ? ok(found) : throwError(() => ({ status: 404, data: {} }));
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
  expect(asked.at(-1)?.data).toMatchObject({ params: { filter_1: 'eu' }, range: { fromMs: 1000, toMs: 61_000 } });
});

it('says what is wrong with a text at its place in what was written', async () => {
  reply = () =>
    throwError(() => ({ status: 400, data: { error: { message: 'no', hint: 'yes', line: 1, column: 14 } } }));
  const refused = await source().check('m{h="$host"} | evry', request([]));
  expect(refused?.sentence).toBe('line 1, column 16: no (yes)');
  expect(asked[0]).toMatchObject({ url: '/api/datasources/uid/w/resources/explain', data: { intervalMs: 10_000 } });
  reply = () => throwError(() => ({ status: 500, data: { message: 'plugin unavailable' } }));
  expect((await source().check('m', request([])))?.sentence).toMatch(/^plugin unavailable \(Grafana’s log/);
});

it('Explore gets texts without variables', () => {
  const [query] = source().interpolateVariablesInQueries(
    [{ refId: 'A', query: 'cpu{h in $hosts} | every $__interval avg(u)' }],
    {}
  );
  expect(query?.query).toBe('cpu{h in ("a", "b")} | every $__interval avg(u)');
});

it('a variable asks under the values of others', async () => {
  reply = (request) =>
    ok(statement(request) === 'show values of host from cpu{region in $hosts}' ? rows(['x'], ['x'], ['y']) : rows());
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
