// A query as boxes to fill in. A row that is not filled in to its end is kept here and is not in the text yet.

import { TimeRange } from '@grafana/data';
import { TemplateSrv } from '@grafana/runtime';
import { Button, Combobox, InlineField, Input, MultiCombobox, RadioButtonGroup, Stack, Text } from '@grafana/ui';
import React, { useState } from 'react';

import { BuilderQuery, EMPTY, isVariable, started } from '../builder/model';
import { print } from '../builder/print';
import { TagFilter } from '../language/sources';
import { Names } from '../names';
import { AggregateRow, FilterRow } from './rows';
import { matching, option, variables } from './options';

interface Props {
  text: string;
  reading: BuilderQuery;
  names: Names;
  templates: TemplateSrv;
  range?: TimeRange;
  onChange: (text: string) => void;
}

const STEPS = ['$__interval', '10s', '1m', '5m', '15m', '1h', '1d', '1w', '1mo'];
const FILLS = ['null', 'previous', 'linear', '0'];

type Grouping = 'series' | 'tags' | 'all';
const GROUPINGS: Array<{ label: string; value: Grouping; description: string }> = [
  { label: 'Each series', value: 'series', description: 'A line for every series' },
  { label: 'By tags', value: 'tags', description: 'A line for every value of these tags' },
  { label: 'All as one', value: 'all', description: 'One line over all series: by ()' },
];

