// The builder's query as text.

import { quoteName, quoteText } from '../language/wql';
import { BuilderAggregate, BuilderFilter, BuilderQuery, isList, isVariable } from './model';

export function print(query: BuilderQuery): string {
  if (query.source === '') {
    return '';
  }
  const filters = query.filters.filter((filter) => filter.tag !== '' && filter.values.length > 0);
  const braces = filters.length > 0 ? `{${filters.map(matcher).join(', ')}}` : '';
  const stages = [name(query.source) + braces];
  if (query.aggregates.length > 0) {
    stages.push(aggregateStage(query));
  }
  if (query.fill !== undefined) {
    stages.push(`fill ${query.fill.how}${query.fill.max ? ` max ${query.fill.max}` : ''}`);
  }
  if (query.limit !== undefined) {
    stages.push(`limit ${query.limit}`);
  }
  return stages.join(' | ');
}

function aggregateStage({ every, over, aggregates, by }: BuilderQuery): string {
  const window = every === undefined ? '' : `every ${every} ${over === undefined ? '' : `over ${over} `}`;
  const groups = by === undefined ? '' : ` by ${by.length === 0 ? '()' : by.map(name).join(', ')}`;
  return window + aggregates.map(item).join(', ') + groups;
}

function item({ function: called, field, argument, alias }: BuilderAggregate): string {
  const within = [...(field === undefined ? [] : [name(field)]), ...(argument === undefined ? [] : [argument])];
  // Bare `last` would be a range.
  const call =
    within.length > 0 || called === 'last' || isVariable(called) ? `${called}(${within.join(', ')})` : called;
  return call + (alias === undefined ? '' : ` as ${name(alias)}`);
}

function matcher({ tag, operator, values }: BuilderFilter): string {
  const [first = ''] = values;
  if (!isList(operator)) {
    return `${name(tag)}${operator}${value(first)}`;
  }
  return `${name(tag)} ${operator} ${values.length === 1 && isVariable(first) ? first : `(${values.map(value).join(', ')})`}`;
}

const name = (text: string) => (isVariable(text) ? text : quoteName(text));
const value = (text: string) => (isVariable(text) ? text : quoteText(text));
