/** The live stream of the API: one path, server-sent events or a WebSocket. */
import { hasCode } from '../../../shared/errors.ts';
import { READ_EACH, type Parameters, type Request } from '../../../shared/http/route.ts';
import { logPart } from '../../log/part.ts';
import type { CollectorPart } from '../../part.ts';
import { Listener } from './listener.ts';
import { LiveStream } from './live.ts';
import { parsePosition, type Position } from './position.ts';
import { EventStream, SocketMessages } from './sink.ts';
import { STREAM, wantedOf } from './wanted.ts';

const HEADERS: Parameters = {
  'last-event-id': { about: 'Id of the last event that came: what came after it comes first.' },
};

/** A browser sends its header by itself, and gives up for good on an error: what is wrong with that is told in the stream. */
function afterOf({ query, headers }: Request): Position | string | undefined {
  const given = query.get('after');
  const asked = given === null ? undefined : parsePosition(given);
  const sent = [headers['last-event-id'] ?? []].flat()[0];
  if (sent === undefined || sent === '') return asked;
  try {
    return parsePosition(sent);
  } catch (error) {
    if (hasCode(error, 'QUERY_INVALID')) return 'Last-Event-ID: that is no id of this stream';
    throw error;
  }
}

export const livePart: CollectorPart<LiveStream> = {
  name: 'live stream',
  roles: ['query'],
  open: (site) =>
    new LiveStream(
      site.get(logPart),
      site.context.notify,
      `headwater-live-${site.context.newId()}`,
    ),
  routes: [
    {
      method: 'GET',
      path: '/api/v1/stream',
      isStream: true,
      about:
        'Readings and results as they arrive: server-sent events named `readings`, or, to who asks for an upgrade, a WebSocket with the same as JSON messages. Each has an id to go on after; `resync` says that something in between cannot be had any more.',
      right: READ_EACH,
      query: STREAM,
      headers: HEADERS,
      replies: {
        200: { about: 'A stream.', type: 'text/event-stream' },
        101: { about: 'A WebSocket, of subprotocol `headwater` where one is asked for.' },
      },
      handle: (live, request, response) => {
        const [wanted, after] = [wantedOf(request.query, request.identity), afterOf(request)];
        const listener = new Listener(wanted, new EventStream(response));
        void live.serve(listener, after, request.catchUp, request.signal);
        return undefined;
      },
      socket: (live, request) => {
        const [wanted, after] = [wantedOf(request.query, request.identity), afterOf(request)];
        return (webSocket) => {
          const listener = new Listener(wanted, new SocketMessages(webSocket));
          void live.serve(listener, after, request.catchUp, request.signal);
        };
      },
    },
  ],
  close: (live) => live.close(),
};
