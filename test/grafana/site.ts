/** A made-up day of three gateways in an embedded store, for pictures: the same one each time. */
import { FIELDS } from '../../collector/fleet/fields.ts';
import {
  goneOf,
  goneReading,
  stateReading,
  type Saying,
  type State,
} from '../../collector/fleet/standing.ts';
import type { Standing } from '../../collector/ledger/view.ts';
import type { Change } from '../../collector/store/store.ts';
import type { FieldValue, Reading } from '../../shared/model/reading.ts';

export const FROM_MS = Date.UTC(2026, 5, 1);
export const TO_MS = FROM_MS + 86_400_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const PLACES: Record<string, [number, number]> = {
  barn: [57.1497, -2.0943],
  harbour: [57.1432, -2.0801],
  quarry: [57.163, -2.14],
};
/** Gateway and room. */
const ROOMS = [
  ['barn', 'stable'],
  ['barn', 'loft'],
  ['harbour', 'cold store'],
  ['quarry', 'office'],
] as const;
/** Hours of the day in which nothing came of a gateway: what one of them had then is lost, the other is still away. */
const AWAY: Record<string, [from: number, to: number]> = {
  harbour: [9, 12.5],
  quarry: [20.25, 24],
};

const place = (timeMs: number): Pick<Reading, 'sequence' | 'index' | 'timeMs' | 'ns'> => ({
  ...{ sequence: Math.round(timeMs / 1000), index: 0, timeMs, ns: 0 },
});

function climate(): Reading[] {
  const readings: Reading[] = [];
  for (let minute = 0; minute < 1440; minute += 2)
    for (const [at, [gateway, room]] of ROOMS.entries()) {
      const hour = minute / 60;
      const [from, to] = AWAY[gateway] ?? [24, 24];
      if (hour >= from && hour < to) continue;
      const noise = ((minute * 7919 + at * 104_729) % 100) / 100;
      const wave = 14 + at * 2.5 + 5 * Math.sin(((hour - 9) / 24) * 2 * Math.PI) + noise;
      const temperature = room === 'cold store' ? Math.max(4, wave - 16) : wave;
      readings.push({
        measurement: 'climate',
        tags: { gateway, room },
        fields: {
          temperature: Math.round(temperature * 100) / 100,
          humidity: room === 'office' ? 41 : Math.min(95, Math.round(110 - wave * 2.2)),
        },
        ...place(FROM_MS + minute * MINUTE + at),
      });
    }
  return readings;
}

/** As a rule with a window of an hour gives them. */
function means(readings: readonly Reading[]): Reading[] {
  const sums = new Map<string, { tags: Record<string, string>; hour: number; all: number[] }>();
  for (const { tags, timeMs, fields } of readings) {
    const hour = Math.floor(timeMs / HOUR);
    const key = `${JSON.stringify(tags)} ${hour}`;
    const sum = sums.get(key) ?? { tags, hour, all: [] };
    sums.set(key, sum);
    sum.all.push(Number(fields['temperature']));
  }
  return [...sums.values()].map(({ tags, hour, all }) => ({
    measurement: 'climate_hourly',
    tags,
    fields: {
      temperature_count: all.length,
      temperature_max: Math.max(...all),
      temperature_mean: all.reduce((sum, each) => sum + each, 0) / all.length,
    },
    ...place(hour * HOUR),
  }));
}

function alerts(): Reading[] {
  const told: [hour: number, rule: string, room: string, isActive: boolean, why: string][] = [
    [9.5, 'quiet', 'cold store', true, 'gateway_unreachable'],
    [12.6, 'quiet', 'cold store', false, ''],
    [13.2, 'too_warm', 'office', true, 'above 27'],
    [17.8, 'too_warm', 'office', false, 'below 26'],
    [20.75, 'quiet', 'office', true, 'gateway_unreachable'],
  ];
  return told.map(([hour, rule, room, isActive, why]) => {
    const gateway = ROOMS.find(([, of]) => of === room)?.[0] ?? '';
    const fields: Record<string, FieldValue> = {
      active_bool: isActive,
      late_bool: rule === 'too_warm' && !isActive,
      message_text: `${rule} of ${room} ${isActive ? 'holds' : 'has ended'}`,
      ...(why === '' ? {} : { reason_text: why }),
    };
    const tags = { gateway, room, rule, measurement: 'climate', field: 'temperature' };
    return { measurement: 'alerts', tags, fields, ...place(FROM_MS + hour * HOUR) };
  });
}

function states(): Reading[] {
  const standing = (more: Partial<Standing>): Standing => ({
    link: { connected: true, at: FROM_MS },
    ...{ pending: 0, waiting: 0, held: 0, statusMs: 0, missing: [], lost: [], ...more },
  });
  const lost: Standing['lost'] = [
    {
      ...{ from: 41_200, to: 41_619, cause: 'dropped', since: FROM_MS + 12.5 * HOUR },
      ...{ reason: 'the buffer was full for 42 min: oldest first', epoch: 'd3b07384d113edec' },
    },
  ];
  const readings: Reading[] = [];
  const told: [gateway: string, hour: number, state: State, of?: Partial<Standing>][] = [
    ['barn', 0, 'fresh'],
    ['harbour', 0, 'fresh'],
    ['harbour', 9, 'silent'],
    ['harbour', 12.5, 'on the way', { pending: 2310, lost }],
    ['harbour', 12.8, 'fresh', { lost }],
    ['quarry', 0, 'unsure', { held: 12 }],
    ['quarry', 0.4, 'fresh'],
    ['quarry', 20.25, 'silent', { pending: 38 }],
  ];
  const before = new Map<string, Saying['before']>();
  for (const [gateway, hour, state, of = {}] of told) {
    const sinceMs = FROM_MS + hour * HOUR;
    readings.push(
      stateReading({
        ...{ gateway, state, standing: standing(of), sinceMs, timeMs: sinceMs },
        ...{ late: 2310, location: PLACES[gateway], isAgain: before.get(gateway) === undefined },
        before: before.get(gateway),
      }),
    );
    before.set(gateway, { state, sinceMs });
  }
  for (const each of goneOf(standing({ lost }))) readings.push(goneReading('harbour', each, false));
  return readings;
}

function fields(): Reading[] {
  const said = [
    ['temperature', '°C', 'Air temperature'],
    ['humidity', '%', 'Relative humidity'],
  ] as const;
  return said.map(([field, unit, name]) => ({
    measurement: FIELDS,
    tags: { measurement: 'climate', field },
    fields: { unit_text: unit, name_text: name },
    ...place(FROM_MS),
  }));
}

export function changes(): Change[] {
  const readings = climate();
  return [...readings, ...means(readings), ...alerts(), ...states(), ...fields()].map(
    (put, sequence) => ({
      identity: { gateway: '~made', epoch: 'day', sequence, index: 0 },
      put: { ...put, sequence },
    }),
  );
}
