/** Where the newest reading of a series comes from, as `/api/v1/explain` tells it; nothing is shown where there is no such route. */
import { useState } from 'preact/hooks';
import { Refused, get } from './net.ts';
import { questionOf } from './points.ts';
import { momentText, plain, type Series } from './series.ts';
import { failed } from './store.ts';

interface Explained {
  points: {
    message: { client: string; topic: string; payload: string | null } | null;
    clock: { gave: string; quality: string } | null;
    mapping: { name: string | null; hash: string } | null;
    stages: { stage: string; time: number | null; delayMs: number | null }[];
  }[];
}

const NOT_FOUND = 404;
/** One answer of 404 holds for this collector. */
let isAbsent = false;

/** With its lines, and no hidden character. */
const wholeText = (value: unknown): string =>
  JSON.stringify(value, null, 2).split('\n').map(plain).join('\n');

function Answer({ of }: { of: Explained }) {
  const [point] = of.points;
  if (point === undefined) return <p class="quiet">Nothing is known of it yet.</p>;
  const { message, clock, mapping, stages } = point;
  return (
    <>
      <dl>
        <dt>sent by</dt>
        <dd>
          <bdi>{plain(message?.client ?? 'not known')}</bdi>
        </dd>
        <dt>to the topic</dt>
        <dd>
          <bdi>{plain(message?.topic ?? 'not known')}</bdi>
        </dd>
        <dt>as</dt>
        <dd>
          <code>{plain(message?.payload ?? 'not shown').slice(0, 500)}</code>
        </dd>
        <dt>time from</dt>
        <dd>{clock === null ? 'not known' : `${clock.gave} (${clock.quality})`}</dd>
        <dt>mapping</dt>
        <dd>
          <bdi>{plain(mapping?.name ?? 'none by name')}</bdi>
        </dd>
        {stages.map(({ stage, time, delayMs }) => [
          <dt key={`${stage} name`}>{plain(stage)}</dt>,
          <dd key={stage}>
            {time === null ? 'not known' : momentText(time)}
            {delayMs === null ? '' : `, after ${Math.round(delayMs)} ms`}
          </dd>,
        ])}
      </dl>
      <pre tabIndex={0} aria-label="The whole answer">
        {wholeText(of)}
      </pre>
    </>
  );
}

export function Explain({ series }: { series: Series }) {
  const [answer, setAnswer] = useState<Explained>();
  const [said, setSaid] = useState('');
  if (isAbsent) return null;
  const ask = async (): Promise<void> => {
    const asked = questionOf(series);
    asked.set('time', String(series.time));
    setSaid('loading …');
    try {
      setAnswer(await get<Explained>(`api/v1/explain?${asked.toString()}`));
      setSaid('');
    } catch (error) {
      if (error instanceof Refused && error.status === NOT_FOUND) isAbsent = true;
      else failed(error);
      setSaid(error instanceof Refused && !isAbsent ? error.message : '');
    }
  };
  return (
    <details
      id="explain"
      onToggle={(event) => {
        if (event.currentTarget.open) void ask();
      }}
    >
      <summary>Where the newest reading comes from</summary>
      <p class="quiet" role="status">
        {plain(said)}
      </p>
      {answer !== undefined && <Answer of={answer} />}
    </details>
  );
}
