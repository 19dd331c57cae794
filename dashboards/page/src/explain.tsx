/** Where a point of a series comes from, as `/api/v1/explain` tells it; nothing is shown where there is no such route. */
import { useEffect, useState } from 'preact/hooks';
import type { Answer } from '../../../shared/http/client.ts';
import { Refused, get } from './net.ts';
import { questionOf, type Points } from './points.ts';
import { hashOf } from './route.ts';
import { momentText, plain, valueText, type Series } from './series.ts';
import { failed } from './store.ts';

export type Explained = Answer<'/api/v1/explain'>;

const NOT_FOUND = 404;
/** Of several readings within a millisecond. */
const POINTS_MAX = 5;
/** One answer of 404 holds for this collector. */
let isAbsent = false;

/** With its lines, and no hidden character. */
const wholeText = (value: unknown): string =>
  JSON.stringify(value, null, 2).split('\n').map(plain).join('\n');

/** Asked for once for a point; without a time nothing is asked. */
export function useExplained(
  series: Series | undefined,
  time: number | undefined,
): { answer: Explained | undefined; said: string } {
  const [answer, setAnswer] = useState<Explained>();
  const [said, setSaid] = useState('');
  const key = series?.key;
  useEffect(() => {
    if (series === undefined || time === undefined || isAbsent) return undefined;
    let isWanted = true;
    const asked = questionOf(series);
    asked.set('time', String(time));
    setSaid('loading …');
    get('/api/v1/explain', asked).then(
      (found) => {
        if (!isWanted) return;
        setAnswer(found);
        setSaid('');
      },
      (error: unknown) => {
        if (!isWanted) return;
        if (error instanceof Refused && error.status === NOT_FOUND) isAbsent = true;
        else failed(error);
        setAnswer(undefined);
        setSaid(error instanceof Refused && !isAbsent ? error.message : '');
      },
    );
    return () => {
      isWanted = false;
    };
  }, [key, time]);
  return { answer, said };
}

function Point({ of }: { of: Explained['points'][number] }) {
  const { message, clock, mapping, stages } = of;
  return (
    <dl>
      <dt>sent by</dt>
      <dd>
        <bdi>{plain(message?.client ?? 'not known')}</bdi>
      </dd>
      <dt>to the topic</dt>
      <dd>
        {message === null ? (
          'not known'
        ) : (
          <a href={hashOf('topics', { t: message.topic })}>
            <bdi>{plain(message.topic)}</bdi>
          </a>
        )}
      </dd>
      <dt>as</dt>
      <dd>
        <code>{plain(message?.payload ?? 'not shown').slice(0, 500)}</code>
      </dd>
      <dt>time from</dt>
      <dd>{clock === null ? 'not known' : `${clock.gave} (${clock.quality})`}</dd>
      <dt>mapping</dt>
      <dd>
        <bdi>{plain(mapping?.name ?? 'none: told from the payload')}</bdi>
      </dd>
      {stages.map(({ stage, time, delayMs, note }) => [
        <dt key={`${stage} name`}>{plain(stage)}</dt>,
        <dd key={stage}>
          {time === null ? note : momentText(time)}
          {delayMs === null ? '' : `, after ${Math.round(delayMs)} ms`}
        </dd>,
      ])}
    </dl>
  );
}

function Told({ of }: { of: Explained }) {
  if (of.points.length === 0) return <p class="quiet">Nothing is known of it yet.</p>;
  return (
    <>
      {of.points.slice(0, POINTS_MAX).map((point, at) => (
        <Point key={at} of={point} />
      ))}
      <details>
        <summary>The whole answer</summary>
        <pre tabIndex={0} aria-label="The whole answer">
          {wholeText(of)}
        </pre>
      </details>
    </>
  );
}

/** Goes from a reading to the one before or after it: by keyboard what a click on the chart is. */
function Steps({
  points,
  time,
  onPick,
}: {
  points: Points;
  time: number;
  onPick: (time: number | undefined) => void;
}) {
  const at = points.findIndex(([each]) => each === time);
  const [earlier] = points[at - 1] ?? [];
  const [later] = points[at + 1] ?? [];
  return (
    <p class="ranges">
      <button type="button" disabled={earlier === undefined} onClick={() => onPick(earlier)}>
        Earlier
      </button>
      <button type="button" disabled={later === undefined} onClick={() => onPick(later)}>
        Later
      </button>
      <button type="button" onClick={() => onPick(undefined)}>
        Newest
      </button>
    </p>
  );
}

/** `picked` is the time of a reading that was clicked; without it the newest is told of. */
export function Explain({
  series,
  points,
  picked,
  onPick,
}: {
  series: Series;
  /** Those that are shown, where each is a reading; none where they are means. */
  points: Points;
  picked: number | undefined;
  onPick: (time: number | undefined) => void;
}) {
  // The newest of when it was opened: an answer that changes while it is read is none.
  const [openedAt, setOpenedAt] = useState<number>();
  const time = picked ?? openedAt;
  const { answer, said } = useExplained(series, time);
  if (isAbsent) return null;
  const value = points.find(([each]) => each === picked)?.[1];
  return (
    <details
      id="explain"
      open={time !== undefined}
      onToggle={(event) => {
        const { open } = event.currentTarget;
        if (open && time === undefined) setOpenedAt(series.time);
        if (open || time === undefined) return;
        setOpenedAt(undefined);
        onPick(undefined);
      }}
    >
      <summary>
        {picked === undefined
          ? 'Where the newest reading comes from'
          : `Where the reading of ${momentText(picked)} comes from${value === undefined ? '' : `: ${valueText(value, series.unit)}`}`}
      </summary>
      {points.length > 0 && time !== undefined && (
        <Steps
          points={points}
          time={time}
          onPick={(next) => {
            setOpenedAt(series.time);
            onPick(next);
          }}
        />
      )}
      <p class="quiet" role="status">
        {plain(said)}
      </p>
      {answer !== undefined && time !== undefined && <Told of={answer} />}
    </details>
  );
}
