// WQL's words and tokens, and what may stand at a cursor: one source with the server's page, whose tests compare the words with the
// language's own. Only the server parses.

export {
  AGGREGATES,
  FUNCTIONS,
  VERBS,
  meaningful,
  nameOf,
  quoteName,
  quoteText,
  tokens,
} from '../../../../src/server/page/language.js';
export type { Token, TokenKind } from '../../../../src/server/page/language.js';
export { complete } from '../../../../src/server/page/complete.js';
export type { Choice, Completion } from '../../../../src/server/page/complete.js';

// The text that a literal in quotes says: the escapes of GRAMMAR.md.
export function textOf(literal: string): string {
  const closed = literal.length > 1 && literal.endsWith(literal.charAt(0));
  const inside = literal.slice(1, closed ? -1 : undefined);
  return inside.replace(/\\(u\{([0-9a-fA-F]+)\}|[^])/g, (whole, escape: string, code: string | undefined) => {
    if (code !== undefined) {
      return String.fromCodePoint(parseInt(code, 16));
    }
    const named: Record<string, string> = { n: '\n', r: '\r', t: '\t' };
    return named[escape] ?? escape;
  });
}
