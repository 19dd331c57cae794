/** What happened to gateways, over the lines of a dashboard: outages from when to when, what came late, what is gone. */
import { useEffect, useState } from 'preact/hooks';
import type { AnnotationSpec } from '../../model.ts';
import { filledIn, framesOf, type Asked } from './influx.ts';
import { failed, useStore } from './store.ts';

export interface Happened {
  fromMs: number;
  /** The same for what has no length; undefined while it lasts. */
  toMs: number | undefined;
  text: string;
  color: string;
}

interface Event {
  timeMs: number;
  text: string;
  event: string;
  gateway: string;
  color: string;
}

const SHOWN_MAX = 40;

async function eventsOf(spec: AnnotationSpec, asked: Asked): Promise<Event[]> {
  const frames = await framesOf(filledIn(spec.query, asked));
  const [eventColumn = ''] = spec.tags.split(',');
  return frames.flatMap(({ columns, values }) =>
    values.map((row) => {
      const of = (column: string): string => String(row[columns.indexOf(column)] ?? '');
      return {
        timeMs: Number(row[0]),
        text: of(spec.text),
        event: of(eventColumn),
        gateway: of('gateway'),
        color: spec.color,
      };
    }),
  );
}

/** An outage goes on until its gateway is back. */
export function happenedOf(events: readonly Event[]): Happened[] {
  const sorted = events.toSorted((a, b) => a.timeMs - b.timeMs);
  return sorted.map(({ timeMs, text, event, gateway, color }, at) => {
    const end =
      event === 'outage'
        ? sorted.slice(at + 1).find((each) => each.gateway === gateway && each.event === 'back')
        : undefined;
    const toMs = event === 'outage' ? end?.timeMs : timeMs;
    return { fromMs: timeMs, toMs, text, color };
  });
}

export function useHappened(
  annotations: readonly AnnotationSpec[],
  ask: () => Asked,
  key: string | undefined,
): Happened[] {
  const [found, setFound] = useState<Happened[]>([]);
  const { round } = useStore();
  useEffect(() => {
    if (key === undefined) return undefined;
    let isWanted = true;
    Promise.all(annotations.map((each) => eventsOf(each, ask()))).then(
      (all) => isWanted && setFound(happenedOf(all.flat()).slice(-SHOWN_MAX)),
      failed,
    );
    return () => {
      isWanted = false;
    };
  }, [annotations, key, round]);
  return found;
}
