import { Answer } from '../answer';
import { VariableQuery } from './query';
import { optionsOf, statementOf } from './statement';

const query = (parts: Omit<VariableQuery, 'refId'>): VariableQuery => ({ refId: 'V', ...parts });

it.each([
  [query({ kind: 'tables' }), 'show tables'],
  [query({ kind: 'tags', table: 'two words' }), 'show tags from `two words`'],
  [query({ kind: 'fields', table: '$table' }), 'show fields from $table'],
  [
    query({ kind: 'values', table: 'cpu', tag: 'host', conditions: ' region in $region ' }),
    'show values of host from cpu{region in $region}',
  ],
  [query({ kind: 'values', table: 'cpu' }), undefined],
  [query({ kind: 'wql', query: ' cpu | count by host ' }), 'cpu | count by host'],
  [query({ kind: 'wql' }), undefined],
])('%j', (asked, statement) => {
  expect(statementOf(asked)).toBe(statement);
});

it('options are the values of the first column that is no time, each once', () => {
  const answer = {
    columns: [
      { name: 'time', role: 'time', type: 'time' },
      { name: 'host', role: 'tag', type: 'string' },
    ],
    rows: [
      [1, 'b'],
      [2, 'a'],
      [3, 'b'],
      [4, ''],
      [5, null],
    ],
  } as Answer;
  expect(optionsOf(answer)).toEqual([
    { text: 'b', value: 'b' },
    { text: 'a', value: 'a' },
  ]);
});

it('a text may differ from its value', () => {
  const answer = {
    columns: [
      { name: '__text', role: 'value', type: 'string' },
      { name: '__value', role: 'value', type: 'integer' },
    ],
    rows: [['one', 1]],
  } as Answer;
  expect(optionsOf(answer)).toEqual([{ text: 'one', value: '1' }]);
});
