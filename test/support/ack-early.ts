/**
 * A gateway that breaks law 1 on purpose: every ticket is released as soon as its message arrives. The negative
 * control of the kill test: it must lose acknowledged messages, or the test proves nothing.
 */
import { openBuffer } from '../../gateway/buffer/open.ts';
import type { Ticket } from '../../gateway/buffer/ticket.ts';
import type { BufferOpener } from '../../gateway/buffer/part.ts';
import { runGateway } from '../../gateway/main.ts';

const early: BufferOpener = async (env, options, events) => {
  const buffer = await openBuffer<Ticket>(env, options, { ...events, onDurable: () => undefined });
  const append = buffer.append.bind(buffer);
  buffer.append = (message, ticket, ops) => {
    if (ticket !== undefined) events.onDurable([ticket]);
    append(message, undefined, ops);
  };
  return buffer;
};

await runGateway(process.argv.slice(2), early);
