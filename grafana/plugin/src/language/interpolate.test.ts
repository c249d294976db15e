import { bind, Held, Lookup, VariableError, writeOut } from './interpolate';
import { placeOf, offsetOf } from './places';

function lookup(held: Record<string, Held>): Lookup {
  return (name, format) =>
    format === undefined ? held[name] : name in held ? { values: [`${format} of ${name}`], several: false } : undefined;
}

const one = (value: string): Held => ({ values: [value], several: false });
const several = (...values: string[]): Held => ({ values, several: true });

const known = lookup({
  host: one('web-1'),
  hosts: several('a"b', 'c|d'),
  regions: several('eu'),
  pattern: one('web-.*'),
  all: { values: ['.*'], several: false, raw: true },
  least: one('60'),
  step: one('5m'),
  field: one('usage user'),
  tags: several('host', 'region'),
  agg: one('max'),
  hostile: one('x"} | limit 0 ; drop rollup r'),
});

const bound = (text: string) => {
  const { text: written, params } = bind(text, known);
  return { text: written, params };
};

describe('values are bound, never pasted', () => {
  it.each([
    ['cpu{host=$host}', 'cpu{host=$host}', { host: 'web-1' }],
    ['cpu{host in $hosts}', 'cpu{host in $hosts}', { hosts: ['a"b', 'c|d'] }],
    // A variable of several values is a list, also while it has one.
    ['cpu{region in $regions}', 'cpu{region in $regions}', { regions: ['eu'] }],
    [
      'cpu{host not in ($host, "z", $hosts)}',
      'cpu{host not in ($host, "z", $hosts, $hosts_2)}',
      { host: 'web-1', hosts: 'a"b', hosts_2: 'c|d' },
    ],
    ['cpu{host=~$pattern}', 'cpu{host=~$pattern}', { pattern: 'web-.*' }],
    ['cpu{host=~$hosts}', 'cpu{host=~$hosts}', { hosts: '(a"b|c\\|d)' }],
    ['cpu{host=~$all}', 'cpu{host=~$all}', { all: '.*' }],
    ['cpu | where usage > $least', 'cpu | where usage > $least', { least: 60 }],
    ['cpu | every $step max(u)', 'cpu | every $step max(u)', { step: '5m' }],
    ['cpu | limit $least', 'cpu | limit $least', { least: 60 }],
    // In quotes it is the same, and among other characters one text.
    ['cpu{host="$host"}', 'cpu{host=$host}', { host: 'web-1' }],
    ["cpu{host='a-${host}-z'}", 'cpu{host=$text_1}', { text_1: 'a-web-1-z' }],
    ['cpu{host=~"x-$hosts"}', 'cpu{host=~$text_1}', { text_1: 'x-(a"b|c\\|d)' }],
    // The same variable as a text and as a list are two parameters.
    ['cpu{host=$regions, r in $regions}', 'cpu{host=$regions, r in $regions_2}', { regions: 'eu', regions_2: ['eu'] }],
    ['cpu{host=$host, r=$host}', 'cpu{host=$host, r=$host}', { host: 'web-1' }],
    ['cpu | where n = ${least:number}', 'cpu | where n = $least', { least: 60 }],
    ['cpu{host=${host:upper}}', 'cpu{host=$host}', { host: 'upper of host' }],
    // What does not exist stays, and the server names it.
    ['cpu{host=$nobody, a="$5 off"}', 'cpu{host=$nobody, a="$5 off"}', {}],
    ['cpu # $host\n| limit 5', 'cpu # $host\n| limit 5', {}],
    ['energy | every 1d sum(k) in $host', 'energy | every 1d sum(k) in $host', { host: 'web-1' }],
  ])('%s', (text, expected, params) => {
    expect(bound(text)).toEqual({ text: expected, params });
  });

  it('a hostile value stays a value', () => {
    expect(bound('cpu{host=$hostile} | avg(usage)')).toEqual({
      text: 'cpu{host=$hostile} | avg(usage)',
      params: { hostile: 'x"} | limit 0 ; drop rollup r' },
    });
    expect(bound('cpu | avg($hostile)').text).toBe('cpu | avg(`x"} | limit 0 ; drop rollup r`)');
    expect(() => bound('cpu | $hostile(usage)')).toThrow('is no function of WQL');
  });
});

describe('names', () => {
  it.each([
    ['cpu | every 1m avg($field) by $tags', 'cpu | every 1m avg(`usage user`) by host, region'],
    ['$host | limit 1', '`web-1` | limit 1'],
    ['cpu | every 1m $agg(usage)', 'cpu | every 1m max(usage)'],
    ['show values of $host from cpu{region in $regions}', 'show values of `web-1` from cpu{region in $regions}'],
    ['cpu | where $field > 5', 'cpu | where `usage user` > 5'],
  ])('%s', (text, expected) => {
    expect(bound(text).text).toBe(expected);
  });
});

it('the range and the step are left to the backend', () => {
  const text = 'cpu{a="$__interval"} | where $__timeFilter(time) and n > ${__range_s} | every $__interval avg(u)';
  expect(bound(text)).toEqual({ text, params: {} });
  // In a format they are Grafana's.
  expect(bound('cpu{host=${__from:date}}').text).toBe('cpu{host=${__from:date}}');
});

it('one value where one is wanted', () => {
  expect(() => bound('cpu{host=$hosts}')).toThrow(VariableError);
  expect(() => bound('cpu{host=$hosts}')).toThrow('in $hosts');
});

it('places of the sent text are places of the written one', () => {
  const text = 'cpu{host=~"😀-$host"}\n| where u > $least\n| evry 5m';
  const sent = bind(text, known);
  const at = sent.text.indexOf('evry');
  expect(text.slice(sent.back(at))).toBe('evry 5m');
  expect(placeOf(text, sent.back(at))).toEqual({ line: 3, column: 3 });
  // Columns count characters, of which one may be two units.
  expect(text.slice(offsetOf(text, { line: 1, column: 13 }))).toMatch(/^-\$host/);
});

it('Explore gets values written out', () => {
  expect(
    writeOut(
      'cpu{host=$host, r in $hosts, p=~$hosts} | every $__interval avg($field) by $tags | where u > $least',
      known
    )
  ).toBe(
    'cpu{host="web-1", r in ("a\\"b", "c|d"), p=~"(a\\"b|c\\\\|d)"} | every $__interval avg(`usage user`) by host, region | where u > 60'
  );
});
