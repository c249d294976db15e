// force timezone to UTC to allow tests to work regardless of local timezone
// generally used by snapshots, but can affect specific tests
process.env.TZ = 'UTC';

const scaffolded = require('./.config/jest.config');
const [[, swc]] = Object.entries(scaffolded.transform);

module.exports = {
  // Jest configuration provided by Grafana scaffolding
  ...scaffolded,
  // Some of @grafana/data's dependencies are .mjs files, which the scaffolding does not transform.
  transform: { '^.+\\.(mjs|[tj]sx?)$': swc },
};
