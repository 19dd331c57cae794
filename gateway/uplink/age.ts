/** Frames that are too old to be sent: their owner prefers none to late ones (`uplink.backlogAgeMaxMs`). */
import type { Env } from '../../shared/env/env.ts';
import { readHeader } from '../../shared/frame/frame.ts';
import type { StoredFrame } from '../buffer/stored-frame.ts';

/** `ageMaxMs` 0: none is too old. `isClockKnown`: of this machine's wall clock now. */
export function sortByAge(
  frames: StoredFrame[],
  ageMaxMs: number,
  { clock, bootId }: Env,
  isClockKnown: boolean,
): { due: StoredFrame[]; expired: StoredFrame[] } {
  if (ageMaxMs === 0) return { due: frames, expired: [] };
  const boot = bootId.toString('hex');
  const due: StoredFrame[] = [];
  const expired: StoredFrame[] = [];
  for (const stored of frames) {
    const header = readHeader(stored.frame);
    // An earlier boot's monotonic clock says nothing here; its wall clock does when it was known.
    const ageUs =
      header.bootId === boot
        ? clock.monotonicUs() - header.monotonicUs
        : header.clockQuality > 0 && isClockKnown
          ? clock.wallUs() - header.wallUs
          : 0;
    const isOld = header.kind === 0 && ageUs > ageMaxMs * 1000;
    (isOld ? expired : due).push(stored);
  }
  return { due, expired };
}
