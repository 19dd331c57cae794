/** The lines of a dashboard's panel over one axis. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import type { PanelSpec } from '../../model.ts';
import { NUMBERS } from './axis.ts';
import type { Happened } from './events.ts';
import { fitted } from './fit.ts';
import { broken } from './gaps.ts';
import { inkOf } from './ink.ts';
import { momentText, plain } from './series.ts';
import { COLOURS as NAMED } from './states.tsx';
import { TIMES } from './times.ts';

export interface PanelLine {
  label: string;
  points: [time: number, value: number][];
}

/** Told apart on light and on dark. */
export const COLOURS = [
  '#2f8fc4',
  '#d9782d',
  '#3f9e5f',
  '#a86cc9',
  '#b8912a',
  '#d1566b',
  '#3d9f98',
  '#7d8794',
];
export const colourOf = (at: number): string => COLOURS[at % COLOURS.length] ?? '';

const HEIGHT_PX = 230;
const QUIET = '#7d8794';
const MARKS_MAX = 3;

/** `heldMs`: until then the last word of each holds. */
function columnsOf(lines: readonly PanelLine[], heldMs?: number): uPlot.AlignedData {
  const maps = lines.map(({ points }) => new Map(points));
  for (const map of maps) {
    const last = [...map.values()].at(-1);
    if (heldMs !== undefined && last !== undefined) map.set(heldMs, last);
  }
  const times = [...new Set(maps.flatMap((map) => [...map.keys()]))].sort((a, b) => a - b);
  return [times, ...maps.map((map) => times.map((time) => map.get(time)))];
}

/** Behind the lines: an outage over its time, what has no length as a line. */
function drawn(plot: uPlot, happened: readonly Happened[], endMs: number): void {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const { fromMs, toMs = endMs, color } of happened) {
    const left = plot.valToPos(fromMs, 'x', true);
    const width = plot.valToPos(toMs, 'x', true) - left;
    ctx.fillStyle = NAMED[color] ?? QUIET;
    ctx.globalAlpha = 0.15;
    if (width > 1) ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.globalAlpha = 0.8;
    ctx.fillRect(left, bbox.top, 1.5, bbox.height);
  }
  ctx.restore();
}

/** The newest of what happened, in words. */
function Marks({ happened }: { happened: readonly Happened[] }) {
  if (happened.length === 0) return null;
  return (
    <ul class="legend quiet">
      {happened.slice(-MARKS_MAX).map(({ fromMs, toMs, text, color }) => (
        <li key={`${fromMs} ${text}`}>
          <i class="dot" style={{ background: NAMED[color] ?? QUIET }} /> {momentText(fromMs)}
          {toMs !== fromMs && ` to ${toMs === undefined ? 'now' : momentText(toMs)}`}:{' '}
          <bdi>{plain(text)}</bdi>
        </li>
      ))}
    </ul>
  );
}

/** What is told when it changes holds until the next word; what is counted has no line between. */
function drawnAs(panel: PanelSpec, { points }: PanelLine, colour: string): Partial<uPlot.Series> {
  const { stepped, bars } = uPlot.paths;
  if (panel.isStepped === true && stepped !== undefined)
    return { paths: stepped({ align: 1 }), points: { show: false } };
  if (panel.isCounted === true && bars !== undefined)
    return { paths: bars({ size: [0.7, 40] }), fill: `${colour}99`, points: { show: false } };
  return broken(
    () => 0,
    () => points.length < 40,
    4,
  );
}

function optionsOf(
  width: number,
  panel: PanelSpec,
  lines: readonly PanelLine[],
  range: () => [number, number],
  marks: () => readonly Happened[],
): uPlot.Options {
  const { axis } = inkOf();
  return {
    width,
    height: HEIGHT_PX,
    ms: 1,
    legend: { show: false },
    cursor: { drag: { x: false, y: false } },
    axes: [
      { ...axis, ...TIMES },
      { ...axis, ...NUMBERS },
    ],
    scales: { x: { range } },
    hooks: { drawClear: [(plot) => drawn(plot, marks(), range()[1])] },
    series: [
      {},
      ...lines.map((line, at) => ({
        label: plain(line.label),
        stroke: colourOf(at),
        width: 1.5,
        ...drawnAs(panel, line, colourOf(at)),
      })),
    ],
  };
}

export function PanelChart({
  panel,
  lines,
  happened,
  about,
  fromMs,
  toMs,
}: {
  panel: PanelSpec;
  lines: readonly PanelLine[];
  happened: readonly Happened[];
  about: string;
  fromMs: number;
  toMs: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const range = useRef<[number, number]>([fromMs, toMs]);
  range.current = [fromMs, toMs];
  const marks = useRef(happened);
  marks.current = happened;
  const heldMs = panel.isStepped === true ? toMs : undefined;
  const shape = lines.map(({ label }) => label).join('\n');
  const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const made = new uPlot(
      optionsOf(
        element.clientWidth,
        panel,
        lines,
        () => range.current,
        () => marks.current,
      ),
      columnsOf(lines, heldMs),
      element,
    );
    plot.current = made;
    return fitted(made, element, HEIGHT_PX);
  }, [shape, isDark]);
  useEffect(() => plot.current?.setData(columnsOf(lines, heldMs)), [lines]);
  useEffect(() => plot.current?.redraw(false), [happened]);
  return (
    <>
      <div class="panel-chart" ref={box} role="img" aria-label={about} />
      <Marks happened={happened} />
    </>
  );
}
