/** A panel of a dashboard, as its definition has it: lines, a table, or figures. */
import { useEffect, useState } from 'preact/hooks';
import type { ColumnSpec, PanelSpec } from '../../model.ts';
import type { Happened } from './events.ts';
import { filledIn, framesOf, wordsFilled, type Asked, type Frame } from './influx.ts';
import { Refused } from './net.ts';
import { PanelChart, colourOf, type PanelLine } from './panel-chart.tsx';
import { Table, momentCell, type Cell, type Level } from './parts.tsx';
import { plain, shortText, spanText, valueText, type Value } from './series.ts';
import { PlaceMap, StateBars } from './states.tsx';
import { failed, useStore } from './store.ts';

const LINES_MAX = 12;
const ROWS_MAX = 200;
const AGAIN_MS = 10_000;
const LEVELS: Record<string, Level> = { green: 'good', orange: 'warn', red: 'bad' };

interface Answered {
  frames: { alias: string | undefined; frame: Frame }[];
  asked: Asked;
  error: string;
}

function usePanel(panel: PanelSpec, ask: () => Asked, key: string): Answered | undefined {
  const [answer, setAnswer] = useState<Answered>();
  const { round } = useStore();
  useEffect(() => {
    let isWanted = true;
    let next: ReturnType<typeof setTimeout> | undefined;
    const load = async (): Promise<void> => {
      const asked = ask();
      try {
        const found = await Promise.all(
          panel.queries.map(async ({ query, alias }) => {
            const frames = await framesOf(filledIn(query, asked));
            return frames.map((frame) => ({ alias, frame }));
          }),
        );
        if (isWanted) setAnswer({ frames: found.flat(), asked, error: '' });
      } catch (error) {
        failed(error);
        const message = error instanceof Refused ? error.message : '';
        if (isWanted && message !== '') setAnswer({ frames: [], asked, error: message });
      }
      if (isWanted) next = setTimeout(() => void load(), AGAIN_MS);
    };
    void load();
    return () => {
      isWanted = false;
      clearTimeout(next);
    };
  }, [panel, key, round]);
  return answer;
}

function labelOf(alias: string | undefined, { tags, columns }: Frame, column: string): string {
  if (alias !== undefined)
    return alias.replaceAll(/\$tag_(\w+)/g, (_, tag: string) =>
      Object.hasOwn(tags, tag) ? (tags[tag] ?? '') : '',
    );
  const named = Object.entries(tags).filter(([tag, value]) => tag !== 'gateway' && value !== '');
  const text = named.map(([tag, value]) => (named.length === 1 ? value : `${tag}=${value}`));
  return [...(columns.length > 2 || named.length === 0 ? [column] : []), ...text].join(' ');
}

const filledAlias = (alias: string | undefined, asked: Asked): string | undefined =>
  alias === undefined ? undefined : wordsFilled(alias, asked.chosen);

function linesOf({ frames, asked }: Answered): PanelLine[] {
  return frames.flatMap(({ alias, frame }) =>
    frame.columns.slice(1).map((column, at) => ({
      label: labelOf(filledAlias(alias, asked), frame, column),
      points: frame.values.flatMap((row): PanelLine['points'] => {
        const value = row[at + 1];
        return typeof value === 'number' ? [[Number(row[0]), value]] : [];
      }),
    })),
  );
}

function cellOf(panel: PanelSpec, column: ColumnSpec | undefined, value: Value): Cell {
  const { unit, thresholds, states } = { ...panel, ...column };
  const state = states?.[String(value)];
  if (state !== undefined) return { text: state.text, level: LEVELS[state.color] ?? '' };
  if (typeof value !== 'number') return valueText(value);
  if (unit === 'dateTimeAsIso') return momentCell(value);
  const step = thresholds?.findLast(({ from }) => value >= from);
  const text = unit === 's' ? spanText(value * 1000) : valueText(value);
  return { text, level: LEVELS[step?.color ?? ''] ?? '' };
}

/** Grafana calls the time by another name. */
const specOf = ({ columns }: PanelSpec, column: string): ColumnSpec | undefined =>
  columns?.[column === 'time' ? 'Time' : column];

