// The tables that a script reads, and conditions put into their braces.

import { Edit, rewrite, Rewritten } from './places';
import { meaningful, nameOf, quoteName, Token, tokens, VERBS } from './wql';

export type FilterOperator = '=' | '!=' | '=~' | '!~' | 'in' | 'not in';

export interface TagFilter {
  tag: string;
  operator: FilterOperator;
  values: string[];
}

export interface Source {
  name: string;
  // Where the name ends, and where the inside of its braces begins, if it has some.
  end: number;
  braces?: number;
}

// Tables and rollups; what `let` has named is none, and its own sources are here.
export function sources(text: string): Source[] {
  const found: Source[] = [];
  const lets = new Set<string>();
  for (const statement of statements(text)) {
    let at = statement[0]?.text === 'explain' ? 1 : 0;
    const first = statement[at];
    if (first?.kind === 'keyword' && first.text === 'let') {
      const name = nameOf(statement[at + 1]);
      if (name !== undefined) {
        lets.add(name);
      }
      at += 3;
    } else if (first?.kind === 'keyword' && VERBS.includes(first.text)) {
      continue;
    }
    const joined = statement.flatMap((token, place) =>
      token.kind === 'keyword' && token.text === 'join' ? [place + 1] : []
    );
    for (const place of [at, ...joined]) {
      const token = statement[place];
      const name = nameOf(token);
      if (token !== undefined && name !== undefined && !lets.has(name)) {
        const next = statement[place + 1];
        found.push({ name, end: token.end, braces: next?.text === '{' ? next.end : undefined });
      }
    }
  }
  return found;
}

export function withFilters(
  text: string,
  filtersOf: (source: string) => TagFilter[]
): Rewritten & { params: Record<string, string | string[]> } {
  const params: Record<string, string | string[]> = {};
  const edits: Edit[] = [];
  for (const { name, end, braces } of sources(text)) {
    const matchers = filtersOf(name).map(({ tag, operator, values }) => {
      const param = `filter_${Object.keys(params).length + 1}`;
      params[param] = operator === 'in' || operator === 'not in' ? values : (values[0] ?? '');
      return `${quoteName(tag)} ${operator} $${param}`;
    });
    if (matchers.length > 0) {
      const start = braces ?? end;
      edits.push({
        start,
        end: start,
        by: braces === undefined ? `{${matchers.join(', ')}}` : `${matchers.join(', ')}, `,
      });
    }
  }
  return { ...rewrite(text, edits), params };
}

function statements(text: string): Token[][] {
  const pieces: Token[][] = [[]];
  for (const token of meaningful(tokens(text))) {
    if (token.text === ';') {
      pieces.push([]);
    } else {
      pieces[pieces.length - 1]?.push(token);
    }
  }
  return pieces.filter((piece) => piece.length > 0);
}
