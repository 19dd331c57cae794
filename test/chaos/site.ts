/**
 * What every trial stands on: a collector and a gateway as real processes on free ports, a client that records
 * acknowledgements when their bytes have arrived, and the reconciliation of what it saw with what is stored.
 */
import { randomBytes } from 'node:crypto';
import { runLoad, type LoadResult } from '../support/load.ts';
import {
  headwater,
  startCollector,
  startGateway,
  temporaryFolder,
  until,
  type Headwater,
} from '../support/process.ts';
import { getJson, reconciled, settled } from '../support/reconcile.ts';

export interface Result {
  fired: boolean;
  acknowledged: number;
  lost: number;
  extra: number;
  /** Values that nobody sent, and a ledger that says other than what is. */
  differing: number;
  note?: string;
}

/** Of the collector: more flags, and its environment. */
export interface Centre {
  more?: string[];
  environment?: Record<string, string>;
}

export type Chance = () => number;

interface LedgerAnswer {
  missing: boolean;
}

export const wait = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));

let counter = 0;

export class Site {
  readonly measurement: string;
  readonly gatewayFolder: string;
  readonly collectorFolder: string;
  gateway: Headwater | undefined;
  collector: Headwater | undefined;
  readonly acknowledged = new Set<number>();
  readonly sent = new Set<number>();
  private uplink = '';
  private mqtt = '127.0.0.1:0';
  private next = 0;
  /** Flags of the collector. */
  collectorFlags: string[] = [];
  private readonly more: string[];
  private readonly environment: Record<string, string>;
  private readonly centre: Centre;

  /** `more`: flags of the gateway. `gatewayFolder`: on a disk of its own, say. `centre`: of the collector. */
  constructor(
    more: string[] = [],
    gatewayFolder = temporaryFolder(),
    environment: Record<string, string> = {},
    centre: Centre = {},
  ) {
    this.centre = centre;
    this.measurement = `chaos${counter++}`;
    this.more = more;
    this.environment = environment;
    this.gatewayFolder = gatewayFolder;
    this.collectorFolder = temporaryFolder();
  }

  async startCollector(): Promise<void> {
    const { more = [], environment = {} } = this.centre;
    const uplink = this.uplink === '' ? [] : ['--uplink', this.uplink];
    this.collector = await startCollector(
      ['--data', this.collectorFolder, ...uplink, ...this.collectorFlags, ...more],
      environment,
    );
    this.uplink = this.collector.address['uplink'] ?? '';
  }

  /** `via`: another address than the collector's own, a link with faults. `launch`: another way to start it. */
  async startGateway(
    via?: string,
    launch?: (args: string[], environment: Record<string, string>) => Promise<Headwater>,
  ): Promise<void> {
    const args = [
      '--data',
      this.gatewayFolder,
      '--id',
      'gw-chaos',
      '--mqtt',
      this.mqtt,
      ...this.more,
    ];
    const uplink = via ?? this.uplink;
    this.gateway =
      launch === undefined
        ? await startGateway(uplink, args, this.environment)
        : await launch(
            ['gateway', '--http', '127.0.0.1:0', '--collector', `mqtt://${uplink}`, ...args],
            this.environment,
          );
    this.mqtt = this.gateway.address['mqtt'] ?? '';
  }

  async start(): Promise<void> {
    await this.startCollector();
    await this.startGateway();
  }

  get uplinkPort(): number {
    return Number(this.uplink.split(':').at(-1));
  }

  /** Messages over a few connections until all are acknowledged or the connections break; padded with what no compression takes away. */
  async load(
    messages: number,
    window = 100,
    padBytes = 0,
    port = Number(this.mqtt.split(':').at(-1)),
  ): Promise<LoadResult> {
    const from = this.next;
    this.next += messages;
    return await runLoad({
      host: '127.0.0.1',
      port,
      connections: 4,
      messages,
      window,
      topic: (connection) => `chaos/${connection}/${this.measurement}`,
      payload: (index) =>
        padBytes === 0
          ? `{"n":${from + index}}`
          : `{"n":${from + index},"pad":"${randomBytes(padBytes / 2).toString('hex')}"}`,
      onSend: (index) => this.sent.add(from + index),
      onAck: (index) => this.acknowledged.add(from + index),
      clientPrefix: `c${from}`,
    }).catch(
      (): LoadResult => ({
        acknowledged: 0,
        sent: 0,
        seconds: 0,
        latenciesMs: new Float64Array(),
        broken: 4,
      }),
    );
  }

  /** One message after another, as a slow sensor does, until told to stop. */
  trickle(everyMs: number): { stop(): Promise<void> } {
    let stopped = false;
    const running = (async () => {
      while (!stopped) {
        await this.load(4, 1);
        await wait(everyMs);
      }
    })();
    return {
      stop: async () => {
        stopped = true;
        await running;
      },
    };
  }

  async bufferState(): Promise<{ state: string; losses: number }> {
    return await getJson(`http://${this.gateway?.address['http']}/api/v1/buffer`);
  }

  /** Whether a fresh client's message is acknowledged within so many milliseconds. */
  async accepts(ms: number): Promise<number> {
    const started = performance.now();
    await until(
      'a message accepted',
      async () => ((await this.load(4, 1)).acknowledged === 4 ? true : undefined),
      ms,
    );
    return performance.now() - started;
  }

  /** Brings everything through and compares. `allowLoss`: only what the ledger names may be missing. */
  async reconcile(
    fired: boolean,
    allowLoss = false,
    measurement = this.measurement,
  ): Promise<Result> {
    const { gateway, collector } = this;
    if (gateway === undefined || collector === undefined) throw new Error('nothing runs');
    await settled(gateway.address['http'] ?? '', collector.address['http'] ?? '', 60_000);
    const { missing, extra, foreign } = await reconciled(
      collector,
      measurement,
      'n',
      this.acknowledged,
      this.sent,
      3000,
    );
    const ledger = await until(
      'the ledger',
      async () => {
        const answer = await getJson<LedgerAnswer>(
          `http://${collector.address['http']}/api/v1/ledger`,
        );
        return allowLoss || !answer.missing ? answer : undefined;
      },
      15_000,
    ).catch(async () => getJson<LedgerAnswer>(`http://${collector.address['http']}/api/v1/ledger`));
    const lied = allowLoss ? missing > 0 && !ledger.missing : ledger.missing;
    return {
      fired,
      acknowledged: this.acknowledged.size,
      lost: allowLoss && ledger.missing ? 0 : missing,
      extra,
      differing: foreign + (lied ? 1 : 0),
      ...(missing > 0 || lied
        ? {
            note: `${missing} missing, the ledger says ${String(ledger.missing)}: ${JSON.stringify(ledger).slice(0, 4000)}`,
          }
        : {}),
    };
  }

  async stop(): Promise<void> {
    await this.gateway?.kill('SIGKILL');
    await this.collector?.kill('SIGKILL');
  }
}

export { headwater };
