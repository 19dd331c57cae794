/** Readings over HTTP on the gateway: into the same buffer as those over MQTT, and acknowledged after the same fsync. */
import type { Identity } from '../../shared/access/tokens.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import {
  HttpIngest,
  INGEST_ROUTES,
  type HttpMessage,
  type IngestSink,
} from '../../shared/http/ingest.ts';
import { counter } from '../../shared/telemetry/metrics.ts';
import type { MessageBuffer } from '../buffer/buffer.ts';
import { bufferPart } from '../buffer/part.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { AccessRules } from '../ingress/access.ts';
import { guardPart } from '../ingress/guard-part.ts';
import { ingressPart } from '../ingress/part.ts';
import type { BufferSpace } from '../ingress/space.ts';
import type { GatewayPart } from '../part.ts';

/** Longest wait for the fsync. Beyond it the sender is told to try again; what was stored meanwhile has its identity. */
const WAIT_MS = 20_000;

export class BufferSink implements IngestSink {
  readonly bodyBytesMax: number;
  private readonly buffer: MessageBuffer<Ticket>;
  private readonly space: BufferSpace;
  private readonly rules: AccessRules | undefined;
  private readonly announce: (topic: string, payload: Buffer) => void;
  acceptedMessages = 0;

  constructor(
    buffer: MessageBuffer<Ticket>,
    space: BufferSpace,
    rules: AccessRules | undefined,
    bodyBytesMax: number,
    announce: (topic: string, payload: Buffer) => void,
  ) {
    this.buffer = buffer;
    this.space = space;
    this.announce = announce;
    this.rules = rules;
    this.bodyBytesMax = bodyBytesMax;
  }

  mayPublish({ name }: Identity, topic: string): boolean {
    const user = name === '' ? undefined : name;
    return this.rules?.mayPublish({ user, client: name }, topic) ?? true;
  }

  async accept({ properties, principal, ...message }: HttpMessage): Promise<void> {
    const { buffer } = this;
    if (buffer.state.kind === 'blocked' || buffer.congested)
      throw new HeadwaterError(
        'DATA_UNUSABLE',
        buffer.state.kind === 'blocked'
          ? buffer.state.why
          : 'more is arriving than the disk takes: try again in a moment',
      );
    const { topic, payload } = message;
    this.space.see(principal);
    if (this.space.isScarce && !this.space.takes(principal, topic.length + payload.length))
      throw new HeadwaterError(
        'DATA_UNUSABLE',
        'the buffer is nearly full, and this sender has its share of the rest: try again when the uplink has taken some',
      );
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new HeadwaterError('DATA_UNUSABLE', `not on disk within ${WAIT_MS} ms: try again`));
      }, WAIT_MS);
      const durable = (): void => {
        clearTimeout(timer);
        this.acceptedMessages++;
        resolve();
      };
      buffer.append(
        {
          ...message,
          qos: 1,
          retain: false,
          dup: false,
          ...(properties === undefined ? {} : { properties }),
        },
        { durable },
      );
      this.announce(message.topic, message.payload);
    });
  }
}

export const sinkPart: GatewayPart<{ sink: BufferSink; ingest: HttpIngest }> = {
  name: 'ingest by HTTP',
  open: (site) => {
    const { ingress } = site.get(ingressPart);
    const sink = new BufferSink(
      site.get(bufferPart).buffer,
      ingress.space,
      site.get(guardPart).rules,
      site.context.config['limits.bodyBytesMax'],
      (topic, payload) => ingress.announce(topic, payload),
    );
    return { sink, ingest: new HttpIngest(sink) };
  },
  metrics: {
    headwater_ingress_http_messages_total: counter(
      'Messages that came by HTTP and are durable.',
      ({ sink }) => sink.acceptedMessages,
    ),
  },
  routes: INGEST_ROUTES.map((route) => ({
    ...route,
    handle: ({ ingest }, request, response) => route.handle(ingest, request, response),
  })),
};
