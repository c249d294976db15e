// The page's parts: a row of variables, filters and the range, a panel, its query editor.

import {
  AdHocVariableFilter,
  createTheme,
  DataFrame,
  DataQueryRequest,
  DataQueryResponse,
  DataSourcePluginMeta,
  dateTime,
  LoadingState,
  PanelData,
  rangeUtil,
  ThemeContext,
  TimeRange,
} from '@grafana/data';
import { Button, Combobox, GlobalStyles, InlineField, MultiCombobox, PortalContainer, Stack } from '@grafana/ui';
import { ComponentType, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { firstValueFrom, from, Subscription } from 'rxjs';

import { AnnotationPart, VariablePart } from './editors';
import { Filters } from './filters';
import { instance, PluginModule, Query, Source } from './grafana';
import { Panel } from './panel';
import { Templates, Variable } from './services';
import { Settings } from './settings';

export interface Props {
  plugin: PluginModule['plugin'];
  meta: DataSourcePluginMeta;
  templates: Templates;
}

export const UID = 'waterclock';

const POINTS = 60;
const START = '2026-01-01T00:00:00Z';
const RANGES: Record<string, string> = { '1h': '2026-01-01T01:00:00Z', '10m': '2026-01-01T00:10:00Z' };

export function App(props: Props) {
  const light = location.search.includes('light');
  return (
    <ThemeContext.Provider value={createTheme({ colors: { mode: light ? 'light' : 'dark' } })}>
      <GlobalStyles />
      <div style={{ padding: 16, maxWidth: 1280 }}>
        {location.hash === '#config' ? (
          <Settings {...props} />
        ) : location.hash === '#variable' ? (
          <VariablePart {...props} />
        ) : location.hash === '#annotation' ? (
          <AnnotationPart {...props} />
        ) : (
          <Dashboard {...props} />
        )}
      </div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

export function rangeOf(name: string): TimeRange {
  if (location.search.includes('now')) {
    const from = `now-${name}`;
    return { from: dateTime().subtract(1, 'minute'), to: dateTime(), raw: { from, to: 'now' } };
  }
  const [from, to] = [dateTime(START), dateTime(RANGES[name])];
  return { from, to, raw: { from, to } };
}

export function requestOf(
  targets: Query[],
  range: TimeRange,
  more: Partial<DataQueryRequest<Query>> = {}
): DataQueryRequest<Query> {
  const { interval, intervalMs } = rangeUtil.calculateInterval(range, POINTS);
  return {
    requestId: `Q${Date.now()}`,
    app: 'dashboard',
    timezone: 'utc',
    startTime: Date.now(),
    scopedVars: { __interval: { value: interval }, __interval_ms: { value: intervalMs } },
    range,
    interval,
    intervalMs,
    maxDataPoints: POINTS,
    targets,
    ...more,
  };
}

// As Grafana puts packets together: each takes the place of the one before with the same key.
function joined(packets: Map<string, DataQueryResponse>): Pick<PanelData, 'series' | 'errors'> {
  const all = [...packets.values()];
  const errors = all.flatMap((packet) => packet.errors ?? []);
  return {
    series: all.flatMap((packet) => packet.data as DataFrame[]),
    errors: errors.length > 0 ? errors : undefined,
  };
}

function Dashboard({ plugin, meta, templates }: Props) {
  const source = useMemo(() => instance(plugin, meta, UID), [plugin, meta]);
  const [query, setQuery] = useState<Query>({
    refId: 'A',
    datasource: source.getRef(),
    ...source.getDefaultQuery?.('dashboard' as never),
  });
  const latest = useRef(query);
  const change = useCallback((changed: Query) => {
    latest.current = changed;
    setQuery(changed);
  }, []);
  const [rangeName, setRangeName] = useState('1h');
  const range = useMemo(() => rangeOf(rangeName), [rangeName]);
  const [variables, setVariables] = useVariables(source, templates, range);
  const [filters, setFilters] = useState<AdHocVariableFilter[]>([]);
  // Explore knows no variables, and what was asked before.
  const [explores, setExplores] = useState(false);
  const [history, setHistory] = useState<Query[]>([]);
  const [data, setData] = useState<PanelData>({ series: [], state: LoadingState.NotStarted, timeRange: range });
  const running = useRef<Subscription>();

  const run = useCallback(() => {
    running.current?.unsubscribe();
    const request = requestOf([latest.current], range, { filters, app: explores ? 'explore' : 'dashboard' });
    const packets = new Map<string, DataQueryResponse>();
    const show = (response: DataQueryResponse) => {
      packets.set(response.key ?? '', response);
      // What goes on is shown in the range that ends now.
      const timeRange = response.state === LoadingState.Streaming ? rangeOf(rangeName) : range;
      setData({ ...joined(packets), state: response.state ?? LoadingState.Done, timeRange, request });
    };
    setData((before) => ({ ...before, state: LoadingState.Loading }));
    running.current = from(source.query(request)).subscribe(show);
    setHistory((before) => [latest.current, ...before.filter((one) => one.query !== latest.current.query)]);
  }, [source, range, rangeName, filters, explores]);
  useEffect(run, [run, variables]);
  const stop = () => {
    running.current?.unsubscribe();
    setData((before) => ({ ...before, state: LoadingState.Done }));
  };
  const explore = () => {
    const [written] = source.interpolateVariablesInQueries?.([latest.current], {}, filters) ?? [];
    templates.variables = [];
    if (written !== undefined) {
      change(written);
    }
    setExplores(true);
  };

  const Editor = plugin.components.QueryEditor as ComponentType<Record<string, unknown>>;
  return (
    <Stack direction="column" gap={2}>
      <Stack direction="row" gap={1} wrap="wrap">
        {!explores &&
          variables.map(({ variable, options }) => (
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
        <Filters source={source} queries={[query]} range={range} filters={filters} onChange={setFilters} />
        <Button variant="secondary" onClick={stop}>
          Cancel
        </Button>
        <Button variant="secondary" onClick={explore}>
          Explore
        </Button>
      </Stack>
      <Panel data={data} />
      <div data-testid="editor">
        <Editor
          app={explores ? 'explore' : 'dashboard'}
          datasource={source}
          query={query}
          range={range}
          data={data}
          onChange={change}
          onRunQuery={run}
        />
      </div>
      {explores && (
        <ul data-testid="history">
          {history.map((one) => (
            <li key={one.query}>
              <button
                onClick={() => {
                  change(one);
                  run();
                }}
              >
                {source.getQueryDisplayText?.(one)}
              </button>
            </li>
          ))}
        </ul>
      )}
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
  useEffect(() => {
    templates.variables = variables;
  }, [templates, variables]);
  const regions = JSON.stringify(variables[0]?.value);
  useEffect(() => {
    const ask = async (name: string, conditions?: string) => {
      const target = { refId: name, kind: 'values', table: 'cpu', tag: name, conditions };
      const found = await valuesOf(source, target, range);
      setOptions((before) =>
        JSON.stringify(before[name]) === JSON.stringify(found) ? before : { ...before, [name]: found }
      );
    };
    void ask('region').then(() => ask('host', 'region in $region'));
  }, [source, range, regions]);
  const set = (name: string, chosen: string[]) =>
    setValues((before) => ({ ...before, [name]: chosen, ...(name === 'region' && { host: undefined! }) }));
  const offered = useMemo(
    () => variables.map((variable) => ({ variable, options: options[variable.name] ?? [] })),
    [variables, options]
  );
  return [offered, set] as const;
}

// The values of a variable, as Grafana asks for them.
export async function valuesOf(source: Source, target: Query & object, range: TimeRange): Promise<string[]> {
  const support = source.variables as unknown as {
    query: (request: object) => ReturnType<typeof from<Promise<DataQueryResponse>>>;
  };
  const response = await firstValueFrom(support.query(requestOf([target], range)));
  const frame = response.data[0] as DataFrame | undefined;
  return (frame?.fields.find((field) => field.name === 'value')?.values ?? []) as string[];
}
