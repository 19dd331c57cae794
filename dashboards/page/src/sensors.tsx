/** All sensors: a list that draws only what is in sight, and the chart of the one that is chosen. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Connect } from './connect.tsx';
import { save } from './csv.ts';
import { Search } from './parts.tsx';
import { choose, hashOf, type Place } from './route.ts';
import { areResults, rowsOf, type Row } from './rows.ts';
import { SensorPanel } from './sensor.tsx';
import {
  ageOf,
  fieldOf,
  agoText,
  countText,
  momentText,
  plain,
  sensorOf,
  valueText,
  type Series,
} from './series.ts';
import { state, useStore } from './store.ts';

const ROW_PX = 46;
const FRESH_MS = 1500;
/** Rows outside of what is seen, so that scrolling shows no holes. */
const BESIDE = 6;

function SensorRow({
  series,
  index,
  isChosen,
  isNew,
  place,
}: {
  series: Series;
  index: number;
  isChosen: boolean;
  isNew: boolean;
  place: Place;
}) {
  const nowMs = Date.now();
  const { measurement, time, value, unit, heardMs, tags, key } = series;
  const age = ageOf(time, nowMs);
  const isFresh = nowMs - heardMs < FRESH_MS;
  const all = Object.entries(tags).map(([name, each]) => `${plain(name)}: ${plain(each)}`);
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      class={`row ${age} ${isChosen ? 'chosen' : ''} ${isFresh ? 'heard' : ''}`}
      style={{ top: `${index * ROW_PX}px` }}
    >
      <span role="cell" class="what">
        <a
          href={hashOf('sensors', {
            ...Object.fromEntries(place.choices),
            s: key,
            from: '',
            to: '',
            with: '',
          })}
          aria-current={isChosen ? 'true' : undefined}
          title={all.join('\n')}
        >
          <bdi>{sensorOf(series) || plain(measurement)}</bdi>
        </a>
        <small>
          {isNew && <em>new </em>}
          <bdi>{plain(measurement)}</bdi> · <bdi>{fieldOf(series)}</bdi>
        </small>
      </span>
      <span role="cell" class="value" title={valueText(value, unit)}>
        <bdi>{valueText(value, unit)}</bdi>
      </span>
      <span role="cell" class="when" title={momentText(time)}>
        {agoText(time, nowMs)}
      </span>
    </div>
  );
}

function List({ rows, chosen, place }: { rows: Row[]; chosen: string; place: Place }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 800 });
  useEffect(() => {
    const element = scroller.current;
    if (element === null) return undefined;
    const look = (): void => setSeen({ top: element.scrollTop, height: element.clientHeight });
    look();
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);
  const isResult = areResults();
  const from = Math.max(0, Math.floor(seen.top / ROW_PX) - BESIDE);
  const to = Math.min(rows.length, Math.ceil((seen.top + seen.height) / ROW_PX) + BESIDE);
  return (
    <div class="list" role="table" aria-label="Sensors" aria-rowcount={rows.length + 1}>
      <div role="row" class="heads" aria-rowindex={1}>
        <span role="columnheader">Sensor</span>
        <span role="columnheader" class="value">
          Value
        </span>
        <span role="columnheader" class="when">
          Last reading
        </span>
      </div>
      <div class="scroller" ref={scroller} tabIndex={0} role="rowgroup">
        <div role="presentation" class="all" style={{ height: `${rows.length * ROW_PX}px` }}>
          {rows.slice(from, to).map((row, at) =>
            'heading' in row ? (
              <div
                key={`group ${row.heading}`}
                role="row"
                aria-rowindex={from + at + 2}
                class="row heading"
                style={{ top: `${(from + at) * ROW_PX}px` }}
              >
                <span role="cell">
                  <bdi>{row.heading}</bdi> <small>{countText(row.count)}</small>
                </span>
              </div>
            ) : (
              <SensorRow
                key={row.series.key}
                series={row.series}
                index={from + at}
                isChosen={row.series.key === chosen}
                isNew={row.series.appeared > 0 && !isResult(row.series)}
                place={place}
              />
            ),
          )}
        </div>
      </div>
    </div>
  );
}

