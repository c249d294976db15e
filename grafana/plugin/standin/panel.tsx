// A panel: a chart of what is a time series, which is Grafana's, a plain table of the rest, notices and errors.

import {
  applyFieldOverrides,
  createTheme,
  DataFrame,
  FieldColorModeId,
  getFieldDisplayName,
  PanelData,
} from '@grafana/data';
import { LegendDisplayMode } from '@grafana/schema';
import { Alert, PanelChrome, TimeSeries } from '@grafana/ui';

const WIDTH = 1220;
const HEIGHT = 280;

export function Panel({ data }: { data: PanelData }) {
  const { errors, timeRange, state } = data;
  const series = shown(data.series);
  const notices = series.flatMap((frame) => frame.meta?.notices ?? []);
  const kind = series[0]?.meta?.preferredVisualisationType;
  return (
    <div
      data-testid="panel"
      data-state={state}
      data-kind={kind}
      data-series={JSON.stringify(names(series))}
      data-last={last(series)}
    >
      <PanelChrome title="Panel" width={WIDTH + 20} height={HEIGHT + 60}>
        {() =>
          kind === 'graph' ? (
            <TimeSeries
              frames={series}
              timeRange={timeRange}
              timeZone="utc"
              width={WIDTH}
              height={HEIGHT}
              legend={{ displayMode: LegendDisplayMode.List, placement: 'bottom', calcs: [], showLegend: true }}
            />
          ) : series[0] !== undefined && series[0].fields.length > 0 ? (
            <Rows frame={series[0]} />
          ) : (
            <span>No data</span>
          )
        }
      </PanelChrome>
      {notices.map(({ severity, text }) => (
        <div key={text} data-testid={`notice-${severity}`} style={{ fontSize: 12 }}>
          {severity}: {text}
        </div>
      ))}
      {errors?.map(({ message }) => (
        <Alert key={message} severity="error" title={message ?? 'an error'} data-testid="error" />
      ))}
    </div>
  );
}

function Rows({ frame }: { frame: DataFrame }) {
  const text = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value));
  return (
    <table>
      <thead>
        <tr>
          {frame.fields.map(({ name }) => (
            <th key={name}>{name}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {Array.from({ length: frame.length }, (_, at) => (
          <tr key={at}>
            {frame.fields.map(({ name, values }) => (
              <td key={name}>{text(values[at])}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function shown(frames: DataFrame[]): DataFrame[] {
  const config = { color: { mode: FieldColorModeId.PaletteClassic }, custom: { lineWidth: 1, fillOpacity: 8 } };
  const data = frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => ({ ...field, config: { ...config, ...field.config } })),
  }));
  return applyFieldOverrides({
    data,
    fieldConfig: { defaults: {}, overrides: [] },
    replaceVariables: (text) => text,
    theme: createTheme(),
    timeZone: 'utc',
  });
}

// The newest value of the first series.
function last(frames: DataFrame[]): string {
  const values: unknown[] = frames[0]?.fields[1]?.values ?? [];
  return String(values.findLast((value) => value !== null));
}

function names(frames: DataFrame[]): string[] {
  return frames.flatMap((frame) =>
    frame.fields.flatMap((field) => (field.type === 'time' ? [] : [getFieldDisplayName(field, frame, frames)]))
  );
}
