import { FilterOperator } from '../language/sources';
import { BuilderQuery, EMPTY, isList } from './model';
import { print } from './print';
import { read } from './read';

function readable(text: string): BuilderQuery {
  const reading = read(text);
  if ('reason' in reading) {
    throw new Error(`${text}: ${reading.reason}`);
  }
  return reading.query;
}

// A small generator with a seed, so that a failure can be repeated.
function random(seed: number) {
  let state = seed;
  const below = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const pick = <T>(list: readonly T[]): T => {
    const one = list[below(list.length)];
    if (one === undefined) {
      throw new Error('an empty list');
    }
    return one;
  };
  return { below, pick, maybe: <T>(make: () => T): T | undefined => (below(2) === 0 ? undefined : make()) };
}

const NAMES = [
  'cpu',
  'usage_user',
  'two words',
  'last',
  'by',
  'é`\\',
  '$host',
  '${tag:name}',
  'limit',
  'a:b',
  'in',
  'over',
];
const TEXTS = ['a', '', 'it\'s "here"', 'line\nbreak', '\\d+', '$host', 'web-.*', '😀', '$5', '}| limit 1'];
const OPERATORS: readonly FilterOperator[] = ['=', '!=', '=~', '!~', 'in', 'not in'];

function generate(seed: number): BuilderQuery {
  const { below, pick, maybe } = random(seed);
  const several = <T>(most: number, make: () => T): T[] => Array.from({ length: below(most + 1) }, make);
  const aggregates = several(3, () => {
    const field = maybe(() => pick(NAMES));
    return {
      function: pick(['avg', 'count', 'last', 'first', 'p95', 'quantile', '$agg']),
      ...(field !== undefined && { field }),
      ...(field !== undefined && below(3) === 0 && { argument: pick(['0.95', '$q']) }),
      ...(below(3) === 0 && { alias: pick(NAMES) }),
    };
  });
  const has = aggregates.length > 0;
  const every = has ? maybe(() => pick(['5m', '$__interval', '1h30m', '1mo'])) : undefined;
  const over = every === undefined ? undefined : maybe(() => '10m');
  const by = has ? maybe(() => several(2, () => pick(NAMES))) : undefined;
  const fill = has
    ? maybe(() => ({
        how: pick(['null', 'previous', 'linear', '0', '-1.5', '$fill']),
        ...(below(2) === 0 && { max: '10m' }),
      }))
    : undefined;
  const limit = maybe(() => pick(['10', '$limit']));
  return {
    source: pick(NAMES),
    filters: several(3, () => {
      const operator = pick(OPERATORS);
      return {
        tag: pick(NAMES),
        operator,
        values: isList(operator) ? [pick(TEXTS), ...several(2, () => pick(TEXTS))] : [pick(TEXTS)],
      };
    }),
    aggregates,
    ...(every !== undefined && { every }),
    ...(over !== undefined && { over }),
    ...(by !== undefined && { by }),
    ...(fill !== undefined && { fill }),
    ...(limit !== undefined && { limit }),
  };
}

it('what the builder writes it reads, whatever is in it', () => {
  for (let seed = 1; seed <= 5000; seed += 1) {
    const query = generate(seed);
    expect({ seed, query: readable(print(query)) }).toEqual({ seed, query });
  }
});

it.each([
  ['cpu', 'cpu'],
  [
    '  cpu{ host = "a" ,region in ("x",)}|every 5m   avg( usage )as u,count by (host)|fill 0 max 1h|limit 5;',
    'cpu{host="a", region in ("x")} | every 5m avg(usage) as u, count by host | fill 0 max 1h | limit 5',
  ],
  [
    "cpu{host='$host', r in $r} | every $__interval over 10m rate by ()",
    'cpu{host=$host, r in $r} | every $__interval over 10m rate by ()',
  ],
  ['cpu | last() by door', 'cpu | last() by door'],
  ['`last` | max(`my field`)', 'last | max(`my field`)'],
])('reads %s', (text, printed) => {
  expect(print(readable(text))).toBe(printed);
  expect(print(readable(printed))).toBe(printed);
});

it('an empty text is an empty query', () => {
  expect(readable(' ')).toEqual(EMPTY);
  expect(print(EMPTY)).toBe('');
});

it.each([
  ['cpu | last 5m', 'range of its own'],
  ['cpu | where x > 1', 'where'],
  ['cpu | every 1m avg(x) | avg(avg_x) by region', 'more than one stage'],
  ['let a = cpu ; a', 'begins with let'],
  ['cpu ; mem', 'goes on'],
  ['cpu # why\n| count', 'comment'],
  ['cpu | every 1d sum(k) in "Europe/Berlin"', 'time zone'],
  ['cpu | every 1d offset 6h sum(k)', 'offset'],
  ['cpu | count | sort count', 'sort'],
  ['cpu | avg(field(host))', 'tag and field'],
  ['cpu{host="a"', 'do not end'],
  ['cpu | limit 5 offset 5', 'offset'],
  ['cpu | fill 0', 'does not follow'],
])('says why it cannot show %s', (text, why) => {
  const reading = read(text);
  expect('reason' in reading && reading.reason).toContain(why);
});
