// From what stands in a panel to what the backend is sent: ad-hoc filters and variables, which only the browser knows.

import { AdHocVariableFilter, DataQueryRequest, ScopedVars } from '@grafana/data';
import { TemplateSrv } from '@grafana/runtime';

import { bind, Held, Lookup, VariableError } from './language/interpolate';
import { offsetOf, placeOf } from './language/places';
import { FilterOperator, sources, TagFilter, withFilters } from './language/sources';
import { Names } from './names';
import { PreparedQuery, WaterclockQuery } from './query';
import { Question, Refused } from './server';

export interface Prepared {
  target: PreparedQuery;
  // The same error with its place in the text as it was written.
  atWritten: (error: Refused) => Refused;
}

export async function prepare(
  query: WaterclockQuery,
  { scopedVars, filters }: Pick<DataQueryRequest<WaterclockQuery>, 'scopedVars' | 'filters'>,
  templates: TemplateSrv,
  names: Names
): Promise<Prepared> {
  const bound = bindAt(query.query, lookupIn(templates, scopedVars));
  const { filtersOf, leftOut } = await applicable(bound.text, filters ?? [], names);
  const filtered = withFilters(bound.text, filtersOf);
  return {
    target: {
      ...query,
      query: filtered.text,
      params: { ...bound.params, ...filtered.params },
      legend: query.legend && templates.replace(query.legend, scopedVars),
      notes: leftOut,
    },
    atWritten: (error) => {
      if (error.place === undefined) {
        return error;
      }
      const offset = bound.back(filtered.back(offsetOf(filtered.text, error.place)));
      return error.at(placeOf(query.query, offset));
    },
  };
}

// What is asked beside the queries of panels.
export function questionOf(
  { query, params }: PreparedQuery,
  { range, intervalMs, maxDataPoints }: Pick<DataQueryRequest, 'range' | 'intervalMs' | 'maxDataPoints'>
): Question {
  return {
    query,
    params,
    range: { fromMs: range.from.valueOf(), toMs: range.to.valueOf() },
    intervalMs,
    maxDataPoints,
  };
}

function bindAt(text: string, lookup: Lookup) {
  try {
    return bind(text, lookup);
  } catch (error) {
    if (error instanceof VariableError) {
      throw new Refused(error.message, 0, undefined, placeOf(text, error.offset));
    }
    throw error;
  }
}

// The values that Grafana has for a variable. It hands them to a formatter; a "custom all value" it does not, and puts in as it is.
export function lookupIn(templates: TemplateSrv, scopedVars: ScopedVars | undefined): Lookup {
  return (name, format) => {
    const expression = format === undefined ? `\${${name}}` : `\${${name}:${format}}`;
    if (format !== undefined) {
      const text = templates.replace(expression, scopedVars);
      return text === expression ? undefined : { values: [text], several: false, raw: true };
    }
    const seen: Held[] = [];
    const text = templates.replace(
      expression,
      scopedVars,
      (value: unknown, variable?: { multi?: boolean; includeAll?: boolean }) => {
        const values = (Array.isArray(value) ? value : [value]).map(String);
        seen.push({ values, several: Boolean(variable?.multi || variable?.includeAll) });
        return '';
      }
    );
    return seen[0] ?? (text === expression ? undefined : { values: [text], several: false, raw: true });
  };
}

const OPERATORS: Record<string, FilterOperator> = {
  '=': '=',
  '!=': '!=',
  '=~': '=~',
  '!~': '!~',
  '=|': 'in',
  '!=|': 'not in',
};

export function tagFilter({ key, operator, value, values }: AdHocVariableFilter): TagFilter | undefined {
  const known = OPERATORS[operator];
  return known === undefined || key === ''
    ? undefined
    : { tag: key, operator: known, values: values?.length ? values : [value] };
}

// The filters of each table that the text reads, by the tags that it has.
async function applicable(text: string, filters: AdHocVariableFilter[], names: Names) {
  const wanted = filters.flatMap((filter) => tagFilter(filter) ?? []);
  const tagsOf = new Map<string, string[]>();
  const leftOut: string[] = [];
  if (wanted.length > 0) {
    for (const { name } of sources(text)) {
      tagsOf.set(name, await names.tags(name));
    }
    for (const [name, tags] of tagsOf) {
      const lacking = wanted.filter(({ tag }) => !tags.includes(tag));
      leftOut.push(...lacking.map(({ tag }) => `${name} has no tag ${tag}; the filter on it is left out`));
    }
  }
  const filtersOf = (source: string) => wanted.filter(({ tag }) => tagsOf.get(source)?.includes(tag) ?? false);
  return { filtersOf, leftOut };
}
