// From what stands in a panel to what the server is sent: ad-hoc filters, variables, the range.

import { AdHocVariableFilter, DataQueryRequest, ScopedVars } from '@grafana/data';
import { TemplateSrv } from '@grafana/runtime';

import { bind, Frame, Held, Lookup, VariableError } from './language/interpolate';
import { offsetOf, placeOf } from './language/places';
import { FilterOperator, sources, TagFilter, withFilters } from './language/sources';
import { Names } from './names';
import { WaterclockQuery } from './query';
import { Question, Refused } from './server';

export interface Prepared {
  question: Question;
  // Filters that say nothing about a table, because it has no such tag.
  leftOut: string[];
  // The same error with its place in the text as it was written.
  atWritten: (error: Refused) => Refused;
}

export type Asked = Pick<
  DataQueryRequest<WaterclockQuery>,
  'range' | 'intervalMs' | 'interval' | 'maxDataPoints' | 'scopedVars' | 'filters'
>;

export async function prepare(
  query: WaterclockQuery,
  asked: Asked,
  templates: TemplateSrv,
  names: Names
): Promise<Prepared> {
  const bound = bindAt(query.query, lookupIn(templates, asked.scopedVars), frameOf(asked));
  const { filtersOf, leftOut } = await applicable(bound.text, asked.filters ?? [], names);
  const filtered = withFilters(bound.text, filtersOf);
  const { fromMs, toMs } = frameOf(asked);
  return {
    question: {
      text: filtered.text,
      params: { ...bound.params, ...filtered.params },
      range: { fromMs, toMs },
      withoutRollups: query.withoutRollups,
    },
    leftOut,
    atWritten: (error) => {
      if (error.place === undefined) {
        return error;
      }
      const offset = bound.back(filtered.back(offsetOf(filtered.text, error.place)));
      return error.at(placeOf(query.query, offset));
    },
  };
}

function bindAt(text: string, lookup: Lookup, frame: Frame) {
  try {
    return bind(text, lookup, frame);
  } catch (error) {
    if (error instanceof VariableError) {
      throw new Refused(error.message, 0, undefined, placeOf(text, error.offset));
    }
    throw error;
  }
}

// A range ends before its `to`, and a panel of a single moment still has a range.
export function frameOf({ range, intervalMs, interval, maxDataPoints }: Omit<Asked, 'scopedVars'>): Frame {
  const fromMs = range.from.valueOf();
  const toMs = Math.max(range.to.valueOf(), fromMs + 1);
  return { fromMs, toMs, intervalMs, interval: interval || `${intervalMs}ms`, maxDataPoints: maxDataPoints ?? 1000 };
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
