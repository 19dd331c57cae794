/** Numbers over time, by uPlot: one series, or two with an axis each. Its range is that of the data shown. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { fitted } from './fit.ts';
import { fieldOf, plain, type Series } from './series.ts';
import { TIMES } from './times.ts';
import type { Points } from './points.ts';

export interface Line {
  series: Series;
  points: Points;
}

const COLOURS = ['--accent', '--second'];
const HEIGHT_PX = 320;

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
        return typeof value === 'number' ? value : null;
      }),
    ),
  ];
}

/** Numbers that hardly differ get room around them, so that noise does not look like a storm. */
function spread(_: uPlot, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const room = Math.max((max - min) * 0.08, Math.abs(max) * 0.002, 1e-9);
  return [min - room, max + room];
}

/** Half a minute around the only reading, else the data's own range. */
const around = ({ data: [times] }: uPlot, min: number, max: number): [number, number] =>
  times.length === 1 || max === min ? [min - 30_000, min + 30_000] : [min, max];

/** The time of the first line's point that is nearest to place `at`. */
function nearest([times, values]: uPlot.AlignedData, at: number): number | undefined {
  for (let away = 0; away < times.length; away++)
    for (const each of [at - away, at + away]) {
      const time = times[each];
      if (time !== undefined && typeof values?.[each] === 'number') return time;
    }
  return undefined;
}

/** Each point is marked where there are few. */
const isSparse = ({ data: [times] }: uPlot): boolean => times.length < 80;

function optionsOf(
  lines: readonly Line[],
  width: number,
  onZoom: (fromMs: number, toMs: number) => void,
  marked: () => number | undefined,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--quiet'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { stroke: colour('--line'), width: 1 },
  };
  const label = ({ series }: Line): string =>
    plain(`${fieldOf(series)}${series.unit === '' ? '' : ` (${series.unit})`}`).slice(0, 60);
  return {
    width,
    height: HEIGHT_PX,
    ms: 1,
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false } },
    axes: [
      { ...axis, values: TIMES },
      ...lines.map((line, at) => ({
        ...axis,
        scale: `y${at}`,
        side: at === 0 ? (3 as const) : (1 as const),
        label: label(line),
        size: 62,
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
        spanGaps: true,
        points: { show: isSparse, size: 5 },
      })),
    ],
    hooks: {
      draw: [
        (plot: uPlot) => {
          const time = marked();
          if (time === undefined) return;
          const { ctx, bbox } = plot;
          const x = Math.round(plot.valToPos(time, 'x', true));
          if (x < bbox.left || x > bbox.left + bbox.width) return;
          ctx.fillStyle = colour('--second');
          ctx.fillRect(x, bbox.top, 2, bbox.height);
        },
      ],
      setSelect: [
        (plot: uPlot) => {
          const { left, width: wide } = plot.select;
          if (wide < 4) return;
          onZoom(plot.posToVal(left, 'x'), plot.posToVal(left + wide, 'x'));
        },
      ],
    },
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
  const plot = useRef<uPlot | undefined>(undefined);
  const now = useRef({ picked, onPick });
  now.current = { picked, onPick };
  const shape = lines.map(({ series }) => series.key + series.unit).join('\n');
  const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const made = new uPlot(
      optionsOf(lines, element.clientWidth, onZoom, () => now.current.picked),
      columnsOf(lines),
      element,
    );
    plot.current = made;
    made.over.addEventListener('click', () => {
      const { idx } = made.cursor;
      // The end of a drag is a click as well.
      if (typeof idx !== 'number' || made.select.width >= 4) return;
      const time = nearest(made.data, idx);
      if (time !== undefined) now.current.onPick(time);
    });
    return fitted(made, element, HEIGHT_PX);
  }, [shape, isDark]);
  useEffect(() => plot.current?.setData(columnsOf(lines)), [turn]);
  useEffect(() => plot.current?.redraw(false), [picked]);
  return <div id="chart" ref={box} role="img" aria-label={about} />;
}
