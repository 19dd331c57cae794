/** What an operator has to see first: is the collector there, are the gateways, is anything missing, what waits. */
import {
  agoText,
  bytesText,
  countText,
  momentText,
  plain,
  spanText,
  type Series,
} from './series.ts';
import { quarantineGrowth, state, useStore, type Overview } from './store.ts';

type Level = 'good' | 'warn' | 'bad' | 'quiet';

interface Light {
  id: string;
  label: string;
  level: Level;
  href: string;
  title?: string;
  text: string;
}

/** Alerts are series of the measurement `alerts`. */
export const firing = (): Series[] =>
  [...state.series.values()].filter(
    ({ measurement, field, value }) =>
      measurement === 'alerts' && field === 'active_bool' && value === true,
  );

function silentTitle({ unconnected }: Overview, nowMs: number): string {
  return unconnected
    .map(
      ({ gateway, lastSeenMs }) =>
        `${plain(gateway)}: ${lastSeenMs === null ? 'never seen' : `seen ${agoText(lastSeenMs, nowMs)}`}`,
    )
    .join('\n');
}

const FREE_LOW_BYTES = 2 * 1024 ** 3;

function fleetLights(overview: Overview): Light[] {
  const { gateways, connected, missing } = overview;
  const silent = gateways - connected;
  const [first] = overview.unconnected;
  const named = silent === 1 && first !== undefined ? plain(first.gateway) : `${silent} gateways`;
  // One is away: look. All are: somebody has to go.
  const isOdd: Level = silent === 0 ? 'good' : connected === 0 ? 'bad' : 'warn';
  return [
    {
      id: 'gateways-up',
      label: 'gateways up',
      level: gateways === 0 ? 'quiet' : isOdd,
      href: '#/gateways',
      text: `${connected} of ${gateways}`,
    },
    {
      id: 'missing',
      label: 'missing',
      level: missing === null ? 'quiet' : missing ? 'bad' : 'good',
      href: '#/ledger',
      // The log has not been read since the start.
      text: missing === null ? 'not known yet' : missing ? 'yes' : 'nothing',
    },
    {
      id: 'silent',
      label: 'silent',
      level: isOdd,
      href: '#/gateways',
      title: silentTitle(overview, Date.now()),
      text: silent === 0 ? 'none' : named,
    },
  ];
}

function alertsLight(): Light {
  const alerts = firing();
  return {
    id: 'alerts',
    label: 'alerts',
    level: alerts.length > 0 ? 'bad' : 'good',
    href: '#/alerts',
    title: alerts.map(({ tags }) => plain(tags['rule'] ?? '')).join('\n'),
    text: alerts.length === 0 ? 'none' : countText(alerts.length),
  };
}

/** Those that this collector, and this token, can tell. */
function workLights({ quarantined, waiting, freeBytes }: Overview): Light[] {
  const lights: Light[] = [];
  const growth = quarantineGrowth();
  if (quarantined !== null)
    lights.push({
      id: 'quarantine',
      label: 'quarantine',
      level: quarantined > 0 ? 'warn' : 'good',
      href: '#/quarantine',
      title: growth > 0 ? 'Growing: what comes in now cannot be decoded.' : '',
      text:
        quarantined === 0
          ? 'empty'
          : `${countText(quarantined)}${growth > 0 ? `, ${countText(growth)} more in 5 min` : ''}`,
    });
  if (waiting !== undefined) {
    const [first] = waiting;
    const more = waiting.length > 1 ? ` and ${waiting.length - 1} more` : '';
    lights.push({
      id: 'waiting',
      label: 'waiting',
      level: first === undefined ? 'good' : 'bad',
      href: '#/status',
      title: waiting.map(({ why }) => plain(why)).join('\n'),
      text: first === undefined ? 'none' : `${plain(first.name)}${more}`,
    });
  }
  if (freeBytes !== undefined)
    lights.push({
      id: 'disk',
      label: 'disk free',
      level: freeBytes < FREE_LOW_BYTES ? 'bad' : 'good',
      href: '#/status',
      text: bytesText(freeBytes),
    });
  return lights;
}

const lightsOf = (overview: Overview): Light[] => [
  ...fleetLights(overview),
  alertsLight(),
  ...workLights(overview),
];

/** What is worst, in a word or two, for the browser's tab: '' while nothing wants somebody. */
export function worstOf(): string {
  const { overview, connection } = state;
  if (connection === 'gone') return 'collector gone';
  if (overview === undefined) return '';
  const worst = lightsOf(overview).find(({ level }) => level === 'bad');
  return worst === undefined ? '' : `${worst.label}: ${worst.text}`;
}

export function TopLine() {
  const { overview, connection, needsToken } = useStore();
  if (overview === undefined || needsToken)
    return (
      <p class="top quiet" role="status">
        {needsToken
          ? 'How it is: for a token'
          : connection === 'loading'
            ? 'loading …'
            : 'no overview yet'}
      </p>
    );
  return (
    <ul class="top" aria-label="How it is">
      {lightsOf(overview).map(({ id, label, level, href, title, text }) => (
        <li key={id}>
          <a id={id} href={href} class={`light ${level}`} title={title ?? ''}>
            <span class="label">{label}</span> <b>{text}</b>
          </a>
        </li>
      ))}
    </ul>
  );
}

/** What waits is said with its reason, without a click; and since when all this is old. */
export function Banner() {
  const { connection, aliveMs, overview } = useStore();
  return (
    <div role="alert" class="banners">
      {connection === 'gone' && (
        <p id="gone" class="banner bad">
          The collector does not answer since {momentText(aliveMs)} (
          {spanText(Date.now() - aliveMs)}). What is shown is from then. Gateways keep what they
          take; this page goes on by itself.
        </p>
      )}
      {connection !== 'gone' &&
        overview?.waiting?.slice(0, 3).map(({ name, why }) => (
          <p key={name} class="banner warn">
            {plain(why)}
          </p>
        ))}
    </div>
  );
}
