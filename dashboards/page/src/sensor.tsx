/** One series: its value now, its past as a chart or a timeline, another beside it, and what one sees as a file. */
import { useMemo, useState } from 'preact/hooks';
import { Chart } from './chart.tsx';
import { Explain } from './explain.tsx';
import { address } from './net.ts';
import { RANGES, boundsOf, noteOf, questionOf, usePoints, type Range } from './points.ts';
import { choose, hashOf, type Place } from './route.ts';
import {
  agoText,
  fieldOf,
  ageOf,
  isState,
  momentText,
  plain,
  sensorOf,
  shortText,
  valueText,
  type Series,
} from './series.ts';
import { state } from './store.ts';
import { Timeline } from './timeline.tsx';

const RANGE_USUAL = '1d';

function rangeOf({ choices }: Place): Range {
  const [fromMs, toMs] = [Number(choices.get('from') ?? ''), Number(choices.get('to') ?? '')];
  if (fromMs > 0 && toMs > fromMs) return { name: '', fromMs, toMs };
  const name = choices.get('range') ?? RANGE_USUAL;
  return { name: Object.hasOwn(RANGES, name) ? name : RANGE_USUAL, fromMs: 0, toMs: 0 };
}

/** Of the same kind first: the same field, then the same sensor. */
function othersOf(series: Series): Series[] {
  const near = (each: Series): number =>
    (each.field === series.field ? 0 : 2) + (each.measurement === series.measurement ? 0 : 1);
  return [...state.series.values()]
    .filter((each) => each.key !== series.key && typeof each.value === 'number')
    .sort((a, b) => near(a) - near(b) || b.time - a.time)
    .slice(0, 200);
}

function Ranges({ range }: { range: Range }) {
  return (
    <div class="ranges" role="group" aria-label="Range, back from the newest reading">
      {Object.entries(RANGES).map(([name, [label]]) => (
        <button
          key={name}
          type="button"
          aria-pressed={range.name === name}
          onClick={() => choose({ range: name === RANGE_USUAL ? '' : name, from: '', to: '' })}
        >
          {label}
        </button>
      ))}
      {range.name === '' && (
        <span class="zoomed">
          {momentText(range.fromMs)} – {momentText(range.toMs)}
        </span>
      )}
    </div>
  );
}

function Tags({ series }: { series: Series }) {
  return (
    <details>
      <summary>Tags, and where it is in the API</summary>
      <dl>
        <dt>measurement</dt>
        <dd>
          <bdi>{plain(series.measurement)}</bdi>
        </dd>
        <dt>field</dt>
        <dd>
          <bdi>{plain(series.field)}</bdi>
        </dd>
        {Object.entries(series.tags).map(([name, value]) => [
          <dt key={`${name} name`}>
            <bdi>{plain(name)}</bdi>
          </dt>,
          <dd key={name}>
            <bdi>{plain(value)}</bdi>
          </dd>,
        ])}
      </dl>
      <p>
        <code>{address(`api/v1/query?${questionOf(series).toString()}`)}</code>
      </p>
    </details>
  );
}

/** What is drawn, and what one can do with it. */
function Under({
  series,
  other,
  place,
  range,
  children,
}: {
  series: Series;
  other: Series | undefined;
  place: Place;
  range: Range;
  children: string;
}) {
  // A list of many is made when somebody is about to choose from it.
  const [isAsked, setAsked] = useState(false);
  const others = useMemo(
    () => (isAsked ? othersOf(series) : other === undefined ? [] : [other]),
    [isAsked, series.key, other?.key, state.kinds],
  );
  const exported = questionOf(series, ...boundsOf(range, series.time));
  exported.set('format', 'csv');
  return (
    <div class="controls under">
      <span id="note" class="quiet">
        {children}
      </span>
      {!isState(series.value) && (
        <label>
          Compare with{' '}
          <select
            value={other?.key ?? ''}
            onFocus={() => setAsked(true)}
            onPointerDown={() => setAsked(true)}
            onChange={(event) => choose({ s: series.key, with: event.currentTarget.value })}
          >
            <option value="">nothing</option>
            {others.map((each) => (
              <option key={each.key} value={each.key}>
                {`${sensorOf(each)} · ${fieldOf(each)}`.slice(0, 80)}
              </option>
            ))}
          </select>
        </label>
      )}
      <a id="export" href={`api/v1/export?${exported.toString()}`} download="headwater.csv">
        CSV of this range
      </a>
      <a href={hashOf('sensors', { ...Object.fromEntries(place.choices), s: series.key })}>
        Link to this view
      </a>
    </div>
  );
}

export function SensorPanel({ series, place }: { series: Series; place: Place }) {
  const range = rangeOf(place);
  const other = state.series.get(place.choices.get('with') ?? '');
  const main = usePoints(series, range);
  // The other one is drawn over the time of the first.
  const [from] = boundsOf(range, series.time);
  const span: Range =
    range.name === '' || from === undefined ? range : { name: range.name, fromMs: 0, toMs: 0 };
  const beside = usePoints(other, span);
  const nowMs = Date.now();
  const isNumber = !isState(series.value);
  const [picked, setPicked] = useState<number>();
  // A mean has no message that it came of.
  const name = sensorOf(series) || plain(series.measurement);
  const readings = main.everyMs === 0 ? main.points : [];
  return (
    <section class="panel one" aria-labelledby="one-head">
      <h2 id="one-head" title={name}>
        <bdi>{shortText(name)}</bdi>{' '}
        <small class="quiet">
          <bdi>{shortText(plain(series.measurement))}</bdi> ·{' '}
          <bdi>{shortText(fieldOf(series))}</bdi>
        </small>
      </h2>
      <p class={`now ${ageOf(series.time, nowMs)}`}>
        <b id="now">
          <bdi>{valueText(series.value, series.unit)}</bdi>
        </b>{' '}
        <span title={momentText(series.time)}>{agoText(series.time, nowMs)}</span>
      </p>
      <Ranges range={range} />
      {main.error !== '' && (
        <p role="alert" class="bad">
          This series cannot be read: {main.error}
        </p>
      )}
      {isNumber ? (
        <Chart
          lines={[
            { series, points: main.points, everyMs: main.everyMs },
            ...(other === undefined
              ? []
              : [{ series: other, points: beside.points, everyMs: beside.everyMs }]),
          ]}
          turn={`${main.turn} ${beside.turn}`}
          about={`${fieldOf(series)} of ${sensorOf(series)}, ${noteOf(main)}`}
          picked={picked}
          onPick={(time) => {
            if (main.everyMs === 0) setPicked(time);
          }}
          onZoom={(fromMs, toMs) =>
            choose({ from: String(Math.floor(fromMs)), to: String(Math.ceil(toMs)) })
          }
        />
      ) : (
        main.isLoaded && <Timeline points={main.points} />
      )}
      <Under series={series} other={other} place={place} range={range}>
        {main.isLoaded ? noteOf(main) : 'loading …'}
      </Under>
      <Explain series={series} points={readings} picked={picked} onPick={setPicked} />
      <Tags series={series} />
    </section>
  );
}
