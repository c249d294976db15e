// The page's parts: a row of variables and the range, a panel, its query editor; or the settings.

import {
  createTheme,
  DataFrame,
  DataQueryRequest,
  DataQueryResponse,
  DataSourcePluginMeta,
  DataSourceSettings,
  dateTime,
  LoadingState,
  PanelData,
  rangeUtil,
  ThemeContext,
  TimeRange,
} from '@grafana/data';
import { Alert, Combobox, GlobalStyles, InlineField, MultiCombobox, PortalContainer, Stack } from '@grafana/ui';
import { ComponentType, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { firstValueFrom, from, Subscription } from 'rxjs';

import { instance, PluginModule, Query, Source } from './grafana';
import { Panel } from './panel';
import { Templates, Variable } from './services';

interface Props {
  plugin: PluginModule['plugin'];
  meta: DataSourcePluginMeta;
  templates: Templates;
}

const POINTS = 60;
const START = '2026-01-01T00:00:00Z';
const RANGES: Record<string, string> = { '1h': '2026-01-01T01:00:00Z', '10m': '2026-01-01T00:10:00Z' };

export function App(props: Props) {
  const light = location.search.includes('light');
  return (
    <ThemeContext.Provider value={createTheme({ colors: { mode: light ? 'light' : 'dark' } })}>
      <GlobalStyles />
      <div style={{ padding: 16, maxWidth: 1280 }}>
        {location.hash === '#config' ? <Settings {...props} /> : <Dashboard {...props} />}
      </div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

function rangeOf(name: string): TimeRange {
  const [from, to] = [dateTime(START), dateTime(RANGES[name])];
  return { from, to, raw: { from, to } };
}

function requestOf(targets: Query[], range: TimeRange): DataQueryRequest<Query> {
  const { interval, intervalMs } = rangeUtil.calculateInterval(range, POINTS);
  return {
    requestId: `Q${Date.now()}`,
    app: 'dashboard',
    timezone: 'utc',
    startTime: Date.now(),
    scopedVars: {},
    range,
    interval,
    intervalMs,
    maxDataPoints: POINTS,
    targets,
  };
}

function Dashboard({ plugin, meta, templates }: Props) {
  const source = useMemo(() => instance(plugin, meta, 'default'), [plugin, meta]);
  const [query, setQuery] = useState<Query>({ refId: 'A', ...source.getDefaultQuery?.('dashboard' as never) });
  const latest = useRef(query);
  const [rangeName, setRangeName] = useState('1h');
  const range = useMemo(() => rangeOf(rangeName), [rangeName]);
  const [variables, setVariables] = useVariables(source, templates, range);
  const [data, setData] = useState<PanelData>({ series: [], state: LoadingState.NotStarted, timeRange: range });
  const running = useRef<Subscription>();

  const run = useCallback(() => {
    running.current?.unsubscribe();
    const request = requestOf([latest.current], range);
    const show = (response: DataQueryResponse) =>
      setData({
        series: response.data as DataFrame[],
        errors: response.errors,
        state: response.state ?? LoadingState.Done,
        timeRange: range,
        request,
      });
    running.current = from(source.query(request)).subscribe(show);
  }, [source, range]);
  useEffect(run, [run, variables]);

  const Editor = plugin.components.QueryEditor as ComponentType<Record<string, unknown>>;
  return (
    <Stack direction="column" gap={2}>
      <Stack direction="row" gap={1}>
        {variables.map(({ variable, options }) => (
          <InlineField key={variable.name} label={variable.name}>
            <MultiCombobox
              aria-labelledby={variable.name}
              data-testid={`variable-${variable.name}`}
              options={options.map((value) => ({ label: value, value }))}
              value={variable.value.map((value) => ({ label: value, value }))}
              onChange={(chosen) =>
                setVariables(
                  variable.name,
                  chosen.map(({ value }) => value)
                )
              }
              width={32}
            />
          </InlineField>
        ))}
        <InlineField label="Range">
          <Combobox
            data-testid="range"
            options={Object.keys(RANGES).map((value) => ({ label: value, value }))}
            value={rangeName}
            onChange={({ value }) => setRangeName(value)}
            width={12}
          />
        </InlineField>
      </Stack>
      <Panel data={data} />
      <div data-testid="editor">
        <Editor
          datasource={source}
          query={query}
          range={range}
          data={data}
          onChange={(changed: Query) => {
            latest.current = changed;
            setQuery(changed);
          }}
          onRunQuery={run}
        />
      </div>
      <pre data-testid="query" style={{ fontSize: 11 }}>
        {JSON.stringify(query)}
      </pre>
    </Stack>
  );
}

// Two variables of many values: regions, and the hosts in them.
function useVariables(source: Source, templates: Templates, range: TimeRange) {
  const [values, setValues] = useState<Record<string, string[]>>({});
  const [options, setOptions] = useState<Record<string, string[]>>({});
  const variables = useMemo(
    () =>
      ['region', 'host'].map((name): Variable => ({ name, multi: true, value: values[name] ?? options[name] ?? [] })),
    [values, options]
  );
  templates.variables = variables;
  const regions = JSON.stringify(variables[0]?.value);
  useEffect(() => {
    const ask = async (name: string, conditions?: string) => {
      const target = { refId: name, kind: 'values', table: 'cpu', tag: name, conditions };
      const support = source.variables as unknown as {
        query: (request: object) => ReturnType<typeof from<Promise<DataQueryResponse>>>;
      };
      const response = await firstValueFrom(support.query(requestOf([target], range)));
      const frame = response.data[0] as DataFrame;
      const found = frame.fields.find((field) => field.name === 'value')?.values as string[];
      setOptions((before) =>
        JSON.stringify(before[name]) === JSON.stringify(found) ? before : { ...before, [name]: found }
      );
    };
    void ask('region').then(() => ask('host', 'region in $region'));
  }, [source, range, regions]);
  const set = (name: string, chosen: string[]) =>
    setValues((before) => ({ ...before, [name]: chosen, ...(name === 'region' && { host: undefined! }) }));
  return [variables.map((variable) => ({ variable, options: options[variable.name] ?? [] })), set] as const;
}

function Settings({ plugin, meta }: Props) {
  const [options, setOptions] = useState({
    id: 1,
    uid: 'waterclock',
    orgId: 1,
    name: 'Waterclock',
    type: meta.id,
    typeName: 'Waterclock',
    typeLogoUrl: '',
    access: 'proxy',
    url: '',
    user: '',
    database: '',
    basicAuth: false,
    basicAuthUser: '',
    isDefault: true,
    readOnly: false,
    withCredentials: false,
    jsonData: {},
    secureJsonData: {},
    secureJsonFields: {},
  } as unknown as DataSourceSettings);
  const [said, setSaid] = useState<{ status: string; message: string }>();
  const Editor = plugin.components.ConfigEditor as ComponentType<Record<string, unknown>>;
  const test = async () => {
    const { database = 'default' } = options.jsonData as { database?: string };
    setSaid(await instance(plugin, meta, database).testDatasource());
  };
  return (
    <Stack direction="column" gap={2}>
      <Editor options={options} onOptionsChange={setOptions} />
      <button onClick={test}>Save & test</button>
      {said !== undefined && <Alert severity={said.status === 'success' ? 'success' : 'error'} title={said.message} />}
      <pre data-testid="settings" style={{ fontSize: 11 }}>
        {JSON.stringify(options)}
      </pre>
    </Stack>
  );
}
