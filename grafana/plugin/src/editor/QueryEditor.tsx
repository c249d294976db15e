// The editor of a query: as boxes to fill in, or as text. Both work on one text.

import { QueryEditorProps } from '@grafana/data';
import { Alert, Button, InlineField, InlineSwitch, Input, RadioButtonGroup, Stack } from '@grafana/ui';
import React, { useEffect, useRef, useState } from 'react';

import { read } from '../builder/read';
import type { WaterclockDataSource } from '../datasource';
import { WaterclockOptions } from '../options';
import { EditorMode, Format, WaterclockQuery } from '../query';
import { Builder } from './Builder';
import { Code } from './Code';
import { requestOf } from './context';
import { names } from './options';

type Props = QueryEditorProps<WaterclockDataSource, WaterclockQuery, WaterclockOptions>;

const MODES: Array<{ label: string; value: EditorMode }> = [
  { label: 'Builder', value: 'builder' },
  { label: 'Code', value: 'code' },
];

const FORMATS: Array<{ label: string; value: Format; description: string }> = [
  { label: 'Time series', value: 'time_series', description: 'One line for each column and group' },
  { label: 'Table', value: 'table', description: 'Rows as they are' },
  { label: 'Logs', value: 'logs', description: 'Texts as lines of a log' },
];

export function QueryEditor(props: Props) {
  const { datasource, query, onChange, onRunQuery, range } = props;
  const text = query.query ?? '';
  // The builder is the way in, and code the way for what it cannot show.
  const mode: EditorMode =
    query.editor === 'builder' || (query.editor === undefined && text === '') ? 'builder' : 'code';
  // Code is not read: a long text would be at every key.
  const reading = mode === 'builder' ? read(text) : undefined;
  const [why, setWhy] = useState<string>();
  // What a part of the editor finds out from the server may come after other changes, and a change before this is drawn anew: each is made
  // to what was said last.
  const latest = useRef(query);
  useEffect(() => {
    latest.current = query;
  }, [query]);
  const say = (changed: Partial<WaterclockQuery>) => {
    latest.current = { ...latest.current, ...changed };
    onChange(latest.current);
  };
  const change = (changed: Partial<WaterclockQuery>) => {
    say(changed);
    onRunQuery();
  };

  const switchTo = (wanted: EditorMode) => {
    const found = read(latest.current.query ?? '');
    if (wanted === 'builder' && 'reason' in found) {
      setWhy(found.reason);
      return;
    }
    setWhy(undefined);
    say({ editor: wanted });
  };

  return (
    <Stack direction="column" gap={1}>
      <Stack direction="row" gap={1} wrap="wrap" alignItems="center">
        <RadioButtonGroup aria-label="Editor" options={MODES} value={mode} onChange={switchTo} size="sm" />
        <RadioButtonGroup
          aria-label="Format"
          options={FORMATS}
          value={query.format ?? 'time_series'}
          onChange={(format) => change({ format })}
          size="sm"
        />
        <InlineField label="Legend" tooltip="{{host}} is the value of a tag, {{column}} the column's name" transparent>
          <Input
            id={`${query.refId}-legend`}
            key={query.legend}
            defaultValue={query.legend ?? ''}
            placeholder="{{host}} {{column}}"
            width={24}
            onBlur={({ currentTarget }) => {
              if (currentTarget.value !== (query.legend ?? '')) {
                change({ legend: currentTarget.value });
              }
            }}
          />
        </InlineField>
        <InlineSwitch
          label="Rollups"
          showLabel
          transparent
          id={`${query.refId}-rollups`}
          value={!query.withoutRollups}
          onChange={({ currentTarget }) => change({ withoutRollups: !currentTarget.checked })}
        />
        <InlineSwitch
          label="Live"
          showLabel
          transparent
          id={`${query.refId}-live`}
          value={query.live ?? false}
          disabled={(query.format ?? 'time_series') !== 'time_series'}
          onChange={({ currentTarget }) => change({ live: currentTarget.checked })}
        />
        <Button variant="secondary" size="sm" icon="play" onClick={onRunQuery}>
          Run query
        </Button>
      </Stack>
      {why !== undefined && mode === 'code' && (
        <Alert severity="info" title="The builder cannot show this query" onRemove={() => setWhy(undefined)}>
          {capital(why)}. It stays as code.
        </Alert>
      )}
      {reading !== undefined && 'reason' in reading && (
        <Alert severity="info" title="The builder cannot show this query">
          <Stack direction="column" alignItems="flex-start">
            <span>{capital(reading.reason)}.</span>
            <Button size="sm" variant="secondary" onClick={() => switchTo('code')}>
              Edit as code
            </Button>
          </Stack>
        </Alert>
      )}
      {reading !== undefined && 'query' in reading && (
        <Builder
          text={text}
          reading={reading.query}
          names={datasource.names}
          templates={datasource.templates}
          range={range}
          onChange={(built) => change({ query: built, editor: 'builder' })}
        />
      )}
      {mode === 'code' && (
        <Code
          text={text}
          onChange={(typed) => say({ query: typed, editor: 'code' })}
          onRun={(typed) => change({ query: typed, editor: 'code' })}
          check={(typed) => datasource.check(typed, requestOf(props))}
          rowsOf={(statement) => datasource.server.namesOf(statement)}
          variables={() => names(datasource.templates)}
        />
      )}
    </Stack>
  );
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
