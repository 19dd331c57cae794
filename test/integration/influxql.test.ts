/** The same data and queries in the embedded store, a real InfluxDB 1.8 and 2's compatible API: the same answers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SPECS } from '../../dashboards/all.ts';
import { STORE_RULES } from '../../dashboards/grafana-alerts.ts';
import { FIELDS } from '../../collector/fleet/fields.ts';
import { goneOf, goneReading, stateReading, type State } from '../../collector/fleet/standing.ts';
import type { Standing } from '../../collector/ledger/view.ts';
import { DuckDbStore } from '../../collector/store/duckdb.ts';
import { InfluxStore, parseInfluxAddress } from '../../collector/store/influxdb.ts';
import type { Change } from '../../collector/store/store.ts';
import { startInflux1, startInflux2, type Influx } from '../services/servers.ts';
import {
  MINUTE,
  QUERIES,
  T0,
  askEmbedded,
  difference,
  sampleChanges,
  merged,
  type Result,
} from '../support/influxql.ts';
import { temporaryFolder } from '../support/process.ts';

/** As Grafana fills in its own names and the variables. */
const FILL: Record<string, string> = {
  measurement: 'climate',
  field: 'temperature',
  result: 'climate',
  result_field: 'humidity',
  gateway: '.*',
  timeFilter: `time >= ${T0}ms AND time <= ${T0 + 1000 * MINUTE}ms`,
  __interval: '1h',
};
const DASHBOARDS = Object.values(SPECS).flatMap(({ variables, annotations = [], panels }) =>
  [
    ...[...variables, ...annotations, ...panels.flatMap((panel) => panel.queries)].map(
      ({ query }) => query,
    ),
    ...panels.flatMap(({ units }) => units ?? []),
    ...STORE_RULES.map(({ query }) => query),
  ].map((query) => query.replaceAll(/\$(\w+)/g, (_, name: string) => FILL[name] ?? `$${name}`)),
);

/** Alerts as stream rules write them, every third one late. */
function sampleAlerts(): Change[] {
  return Array.from({ length: 40 }, (_, at) => ({
    identity: { gateway: 'g', epoch: 'alerts', sequence: at, index: 0 },
    put: {
      sequence: at,
      index: 0,
      measurement: 'alerts',
      tags: {
        gateway: 'g',
        rule: at % 2 === 0 ? 'warm' : 'silent',
        measurement: 'climate',
        field: 'temperature',
      },
      fields: {
        active_bool: at % 4 < 2 || at === 39,
        late_bool: at % 3 === 0,
        message_text: `alert ${at}`,
        reason_text: 'above 20',
      },
      timeMs: T0 + at * 20 * MINUTE + at,
      ns: 0,
    },
  }));
}

/** What the collector says of gateways and fields: each state once, two losses, a unit. */
function sampleStates(): Change[] {
  const standing: Standing = {
    link: { connected: true, at: T0 },
    ...{ pending: 7, waiting: 7, held: 2, statusMs: T0 },
    missing: [{ from: 3, to: 5, since: T0 + 7 * MINUTE, epoch: 'e' }],
    lost: [{ from: 9, to: 9, cause: 'dropped', reason: 'full', since: T0 + MINUTE, epoch: 'e' }],
  };
  const told: [gateway: string, State | undefined, State][] = [
    ['g', undefined, 'fresh'],
    ['g', 'fresh', 'silent'],
    ['g', 'silent', 'on the way'],
    ['g', 'on the way', 'fresh'],
    ['h', undefined, 'silent'],
    ['i', undefined, 'on the way'],
    ['j', undefined, 'unsure'],
  ];
  const states = told.map(([gateway, before, state], at) =>
    stateReading({
      ...{ gateway, state, standing, late: 70, location: [57.1, -2.1], isAgain: false },
      before: before && { state: before, sinceMs: T0 },
      timeMs: T0 + at * 50 * MINUTE,
      sinceMs: T0 + at * 50 * MINUTE,
    }),
  );
  const gone = goneOf(standing).map((each) => goneReading('g', each, false));
  const field = {
    ...{ measurement: FIELDS, tags: { measurement: 'climate', field: 'temperature' } },
    fields: { unit_text: '°C', name_text: 'Temperature' },
    ...{ sequence: 1, index: 0, timeMs: T0, ns: 0 },
  };
  return [...states, ...gone, field].map((put, sequence) => ({
    identity: { gateway: '~fleet', epoch: 'e', sequence, index: 0 },
    put,
  }));
}

interface Answer {
  results: Result[];
}

describe.each([
  ['1.8', startInflux1, QUERIES],
  // Of 2 what its dialect gives alike; it names retention policies and databases its own way.
  ['2', startInflux2, QUERIES.filter((q) => !q.includes('"autogen"'))],
] as const)('InfluxQL as InfluxDB %s answers it', (_version, startInflux, queries) => {
  let influx: Influx;
  let store: DuckDbStore;
  let database: string;
  beforeAll(async () => {
    influx = await startInflux();
    store = new DuckDbStore(
      { folder: temporaryFolder(), memoryBytes: 256 * 1024 * 1024, now: () => Date.now() },
      () => undefined,
    );
    await store.open();
    const target = { ...parseInfluxAddress(influx.store), token: () => influx.token, caFile: '' };
    database = target.bucket;
    const peer = new InfluxStore(target, () => undefined);
    await peer.open();
    const changes = [...sampleChanges(), ...sampleAlerts(), ...sampleStates()];
    await store.apply(changes, new Map());
    await peer.apply(changes);
    await peer.close();
  });
  afterAll(async () => {
    await store.close();
    await influx.stop();
  });

  async function ask(q: string): Promise<Answer> {
    const query = new URLSearchParams({ db: database, epoch: 'ns', q });
    const response = await fetch(`http://${influx.address}/query?${query}`, {
      headers: influx.token === '' ? {} : { authorization: `Token ${influx.token}` },
    });
    return (await response.json()) as Answer;
  }

  it('every query of the dashboards gives data, the same here and there', async () => {
    const differ: string[] = [];
    for (const q of DASHBOARDS) {
      const theirs = await ask(q);
      expect(theirs.results[0]?.series?.[0]?.values.length, q).toBeGreaterThan(0);
      const ours = (await askEmbedded(store, q)) as Answer;
      const found = difference(merged(ours.results), merged(theirs.results));
      if (found !== undefined) differ.push(`${q}\n  ${found}`);
    }
    expect(differ).toEqual([]);
  });

  it('counts exactly, floats within 1e-9', async () => {
    const differ: string[] = [];
    for (const q of queries) {
      const theirs = merged((await ask(q)).results);
      const found = difference(merged(((await askEmbedded(store, q)) as Answer).results), theirs);
      if (found !== undefined) differ.push(`${q}\n  ${found}`);
    }
    expect(differ).toEqual([]);
  });
});
