/** Texts and booleans over time: in which state it was, from when to when, and where nothing said so. */
import { rhythmOfStates, silencesOf } from './gaps.ts';
import { momentText, shortText, spanText, valueText, type Value } from './series.ts';
import type { Points } from './points.ts';

interface Stay {
  value: Value;
  fromMs: number;
  toMs: number;
}

/** More are drawn as their neighbours' one. */
const STAYS_MAX = 400;
const SHADES = 6;
const LISTED_MAX = 30;

export function staysOf(points: Points): Stay[] {
  const stays: Stay[] = [];
  for (const [time, value] of points) {
    const last = stays.at(-1);
    if (last !== undefined) last.toMs = time;
    if (last?.value !== value) stays.push({ value, fromMs: time, toMs: time });
  }
  return stays;
}

/** How long it was silent within. */
const silentMs = ({ fromMs, toMs }: Stay, silences: readonly [number, number][]): number =>
  silences.reduce(
    (sum, [from, to]) => sum + Math.max(0, Math.min(to, toMs) - Math.max(from, fromMs)),
    0,
  );

interface Shown {
  stays: readonly Stay[];
  silences: readonly [fromMs: number, toMs: number][];
  /** The same colour for the same value. */
  shadeOf: (value: Value) => string;
}

function Bar({ stays, silences, shadeOf }: Shown) {
  const fromMs = stays[0]?.fromMs ?? 0;
  const span = Math.max(1, (stays.at(-1)?.toMs ?? 0) - fromMs);
  const at = (ms: number): number => (Math.max(0, ms - fromMs) / span) * 100;
  const place = (from: number, to: number) => ({
    left: `${at(from)}%`,
    width: `${Math.max(0.15, at(to) - at(from))}%`,
  });
  return (
    <div
      class="bar"
      role="img"
      aria-label={`States from ${momentText(fromMs)} to ${momentText(fromMs + span)}; the list below has them`}
    >
      {stays.map(({ value, fromMs: from, toMs: to }) => (
        <span
          key={from}
          class={`stay ${shadeOf(value)}`}
          style={place(from, to)}
          title={`${valueText(value)}, ${momentText(from)}`}
        >
          {to - from > span / 12 ? valueText(value) : ''}
        </span>
      ))}
      {silences.map(([from, to]) => (
        <span
          key={`silent ${from}`}
          class="silent"
          style={place(from, to)}
          title={`no reading from ${momentText(from)} to ${momentText(to)}`}
        />
      ))}
    </div>
  );
}

function Row({ stay, silences, shadeOf }: Omit<Shown, 'stays'> & { stay: Stay }) {
  const { value, fromMs, toMs } = stay;
  const silent = silentMs(stay, silences);
  return (
    <tr>
      <td>
        <i class={`dot ${shadeOf(value)}`} /> <bdi>{shortText(valueText(value), 80)}</bdi>
      </td>
      <td class="time">{momentText(fromMs)}</td>
      <td>
        <span class="one-line">{spanText(toMs - fromMs)}</span>
        {silent > 0 && <small> {spanText(silent)} of it without a reading</small>}
      </td>
    </tr>
  );
}

export function Timeline({ points }: { points: Points }) {
  const stays = staysOf(points).slice(-STAYS_MAX);
  const [first] = stays;
  const last = stays.at(-1);
  if (first === undefined || last === undefined) return <p class="empty">No readings here.</p>;
  const silences = silencesOf(
    points.map(([time]) => time),
    rhythmOfStates(points),
  ).filter(([, to]) => to > first.fromMs);
  const kinds = [...new Set(stays.map(({ value }) => value))];
  const shadeOf = (value: Value): string => `shade${kinds.indexOf(value) % SHADES}`;
  return (
    <div class="timeline">
      <Bar stays={stays} silences={silences} shadeOf={shadeOf} />
      <p class="ends quiet">
        <span>{momentText(first.fromMs)}</span>
        <span>{momentText(last.toMs)}</span>
      </p>
      <table>
        <thead>
          <tr>
            <th>State</th>
            <th>Since</th>
            <th>For</th>
          </tr>
        </thead>
        <tbody>
          {stays
            .slice(-LISTED_MAX)
            .toReversed()
            .map((stay) => (
              <Row key={stay.fromMs} stay={stay} silences={silences} shadeOf={shadeOf} />
            ))}
        </tbody>
      </table>
    </div>
  );
}
