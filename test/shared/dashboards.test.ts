/** What every dashboard keeps to, whatever it asks: names that exist, uids and panels apart, links, units, provisioned sources. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { COLLECTOR_PARTS } from '../../collector/collector.ts';
import { METRIC_SPECS, SPECS, dashboards } from '../../dashboards/all.ts';
import { CONTACT, STORE_RULES, alerting } from '../../dashboards/grafana-alerts.ts';
import { SOURCES } from '../../dashboards/grafana.ts';
import { FIELDS } from '../../collector/fleet/fields.ts';
import { GATEWAYS, LOSSES } from '../../collector/fleet/standing.ts';
import { GATEWAY_PARTS } from '../../gateway/gateway.ts';
import { ROOT } from '../support/process.ts';

const GRAFANA = join(ROOT, 'dashboards/grafana');
const sources = join(GRAFANA, 'provisioning/datasources');
const provisioned = readdirSync(sources).flatMap(
  (file) =>
    (
      parse(readFileSync(join(sources, file), 'utf8')) as {
        datasources: { uid: string; type: string; url: string; isDefault?: boolean }[];
      }
    ).datasources,
);

interface PanelAsked {
  type: string;
  title: string;
  fieldConfig: { defaults: { custom?: Record<string, unknown> } };
  targets: { refId: string; query?: string }[];
}

describe('dashboards', () => {
  it('have uids of their own, panels that do not lie over one another, and links that keep variables and range', () => {
    const models = Object.values(dashboards());
    expect(new Set(models.map(({ uid }) => uid)).size).toBe(models.length);
    for (const { uid = '', tags, links, panels = [] } of models) {
      expect(uid).toMatch(/^headwater-[a-z-]{1,30}$/);
      expect(links).toContainEqual(
        expect.objectContaining({ type: 'dashboards', tags, includeVars: true, keepTime: true }),
      );
      const taken = new Set<string>();
      for (const { gridPos = { x: 0, y: 0, w: 0, h: 0 } } of panels)
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(x, uid).toBeLessThan(24);
            expect(taken, uid).not.toContain(`${x} ${y}`);
            taken.add(`${x} ${y}`);
          }
    }
  });

  it('ask a data source that is chosen among those of its kind, first the one that provisioning makes; one is the default', () => {
    for (const { uid = '', templating, ...rest } of Object.values(dashboards())) {
      const text = JSON.stringify([rest, templating]);
      const [chosen] = templating?.list ?? [];
      const source = Object.values(SOURCES).find(({ type }) => type === chosen?.query);
      expect(chosen, uid).toMatchObject({ type: 'datasource', current: { value: source?.uid } });
      const asked = [...text.matchAll(/"datasource":(\{[^}]*\}[^}]*\})/g)].map(([, each]) => each);
      expect(new Set(asked), uid).toEqual(
        new Set([`{"type":"${source?.type}","uid":"\${${source?.variable}}"}`]),
      );
    }
    expect(
      Object.values(SOURCES)
        .map(({ type, uid }) => `${type} ${uid}`)
        .toSorted(),
    ).toEqual(provisioned.map(({ type, uid }) => `${type} ${uid}`).toSorted());
    expect(provisioned.filter(({ isDefault }) => isDefault === true)).toHaveLength(1);
    const compose = readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
    for (const { url } of provisioned) expect(compose).toContain(`${url.slice(2, -1)}: `);
  });

  it('use no variable that they do not declare, and each panel says its question', () => {
    const own = new Set(['timeFilter', '__interval', '__rate_interval', 'tag_NAME']);
    for (const { uid, variables, panels } of Object.values({ ...SPECS, ...METRIC_SPECS })) {
      const known = new Set([...own, ...variables.map(({ name }) => name)]);
      for (const { title, about, queries } of panels) {
        expect(about.length, `${uid} ${title}`).toBeGreaterThan(20);
        for (const text of [title, about, ...queries.map(({ query }) => query)])
          for (const [, name] of text.matchAll(/\$(\w+)/g)) expect(known, uid).toContain(name);
      }
    }
  });

  it('have alert rules with uids of their own, that ask the provisioned store, and a contact point that compose has an address for', () => {
    const folder = join(GRAFANA, 'provisioning/alerting');
    const read = (file: string): unknown => parse(readFileSync(join(folder, file), 'utf8'));
    const { rules, 'contact-points': contacts } = alerting();
    expect(read('rules.yaml')).toEqual(rules);
    expect(read('contact-points.yaml')).toEqual(contacts);
    expect(new Set(STORE_RULES.map(({ uid }) => uid)).size).toBe(STORE_RULES.length);
    for (const { uid } of [...STORE_RULES, CONTACT])
      expect(uid).toMatch(/^headwater-[a-z-]{1,30}$/);
    const compose = readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
    const named = JSON.stringify(contacts).match(/\$\{(\w+)\}/)?.[1] ?? '';
    expect(compose).toContain(`${named}: `);
  });

  it('work with each of the other stores by the same uid', () => {
    const others = join(GRAFANA, 'sources');
    const all = readdirSync(others).map((file) => {
      const { datasources } = parse(readFileSync(join(others, file), 'utf8')) as {
        datasources: { uid: string; type: string; jsonData: Record<string, string> }[];
      };
      return [file, datasources.map(({ uid, type, jsonData }) => [uid, type, jsonData['version']])];
    });
    const same = [[SOURCES.influxdb.uid, 'influxdb', 'InfluxQL']];
    expect(all.toSorted()).toEqual([
      ['collector.yaml', same],
      ['influxdb-1.yaml', same],
      ['influxdb-3.yaml', same],
    ]);
  });

  it('lead to dashboards that there are, with variables that those have', () => {
    const variables = new Map(
      Object.values(dashboards()).map(({ uid, templating }) => [
        uid,
        new Set(templating?.list?.map(({ name }) => name)),
      ]),
    );
    const led = new Set<string>();
    for (const model of Object.values(dashboards()))
      for (const [, uid = '', query = ''] of JSON.stringify(model).matchAll(
        /"url":"\/d\/([\w-]+)\?((?:[^"\\]|\\.)*)"/g,
      )) {
        expect(variables.has(uid), uid).toBe(true);
        led.add(uid);
        // What a device has named sets no other variable there.
        expect(query).not.toMatch(/__data\.fields\[[^\]]*\]\}/);
        for (const [, name = ''] of query.matchAll(/var-(\w+)=/g))
          expect(variables.get(uid), `${uid} ${name}`).toContain(name);
      }
    expect([...led].toSorted()).toEqual([
      'headwater-explorer',
      'headwater-gateway',
      'headwater-ledger',
    ]);
  });

  it('say why a line has a gap: outages, what came late and losses are marked on each of the store', () => {
    for (const { uid = '', annotations } of Object.values(dashboards()))
      expect(
        annotations?.list?.map(({ name, enable }) => [name, enable]),
        uid,
      ).toEqual(
        expect.arrayContaining([
          ['Outages', true],
          ['Backfill', true],
        ]),
      );
    for (const { uid, annotations = [] } of Object.values(SPECS))
      expect(
        annotations.map(({ name }) => name),
        uid,
      ).toContain('Losses');
  });

  it('cut lines of the store at intervals in which nothing came, however wide they are, and leave those of Prometheus to Grafana', () => {
    for (const { uid = '', panels = [], templating } of Object.values(dashboards())) {
      const isOfStore = templating?.list?.[0]?.query === 'influxdb';
      // Rows of panels have no dashboard of ours.
      for (const panel of panels as unknown as PanelAsked[]) {
        const { custom } = panel.fieldConfig.defaults;
        if (panel.type !== 'timeseries' || custom === undefined) continue;
        // A threshold of the panel's own would be in the place of the distance that the data source tells.
        expect(custom, `${uid} ${panel.title}`).not.toHaveProperty('insertNulls');
        if (!isOfStore) expect(custom, `${uid} ${panel.title}`).not.toHaveProperty('spanNulls');
        else if (custom['spanNulls'] !== undefined)
          for (const { query = '', refId } of panel.targets)
            if (refId !== 'units') expect(query, uid).toMatch(/ fill\((?:null|0)\)$/);
        if (
          isOfStore &&
          custom['drawStyle'] === undefined &&
          custom['lineInterpolation'] === undefined
        )
          expect(custom['spanNulls'], `${uid} ${panel.title}`).toBeGreaterThan(0);
      }
    }
  });

  it('know the words for gateways, losses and fields as the collector writes them', () => {
    const written = [GATEWAYS, LOSSES, FIELDS];
    for (const { panels, annotations = [] } of Object.values(SPECS))
      for (const { query } of [...panels.flatMap(({ queries }) => queries), ...annotations])
        for (const [name] of query.matchAll(/headwater_\w+/g)) expect(written).toContain(name);
  });

  it('offer fields that a mean can be made of where they make means', () => {
    for (const { title, templating, panels } of Object.values(dashboards())) {
      const text = JSON.stringify(panels);
      for (const { name, regex = '' } of templating?.list ?? []) {
        if (!/(?:mean|spread)\(\\"\$(\w+)\\"/.test(text) || !name.includes('field')) continue;
        const taken = ['temperature', 'state_text', 'open_bool', 'text', 'no_text_at_all'].filter(
          (field) => new RegExp(regex.slice(1, -1)).test(field),
        );
        expect(taken, `${title} ${name}`).toEqual(['temperature', 'text', 'no_text_at_all']);
      }
    }
  });

  it('name only metrics that a side has', () => {
    const known = new Set(
      [...COLLECTOR_PARTS, ...GATEWAY_PARTS].flatMap(({ metrics = {} }) =>
        Object.entries(metrics).flatMap(([name, { type }]) =>
          type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name],
        ),
      ),
    );
    for (const { panels, variables, annotations = [] } of Object.values(METRIC_SPECS))
      for (const { query } of [
        ...panels.flatMap(({ queries }) => queries),
        ...variables,
        ...annotations,
      ])
        for (const name of query.match(/headwater_\w+/g) ?? [])
          expect(known, query).toContain(name);
  });

  it('give figures of metrics a unit or names', () => {
    for (const { panels } of Object.values(METRIC_SPECS))
      for (const { title, unit, states } of panels)
        expect(unit ?? states, `${title} has neither`).toBeDefined();
  });
});
