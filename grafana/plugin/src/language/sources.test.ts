import { sources, withFilters } from './sources';

const found = (text: string) => sources(text).map(({ name }) => name);

it('finds the tables that a script reads', () => {
  expect(found('cpu{a="b"} | join `two words` on time | asof join x on y within 2s')).toEqual([
    'cpu',
    'two words',
    'x',
  ]);
  expect(found('let a = cpu | every 1m avg(u) ; let b = a | where u > 1 ; b | left join a on time')).toEqual(['cpu']);
  expect(found('explain mem | limit 1')).toEqual(['mem']);
  expect(found('show tables; drop rollup r')).toEqual([]);
  expect(found('')).toEqual([]);
});

it('puts filters into braces, as bound values', () => {
  const filters = [
    { tag: 'host', operator: '=~' as const, values: ['a"}'] },
    { tag: 'my tag', operator: 'not in' as const, values: ['x', 'y'] },
  ];
  expect(withFilters('cpu | limit 1', () => filters)).toMatchObject({
    text: 'cpu{host =~ $filter_1, `my tag` not in $filter_2} | limit 1',
    params: { filter_1: 'a"}', filter_2: ['x', 'y'] },
  });
  expect(withFilters('cpu{} | limit 1', () => filters.slice(0, 1)).text).toBe('cpu{host =~ $filter_1, } | limit 1');
  const joined = withFilters('cpu{a="b"} | join mem on time', (source) =>
    source === 'mem' ? filters.slice(0, 1) : []
  );
  expect(joined.text).toBe('cpu{a="b"} | join mem{host =~ $filter_1} on time');
});
