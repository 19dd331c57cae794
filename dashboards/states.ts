/** How gateways stand (`collector/fleet/standing.ts` says it, a point for each change and hour), as panels share it. */
import type { AnnotationSpec, ColumnSpec, PanelSpec, States } from './model.ts';

export const GATEWAY_STATES: States = {
  fresh: { text: 'fresh', color: 'green' },
  silent: { text: 'silent', color: 'red' },
  'on the way': { text: 'on the way', color: 'orange' },
  unsure: { text: 'unsure', color: 'purple' },
};

const OF_GATEWAY = '"gateway" =~ /^$gateway$/';
export const STATED = `"headwater_gateways" WHERE $timeFilter AND ${OF_GATEWAY}`;
export const GONE = `"headwater_losses" WHERE $timeFilter AND ${OF_GATEWAY} AND "messages" > 0`;

/** Beside lines of readings, over the same time: where one has a gap, this says why. */
export const STATE_TIMELINE: PanelSpec = {
  title: 'Why there is a gap',
  kind: 'state-timeline',
  about:
    'Why is there nothing at a time? Silent: the gateway was out of reach, and what it held comes later; on the way: it is coming; unsure: it waits for a clock; fresh: the sensor itself said nothing, unless the ledger names a loss.',
  width: 24,
  height: 6,
  states: GATEWAY_STATES,
  queries: [
    {
      query: `SELECT "state_text" FROM ${STATED} GROUP BY "gateway"`,
      alias: '$tag_gateway',
      quiet: true,
    },
  ],
};

const happened = (name: string, color: string, events: string): AnnotationSpec => ({
  name,
  color,
  query: `SELECT "reason_text", "event_text", "gateway" FROM ${STATED} AND "event_text" =~ /^(${events})$/`,
  text: 'reason_text',
  tags: 'event_text,gateway',
});

/** Why a line has a gap, and what filled it later. */
export const ANNOTATIONS: AnnotationSpec[] = [
  happened('Outages', 'red', 'outage|clock'),
  happened('Backfill', 'orange', 'back|backfill|complete'),
  {
    name: 'Losses',
    color: 'purple',
    query: `SELECT "reason_text", "cause", "gateway" FROM ${GONE}`,
    text: 'reason_text',
    tags: 'cause,gateway',
  },
];

const NONE_IS_WELL = [
  { from: -Infinity, color: 'green' },
  { from: 1, color: 'red' },
];
const SOME_IS_NEWS = [
  { from: -Infinity, color: 'green' },
  { from: 1, color: 'orange' },
];

/** Of the newest word on each gateway. */
export const GATEWAY_COLUMNS: Record<string, ColumnSpec> = {
  // Of several newest values the time is that of the range.
  Time: { isHidden: true },
  gateway: {
    width: 150,
    to: {
      title: 'This gateway',
      uid: 'headwater-gateway',
      with: { gateway: '{gateway}' },
    },
  },
  state: { states: GATEWAY_STATES, width: 100 },
  since: { unit: 'dateTimeAsIso', width: 170 },
  waiting: { label: 'on the way', unit: 'short', thresholds: SOME_IS_NEWS, width: 100 },
  held: { label: 'waits for its clock', unit: 'short', thresholds: SOME_IS_NEWS, width: 150 },
  missing: { unit: 'short', thresholds: NONE_IS_WELL, width: 90 },
  lost: { unit: 'short', thresholds: NONE_IS_WELL, width: 90 },
  why: { isText: true },
};

export const NEWEST_WORD = `SELECT last("state_text") AS "state", last("since") AS "since", last("waiting") AS "waiting", last("held") AS "held", last("missing") AS "missing", last("lost") AS "lost", last("reason_text") AS "why" FROM ${STATED} GROUP BY "gateway"`;
