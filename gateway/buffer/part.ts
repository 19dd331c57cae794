/** The buffer as a part of a gateway. What it says of its work goes to those that have asked for it. */
import { join } from 'node:path';
import { claimFolder, gatewayOf } from '../../shared/config/data-folder.ts';
import { counter, gauge, histogram } from '../../shared/telemetry/metrics.ts';
import { freeBytes } from '../../shared/telemetry/process.ts';
import type { Policy } from '../choices.ts';
import type { Env } from '../../shared/env/env.ts';
import type { GatewayPart, GatewaySite } from '../part.ts';
import type { Standing } from '../standing.ts';
import type { BufferEvents, MessageBuffer } from './buffer.ts';
import { GatewayClock } from './clock.ts';
import { openBuffer, type OpenBufferOptions } from './open.ts';
import { salvageFolder } from './salvage.ts';
import type { Ticket } from './ticket.ts';

export type BufferOpener = (
  env: Env,
  options: OpenBufferOptions,
  events: BufferEvents<Ticket>,
) => Promise<MessageBuffer<Ticket>>;

/** How the buffer is opened: tests of what would happen without a promise kept stand in another. */
export const openerPart: GatewayPart<BufferOpener> = { name: 'opener', open: () => openBuffer };

export const clockPart: GatewayPart<GatewayClock> = {
  name: 'clock',
  open: ({ context: { env, config } }) => new GatewayClock(env, config['clock.trusted']),
};

export interface Buffering {
  buffer: MessageBuffer<Ticket>;
  /** Set by who is opened later. */
  hooks: Omit<BufferEvents<Ticket>, 'onNotice'>;
  folder: string;
  /** What was wrong with the folder's own note at the start, and was made again. */
  trouble: string | undefined;
}

/**
 * What it took while it was called after its host is its own under the name that a token gives it. Where collectors are
 * named it may have been heard under the other name.
 */
const mayRename = ({ context: { standing, config } }: GatewaySite): boolean =>
  standing?.token !== undefined && standing.isFirst && config.collectors.length === 0;

/** The gateway whose frames lie in a data folder; undefined: there are none. */
async function ownerOf(
  folder: string,
  standing: Standing | undefined,
): Promise<string | undefined> {
  if (standing !== undefined && standing.token === undefined) return standing.gateway;
  for await (const { header } of salvageFolder(join(folder, 'buffer'))) return header.gateway;
  return undefined;
}

