/** States over time, a bar for each series; and where things are, on a plain map. */
import type { PanelSpec } from '../../model.ts';
import type { Frame } from './influx.ts';
import { momentText, plain, shortText, valueText } from './series.ts';
import { staysOf } from './timeline.tsx';

/** Names of Grafana's colours, told apart on light and on dark. */
export const COLOURS: Record<string, string> = {
  green: '#3f9e5f',
  orange: '#d9782d',
  red: '#d1566b',
  purple: '#a86cc9',
};
const QUIET = '#7d8794';
const BARS_MAX = 30;

export interface Named {
  label: string;
  frame: Frame;
}

/** Of series of one name the points are put together: a rule may have several. */
function barsOf(series: readonly Named[]): [label: string, points: Frame['values']][] {
  const bars = new Map<string, Frame['values']>();
  for (const { label, frame } of series)
    bars.set(label, [...(bars.get(label) ?? []), ...frame.values]);
  return [...bars].slice(0, BARS_MAX);
}

export function StateBars({
  panel,
  series,
  fromMs,
  toMs,
}: {
  panel: PanelSpec;
  series: readonly Named[];
  fromMs: number;
  toMs: number;
}) {
  const at = (ms: number): number => (Math.max(0, ms - fromMs) / (toMs - fromMs)) * 100;
  return (
    <>
      {barsOf(series).map(([label, values]) => {
        const points = values
          .map((row): [number, (typeof row)[number]] => [Number(row[0]), row[1] ?? null])
          .sort(([a], [b]) => a - b);
        const stays = staysOf(points);
        const told = stays.map(
          ({ value, fromMs: since }) => `${valueText(value)} from ${momentText(since)}`,
        );
        return (
          <div key={label} class="timeline">
            <p class="quiet">
              <bdi title={plain(label)}>{shortText(plain(label))}</bdi>
            </p>
            <div class="bar low" role="img" aria-label={told.join(', ').slice(0, 600)}>
              {stays.map(({ value, fromMs: since }, index) => {
                const state = panel.states?.[String(value)];
                const end = stays[index + 1]?.fromMs ?? toMs;
                return (
                  <span
                    key={since}
                    class="stay"
                    style={{
                      left: `${at(since)}%`,
                      width: `${Math.max(0.15, at(end) - at(since))}%`,
                      background: COLOURS[state?.color ?? ''] ?? QUIET,
                    }}
                    title={`${state?.text ?? valueText(value)}, ${momentText(since)}`}
                  >
                    {at(end) - at(since) > 8 ? (state?.text ?? valueText(value)) : ''}
                  </span>
                );
              })}
            </div>
          </div>
        );
      })}
      <p class="ends quiet">
        <span>{momentText(fromMs)}</span>
        <span>{momentText(toMs)}</span>
      </p>
    </>
  );
}

interface Spot {
  label: string;
  latitude: number;
  longitude: number;
  state: string;
}

function spotsOf(series: readonly Named[]): Spot[] {
  return series.flatMap(({ frame: { columns, values, tags } }) =>
    values.flatMap((row): Spot[] => {
      const of = (column: string): Frame['values'][number][number] =>
        row[columns.indexOf(column)] ?? null;
      const [latitude, longitude] = [of('latitude'), of('longitude')];
      if (typeof latitude !== 'number' || typeof longitude !== 'number') return [];
      return [
        { label: tags['gateway'] ?? '', latitude, longitude, state: String(of('state') ?? '') },
      ];
    }),
  );
}

const [WIDTH, HEIGHT, MARGIN] = [640, 260, 40];
/** Degrees: nearer together they are drawn as if they were so far apart. */
const LEAST_SPAN = 0.02;

/** North is up, and a degree of longitude as wide as it is there. Nothing is fetched from elsewhere. */
export function PlaceMap({ panel, series }: { panel: PanelSpec; series: readonly Named[] }) {
  const spots = spotsOf(series);
  if (spots.length === 0) return <p class="empty">No gateway says where it is.</p>;
  const range = (all: number[]): [middle: number, span: number] => {
    const [least, most] = [Math.min(...all), Math.max(...all)];
    return [(least + most) / 2, Math.max(most - least, LEAST_SPAN)];
  };
  const [north, height] = range(spots.map(({ latitude }) => latitude));
  const [east, width] = range(spots.map(({ longitude }) => longitude));
  const narrow = Math.max(0.05, Math.cos((north * Math.PI) / 180));
  const scale = Math.min((WIDTH - 2 * MARGIN) / (width * narrow), (HEIGHT - 2 * MARGIN) / height);
  return (
    <svg class="map" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={panel.about}>
      {spots.map(({ label, latitude, longitude, state }) => (
        <g
          key={label}
          transform={`translate(${WIDTH / 2 + (longitude - east) * narrow * scale} ${HEIGHT / 2 - (latitude - north) * scale})`}
        >
          <circle r="7" fill={COLOURS[panel.states?.[state]?.color ?? ''] ?? QUIET} />
          <text y="22" text-anchor="middle">
            {plain(label).slice(0, 40)}
          </text>
          <title>{`${plain(label)}: ${state}, ${latitude}, ${longitude}`}</title>
        </g>
      ))}
    </svg>
  );
}