export function Builder({ text, reading, names, templates, range, onChange }: Props) {
  const [draft, setDraft] = useState<BuilderQuery>(reading);
  const [seen, setSeen] = useState(text);
  const [byTags, setByTags] = useState((reading.by?.length ?? 0) > 0);
  // The text was changed elsewhere.
  if (text !== seen) {
    setSeen(text);
    if (print(draft) !== text) {
      setDraft(reading);
      setByTags((reading.by?.length ?? 0) > 0);
    }
  }

  const change = (changed: Partial<BuilderQuery>) => {
    const next = { ...draft, ...changed };
    setDraft(next);
    const printed = print(next);
    if (printed !== text) {
      onChange(printed);
    }
  };

  const { source, filters, aggregates, by, fill, every } = draft;
  const ours = variables(templates).map((name) => option(name, 'variable'));
  const span = range && { fromMs: range.from.valueOf(), toMs: range.to.valueOf() };

  const sources = async (typed: string) => {
    const [tables, rollups] = await Promise.all([names.tables(), names.rollups()]);
    const all = [
      ...tables.map((name) => option(name, 'table')),
      ...rollups.map((name) => option(name, 'rollup')),
      ...ours,
    ];
    return matching(all, typed);
  };
  const tags = async (typed: string) =>
    matching([...(await names.tags(source)).map((name) => option(name)), ...ours], typed);
  const fields = async (typed: string) => {
    const found = await names.fields(source);
    return matching([...found.map(({ name, type }) => option(name, type)), ...ours], typed);
  };
  const valuesOf = (place: number) => async (typed: string) => {
    const others = filters.flatMap((filter, at): TagFilter[] => {
      const sure = at !== place && filter.tag !== '' && filter.values.length > 0 && !filter.values.some(isVariable);
      return sure ? [filter] : [];
    });
    const found = await names.values(source, filters[place]?.tag ?? '', others, span);
    return matching([...ours, ...found.map((value) => option(value))], typed);
  };

  const choose = async (name: string) => {
    const numbers = (await names.fields(name)).filter(({ type }) => type !== 'string' && type !== 'boolean');
    const next = started(name);
    change({ ...EMPTY, ...next, aggregates: [{ function: 'avg', field: numbers[0]?.name }] });
  };
  const grouping: Grouping = by === undefined ? 'series' : byTags ? 'tags' : 'all';
  const group = (wanted: Grouping) => {
    setByTags(wanted === 'tags');
    change({ by: wanted === 'series' ? undefined : [] });
  };

  return (
    <Stack direction="column" gap={0.5}>
      <Stack direction="row" gap={1} wrap="wrap" alignItems="center">
        <InlineField label="From" labelWidth={10} transparent>
          <Combobox
            aria-labelledby="from"
            data-testid="waterclock-source"
            placeholder="table or rollup"
            options={sources}
            value={source === '' ? null : option(source)}
            onChange={({ value }) => choose(value)}
            createCustomValue
            width={26}
          />
        </InlineField>
        {filters.map((filter, at) => (
          <FilterRow
            key={at}
            filter={filter}
            tags={tags}
            values={valuesOf(at)}
            onChange={(changed) => change({ filters: filters.map((one, place) => (place === at ? changed : one)) })}
            onRemove={() => change({ filters: filters.filter((_, place) => place !== at) })}
          />
        ))}
        <Button
          variant="secondary"
          size="sm"
          icon="plus"
          disabled={source === ''}
          onClick={() => change({ filters: [...filters, { tag: '', operator: '=', values: [] }] })}
        >
          Filter
        </Button>
      </Stack>
      {source !== '' && (
        <>
          <Stack direction="row" gap={1} wrap="wrap" alignItems="center">
            <InlineField
              label="Every"
              labelWidth={10}
              transparent
              tooltip="The step in time; empty is one bucket, the whole range"
            >
              <Combobox
                aria-labelledby="every"
                data-testid="waterclock-every"
                placeholder="whole range"
                options={[...STEPS, ...variables(templates)].map((step) => option(step))}
                value={every === undefined ? null : option(every)}
                onChange={(chosen) =>
                  change(
                    chosen === null ? { every: undefined, over: undefined, fill: undefined } : { every: chosen.value }
                  )
                }
                isClearable
                createCustomValue
                width={18}
              />
            </InlineField>
            <InlineField
              label="Over"
              transparent
              disabled={every === undefined}
              tooltip="How far back each row looks, if longer than its step"
            >
              <Input
                key={draft.over}
                defaultValue={draft.over ?? ''}
                placeholder="the step"
                width={10}
                onBlur={({ currentTarget }) => change({ over: currentTarget.value.trim() || undefined })}
              />
            </InlineField>
            {aggregates.map((aggregate, at) => (
              <AggregateRow
                key={at}
                aggregate={aggregate}
                fields={fields}
                onChange={(changed) =>
                  change({ aggregates: aggregates.map((one, place) => (place === at ? changed : one)) })
                }
                onRemove={() =>
                  change({
                    aggregates: aggregates.filter((_, place) => place !== at),
                    ...(aggregates.length === 1 && points),
                  })
                }
              />
            ))}
            <Button
              variant="secondary"
              size="sm"
              icon="plus"
              onClick={() => change({ aggregates: [...aggregates, { function: 'max', field: aggregates[0]?.field }] })}
            >
              Aggregate
            </Button>
          </Stack>
          {aggregates.length > 0 && (
            <Stack direction="row" gap={1} wrap="wrap" alignItems="center">
              <InlineField label="Group" labelWidth={10} transparent>
                <RadioButtonGroup aria-label="Group" options={GROUPINGS} value={grouping} onChange={group} />
              </InlineField>
              {grouping === 'tags' && (
                <MultiCombobox
                  aria-labelledby="by"
                  data-testid="waterclock-by"
                  placeholder="tags"
                  options={tags}
                  value={(by ?? []).map((name) => option(name))}
                  onChange={(chosen) => change({ by: chosen.map(({ value }) => value) })}
                  createCustomValue
                  width={32}
                />
              )}
              <InlineField
                label="Fill"
                transparent
                disabled={every === undefined}
                tooltip="What buckets without points get"
              >
                <Combobox
                  aria-labelledby="fill"
                  data-testid="waterclock-fill"
                  placeholder="nothing"
                  options={FILLS.map((how) => option(how))}
                  value={fill === undefined ? null : option(fill.how)}
                  onChange={(chosen) => change({ fill: chosen === null ? undefined : { ...fill, how: chosen.value } })}
                  isClearable
                  createCustomValue
                  width={14}
                />
              </InlineField>
              {fill !== undefined && (
                <InlineField label="at most" transparent tooltip="Longer gaps stay empty, for example 10m">
                  <Input
                    key={fill.max}
                    defaultValue={fill.max ?? ''}
                    width={8}
                    onBlur={({ currentTarget }) =>
                      change({ fill: { how: fill.how, max: currentTarget.value.trim() || undefined } })
                    }
                  />
                </InlineField>
              )}
            </Stack>
          )}
          <Stack direction="row" gap={1} wrap="wrap" alignItems="center">
            <InlineField label="Limit" labelWidth={10} transparent tooltip="The most rows that are shown">
              <Input
                key={draft.limit}
                defaultValue={draft.limit ?? ''}
                placeholder="none"
                width={10}
                onBlur={({ currentTarget }) => change({ limit: currentTarget.value.trim() || undefined })}
              />
            </InlineField>
            <Text variant="code" color="secondary" element="p">
              {print(draft)}
            </Text>
          </Stack>
        </>
      )}
    </Stack>
  );
}

// Without aggregates there are points, and nothing to window, to group or to fill.
const points: Partial<BuilderQuery> = { every: undefined, over: undefined, by: undefined, fill: undefined };