/** Tags by which it makes sense to group: those that some series share. */
function groupsOf(): string[] {
  const names = new Set<string>();
  for (const { tags } of state.series.values())
    for (const name of Object.keys(tags)) names.add(name);
  return [
    'measurement',
    'field',
    ...[...names]
      .filter((name) => name !== 'measurement' && name !== 'field')
      .sort()
      .slice(0, 30),
  ];
}

function Choices({
  search,
  sort,
  group,
  rows,
}: {
  search: string;
  sort: string;
  group: string;
  rows: Row[];
}) {
  const { kinds } = useStore();
  const groups = useMemo(groupsOf, [kinds]);
  return (
    <div class="controls" role="search">
      <Search what="sensors" text={search} />
      <label>
        Sort{' '}
        <select
          value={sort}
          onChange={(event) => choose({ sort: event.currentTarget.value }, 'replace')}
        >
          <option value="">new first</option>
          <option value="name">name</option>
          <option value="last">last reading</option>
          <option value="oldest">longest silent</option>
          <option value="value">value</option>
        </select>
      </label>
      <label>
        Group{' '}
        <select
          value={group}
          onChange={(event) => choose({ group: event.currentTarget.value }, 'replace')}
        >
          <option value="">none</option>
          {groups.map((name) => (
            <option key={name} value={name}>
              {plain(name)}
            </option>
          ))}
        </select>
      </label>
      <button type="button" class="save" onClick={() => saveList(rows)}>
        CSV of this list
      </button>
    </div>
  );
}

/** What is listed, in its order. */
const saveList = (rows: Row[]): void =>
  save('sensors', [
    ['sensor', 'measurement', 'field', 'value', 'unit', 'time', 'tags'],
    ...rows.flatMap((row) => {
      if (!('series' in row)) return [];
      const { series } = row;
      const { measurement, field, value, unit, time, tags } = series;
      const list = Object.entries(tags).map(([name, each]) => `${name}=${each}`);
      return [
        [
          ...[sensorOf(series), measurement, field, value === null ? '' : String(value), unit],
          ...[new Date(time).toISOString(), list.join(' ')],
        ],
      ];
    }),
  ]);

/** Without a choice the chart is that of the front row with numbers. */
function frontOf(rows: Row[]): Series | undefined {
  for (const row of rows)
    if ('series' in row && typeof row.series.value === 'number') return row.series;
  return rows.flatMap((row) => ('series' in row ? [row.series] : []))[0];
}

export function SensorsView({ place }: { place: Place }) {
  const { series, round } = useStore();
  return series.size === 0 && round > 0 ? <Connect /> : <Sensors place={place} />;
}

function Sensors({ place }: { place: Place }) {
  const { series, connection, readings, round } = useStore();
  const [search, sort, group, asked] = ['q', 'sort', 'group', 's'].map(
    (name) => place.choices.get(name) ?? '',
  ) as [string, string, string, string]; // As many as names.
  const rows = rowsOf(search, sort, group, Date.now());
  const chosen = series.get(asked) ?? frontOf(rows);
  const found = rows.filter((row) => 'series' in row).length;
  const isResult = areResults();
  const made = rows.filter((row) => 'series' in row && isResult(row.series)).length;
  return (
    <div class={`two ${asked === '' ? '' : 'one-chosen'}`}>
      <section class="panel" aria-labelledby="sensors-head">
        <h2 id="sensors-head">
          <span id="count">{countText(found)}</span> series{' '}
          <small id="live" class="quiet">
            {made > 0 && <span id="made">{countText(made)} of them results · </span>}
            {countText(readings)} {readings === 1 ? 'reading' : 'readings'} since this page opened
          </small>
        </h2>
        <Choices search={search} sort={sort} group={group} rows={rows} />
        {found === 0 && round > 0 && connection !== 'loading' ? (
          <p class="empty">No series matches.</p>
        ) : (
          <List rows={rows} chosen={chosen?.key ?? ''} place={place} />
        )}
      </section>
      {chosen !== undefined && <SensorPanel key={chosen.key} series={chosen} place={place} />}
    </div>
  );
}
