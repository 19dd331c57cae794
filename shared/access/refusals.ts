/**
 * Connections that were refused, told where the operator looks: on the server's console. Once a minute for each address
 * and reason and at most 20 lines a minute in all, so that whoever knocks a million times, or from a million addresses,
 * fills no disk; how many were not told stands in the next line. The audit log has them one by one.
 */
import { Seldom } from './seldom.ts';
import type { Notify } from '../telemetry/log.ts';
import { Share, addressGroup } from './shares.ts';

const LINES_PER_MINUTE_MAX = 20;
const MINUTE_US = 60_000_000;

export class Refusals {
  private readonly monotonicUs: () => number;
  private readonly notify: Notify;
  private readonly event: string;
  private readonly seldom: Seldom;
  private minuteUs = -MINUTE_US;
  private lines = new Share('refusal_lines', LINES_PER_MINUTE_MAX);
  private unsaid = 0;

  constructor(monotonicUs: () => number, notify: Notify, event: string) {
    this.monotonicUs = monotonicUs;
    this.notify = notify;
    this.event = event;
    this.seldom = new Seldom(monotonicUs);
  }

  /** `reason` is a constant, nothing that a client sends; `text` is the whole sentence. */
  say(address: string, reason: string, text: string): void {
    const nowUs = this.monotonicUs();
    const from = addressGroup(address);
    if (this.seldom.may(`${from} ${reason}`, from) === undefined) {
      this.unsaid++;
      return;
    }
    if (nowUs - this.minuteUs >= MINUTE_US) {
      this.minuteUs = nowUs;
      this.lines = new Share('refusal_lines', LINES_PER_MINUTE_MAX);
    }
    if (!this.lines.take(from)) {
      this.unsaid++;
      return;
    }
    const more =
      this.unsaid === 0 ? '' : ` (since the last such line ${this.unsaid} more were refused)`;
    this.unsaid = 0;
    this.notify({ level: 'warn', event: this.event, text: `${text}${more}` });
  }
}

const NOT_SPOKEN = /^protocol version (\d+) is not spoken here$/;
const NO_CONNECT = 'the first packet is not a CONNECT';

/**
 * Why a connection that never said who it is was closed, when that is a mistake of whoever set it up: a version of MQTT
 * that is not spoken, or a port that is for something else. `versions`: those that are spoken.
 */
export function mistakeOf(reason: string, versions: string): string | undefined {
  const version = NOT_SPOKEN.exec(reason)?.[1];
  if (version !== undefined)
    return `it speaks MQTT's protocol version ${version}; spoken here: ${versions}`;
  if (reason === NO_CONNECT)
    return 'what it sends is not MQTT: it may be HTTP or TLS, or this port was meant for something else';
  return undefined;
}

/** Why a certificate was not accepted, by OpenSSL's code; '' where none was shown. */
export function distrustOf(code: string): string {
  if (code === '') return 'it shows no certificate, and one is needed';
  if (code === 'CERT_HAS_EXPIRED') return 'its certificate has expired';
  if (code === 'CERT_NOT_YET_VALID')
    return "its certificate is not valid yet, by this machine's clock";
  return `its certificate is of another authority than those that count here (${code})`;
}
