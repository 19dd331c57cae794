/** The uplink as a part of a gateway: where a collector is named. */
import { secureOptions } from '../../shared/access/tls.ts';
import { clearSecret } from '../../shared/config/exposure.ts';
import { optionalSecret } from '../../shared/config/secrets.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import { bufferPart, clockPart } from '../buffer/part.ts';
import type { BacklogOrder } from '../../shared/config/remote.ts';
import type { GatewayPart, GatewaySite } from '../part.ts';
import type { UplinkTls } from './secure.ts';
import { Uplink } from './uplink.ts';

/** Throws CONFIG_INVALID. */
export function checkCollector(url: string): void {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (error) {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--collector '${url}' is not of the form mqtt://HOST:PORT`,
      { cause: error },
    );
  }
  if (parsed.protocol !== 'mqtt:' && parsed.protocol !== 'mqtts:') {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      `--collector '${url}': only mqtt:// and mqtts:// are understood`,
    );
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw new HeadwaterError(
      'CONFIG_INVALID',
      '--collector holds a password: put it into a file and name that with --uplink-secret-file',
    );
  }
}

/** The uplink secret does not leave for another machine as it is, unless somebody insists. Throws CONFIG_INVALID. */
export function checkClear(url: string, allowPlaintext: boolean, notify: Notify): void {
  const clear = clearSecret({
    what: `--collector ${url}`,
    url,
    secret: 'the uplink secret',
    instead: 'mqtts:// with --uplink-ca FILE',
    insist: 'add --allow-plaintext',
  });
  if (clear === undefined) return;
  if (!allowPlaintext) throw new HeadwaterError('CONFIG_INVALID', clear);
  notify({ level: 'warn', event: 'plaintext', text: clear });
}

/** Who it goes to and as whom, checked before anything is touched. */
export const uplinkAccessPart: GatewayPart<{
  secret: string | undefined;
  tls: UplinkTls;
  /** Only once it has been enrolled it has a certificate to go with. */
  waits: boolean;
}> = {
  name: 'uplink access',
  open: ({ context: { config, collectors, standing, notify } }) => {
    const secret = optionalSecret(config['uplink.secretFile'], 'uplink secret');
    const given = {
      certFile: config['uplink.certFile'],
      keyFile: config['uplink.keyFile'],
      caFile: config['uplink.caFile'],
    };
    const isEnrolled = standing !== undefined && Object.values(given).every((file) => file === '');
    const { own, authority } = standing?.paths ?? { own: '', authority: '' };
    const tls = isEnrolled ? { certFile: own, keyFile: own, caFile: authority } : given;
    const waits = isEnrolled && standing.token !== undefined;
    // Told now, not with the first attempt to connect.
    if (!waits) secureOptions({ ...tls, crlFile: '' }, 'uplink');
    for (const url of collectors) {
      checkCollector(url);
      if (secret !== undefined) checkClear(url, config.allowPlaintext, notify);
    }
    return { secret, tls, waits };
  },
};

function uplinkOf(site: GatewaySite): Uplink {
  const { id, config, env, collectors, notify } = site.context;
  const access = site.get(uplinkAccessPart);
  return new Uplink(
    env,
    {
      gateway: id,
      collectors: [...collectors],
      secret: access.secret,
      tls: access.tls,
      windowBytes: config['uplink.windowBytes'],
      publishBytesMax: config['uplink.publishBytesMax'],
      ackTimeoutMs: config['uplink.ackTimeoutMs'],
      keepAliveSeconds: config['uplink.keepAliveSeconds'],
      reconnectMs: { first: 250, most: config['uplink.reconnectMsMax'] },
      bytesPerSecond: config['uplink.bytesPerSecond'],
      bytesPerDay: config['uplink.bytesPerDay'],
      statusMs: config['uplink.statusMs'],
      order: config['uplink.backlogOrder'] as BacklogOrder, // One of the setting's choices.
      liveAgeMs: config['uplink.liveAgeMs'],
      backlogAgeMaxMs: config['uplink.backlogAgeMaxMs'],
    },
    site.get(bufferPart).buffer, // The uplink reads and releases; it never makes a ticket.
    site.get(clockPart),
    notify,
  );
}

export const uplinkPart: GatewayPart<Uplink> = {
  name: 'uplink',
  open: (site) => {
    if (site.context.collectors.length === 0) return undefined;
    const uplink = uplinkOf(site);
    site.get(bufferPart).hooks.onFrame = () => uplink.wake();
    return uplink;
  },
  start: async (uplink, site) => {
    site.get(bufferPart).buffer.protect((position) => uplink.isInFlight(position));
    if (!site.get(uplinkAccessPart).waits) await uplink.start();
  },
  health: (uplink) => {
    const { connected, collector, lastError } = uplink.stats();
    const why = `no connection to ${collector}${lastError === '' ? '' : ` (${lastError})`}`;
    return [{ name: 'uplink', why: connected ? undefined : why, isEssential: false }];
  },
  metrics: {
    headwater_clock_offset_seconds: gauge(
      "By how much this machine's wall clock is ahead of the collector's; absent before a collector has told the time.",
      (uplink) => uplink.clockOffsets(),
    ),
    headwater_uplink_connected: gauge('1 while connected to a collector.', (uplink) =>
      uplink.stats().connected ? 1 : 0,
    ),
    headwater_uplink_connects_total: counter(
      'Connections made to a collector.',
      (uplink) => uplink.stats().connects,
    ),
    headwater_uplink_sent_bytes_total: counter(
      'Bytes sent in frames, resends included.',
      (uplink) => uplink.stats().sentBytes,
    ),
    headwater_uplink_sent_messages_total: counter(
      'Messages sent, resends included.',
      (uplink) => uplink.stats().sentMessages,
    ),
    headwater_uplink_acknowledged_messages_total: counter(
      'Messages that the collector has on stable storage.',
      (uplink) => uplink.stats().acknowledgedMessages,
    ),
    headwater_uplink_backlog_bytes_total: counter(
      'Bytes sent in the backlog lane.',
      (uplink) => uplink.stats().backlogBytes,
    ),
    headwater_uplink_window_bytes: gauge(
      'What may be on its way now, by the delay of the link.',
      (uplink) => uplink.stats().windowBytes,
    ),
    headwater_uplink_in_flight_bytes: gauge(
      'Sent and not yet acknowledged.',
      (uplink) => uplink.stats().inFlightBytes,
    ),
    headwater_uplink_ack_timeouts_total: counter(
      'Links given up because no acknowledgement came.',
      (uplink) => uplink.stats().ackTimeouts,
    ),
  },
  close: (uplink) => uplink.stop(),
};
