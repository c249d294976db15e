// The editors of a dashboard's variable and of its annotations, with what they give.

import { DataFrame, DataQueryResponse, FieldType, standardTransformers } from '@grafana/data';
import { ComponentType, useEffect, useMemo, useState } from 'react';
import { firstValueFrom, from, of } from 'rxjs';

import { Props, rangeOf, requestOf, UID, valuesOf } from './app';
import { instance, Query } from './grafana';

export function VariablePart({ plugin, meta, templates }: Props) {
  const source = useMemo(() => instance(plugin, meta, UID), [plugin, meta]);
  const range = useMemo(() => rangeOf('1h'), []);
  const support = source.variables as unknown as {
    editor: ComponentType<Record<string, unknown>>;
    getDefaultQuery: () => Partial<Query>;
  };
  const [query, setQuery] = useState<Query>({ refId: 'V', ...support.getDefaultQuery() });
  const [values, setValues] = useState<string[]>([]);
  useEffect(() => {
    templates.variables = [{ name: 'region', multi: true, value: ['eu'] }];
  }, [templates]);
  useEffect(() => {
    valuesOf(source, query, range).then(setValues, () => setValues([]));
  }, [source, query, range]);
  const Editor = support.editor;
  return (
    <>
      <Editor datasource={source} query={query} range={range} onChange={setQuery} onRunQuery={() => undefined} />
      <pre data-testid="query">{JSON.stringify(query)}</pre>
      <pre data-testid="values">{JSON.stringify(values)}</pre>
    </>
  );
}

interface Happening {
  time: number;
  text: string;
}

export function AnnotationPart({ plugin, meta }: Props) {
  const source = useMemo(() => instance(plugin, meta, UID), [plugin, meta]);
  const range = useMemo(() => rangeOf('1h'), []);
  const support = source.annotations as {
    QueryEditor?: ComponentType<Record<string, unknown>>;
    getDefaultQuery?: () => Partial<Query>;
  };
  const [query, setQuery] = useState<Query>({ refId: 'Anno', ...support.getDefaultQuery?.() });
  const [found, setFound] = useState<Happening[]>([]);
  const run = async () => {
    const response: DataQueryResponse = await firstValueFrom(from(source.query(requestOf([query], range))));
    setFound(await happenings(response.data as DataFrame[]));
  };
  const Editor = (support.QueryEditor ?? plugin.components.QueryEditor) as ComponentType<Record<string, unknown>>;
  return (
    <>
      <Editor datasource={source} query={query} range={range} onChange={setQuery} onRunQuery={() => undefined} />
      <button onClick={run}>Test</button>
      <pre data-testid="query">{JSON.stringify(query)}</pre>
      <pre data-testid="happenings">{JSON.stringify(found)}</pre>
    </>
  );
}

// By Grafana's rules: the frames as one, a field by its name or else the first of its type.
async function happenings(frames: DataFrame[]): Promise<Happening[]> {
  const context = { interpolate: (text: string) => text };
  const merged = of(frames).pipe(standardTransformers.mergeTransformer.operator({}, context));
  const frame = frames.length === 1 ? frames[0] : (await firstValueFrom(merged))[0];
  const named = (name: string, type: FieldType) =>
    frame?.fields.find((field) => field.name === name) ?? frame?.fields.find((field) => field.type === type);
  const [times, texts] = [named('time', FieldType.time), named('text', FieldType.string)];
  return (times?.values ?? []).map((time: number, at: number) => ({ time, text: String(texts?.values[at] ?? '') }));
}