function Rows({ panel, frames }: { panel: PanelSpec; frames: Answered['frames'] }) {
  const tags = [...new Set(frames.flatMap(({ frame }) => Object.keys(frame.tags)))].filter((tag) =>
    frames.some(({ frame }) => frame.tags[tag] !== ''),
  );
  const columns = [...new Set(frames.flatMap(({ frame }) => frame.columns))].filter(
    (column) => specOf(panel, column)?.isHidden !== true,
  );
  // Of a figure over a range the time is that of the range.
  const shown = columns.filter(
    (column) =>
      column !== 'time' ||
      frames.some(({ frame: { columns: own, values } }) =>
        values.some((row) => Number(row[own.indexOf('time')]) > 0),
      ),
  );
  const rows = frames.flatMap(({ frame }) =>
    frame.values.map((row) => [
      ...tags.map((tag) => frame.tags[tag] ?? ''),
      ...shown.map((column): Cell => {
        const value = row[frame.columns.indexOf(column)] ?? null;
        return column === 'time'
          ? momentCell(Number(value))
          : cellOf(panel, panel.columns?.[column], value);
      }),
    ]),
  );
  return (
    <>
      <Table
        label={panel.title}
        heads={[...tags, ...shown].map((each) => specOf(panel, each)?.label ?? each)}
        rows={rows.slice(0, ROWS_MAX)}
      />
      {rows.length > ROWS_MAX && <p class="quiet">{rows.length - ROWS_MAX} more rows.</p>}
    </>
  );
}

function Lines({
  panel,
  answer,
  happened,
}: {
  panel: PanelSpec;
  answer: Answered;
  happened: readonly Happened[];
}) {
  const all = linesOf(answer);
  const lines = all.slice(0, LINES_MAX);
  const { fromMs, toMs } = answer.asked;
  return (
    <>
      <PanelChart
        panel={panel}
        lines={lines}
        happened={happened}
        about={panel.about}
        fromMs={fromMs}
        toMs={toMs}
      />
      <ul class="legend">
        {lines.map(({ label }, at) => (
          <li key={`${at} ${label}`}>
            <i class="dot" style={{ background: colourOf(at) }} />{' '}
            <bdi title={plain(label)}>{shortText(plain(label))}</bdi>
          </li>
        ))}
        {all.length > LINES_MAX && <li class="quiet">and {all.length - LINES_MAX} more</li>}
      </ul>
    </>
  );
}

function Shown({
  panel,
  answer,
  happened,
}: {
  panel: PanelSpec;
  answer: Answered;
  happened: readonly Happened[];
}) {
  const { frames, error, asked } = answer;
  if (error !== '')
    return (
      <p role="alert" class="bad">
        This panel cannot be read: {plain(error)}
      </p>
    );
  if (frames.length === 0)
    return (
      <p class="empty">
        {panel.queries.every(({ quiet }) => quiet === true)
          ? 'None in this range.'
          : 'Nothing in this range.'}
      </p>
    );
  if (panel.kind === 'timeseries')
    return <Lines panel={panel} answer={answer} happened={happened} />;
  const series = frames.map(({ alias, frame }) => ({
    label: labelOf(filledAlias(alias, asked), frame, frame.columns[1] ?? ''),
    frame,
  }));
  if (panel.kind === 'geomap') return <PlaceMap panel={panel} series={series} />;
  if (panel.kind === 'state-timeline')
    return <StateBars panel={panel} series={series} fromMs={asked.fromMs} toMs={asked.toMs} />;
  if (panel.kind === 'stat')
    return (
      <dl class="figures">
        {series.map(({ label, frame }, at) => {
          const value = frame.values.at(-1)?.[1] ?? null;
          return [
            <dt key={`${at} name`}>
              <bdi title={plain(label)}>{shortText(plain(label))}</bdi>
            </dt>,
            <dd key={at} class={typeof value === 'number' ? 'one-line' : ''}>
              {valueText(value)}
            </dd>,
          ];
        })}
      </dl>
    );
  return <Rows panel={panel} frames={frames} />;
}

export function BoardPanel({
  panel,
  title,
  about,
  ask,
  asked,
  happened,
}: {
  panel: PanelSpec;
  title: string;
  about: string;
  ask: () => Asked;
  /** Changes with what is asked for. */
  asked: string;
  happened: readonly Happened[];
}) {
  const answer = usePanel(panel, ask, asked);
  return (
    <section class="panel" style={{ gridColumn: `span ${panel.width}` }}>
      <h2>
        <bdi>{plain(title)}</bdi>
      </h2>
      <p class="quiet about">{plain(about)}</p>
      {answer === undefined ? (
        <p class="quiet">loading …</p>
      ) : (
        <Shown panel={panel} answer={answer} happened={happened} />
      )}
    </section>
  );
}
