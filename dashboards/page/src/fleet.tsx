/** Gateways, and the ledger: what arrived of each, what it still holds, what is lost and why. */
import type { Answer } from '../../../shared/http/client.ts';
import { Lines, Panel, Table, Waiting, agoCell, momentCell } from './parts.tsx';
import { agoText, countText } from './series.ts';
import { useLoad } from './store.ts';

type Gateway = Answer<'/api/v1/gateways'>['gateways'][number];
type Account = Answer<'/api/v1/ledger'>;
type Epoch = Account['gateways'][number]['epochs'][number];
type Span = [from: number, to: number];

const REFRESH_MS = 5000;
const sum = (spans: Span[]): number => spans.reduce((all, [from, to]) => all + to - from + 1, 0);
const lengthOf = ({ from, to }: { from: number; to: number | null }): number =>
  to === null ? 0 : to - from + 1;

function stateOf({ connected, doubled, enrolled }: Gateway): {
  text: string;
  level: 'good' | 'warn' | 'bad';
} {
  if (doubled) return { text: 'two machines have this name', level: 'bad' };
  if ((enrolled?.revokedMs ?? null) !== null) return { text: 'revoked', level: 'warn' };
  return connected ? { text: 'connected', level: 'good' } : { text: 'away', level: 'warn' };
}

/** What each holds is known from its last status, which the ledger keeps. */
function heldOf(account: Account | undefined, gateway: string): string {
  const epochs = account?.gateways.find((each) => each.gateway === gateway)?.epochs;
  if (epochs === undefined) return 'not known yet';
  const frames = epochs.reduce((all, { pending }) => all + sum(pending), 0);
  const statusMs = Math.max(...epochs.map(({ statusMs }) => statusMs));
  return `${countText(frames)} frames${statusMs > 0 ? ` (${agoText(statusMs, Date.now())})` : ''}`;
}

export function GatewaysView() {
  const fleet = useLoad('/api/v1/gateways', REFRESH_MS);
  const account = useLoad('/api/v1/ledger', REFRESH_MS);
  return (
    <Panel title="Gateways and their buffers">
      <Waiting of={fleet} what="The list of gateways" />
      {fleet.data?.gateways.length === 0 && (
        <>
          <p class="empty">No gateway has been here yet. On the board beside the sensors:</p>
          <Lines
            title="Start a gateway"
            text={`headwater gateway --id NAME --collector mqtt://${location.hostname}:1884`}
          />
        </>
      )}
      {fleet.data !== undefined && fleet.data.gateways.length > 0 && (
        <Table
          label="Gateways"
          heads={[
            'Gateway',
            'State',
            'Last seen',
            'Still in its buffer',
            'Messages since this start',
            'Site',
            'Certificate until',
          ]}
          rows={fleet.data.gateways.map((each) => [
            each.gateway,
            stateOf(each),
            each.lastSeenMs === null ? 'never' : agoCell(each.lastSeenMs),
            heldOf(account.data, each.gateway),
            countText(each.messages),
            each.enrolled?.site ?? '–',
            each.enrolled?.certificate === undefined
              ? '–'
              : momentCell(each.enrolled.certificate.toMs),
          ])}
        />
      )}
    </Panel>
  );
}

function lossesOf(epochs: Epoch[]): string {
  const causes = new Map<string, number>();
  for (const loss of epochs.flatMap(({ lost }) => lost))
    causes.set(loss.cause, (causes.get(loss.cause) ?? 0) + lengthOf(loss));
  return [...causes].map(([cause, frames]) => `${countText(frames)} frames: ${cause}`).join('; ');
}

export function LedgerView() {
  const account = useLoad('/api/v1/ledger', REFRESH_MS);
  const { data } = account;
  return (
    <Panel title="Ledger: is anything missing?">
      <Waiting of={account} what="The ledger" />
      {data !== undefined && (
        <>
          <p id="verdict" class={data.missing ? 'bad' : 'good'}>
            <b>
              {data.missing
                ? 'Something that was acknowledged is missing or lost.'
                : 'Nothing that was acknowledged is missing.'}
            </b>
          </p>
          {data.waiting !== undefined && (
            <p class="quiet">
              Here, and not yet decoded: {data.waiting.notDecoded ?? 'not known'} records; not yet
              stored: {data.waiting.notStored ?? 'not known'}.
            </p>
          )}
          <Table
            label="Account of each gateway"
            heads={['Gateway', 'Arrived', 'On its way', 'Missing', 'Lost, and why', 'Epochs']}
            rows={data.gateways.map(({ gateway, epochs }) => {
              const missing = epochs
                .flatMap((each) => each.missing)
                .reduce((all, each) => all + lengthOf(each), 0);
              const lost = lossesOf(epochs);
              return [
                gateway,
                `${countText(epochs.reduce((all, { received }) => all + sum(received), 0))} frames`,
                `${countText(epochs.reduce((all, { pending }) => all + sum(pending), 0))} frames`,
                {
                  text: missing === 0 ? 'none' : `${countText(missing)} frames`,
                  level: missing === 0 ? 'good' : 'bad',
                },
                { text: lost === '' ? 'none' : lost, level: lost === '' ? 'good' : 'bad' },
                String(epochs.length),
              ];
            })}
          />
          {data.lake.length > 0 && (
            <>
              <h3>Damages of the lake</h3>
              <Table
                label="Damages of the lake"
                heads={['Zone', 'File', 'Rows', 'Kind', 'Reason']}
                rows={data.lake.map(({ zone, key, rows, kind, reason }) => [
                  zone,
                  key,
                  countText(rows),
                  kind,
                  reason,
                ])}
              />
            </>
          )}
        </>
      )}
    </Panel>
  );
}
