/** Rules in force, and what they have said. */
import type { Answer } from '../../../shared/http/client.ts';
import { Lines, Panel, Table, Waiting, agoCell } from './parts.tsx';
import { plain, sensorOf, valueText, type Series } from './series.ts';
import { state, useLoad, useStore } from './store.ts';

type Rule = Answer<'/api/v1/rules'>['rules'][number];

const REFRESH_MS = 5000;
const EXAMPLE = `rules:
  - name: too_warm
    from: { measurement: climate, field: temperature }
    alert: { above: 30, clear: 28, for: 5m }
  - name: quiet
    from: { measurement: climate }
    alert: { silent: 30m }
`;

const beside = (alert: Series, field: string): Series | undefined =>
  [...state.series.values()].find(
    (each) =>
      each.measurement === 'alerts' &&
      each.field === field &&
      JSON.stringify(each.tags) === JSON.stringify(alert.tags),
  );

const alertsOf = (): Series[] =>
  [...state.series.values()]
    .filter(({ measurement, field }) => measurement === 'alerts' && field === 'active_bool')
    .sort((a, b) => Number(b.value === true) - Number(a.value === true) || b.time - a.time);

/** As its author wrote it, without braces and quotes that say nothing. */
const wordsOf = (value: unknown): string => {
  if (Array.isArray(value)) return value.map(wordsOf).join(', ');
  if (typeof value !== 'object' || value === null) return String(value);
  return Object.entries(value)
    .map(([name, each]) => `${name} ${wordsOf(each)}`)
    .join(', ');
};

function saysOf({ kind, measurement, entry }: Rule): string {
  const { name: _, from: _from, ...rest } = entry;
  const into = kind === 'alert' || kind === 'silence' ? '' : ` → ${measurement}`;
  return `${wordsOf(rest)}${into}`;
}

function InForce({ alerts }: { alerts: readonly Series[] }) {
  const found = useLoad('/api/v1/rules', REFRESH_MS);
  const { data } = found;
  return (
    <Panel title="Rules in force">
      <Waiting of={found} what="The list of rules" />
      {data?.problem != null && (
        <p role="alert" class="bad">
          {plain(data.problem)}
        </p>
      )}
      {data?.rules.length === 0 && (
        <>
          <p class="empty">
            {data.file === null
              ? 'There are none. Rules stand in a file, which is taken anew when it changes. These two'
              : `${plain(data.file)} has none yet. These two`}{' '}
            tell of what is too warm, and of what says nothing:
          </p>
          <Lines title="rules.yaml" text={EXAMPLE} />
          {data.file === null && <Lines title="With them" text="npm start -- --rules rules.yaml" />}
        </>
      )}
      {data !== undefined && data.rules.length > 0 && (
        <>
          <p class="quiet">
            From <code>{plain(data.file ?? '')}</code>; a change is in force within two seconds.
          </p>
          <Table
            label="Rules in force"
            heads={['Rule', 'Of', 'What it says', 'Now']}
            rows={data.rules.map((rule) => {
              const own = alerts.filter(({ tags }) => tags['rule'] === rule.name);
              const firing = own.filter(({ value }) => value === true).length;
              const isAlert = rule.kind === 'alert' || rule.kind === 'silence';
              return [
                rule.name,
                wordsOf(rule.entry['from'] ?? rule.entry['inputs'] ?? ''),
                saysOf(rule),
                firing > 0
                  ? { text: `firing, ${firing}`, level: 'bad' }
                  : { text: isAlert ? 'quiet' : 'works', level: 'good' },
              ];
            })}
          />
        </>
      )}
    </Panel>
  );
}

export function AlertsView() {
  useStore();
  const alerts = alertsOf();
  return (
    <>
      <Panel title="Alerts">
        {alerts.length === 0 ? (
          <p class="empty">No alert has been said.</p>
        ) : (
          <Table
            label="Alerts"
            heads={['State', 'Rule', 'Of', 'Since', 'What']}
            rows={alerts.map((alert) => {
              const { rule = '', ...tags } = alert.tags;
              const said =
                beside(alert, 'message_text')?.value ?? beside(alert, 'reason_text')?.value ?? '';
              return [
                alert.value === true
                  ? { text: 'firing', level: 'bad' }
                  : { text: 'over', level: 'good' },
                rule,
                sensorOf({ tags, name: '' }),
                agoCell(alert.time),
                valueText(said),
              ];
            })}
          />
        )}
      </Panel>
      <InForce alerts={alerts} />
    </>
  );
}
