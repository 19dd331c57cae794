/** Numbers over time, by uPlot: one series, or two with an axis each. Its range is that of the data shown. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { NUMBERS, spread } from './axis.ts';
import { fitted } from './fit.ts';
import { broken, silentIn } from './gaps.ts';
import { inkOf } from './ink.ts';
import { fieldOf, momentText, plain, valueText, type Series } from './series.ts';
import { TIMES } from './times.ts';
import type { Points } from './points.ts';

export interface Line {
  series: Series;
  points: Points;
  /** Width of the buckets of means; 0: readings. */
  everyMs: number;
}

const COLOURS = ['--accent', '--second'];
const HEIGHT_PX = 320;
/** The cursor is at a reading. */
const NEAR_PX = 8;

function columnsOf(lines: readonly Line[]): uPlot.AlignedData {
  const maps = lines.map(({ points }) => new Map(points));
  const times = [...new Set(lines.flatMap(({ points }) => points.map(([time]) => time)))].sort(
    (a, b) => a - b,
  );
  return [
    times,
    ...maps.map((map) =>
      times.map((time) => {
        const value = map.get(time);
        // Not null, which would be a gap: it is the other line that has a reading then.
        return typeof value === 'number' ? value : undefined;
      }),
    ),
  ];
}

/** Half a minute around the only reading, else the data's own range. */
const around = ({ data: [times] }: uPlot, min: number, max: number): [number, number] =>
  times.length === 1 || max === min ? [min - 30_000, min + 30_000] : [min, max];

/** The place of a line's reading that is nearest to place `at`. */
function nearest(data: uPlot.AlignedData, line: number, at: number): number | undefined {
  const values = data[line] ?? [];
  for (let away = 0; away < values.length; away++)
    for (const each of [at - away, at + away]) if (values[each] != null) return each;
  return undefined;
}

/** What is at the cursor: each line's reading, or from when to when it was silent. */
function readingText({ data, cursor, posToVal, valToPos }: uPlot, lines: readonly Line[]): string {
  const { idx, left = -1 } = cursor;
  if (typeof idx !== 'number' || left < 0) return '';
  const time = posToVal(left, 'x');
  const told = lines.flatMap(({ series, everyMs }, index) => {
    const at = nearest(data, index + 1, idx);
    if (at === undefined) return [];
    const near = data[0][at] ?? 0;
    const silence = silentIn(data, index + 1, everyMs).silences.find(
      ([from, to]) => from < time && time < to,
    );
    if (silence !== undefined && Math.abs(valToPos(near, 'x') - left) > NEAR_PX)
      return [`no reading from ${momentText(silence[0])} to ${momentText(silence[1])}`];
    return [`${momentText(near)}: ${valueText(data[index + 1]?.[at] ?? null, series.unit)}`];
  });
  return told.join(' · ');
}

/** Each point is marked where there are few. */
const isSparse = ({ data: [times] }: uPlot): boolean => times.length < 80;

/** What a chart asks of its surroundings, as they are at that moment. */
interface Now {
  lines: readonly Line[];
  picked: number | undefined;
  onPick: (time: number) => void;
  say: (text: string) => void;
}

function hooksOf(
  now: () => Now,
  onZoom: (fromMs: number, toMs: number) => void,
  colour: string,
): uPlot.Hooks.Arrays {
  return {
    draw: [
      (plot) => {
        const { picked } = now();
        if (picked === undefined) return;
        const { ctx, bbox } = plot;
        const x = Math.round(plot.valToPos(picked, 'x', true));
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        ctx.fillStyle = colour;
        ctx.fillRect(x, bbox.top, 2, bbox.height);
      },
    ],
    setCursor: [(plot) => now().say(readingText(plot, now().lines))],
    setSelect: [
      (plot) => {
        const { left, width } = plot.select;
        if (width >= 4) onZoom(plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x'));
      },
    ],
  };
}

function optionsOf(
  width: number,
  now: () => Now,
  onZoom: (fromMs: number, toMs: number) => void,
): uPlot.Options {
  const { colour, axis } = inkOf();
  const { lines } = now();
  const label = ({ series }: Line): string =>
    plain(`${fieldOf(series)}${series.unit === '' ? '' : ` (${series.unit})`}`).slice(0, 60);
  return {
    width,
    height: HEIGHT_PX,
    ms: 1,
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false } },
    axes: [
      { ...axis, ...TIMES },
      ...lines.map((line, at) => ({
        ...axis,
        ...NUMBERS,
        scale: `y${at}`,
        side: at === 0 ? (3 as const) : (1 as const),
        label: label(line),
        grid: { ...axis.grid, show: at === 0 },
      })),
    ],
    scales: {
      x: { range: around },
      ...Object.fromEntries(lines.map((_, at) => [`y${at}`, { range: spread }])),
    },
    series: [
      {},
      ...lines.map((line, at) => ({
        label: label(line),
        scale: `y${at}`,
        stroke: colour(COLOURS[at] ?? '--accent'),
        width: 1.6,
        ...broken(() => now().lines[at]?.everyMs ?? 0, isSparse, 5),
      })),
    ],
    hooks: hooksOf(now, onZoom, colour('--second')),
  };
}

export function Chart({
  lines,
  turn,
  about,
  picked,
  onZoom,
  onPick,
}: {
  lines: readonly Line[];
  /** Grows when points have changed. */
  turn: string;
  about: string;
  /** The time that is marked. */
  picked: number | undefined;
  onZoom: (fromMs: number, toMs: number) => void;
  /** A point of the first line was clicked. */
  onPick: (time: number) => void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const read = useRef<HTMLParagraphElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const say = (text: string): void => {
    if (read.current !== null) read.current.textContent = text;
  };
  const now = useRef<Now>({ lines, picked, onPick, say });
  now.current = { lines, picked, onPick, say };
  const shape = lines.map(({ series }) => series.key + series.unit).join('\n');
  const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const made = new uPlot(
      optionsOf(element.clientWidth, () => now.current, onZoom),
      columnsOf(lines),
      element,
    );
    plot.current = made;
    made.over.addEventListener('click', () => {
      const { idx } = made.cursor;
      // The end of a drag is a click as well.
      if (typeof idx !== 'number' || made.select.width >= 4) return;
      const at = nearest(made.data, 1, idx);
      if (at !== undefined) now.current.onPick(made.data[0][at] ?? 0);
    });
    return fitted(made, element, HEIGHT_PX);
  }, [shape, isDark]);
  useEffect(() => plot.current?.setData(columnsOf(lines)), [turn]);
  useEffect(() => plot.current?.redraw(false), [picked]);
  return (
    <>
      {/* Without a reading there is no time that an axis could show. */}
      <div
        id="chart"
        class={lines.some(({ points }) => points.length > 0) ? '' : 'blank'}
        ref={box}
        role="img"
        aria-label={about}
      />
      {/* Not told by screen readers: readings are stepped through below. */}
      <p id="at" class="quiet" ref={read} aria-hidden="true" />
    </>
  );
}
