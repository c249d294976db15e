// A text as the builder's query, or the reason why the builder cannot show it. Nothing is lost: what the builder does not know is a reason.

import { FilterOperator } from '../language/sources';
import { meaningful, nameOf, textOf, Token, VERBS } from '../language/wql';
import { bridged } from '../language/slots';
import { BuilderAggregate, BuilderFill, BuilderFilter, BuilderQuery, EMPTY, isVariable } from './model';

export type Reading = { query: BuilderQuery } | { reason: string };

class Unreadable extends Error {}

export function read(text: string): Reading {
  const all = bridged(text);
  try {
    if (all.some((token) => token.kind === 'comment')) {
      throw new Unreadable('it has a comment');
    }
    return { query: script(new Tokens(meaningful(all))) };
  } catch (error) {
    if (error instanceof Unreadable) {
      return { reason: error.message };
    }
    throw error;
  }
}

class Tokens {
  private at = 0;

  constructor(private readonly list: Token[]) {}

  peek(ahead = 0): string | undefined {
    return this.list[this.at + ahead]?.text;
  }

  take(): Token | undefined {
    const token = this.list[this.at];
    this.at += 1;
    return token;
  }

  takesVerb(): string | undefined {
    const token = this.list[this.at];
    const is = token?.kind === 'keyword' && VERBS.includes(token.text);
    return is ? this.take()?.text : undefined;
  }

  // Whether the next one is this, which is then taken.
  takes(text: string): boolean {
    const is = this.peek() === text;
    this.at += is ? 1 : 0;
    return is;
  }

  wants(text: string): void {
    if (!this.takes(text)) {
      throw new Unreadable(`"${this.peek() ?? 'the end'}" stands where "${text}" is expected`);
    }
  }
}

function script(tokens: Tokens): BuilderQuery {
  if (tokens.peek() === undefined) {
    return EMPTY;
  }
  const verb = tokens.takesVerb();
  if (verb !== undefined) {
    throw new Unreadable(`it begins with ${verb}`);
  }
  const query: BuilderQuery = { source: name(tokens, 'a table'), filters: [], aggregates: [] };
  if (tokens.takes('{')) {
    query.filters = filters(tokens);
  }
  while (tokens.takes('|')) {
    stage(tokens, query);
  }
  if (tokens.takes(';') && tokens.peek() === undefined) {
    return query;
  }
  const more = tokens.peek();
  if (more !== undefined) {
    throw new Unreadable(`it goes on with "${more}"`);
  }
  return query;
}

function stage(tokens: Tokens, query: BuilderQuery): void {
  const opener = tokens.peek() ?? 'the end';
  const called = tokens.peek(1) === '(';
  if (opener === 'limit' && !called) {
    tokens.take();
    query.limit = literal(tokens, 'a number');
    if (tokens.peek() === 'offset') {
      throw new Unreadable('its limit has an offset');
    }
    return;
  }
  if (query.limit !== undefined) {
    throw new Unreadable(`${opener} follows its limit`);
  }
  if (opener === 'fill' && !called) {
    if (query.aggregates.length === 0 || query.fill !== undefined) {
      throw new Unreadable('its fill does not follow its aggregates');
    }
    query.fill = fill(tokens);
    return;
  }
  if (['last', 'since', 'between'].includes(opener) && !called) {
    throw new Unreadable(`it has a range of its own (${opener}); here the range is the dashboard's`);
  }
  if (['where', 'extend', 'sort', 'top', 'bottom', 'join', 'left', 'asof', 'session'].includes(opener) && !called) {
    throw new Unreadable(`it has a stage ${opener}`);
  }
  if (query.aggregates.length > 0 || query.fill !== undefined) {
    throw new Unreadable('it has more than one stage of aggregates');
  }
  aggregates(tokens, query);
}

function filters(tokens: Tokens): BuilderFilter[] {
  const found: BuilderFilter[] = [];
  while (!tokens.takes('}')) {
    found.push(filter(tokens));
    if (!tokens.takes(',') && tokens.peek() !== '}') {
      throw new Unreadable('its braces do not end');
    }
  }
  return found;
}