export const bufferPart: GatewayPart<Buffering> = {
  name: 'buffer',
  open: async (site) => {
    const { id, config, env, notify } = site.context;
    const { standing } = site.context;
    const before = gatewayOf(config.data);
    const owner = (): Promise<string | undefined> => ownerOf(config.data, standing);
    const trouble = await claimFolder(config.data, 'gateway', id, owner, mayRename(site));
    if (before !== undefined && before !== id)
      notify({
        level: 'info',
        event: 'data_folder',
        text: `this gateway was called '${before}' until it got a token; what it has taken goes out as '${id}'`,
      });
    if (trouble !== undefined) notify({ level: 'warn', event: 'data_folder', text: trouble });
    const nobody = (): void => undefined;
    const hooks: Buffering['hooks'] = { onDurable: nobody, onFrame: nobody, onRelief: nobody };
    const buffer = await site.get(openerPart)(
      env,
      {
        folder: config.data,
        gateway: id,
        diskBytesMax: config['buffer.diskBytesMax'],
        reserveBytes: config['buffer.reserveBytes'],
        frameBytes: config['buffer.frameBytes'],
        pendingBytesMax: config['buffer.pendingBytesMax'],
        cacheBytes: config['buffer.cacheBytes'],
        compress: config['buffer.compress'],
        historyBytesMax: config['buffer.historyBytesMax'],
        policy: config['buffer.whenFull'] as Policy, // One of the setting's choices.
        clock: site.get(clockPart),
      },
      {
        onDurable: (tickets) => hooks.onDurable(tickets),
        onFrame: (frame) => hooks.onFrame(frame),
        onRelief: () => hooks.onRelief(),
        onNotice: notify,
      },
    );
    return { buffer, hooks, folder: config.data, trouble };
  },
  health: ({ buffer: { state } }) => [
    { name: 'buffer', why: state.kind === 'blocked' ? state.why : undefined, isEssential: true },
  ],
  metrics: {
    headwater_disk_free_bytes: gauge(
      'Free under the data folder; NaN where it cannot be asked.',
      ({ folder }) => freeBytes(folder),
    ),
    headwater_buffer_committed_messages_total: counter(
      'Messages made durable.',
      ({ buffer }) => buffer.stats().committedMessages,
    ),
    headwater_buffer_commits_total: counter(
      'Group commits, each one fsync.',
      ({ buffer }) => buffer.stats().committedGroups,
    ),
    headwater_buffer_commit_seconds: histogram(
      'From the first message of a group to the end of its fsync, once for each group: the longest that any message of it waited before its acknowledgement.',
      ({ buffer }) => buffer.commitSeconds,
    ),
    headwater_buffer_committed_bytes_total: counter(
      'Bytes of committed frames.',
      ({ buffer }) => buffer.stats().committedFrameBytes,
    ),
    headwater_buffer_waiting_messages: gauge(
      'Messages not yet acknowledged by a collector; NaN until what an earlier run left is counted.',
      ({ buffer }) => buffer.stats().waitingMessages ?? Number.NaN,
    ),
    headwater_buffer_waiting_bytes: gauge(
      'Bytes of frames not yet acknowledged by a collector; NaN until counted.',
      ({ buffer }) => buffer.stats().waitingBytes ?? Number.NaN,
    ),
    headwater_buffer_disk_bytes: gauge(
      'Bytes of the buffer on disk.',
      ({ buffer }) => buffer.stats().diskBytes,
    ),
    headwater_buffer_disk_limit_bytes: gauge(
      'What the buffer may take on disk.',
      ({ buffer }) => buffer.stats().diskBytesMax,
    ),
    headwater_buffer_pending_bytes: gauge(
      'Received and not yet durable.',
      ({ buffer }) => buffer.stats().pendingBytes,
    ),
    headwater_buffer_blocked: gauge('1 while acknowledgements are held back.', ({ buffer }) =>
      buffer.state.kind === 'blocked' ? 1 : 0,
    ),
    headwater_buffer_write_errors_total: counter(
      'Failed writes; nothing was acknowledged after one before a reopen.',
      ({ buffer }) => buffer.stats().writeErrors,
    ),
    headwater_buffer_history_messages: gauge(
      'Messages that a collector has and that are still here.',
      ({ buffer }) => buffer.stats().historyMessages,
    ),
    headwater_buffer_evicted_messages_total: counter(
      'Messages of the history that made room.',
      ({ buffer }) => buffer.stats().evictedMessages,
    ),
    headwater_buffer_dropped_messages_total: counter(
      'Messages given up because the buffer was full; each is in a loss report.',
      ({ buffer }) => buffer.stats().droppedMessages,
    ),
    headwater_buffer_thinned_messages_total: counter(
      'Messages thinned to summaries because the buffer was full.',
      ({ buffer }) => buffer.stats().thinnedMessages,
    ),
    headwater_buffer_full_in_seconds: gauge(
      'Until the buffer is full at the rate of the last minutes; +Inf when that is not in sight.',
      ({ buffer }) => (buffer.stats().hoursUntilFull ?? Number.POSITIVE_INFINITY) * 3600,
    ),
    headwater_buffer_losses_total: counter(
      'Losses found and reported.',
      ({ buffer }) => buffer.stats().losses,
    ),
  },
  close: ({ buffer }) => buffer.close(),
};
