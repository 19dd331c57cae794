/** The form of settings that travel from a collector to a gateway, and of what the gateway says of them. */

/** As they are written in YAML, by key. */
export type RemoteValues = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** The uplink has to be back within this, or the gateway goes back by itself; seconds. */
export const BACK_AFTER_SECONDS = { usual: 120, min: 2, max: 3600 };
/** What a collector declares for one gateway. */
export interface RemoteConfig {
  /** Whose it is: a gateway takes no other's. */
  gateway: string;
  /** Names these settings for this gateway: the same again is no change. */
  revision: string;
  settings: RemoteValues;
  backAfterSeconds: number;
}

export const REVISION = /^[0-9a-f]{16}$/;

/** What a gateway says of it, in its status. */
export interface RemoteReport {
  /** In force, and proven by an uplink; left out: its own settings alone. */
  applied?: string;
  /** In force since a moment, and not proven yet. */
  trying?: string;
  /** What came last and did not come to be. */
  failed?: { revision: string; state: 'refused' | 'rolled back'; why: string };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether it has the form of one; its settings are another matter. */
export function isRemoteConfig(value: unknown): value is RemoteConfig {
  if (!isRecord(value)) return false;
  const { gateway, revision, settings, backAfterSeconds } = value;
  return (
    typeof gateway === 'string' &&
    typeof revision === 'string' &&
    REVISION.test(revision) &&
    isRecord(settings) &&
    Number.isInteger(backAfterSeconds)
  );
}

export function isRemoteReport(value: unknown): value is RemoteReport {
  if (!isRecord(value)) return false;
  const { applied, trying, failed } = value;
  const isRevision = (each: unknown): boolean => typeof each === 'string' && REVISION.test(each);
  return (
    (applied === undefined || isRevision(applied)) &&
    (trying === undefined || isRevision(trying)) &&
    (failed === undefined ||
      (isRecord(failed) &&
        isRevision(failed['revision']) &&
        (failed['state'] === 'refused' || failed['state'] === 'rolled back') &&
        typeof failed['why'] === 'string'))
  );
}