function filter(tokens: Tokens): BuilderFilter {
  const tag = name(tokens, 'a tag');
  const not = tokens.takes('not');
  if (not || tokens.peek() === 'in') {
    tokens.wants('in');
    return { tag, operator: not ? 'not in' : 'in', values: list(tokens) };
  }
  const operator = tokens.take()?.text ?? '';
  if (!['=', '!=', '=~', '!~'].includes(operator)) {
    throw new Unreadable(`it tests ${tag} by "${operator}"`);
  }
  return { tag, operator: operator as FilterOperator, values: [value(tokens)] };
}

function list(tokens: Tokens): string[] {
  const bare = tokens.peek() ?? '';
  if (isVariable(bare)) {
    tokens.take();
    return [bare];
  }
  tokens.wants('(');
  const values: string[] = [];
  while (!tokens.takes(')')) {
    values.push(value(tokens));
    if (!tokens.takes(',') && tokens.peek() !== ')') {
      throw new Unreadable('its list does not end');
    }
  }
  if (values.length === 0) {
    throw new Unreadable('its list is empty');
  }
  return values;
}

function aggregates(tokens: Tokens, query: BuilderQuery): void {
  if (tokens.peek() === 'every' && tokens.peek(1) !== '(') {
    tokens.take();
    query.every = literal(tokens, 'a duration');
    if (tokens.takes('over')) {
      query.over = literal(tokens, 'a duration');
    }
    if (tokens.peek() === 'offset') {
      throw new Unreadable('its window has an offset');
    }
  }
  do {
    query.aggregates.push(item(tokens));
  } while (tokens.takes(','));
  if (tokens.takes('by')) {
    query.by = groups(tokens);
  }
  if (tokens.peek() === 'in') {
    throw new Unreadable('it names a time zone');
  }
}

function item(tokens: Tokens): BuilderAggregate {
  const token = tokens.take();
  const called = token?.text ?? 'the end';
  if (token === undefined || !/^[A-Za-z_]\w*$/.test(called)) {
    if (!isVariable(called)) {
      throw new Unreadable(`"${called}" stands where a function is expected`);
    }
  }
  const found: BuilderAggregate = { function: called };
  if (tokens.takes('(') && !tokens.takes(')')) {
    if (tokens.peek(1) === '(') {
      throw new Unreadable('it says which of tag and field it means, or calls a function inside of another');
    }
    found.field = name(tokens, 'a field');
    if (tokens.takes(',')) {
      found.argument = literal(tokens, 'a number');
    }
    tokens.wants(')');
  }
  if (tokens.takes('as')) {
    found.alias = name(tokens, 'a name');
  }
  return found;
}

function groups(tokens: Tokens): string[] {
  const bracket = tokens.takes('(');
  const found: string[] = [];
  if (bracket && tokens.takes(')')) {
    return found;
  }
  do {
    found.push(name(tokens, 'a tag'));
  } while (tokens.takes(','));
  if (bracket) {
    tokens.wants(')');
  }
  return found;
}

function fill(tokens: Tokens): BuilderFill {
  tokens.wants('fill');
  const sign = tokens.takes('-') ? '-' : '';
  const token = tokens.take();
  const how = sign + (token?.text ?? '');
  if (token?.kind === 'text' || !/^(null|previous|linear|-?\d[\w.+-]*|\$.*)$/.test(how)) {
    throw new Unreadable(`it fills with ${how}`);
  }
  return tokens.takes('max') ? { how, max: literal(tokens, 'a duration') } : { how };
}

function name(tokens: Tokens, what: string): string {
  const token = tokens.take();
  const bare = token?.text ?? '';
  const found = isVariable(bare) ? bare : nameOf(token);
  if (found === undefined) {
    throw new Unreadable(`"${bare}" stands where ${what} is expected`);
  }
  return found;
}

function value(tokens: Tokens): string {
  const token = tokens.take();
  if (token?.kind === 'text') {
    return textOf(token.text);
  }
  const bare = token?.text ?? '';
  if (!isVariable(bare)) {
    throw new Unreadable(`"${bare}" stands where a text is expected`);
  }
  return bare;
}

// A number, a duration or a variable, as it is written.
function literal(tokens: Tokens, what: string): string {
  const token = tokens.take();
  const text = token?.text ?? 'the end';
  if (token?.kind !== 'number') {
    throw new Unreadable(`"${text}" stands where ${what} is expected`);
  }
  return text;
}
