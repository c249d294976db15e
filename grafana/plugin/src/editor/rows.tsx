// One condition on a tag, and one aggregate, of the builder.

import { Button, Combobox, ComboboxOption, Input, MultiCombobox, Stack } from '@grafana/ui';
import React from 'react';

import { BuilderAggregate, BuilderFilter, isList } from '../builder/model';
import { FilterOperator } from '../language/sources';
import { AGGREGATES } from '../language/wql';
import { option } from './options';

type Options = (typed: string) => Promise<Array<ComboboxOption<string>>>;

const OPERATORS: Array<ComboboxOption<FilterOperator>> = (['=', '!=', '=~', '!~', 'in', 'not in'] as const).map(
  (value) => ({
    label: value,
    value,
  })
);

interface FilterProps {
  filter: BuilderFilter;
  tags: Options;
  values: Options;
  onChange: (filter: BuilderFilter) => void;
  onRemove: () => void;
}

export function FilterRow({ filter, tags, values, onChange, onRemove }: FilterProps) {
  const { tag, operator } = filter;
  const operate = (wanted: FilterOperator) =>
    onChange({ ...filter, operator: wanted, values: isList(wanted) ? filter.values : filter.values.slice(0, 1) });
  return (
    <Stack direction="row" gap={0} alignItems="center">
      <Combobox
        aria-labelledby="tag"
        data-testid="waterclock-tag"
        placeholder="tag"
        options={tags}
        value={tag === '' ? null : option(tag)}
        onChange={({ value }) => onChange({ ...filter, tag: value, values: [] })}
        createCustomValue
        width={14}
      />
      <Combobox
        aria-labelledby="operator"
        data-testid="waterclock-operator"
        options={OPERATORS}
        value={operator}
        onChange={({ value }) => operate(value)}
        width={10}
      />
      {isList(operator) ? (
        <MultiCombobox
          aria-labelledby="values"
          data-testid="waterclock-values"
          placeholder="values"
          options={values}
          value={filter.values.map((value) => option(value))}
          onChange={(chosen) => onChange({ ...filter, values: chosen.map(({ value }) => value) })}
          createCustomValue
          width={32}
        />
      ) : (
        <Combobox
          aria-labelledby="value"
          data-testid="waterclock-value"
          placeholder={operator.endsWith('~') ? 'pattern' : 'value'}
          options={values}
          value={filter.values[0] === undefined ? null : option(filter.values[0])}
          onChange={({ value }) => onChange({ ...filter, values: [value] })}
          createCustomValue
          width={18}
        />
      )}
      <Button variant="secondary" fill="text" icon="times" aria-label="Remove filter" onClick={onRemove} />
    </Stack>
  );
}

// Those that most people want stand first.
const COMMON = ['avg', 'max', 'min', 'sum', 'count', 'last', 'rate', 'increase', 'p50', 'p95', 'p99'];
const FUNCTIONS = [...COMMON, ...AGGREGATES.filter((name) => !COMMON.includes(name))].map((name) => option(name));
const WITH_ARGUMENT = ['quantile', 'exact_quantile'];

interface AggregateProps {
  aggregate: BuilderAggregate;
  fields: Options;
  onChange: (aggregate: BuilderAggregate) => void;
  onRemove: () => void;
}

export function AggregateRow({ aggregate, fields, onChange, onRemove }: AggregateProps) {
  const { function: called, field, argument, alias } = aggregate;
  const call = (name: string) =>
    onChange({
      ...aggregate,
      function: name,
      argument: WITH_ARGUMENT.includes(name) ? (argument ?? '0.95') : undefined,
    });
  return (
    <Stack direction="row" gap={0} alignItems="center">
      <Combobox
        aria-labelledby="function"
        data-testid="waterclock-function"
        options={FUNCTIONS}
        value={option(called)}
        onChange={({ value }) => call(value)}
        createCustomValue
        width={14}
      />
      <Combobox
        aria-labelledby="field"
        data-testid="waterclock-field"
        placeholder={called === 'count' ? 'points' : 'field'}
        options={fields}
        value={field === undefined ? null : option(field)}
        onChange={(chosen) => onChange({ ...aggregate, field: chosen?.value })}
        isClearable
        createCustomValue
        width={18}
      />
      {argument !== undefined && (
        <Input
          key={argument}
          aria-label="Quantile"
          defaultValue={argument}
          width={8}
          onBlur={({ currentTarget }) => onChange({ ...aggregate, argument: currentTarget.value.trim() || '0.95' })}
        />
      )}
      <Input
        key={alias}
        aria-label="Alias"
        defaultValue={alias ?? ''}
        placeholder="as"
        width={10}
        onBlur={({ currentTarget }) => {
          const typed = currentTarget.value.trim() || undefined;
          if (typed !== alias) {
            onChange({ ...aggregate, alias: typed });
          }
        }}
      />
      <Button variant="secondary" fill="text" icon="times" aria-label="Remove aggregate" onClick={onRemove} />
    </Stack>
  );
}
