// Ad-hoc filters: one at a time, with keys and values that the data source offers.

import { AdHocVariableFilter, TimeRange } from '@grafana/data';
import { Button, Combobox, Stack } from '@grafana/ui';
import { useState } from 'react';

import { Query, Source } from './grafana';

interface Props {
  source: Source;
  queries: Query[];
  range: TimeRange;
  filters: AdHocVariableFilter[];
  onChange: (filters: AdHocVariableFilter[]) => void;
}

const OPERATORS = ['=', '!=', '=~', '!~', '=|', '!=|'];

export function Filters({ source, queries, range, filters, onChange }: Props) {
  const [key, setKey] = useState<string>();
  const [operator, setOperator] = useState('=');
  const keys = async () => {
    const found = await source.getTagKeys?.({ filters, queries, timeRange: range });
    return options(found);
  };
  const values = async () => {
    const found = await source.getTagValues?.({ key: key ?? '', filters, queries, timeRange: range });
    return options(found);
  };
  const add = (value: string) => {
    onChange([...filters, { key: key ?? '', operator, value, values: [value] }]);
    setKey(undefined);
  };
  return (
    <Stack direction="row" gap={0} alignItems="center">
      {filters.map((filter, at) => (
        <Button
          key={at}
          variant="secondary"
          icon="times"
          data-testid="filter"
          onClick={() => onChange(filters.filter((_, place) => place !== at))}
        >
          {`${filter.key} ${filter.operator} ${filter.value}`}
        </Button>
      ))}
      <Combobox
        data-testid="filter-key"
        placeholder="filter"
        options={keys}
        value={key ?? null}
        onChange={({ value }) => setKey(value)}
        width={12}
      />
      {key !== undefined && (
        <>
          <Combobox
            data-testid="filter-operator"
            options={OPERATORS.map((value) => ({ label: value, value }))}
            value={operator}
            onChange={({ value }) => setOperator(value)}
            width={10}
          />
          <Combobox
            key={key}
            data-testid="filter-value"
            options={values}
            value={null}
            createCustomValue
            onChange={({ value }) => add(value)}
            width={14}
          />
        </>
      )}
    </Stack>
  );
}

function options(found: unknown): Array<{ label: string; value: string }> {
  const list = Array.isArray(found) ? (found as Array<{ text: string }>) : [];
  return list.map(({ text }) => ({ label: text, value: text }));
}
