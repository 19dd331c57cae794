/** Topics: what their messages became, or why nothing, and a mapping to begin with. */
import { useMemo } from 'preact/hooks';
import { Lines, Panel, Table } from './parts.tsx';
import { mappingFor, payloadText, type Quarantine } from './quarantine.tsx';
import { choose, type Place } from './route.ts';
import { agoText, fieldOf, plain, valueText, type Series } from './series.ts';
import { useLoad, useStore } from './store.ts';

const SHOWN_MAX = 300;

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
    if (name === undefined) continue;
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

export function TopicsView({ place }: { place: Place }) {
  const { series } = useStore();
  const search = place.choices.get('q') ?? '';
  const chosen = place.choices.get('t') ?? '';
  const { data } = useLoad<Quarantine>('api/v1/quarantine?limit=200', 5000);
  const topics = topicsOf(series.values(), data?.items ?? []).filter(({ topic }) =>
    topic.toLowerCase().includes(search.toLowerCase()),
  );
  const one = topics.find(({ topic }) => topic === chosen);
  const mapping = useMemo(() => mappingFor(chosen), [chosen]);
  const nowMs = Date.now();
  return (
    <Panel title="Topics">
      <p class="quiet">
        What the newest message of each topic became. Topics of a mapping that makes tags of them
        are found under Sensors.
      </p>
      <p class="controls">
        <input
          type="search"
          aria-label="Search topics"
          placeholder="Search"
          value={search}
          onInput={(event) => choose({ q: event.currentTarget.value }, 'replace')}
        />
        <label>
          Mapping for{' '}
          <select
            value={chosen}
            onChange={(event) => choose({ t: event.currentTarget.value }, 'replace')}
          >
            <option value="">choose a topic</option>
            {topics.slice(0, SHOWN_MAX).map(({ topic }) => (
              <option key={topic} value={topic}>
                {plain(topic).slice(0, 80)}
              </option>
            ))}
          </select>
        </label>
      </p>
      {one !== undefined && (
        <Lines title={`A mapping for ${plain(one.topic)}, to begin with`} text={mapping} />
      )}
      <Table
        label="Topics"
        heads={['Topic', 'Newest', 'What it became', 'Why not']}
        rows={topics.slice(0, SHOWN_MAX).map(({ topic, time, series: made, refused }) => {
          const [last] = refused;
          return [
            topic,
            agoText(time, nowMs),
            made
              .map((each) => `${fieldOf(each)} = ${valueText(each.value, each.unit)}`)
              .join(', ') || 'nothing',
            last === undefined
              ? ''
              : {
                  text: `${last.reason}: ${payloadText(last.payload, last.encoding)}`,
                  level: 'warn',
                },
          ];
        })}
      />
      {topics.length > SHOWN_MAX && <p class="quiet">{topics.length - SHOWN_MAX} more: search.</p>}
    </Panel>
  );
}
