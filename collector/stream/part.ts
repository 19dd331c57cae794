/** Streams and their deliveries as a part of a collector. */
import { READ_ALL, json } from '../../shared/http/route.ts';
import { TEXT, listOf, object, orNull } from '../../shared/http/schema.ts';
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import { lakePart } from '../lake/part.ts';
import { MadeKeeper } from '../ledger/made.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import type { CollectorPart } from '../part.ts';
import { DeliveryStages } from './delivery/stage.ts';
import { RuleFile } from './rule-file.ts';
import { explainSilence } from './silence.ts';
import { StreamStage } from './stage.ts';

interface Streaming {
  /** '' for none. */
  file: string;
  ruleFile: RuleFile;
  stream: StreamStage;
  deliveries: DeliveryStages;
  made: MadeKeeper;
}

export const streamPart: CollectorPart<Streaming> = {
  name: 'stream',
  roles: ['stream'],
  open: async (site) => {
    const { config, env, notify, nowMs } = site.context;
    const [log, ledger] = [site.get(logPart), site.get(ledgerPart)];
    const ruleFile = new RuleFile(config['stream.rules'], notify);
    const { rules, delivery } = await ruleFile.load();
    const stream = new StreamStage({
      log,
      lake: site.find(lakePart),
      stateBytesMax: config['stream.stateBytesMax'],
      wallMs: nowMs,
      explain: explainSilence(ledger, nowMs),
      known: ledger.whenRead,
      notify,
    });
    await stream.start(rules);
    const made = new MadeKeeper('stream', log, env, notify);
    await made.keep(stream.inForce);
    const deliveries = new DeliveryStages(log, notify, nowMs);
    deliveries.start(delivery);
    ruleFile.watch(async (changed) => {
      await stream.change(changed.rules);
      await made.keep(stream.inForce);
      await deliveries.close();
      deliveries.start(changed.delivery);
    });
    return { file: config['stream.rules'], ruleFile, stream, deliveries, made };
  },
  metrics: {
    headwater_stream_readings_total: counter(
      'Readings that a stream rule is about.',
      ({ stream }) => stream.processedReadings,
    ),
    headwater_stream_open_windows: gauge(
      'Windows whose state is held.',
      ({ stream }) => stream.openWindows,
    ),
    headwater_stream_state_bytes: gauge(
      'Memory that their state takes, about.',
      ({ stream }) => stream.stateBytes,
    ),
    headwater_stream_waiting_corrections: gauge(
      'Windows that wait until the lake can settle them.',
      ({ stream }) => stream.waitingCorrections,
    ),
    headwater_stream_settled_windows_total: counter(
      'Windows computed again from the lake.',
      ({ stream }) => stream.settledWindows,
    ),
    headwater_stream_delivered_alerts_total: counter(
      'Alerts that a target has taken.',
      ({ deliveries }) => deliveries.delivered,
    ),
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/rules',
      about: 'Stream rules in force, as their author wrote them.',
      right: READ_ALL,
      replies: {
        200: {
          about: '`problem`: why the file as it is now is not in force.',
          schema: object({
            file: orNull(TEXT),
            problem: orNull(TEXT),
            rules: listOf({ name: TEXT, kind: TEXT, measurement: TEXT, entry: { type: 'object' } }),
          }),
        },
      },
      handle: ({ file, ruleFile, stream }) =>
        json({
          file: file === '' ? null : file,
          problem: ruleFile.said === '' ? null : ruleFile.said,
          rules: stream.inForce.map(({ name, kind, measurement, entry }) => ({
            ...{ name, kind, measurement, entry },
          })),
        }),
    },
  ],
  close: async ({ ruleFile, stream, deliveries, made }) => {
    ruleFile.close();
    await made.close();
    await deliveries.close();
    await stream.close();
  },
};
