// Whether the rows of a script stand at the starts of its windows.

import { meaningful, tokens } from './wql';

export function hasWindow(text: string): boolean {
  const solid = meaningful(tokens(text));
  const last = solid.findLastIndex((token) => token.text === ';' && solid[solid.length - 1] !== token);
  return solid.some(
    (token, at) => at > last && token.kind === 'keyword' && token.text === 'every' && solid[at - 1]?.text === '|'
  );
}
