/** Topics: the last message of each as it came, what became of it or why nothing, and a mapping to begin with. */
import { useExplained, type Explained } from './explain.tsx';
import { Lines, Panel, Table, Waiting } from './parts.tsx';
import type { Quarantine } from './quarantine.tsx';
import { choose, hashOf, type Place } from './route.ts';
import { agoText, fieldOf, momentText, plain, valueText, type Series } from './series.ts';
import { useLoad, useStore } from './store.ts';
import { DecodeAgain, TryMapping, payloadText, type Message } from './trial.tsx';

const SHOWN_MAX = 300;
const BECAME_MAX = 12;

interface Topic {
  topic: string;
  time: number;
  series: Series[];
  refused: Quarantine['items'];
}

function topicsOf(series: Iterable<Series>, items: Quarantine['items']): Topic[] {
  const topics = new Map<string, Topic>();
  const of = (topic: string): Topic => {
    let found = topics.get(topic);
    if (found === undefined)
      topics.set(topic, (found = { topic, time: 0, series: [], refused: [] }));
    return found;
  };
  for (const each of series) {
    const name = each.tags['topic'];
    // An alert says of which series it is.
    if (name === undefined || each.measurement === 'alerts') continue;
    const topic = of(name);
    topic.series.push(each);
    topic.time = Math.max(topic.time, each.time);
  }
  for (const item of items) {
    const topic = of(item.topic);
    topic.refused.push(item);
    topic.time = Math.max(topic.time, item.receivedMs);
  }
  return [...topics.values()].sort(
    (a, b) => b.refused.length - a.refused.length || b.time - a.time,
  );
}

function becameText(made: readonly Series[]): string {
  const more = made.length > BECAME_MAX ? ` and ${made.length - BECAME_MAX} more` : '';
  const shown = made
    .slice(0, BECAME_MAX)
    .map((each) => `${fieldOf(each)} = ${valueText(each.value, each.unit)}`)
    .join(', ');
  return shown === '' ? 'nothing' : `${shown}${more}`;
}

function Payload({ message, about }: { message: Message; about: string }) {
  const isText = message.encoding === 'utf8';
  return (
    <Lines
      title={`${about}${isText ? '' : ', as base64: it is no text'}`}
      text={message.payload.split('\n').map(plain).join('\n')}
    />
  );
}

/** What came last, as it came. A message that is refused is in quarantine; of any other its reading knows it. */
function lastMessage(
  { refused }: Topic,
  newest: Series | undefined,
  answer: Explained | undefined,
): { message: Message; about: string } | undefined {
  const [kept] = refused;
  const point = answer?.points[0];
  const given = point?.message;
  if (kept !== undefined && (newest === undefined || kept.receivedMs >= newest.time))
    return {
      message: { payload: kept.payload, encoding: kept.encoding },
      about: `The last message, of ${momentText(kept.receivedMs)}, in quarantine`,
    };
  if (typeof given?.payload !== 'string' || newest === undefined) return undefined;
  return {
    message: { payload: given.payload, encoding: given.encoding ?? 'utf8' },
    about: `The last message, of ${momentText(newest.time)}, as it came`,
  };
}

function OneTopic({ one, onDone }: { one: Topic; onDone: () => void }) {
  const { topic, series: made, refused } = one;
  const newest = made.reduce<Series | undefined>(
    (best, each) => (best === undefined || each.time > best.time ? each : best),
    undefined,
  );
  const { answer, said } = useExplained(newest, newest?.time);
  const last = lastMessage(one, newest, answer);
  const [why] = refused;
  return (
    <Panel title={plain(topic)}>
      {last === undefined ? (
        <p class="quiet" role="status">
          {said === '' ? 'The bytes of its last message are not shown to this token.' : plain(said)}
        </p>
      ) : (
        <Payload message={last.message} about={last.about} />
      )}
      {why !== undefined && (
        <p class="warn">
          In quarantine ({refused.length} of the newest messages): <bdi>{plain(why.reason)}</bdi>
        </p>
      )}
      {made.length > 0 && (
        <Table
          label="What it became"
          heads={['Measurement', 'Field', 'Value', 'At']}
          rows={made.map((each) => [
            {
              text: each.measurement,
              href: hashOf('sensors', { s: each.key }),
            },
            fieldOf(each),
            valueText(each.value, each.unit),
            momentText(each.time),
          ])}
        />
      )}
      <h3>Another mapping, on trial</h3>
      <TryMapping
        key={`${topic} ${last === undefined ? '' : 'known'}`}
        topic={topic}
        {...(last === undefined ? {} : { messages: [last.message] })}
      />
      <DecodeAgain topic={topic} which="all" onDone={onDone} />
    </Panel>
  );
}

export function TopicsView({ place }: { place: Place }) {
  const { series, round } = useStore();
  const search = place.choices.get('q') ?? '';
  const chosen = place.choices.get('t') ?? '';
  const held = useLoad('/api/v1/quarantine', 5000, { limit: 200 });
  const { data, reload } = held;
  const topics = topicsOf(series.values(), data?.items ?? []);
  const found = topics.filter(({ topic }) => topic.toLowerCase().includes(search.toLowerCase()));
  const one = topics.find(({ topic }) => topic === chosen);
  const nowMs = Date.now();
  return (
    <>
      {one !== undefined && <OneTopic key={one.topic} one={one} onDone={reload} />}
      <Panel title="Topics">
        <Waiting of={held} what="The quarantine" />
        {topics.length === 0 && round > 0 && data !== undefined ? (
          <Lines
            title="No message has come yet. A first one, in another terminal"
            text={`npx --no-install headwater publish home/kitchen/climate '{"temperature":21.5}'`}
          />
        ) : (
          <>
            <p class="quiet">
              What the newest message of each topic became, and what rules made of it; a topic shows
              it as it came. Those of a mapping that makes tags of its levels are found under
              Sensors.
            </p>
            <p class="controls">
              <input
                type="search"
                aria-label="Search topics"
                placeholder="Search"
                value={search}
                onInput={(event) => choose({ q: event.currentTarget.value }, 'replace')}
              />
            </p>
            <Table
              label="Topics"
              heads={['Topic', 'Newest', 'What it became', 'Why not']}
              rows={found.slice(0, SHOWN_MAX).map(({ topic, time, series: made, refused }) => {
                const [last] = refused;
                return [
                  { text: topic, href: hashOf('topics', { q: search, t: topic }) },
                  agoText(time, nowMs),
                  becameText(made),
                  last === undefined
                    ? ''
                    : {
                        text: `${last.reason}: ${payloadText(last.payload, last.encoding)}`,
                        level: 'warn',
                      },
                ];
              })}
            />
            {found.length > SHOWN_MAX && (
              <p class="quiet">{found.length - SHOWN_MAX} more: search.</p>
            )}
            {found.length === 0 && topics.length > 0 && <p class="empty">No topic matches.</p>}
          </>
        )}
      </Panel>
    </>
  );
}
