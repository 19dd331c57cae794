/**
 * How an alert gets to a webhook, a mailbox or an MQTT topic. Each says when the other side has taken it. Clients are loaded
 * by who has such a target: most collectors have none, and start sooner.
 */
import { createHash } from 'node:crypto';
import type { MqttClient } from 'mqtt';
import { readPrivateFile } from '../../../shared/config/secrets.ts';
import { readUserFile } from '../../../shared/config/user-file.ts';
import { messageOf } from '../../../shared/errors.ts';
import { AskAgain, restOf, retryAfterMs } from '../../../shared/http/retry-after.ts';
import { isLoopback } from '../../../shared/net/address.ts';
import { distrust } from '../../../shared/net/distrust.ts';
import { printable } from '../../../shared/telemetry/log.ts';
import type { MailTarget, MqttTarget, Target, WebhookTarget } from './targets.ts';

/** What is said of an alert, to everybody in the same words. */
export interface Alert {
  rule: string;
  status: 'firing' | 'resolved';
  /** RFC 3339, of the event. */
  time: string;
  reason: string;
  message: string;
  value?: number;
  tags: Record<string, string>;
  /** The same for the same alert: who gets it twice can tell. */
  id: string;
}

const TIMEOUT_MS = 10_000;
/** Characters of a subject. */
const SUBJECT_MAX = 200;
/** Answers about this very message: it is too large, or not understood. */
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 415, 422]);

class Refusal extends Error {}

export function alertId(epoch: string, sequence: number, index: number): string {
  return createHash('sha256').update(`${epoch}/${sequence}/${index}`).digest('hex').slice(0, 24);
}

async function toWebhook({ url, authorizationFile }: WebhookTarget, alert: Alert): Promise<void> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'idempotency-key': alert.id,
  };
  if (authorizationFile !== undefined)
    headers['authorization'] = readPrivateFile(authorizationFile, 'webhook authorization')
      .toString('utf8')
      .trim();
  const response = await fetch(url, {
    method: 'POST',
    headers,
    body: JSON.stringify(alert),
    redirect: 'error',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  await response.body?.cancel();
  if (REFUSALS.has(response.status)) throw new Refusal(`it answers ${response.status}`);
  if (response.ok) return;
  const { headers: said } = response;
  const afterMs = retryAfterMs(said.get('retry-after'), said.get('date'));
  throw new AskAgain('UNREACHABLE', `it answers ${response.status}`, afterMs);
}

const passwordOf = (file: string | undefined): string =>
  file === undefined ? '' : readPrivateFile(file, 'password').toString('utf8').trim();

/** The other side's certificate and name are checked on every link; `caFile` says against whose authority. */
const caOf = ({ caFile }: MailTarget | MqttTarget): { ca?: Buffer } =>
  caFile === undefined ? {} : { ca: readUserFile(caFile) };

async function toMail(target: MailTarget, alert: Alert): Promise<void> {
  const { server, from, to, user, passwordFile } = target;
  const url = new URL(server);
  const secure = url.protocol === 'smtps:';
  const hasSecret = user !== undefined && !target.allowPlaintext && !isLoopback(url.hostname);
  const { createTransport } = await import('nodemailer');
  const transport = createTransport({
    host: url.hostname,
    port: url.port === '' ? (secure ? 465 : 25) : Number(url.port),
    secure,
    // Who strips STARTTLS from the greeting must not be given the password for it.
    requireTLS: hasSecret,
    tls: caOf(target),
    ...(user === undefined ? {} : { auth: { user, pass: passwordOf(passwordFile) } }),
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
  });
  const tags = Object.entries(alert.tags).map(([name, value]) => printable(`${name}: ${value}`));
  try {
    await transport.sendMail({
      from,
      to,
      // Header text: what a device wrote must not begin a header of its own.
      subject: printable(`[${alert.status}] ${alert.rule}: ${alert.message}`).slice(0, SUBJECT_MAX),
      text: [
        printable(alert.message),
        '',
        `time: ${alert.time}`,
        `reason: ${printable(alert.reason)}`,
        ...tags,
        '',
      ].join('\n'),
      messageId: `<${alert.id}@headwater>`,
    });
  } finally {
    transport.close();
  }
}

/** Rejects when the connection ends, or when nothing comes of it in time. */
function lost(client: MqttClient): { rejects: Promise<never>; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  const rejects = new Promise<never>((_, reject) => {
    const fail = (why: string) => () =>
      reject(new Error(`it ${why} before it had taken the alert`));
    timer = setTimeout(fail(`said nothing for ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS);
    client.once('close', fail('closed the connection'));
    client.on('error', reject);
  });
  rejects.catch(() => undefined);
  return { rejects, stop: () => clearTimeout(timer) };
}

async function toMqtt(target: MqttTarget, alert: Alert): Promise<void> {
  const { server, topic, user, passwordFile } = target;
  const options = {
    connectTimeout: TIMEOUT_MS,
    reconnectPeriod: 0,
    ...caOf(target),
    ...(user === undefined ? {} : { username: user, password: passwordOf(passwordFile) }),
  };
  const { connectAsync } = await import('mqtt');
  // Without `false` it waits for ever for a server that closes before its CONNACK.
  const client = await connectAsync(server, options, false);
  const { rejects, stop } = lost(client);
  try {
    await Promise.race([client.publishAsync(topic, JSON.stringify(alert), { qos: 1 }), rejects]);
  } finally {
    stop();
    await client.endAsync(true);
  }
}

/** Throws UNREACHABLE when it was not taken, with when to come again where it said so, and RECORD_REFUSED when this very alert was refused. */
export async function send(target: Target, alert: Alert): Promise<void> {
  try {
    if (target.kind === 'webhook') await toWebhook(target, alert);
    else if (target.kind === 'mail') await toMail(target, alert);
    else await toMqtt(target, alert);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const where = target.kind === 'webhook' ? target.url : target.server;
    throw new AskAgain(
      error instanceof Refusal ? 'RECORD_REFUSED' : 'UNREACHABLE',
      `alerts wait for ${target.kind} '${target.name}' at ${where}: ${distrust(error) ?? messageOf(cause)}`,
      restOf(error),
      { cause: error },
    );
  }
}
