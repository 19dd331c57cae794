/** Topics, live: the last message of each as it came, what it became or why nothing. */
import { cameMs, madeText, useMessages, type Message } from './messages.ts';
import { Lines, Panel, Search, Table, Waiting, agoCell, type Cell } from './parts.tsx';
import type { Quarantine } from './quarantine.tsx';
import { hashOf, type Place } from './route.ts';
import { fieldOf, plain, valueText, type Series } from './series.ts';
import { useLoad, useStore } from './store.ts';
import { OneTopic, type Topic } from './topic.tsx';
import { payloadText } from './trial.tsx';

const SHOWN_MAX = 300;
const BECAME_MAX = 12;

function topicsOf(
  messages: Iterable<Message>,
  series: Iterable<Series>,
  items: Quarantine['items'],
): Topic[] {
  const topics = new Map<string, Topic>();
  const of = (topic: string, time: number): Topic => {
    let found = topics.get(topic);
    if (found === undefined) topics.set(topic, (found = { topic, time, series: [], refused: [] }));
    found.time = Math.max(found.time, time);
    return found;
  };
  for (const message of messages) of(message.topic, cameMs(message)).message = message;
  for (const each of series) {
    const name = each.tags['topic'];
    // An alert says of which series it is.
    if (name === undefined || each.measurement === 'alerts') continue;
    // A device's own time says nothing of when a message came that is known.
    of(name, topics.get(name)?.message === undefined ? each.time : 0).series.push(each);
  }
  for (const item of items) of(item.topic, item.receivedMs).refused.push(item);
  return [...topics.values()].sort(
    (a, b) => b.refused.length - a.refused.length || b.time - a.time,
  );
}

function seriesText(made: readonly Series[]): string {
  const more = made.length > BECAME_MAX ? ` and ${made.length - BECAME_MAX} more` : '';
  const shown = made
    .slice(0, BECAME_MAX)
    .map((each) => `${fieldOf(each)} = ${valueText(each.value, each.unit)}`)
    .join(', ');
  return shown === '' ? 'nothing' : `${shown}${more}`;
}

function becameOf({ message, series }: Topic): Cell {
  const made = message?.made ?? undefined;
  return made === undefined ? seriesText(series) : madeText({ ...made, told: [] });
}

/** Of its last message; of one before it, that it waits. */
function whyNot({ message, refused }: Topic): Cell {
  const [kept] = refused;
  const told = message?.made?.told ?? [];
  if (kept === undefined) return told.length === 0 ? '' : { text: told.join('; '), level: 'warn' };
  const count = refused.length === 1 ? '1 waits' : `${refused.length} wait`;
  return { text: `${kept.reason} (${count} in quarantine)`, level: 'warn' };
}

function payloadOf({ message, refused: [kept] }: Topic): Cell {
  const shown = message ?? kept;
  return shown === undefined
    ? '–'
    : { text: payloadText(shown.payload, shown.encoding), isPayload: true };
}

export function TopicsView({ place }: { place: Place }) {
  const { series, round } = useStore();
  const search = place.choices.get('q') ?? '';
  const chosen = place.choices.get('t') ?? '';
  const held = useLoad('/api/v1/quarantine', 5000, { limit: 200 });
  const followed = useMessages();
  const { data, reload } = held;
  const topics = topicsOf(followed.messages.values(), series.values(), data?.items ?? []);
  const found = topics.filter(({ topic }) => topic.toLowerCase().includes(search.toLowerCase()));
  const one =
    topics.find(({ topic }) => topic === chosen) ??
    (chosen === '' ? undefined : { topic: chosen, time: 0, series: [], refused: [] });
  const isKnown = round > 0 && data !== undefined && followed.isRead;
  return (
    <>
      {one !== undefined && <OneTopic key={one.topic} one={one} onDone={reload} />}
      <Panel title="Topics">
        <Waiting of={held} what="The quarantine" />
        {topics.length === 0 && isKnown ? (
          <Lines
            title="No message has come yet. A first one, in another terminal"
            text={`npx --no-install headwater publish home/kitchen/climate '{"temperature":21.5}'`}
          />
        ) : (
          <>
            <p class="quiet">
              The last message of each topic as it came, and what the mappings in force make of it.
              Choose one for its last messages and a mapping of your own.
              {followed.said === '' ? '' : ` Not all as it came: ${plain(followed.said)}.`}
            </p>
            <p class="controls">
              <Search what="topics" text={search} />
            </p>
            <Table
              label="Topics"
              heads={['Topic', 'Came', 'Last message', 'What it became', 'Why not']}
              rows={found
                .slice(0, SHOWN_MAX)
                .map((each) => [
                  { text: each.topic, href: hashOf('topics', { q: search, t: each.topic }) },
                  agoCell(each.time),
                  payloadOf(each),
                  becameOf(each),
                  whyNot(each),
                ])}
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
