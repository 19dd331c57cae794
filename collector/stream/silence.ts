/** Why a sensor is silent, told from the ledger: the sensor itself, its gateway, its clock, or readings that were shed. */
import type { LedgerView } from '../ledger/view.ts';
import type { Silence } from './tracks.ts';

export function explainSilence(
  ledger: LedgerView,
  wallMs: () => number,
): (gateway: string, sinceMs: number) => Silence {
  return (gateway, sinceMs) => {
    const { link, pending, held, lostSince } = ledger.stateOf(gateway, sinceMs);
    if (link?.connected === false) {
      const seconds = Math.max(0, Math.round((wallMs() - link.at) / 1000));
      return {
        reason: 'gateway_unreachable',
        text: `gateway ${gateway} has been out of reach for ${seconds} s; what it holds is expected when it is back`,
      };
    }
    if (pending > 0)
      return {
        reason: 'backlog',
        text: `gateway ${gateway} is connected and holds ${pending} messages that are still on their way`,
      };
    if (held > 0)
      return {
        reason: 'clock_unsure',
        text: `readings of gateway ${gateway} wait until its clock is known`,
      };
    if (lostSince !== undefined)
      return {
        reason: 'shed',
        text: `gateway ${gateway} reports readings that it could not keep: ${lostSince}`,
      };
    return {
      reason: 'sensor_silent',
      text: `gateway ${gateway} is connected and has nothing of this sensor`,
    };
  };
}
