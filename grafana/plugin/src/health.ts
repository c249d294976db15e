// The check of "Save & test": along the way that queries go.

import { TestDataSourceResponse } from '@grafana/data';

import { Refused, Server } from './server';

export async function health(server: Server): Promise<TestDataSourceResponse> {
  const { database } = server;
  try {
    const tables = await server.rows({ text: 'show tables' });
    if (tables.length > 0) {
      const counted = tables.length === 1 ? '1 table' : `${tables.length} tables`;
      return { status: 'success', message: `Waterclock answers. The database ${database} has ${counted}.` };
    }
    const databases = await server.databases();
    const others = databases.filter((name) => name !== database);
    const there = others.length > 0 ? ` There are data in: ${others.join(', ')}.` : '';
    const empty = databases.includes(database)
      ? `The database ${database} has no tables yet.`
      : `There is no database ${database} yet; it is made on first write.`;
    return { status: 'success', message: `Waterclock answers. ${empty}${there}` };
  } catch (error) {
    const message = error instanceof Refused ? error.sentence : String(error);
    return { status: 'error', message };
  }
}
