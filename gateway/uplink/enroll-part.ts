/**
 * Enrolment as a part of a gateway: it joins with the token that it was given, and renews its certificate at two thirds of
 * its life, or when a collector does not take it any more (after a long absence, with a clock that knows nothing).
 * It never gives up, and takes messages all the while.
 */
import { Backoff } from '../../shared/env/backoff.ts';
import { hasCode, messageOf } from '../../shared/errors.ts';
import { restOf } from '../../shared/http/retry-after.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import { clockPart } from '../buffer/part.ts';
import type { GatewayPart } from '../part.ts';
import { enroll, ownCertificate, renew } from './enroll.ts';
import { uplinkAccessPart, uplinkPart } from './part.ts';
import { wipe, type Standing } from '../standing.ts';

const LOOK_MS = 60_000;
/** Until a collector that does not say when is asked again whether a person has let it in. */
const WAITS_MS = 10_000;
/** So many connections refused, one after the other, may want another certificate. */
const REFUSED_MAX = 3;

/** No answer at all says nothing about a certificate; a connection that is closed without a word may. */
const isAway = (why: string): boolean =>
  /ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|no TLS handshake/.test(why);

export class Membership {
  /** Why it is not enrolled, or its certificate not renewed. */
  problem: string | undefined;
  /** It has a certificate of its own. */
  isEnrolled: boolean;
  /** Called when it may go to its collectors, and again for a renewed certificate. */
  onCertificate: () => void = () => undefined;
  private readonly standing: Standing;
  private readonly collectors: readonly string[];
  private readonly now: () => number | undefined;
  private readonly notify: Notify;
  private readonly backoff: Backoff;
  private readonly fraction: () => number;
  private isStopped = false;
  private isRenewing = false;
  private refused = 0;
  private renewAfterMs = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    standing: Standing,
    collectors: readonly string[],
    now: () => number | undefined,
    fraction: () => number,
    notify: Notify,
  ) {
    this.standing = standing;
    this.collectors = collectors;
    this.now = now;
    this.notify = notify;
    this.isEnrolled = standing.token === undefined;
    this.problem = this.isEnrolled ? undefined : 'not enrolled yet';
    this.fraction = fraction;
    this.backoff = new Backoff({ firstMs: 1000, mostMs: 300_000, jitter: 0.5, fraction });
  }

  start(): void {
    const { notTaken } = this.standing;
    if (notTaken !== undefined) {
      this.problem = notTaken;
      this.notify({ level: 'error', event: 'enroll', text: notTaken });
    }
    if (!this.isEnrolled) {
      void this.join();
      return;
    }
    this.watch();
  }

  private watch(): void {
    void this.look();
    this.timer = setInterval(() => void this.look(), LOOK_MS);
    this.timer.unref();
  }

  private async join(): Promise<void> {
    const { gateway, isFirst, paths, urls } = this.standing;
    try {
      await enroll(this.standing, this.now);
    } catch (error) {
      const waits = hasCode(error, 'ENROLL_WAITS');
      const what = waits
        ? 'not enrolled yet'
        : `this gateway could not be enrolled as '${gateway}'`;
      const ends =
        isFirst || !hasCode(error, 'ENROLL_REFUSED')
          ? ''
          : `; without ${paths.tokenFile} it goes on, at its next start, with the certificate that it has`;
      this.say(`${what} at ${urls.join(', ')}`, error, ends);
      // Who waits for a person is served soon after the yes.
      if (waits) this.backoff.reset();
      const restMs = restOf(error);
      const ownMs = waits ? WAITS_MS : this.backoff.next();
      // Later than was asked for, each by another while: a fleet does not come at once.
      const afterMs =
        (waits && restMs > 0 ? restMs : Math.max(ownMs, restMs)) * (1 + this.fraction() / 4);
      if (!this.isStopped) this.timer = setTimeout(() => void this.join(), afterMs);
      return;
    }
    this.isEnrolled = true;
    this.problem = undefined;
    this.notify({ level: 'info', event: 'enrolled', text: `enrolled as '${gateway}'` });
    await wipe(paths.tokenFile).catch((error: unknown) =>
      this.notify({
        level: 'warn',
        event: 'enroll',
        text: `the used join token in ${paths.tokenFile} could not be wiped: ${messageOf(error)}; it is good for nothing any more`,
      }),
    );
    if (this.isStopped) return;
    this.onCertificate();
    this.watch();
  }

  /** A connection came to nothing. */
  linkFailed(why: string): void {
    this.refused = isAway(why) ? 0 : this.refused + 1;
    if (this.refused >= REFUSED_MAX) void this.look();
  }

  /** Whether its time has come, or the collector does not take it. */
  async look(): Promise<void> {
    if (this.isRenewing || this.isStopped) return;
    const own = ownCertificate(this.standing);
    const nowMs = this.now();
    const [fromMs, toMs] = [Date.parse(own?.validFrom ?? ''), Date.parse(own?.validTo ?? '')];
    const isDue = nowMs !== undefined && nowMs > fromMs + ((toMs - fromMs) * 2) / 3;
    if (!isDue && this.refused < REFUSED_MAX) return;
    const upMs = performance.now();
    if (upMs < this.renewAfterMs) return;
    this.isRenewing = true;
    try {
      await renew(this.standing, this.collectors, this.now);
      this.problem = this.standing.notTaken;
      this.refused = 0;
      this.backoff.reset();
      this.renewAfterMs = 0;
      this.notify({ level: 'info', event: 'renewed', text: 'the certificate was renewed' });
      if (!this.isStopped) this.onCertificate();
    } catch (error) {
      this.say('the certificate could not be renewed', error);
      // Each failure doubles it, up to five hours: a fleet that is refused is no load.
      this.renewAfterMs = upMs + Math.max(this.backoff.next() * 60, restOf(error));
    } finally {
      this.isRenewing = false;
    }
  }

  private say(what: string, error: unknown, ends = ''): void {
    const text = `${what}: ${messageOf(error)}${ends}`;
    if (text !== this.problem) this.notify({ level: 'error', event: 'enroll', text });
    this.problem = text;
  }

  expirySeconds(): number {
    const own = ownCertificate(this.standing);
    return own === undefined ? Number.NaN : Date.parse(own.validTo) / 1000;
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.timer);
    clearInterval(this.timer);
  }
}

export const enrollPart: GatewayPart<Membership> = {
  name: 'enrolment',
  open: (site) => {
    const { standing, collectors, env, notify } = site.context;
    if (standing === undefined) return undefined;
    const clock = site.get(clockPart);
    const fraction = (): number => env.random.fraction();
    return new Membership(standing, collectors, () => clock.nowMs(), fraction, notify);
  },
  start: (membership, site) => {
    const uplink = site.find(uplinkPart);
    let { waits } = site.get(uplinkAccessPart);
    if (uplink !== undefined) {
      uplink.onFailed = (why) => membership.linkFailed(why);
      membership.onCertificate = () => {
        if (waits) void uplink.start();
        else uplink.renew();
        waits = false;
      };
    }
    membership.start();
    return Promise.resolve();
  },
  health: ({ problem }) => [{ name: 'enrolment', why: problem, isEssential: false }],
  metrics: {
    headwater_gateway_certificate_expiry_seconds: gauge(
      'When the certificate of an enrolled gateway ends, epoch seconds; NaN before it has one.',
      (membership) => membership.expirySeconds(),
    ),
  },
  close: (membership) => membership.stop(),
};
