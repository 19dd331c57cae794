/** Attacks on the listeners of MQTT: before anybody is known, with credentials that are wrong, and by a device like others. */
import { connectPacket, packet, subscribePacket } from '../support/hostile.ts';
import { encodePublish } from '../support/load.ts';
import { P, connect5 } from '../support/raw-mqtt5.ts';
import { rng } from '../support/seed.ts';
import { conversation } from '../fuzz/mutate.ts';
import { BAD, anyAddress, drop, hello, swarm, type Attack, type Target } from './attack.ts';

const LEVELS = (from: string): string =>
  Array.from({ length: 98 }, (_, at) => `${from}-${at}`).join('/');
const MIB = 1024 * 1024;

/** Its topics: with access rules a device has only some. */
const topicOf = ({ login }: Target, rest: string): string => `${login?.user ?? 'bad'}/${rest}`;

/** Packets are sent as they are acknowledged, so many ahead. */
const sending =
  (
    count: number,
    ahead: number,
    next: (index: number) => Buffer,
    more: { version?: 5 } = {},
  ): Attack =>
  (target, over) => {
    const sent: number[] = [];
    const write = (
      socket: { write: (bytes: Buffer) => boolean },
      index: number,
      packets: number,
    ) => {
      for (let at = 0; at < packets; at++) {
        sent[index] = (sent[index] ?? 0) + 1;
        socket.write(next(sent[index]));
      }
    };
    return swarm(over, {
      count,
      port: target.mqtt,
      onOpen: (socket, index) => {
        const id = `bad-${index}`;
        socket.write(
          more.version === 5
            ? connect5(
                id,
                target.login === undefined
                  ? {}
                  : { username: target.login.user, password: target.login.password },
              )
            : hello(target, id),
        );
        write(socket, index, ahead);
      },
      onData: (socket, data, index) =>
        write(socket, index, Math.min(ahead, Math.floor(data.length / 4))),
    });
  };

const silent: Attack = (target, over) =>
  swarm(over, {
    count: 2000,
    port: target.mqtt,
    onOpen: (socket, index) => {
      if (index % 3 === 1) socket.write(hello(target, `slow-${index}`).subarray(0, 9));
      if (index % 3 !== 2) return;
      // A byte now and then.
      const bytes = hello(target, `slow-${index}`);
      let at = 0;
      const timer = setInterval(() => {
        if (socket.destroyed) clearInterval(timer);
        else socket.write(bytes.subarray(at, ++at));
      }, 1000);
      socket.on('close', () => clearInterval(timer));
    },
  });

const tenThousand: Attack = (target, over) =>
  swarm(over, {
    count: 10_500,
    againMs: 500,
    port: target.mqtt,
    onOpen: (socket, index) => socket.write(hello(target, `many-${index}`)),
  });

const churn: Attack = (target, over) =>
  swarm(over, {
    count: 50,
    againMs: 0,
    port: target.mqtt,
    onOpen: (socket, index) => socket.write(hello(target, `churn-${index}`)),
    onData: drop,
  });

const wrongPasswords =
  (from: (index: number) => string): Attack =>
  ({ mqtt }, over) =>
    swarm(over, {
      count: 400,
      againMs: 5,
      port: mqtt,
      from,
      onOpen: (socket, index) =>
        socket.write(
          connectPacket({
            id: `x${index}`,
            user: index % 2 === 0 ? 'good' : `u${index}`,
            password: 'wrong',
          }),
        ),
    });

const filters: Attack = (target, over) =>
  swarm(over, {
    count: 300,
    againMs: 100,
    port: target.mqtt,
    onOpen: (socket, index) => {
      socket.write(hello(target, `hoard-${index}`, { clean: false }));
      for (let part = 0; part < 2; part++)
        socket.write(
          subscribePacket(
            1 + part,
            ...Array.from({ length: 30 }, (_, at) =>
              topicOf(target, LEVELS(`${index}-${part}-${at}`)),
            ),
          ),
        );
    },
  });

const dyingWithWills: Attack = (target, over) =>
  swarm(over, {
    count: 200,
    againMs: 0,
    port: target.mqtt,
    onOpen: (socket, index) => {
      const will = {
        topic: topicOf(target, `will/${index}`),
        payload: 'x'.repeat(3000),
        retain: true,
      };
      socket.write(hello(target, `will-${index}`, { will }));
    },
    onData: drop,
  });

const unread: Attack = (target, over) => {
  const payload = 'x'.repeat(20_000);
  return swarm(over, {
    count: 20,
    port: target.mqtt,
    onOpen: (socket, index) => {
      socket.write(hello(target, `deaf-${index}`));
      socket.write(subscribePacket(1, topicOf(target, '#')));
      if (index === 0) {
        const timer = setInterval(() => {
          if (socket.destroyed) clearInterval(timer);
          else
            for (let at = 1; at <= 5; at++)
              socket.write(encodePublish(topicOf(target, 'loud'), payload, 1, at));
        }, 20);
        socket.on('close', () => clearInterval(timer));
      } else setTimeout(() => socket.pause(), 100);
    },
  });
};

const begun: Attack = (target, over) => {
  const whole = encodePublish(topicOf(target, 'large'), Buffer.alloc(MIB - 100), 1, 1);
  return swarm(over, {
    count: 400,
    againMs: 500,
    port: target.mqtt,
    onOpen: (socket, index) => {
      socket.write(hello(target, `begun-${index}`));
      socket.write(whole.subarray(0, whole.length - 1));
    },
  });
};

const garbage: Attack = (target, over) => {
  const next = rng(15);
  let token = 0;
  return swarm(over, {
    count: 50,
    againMs: 0,
    stayMs: 300,
    port: target.mqtt,
    onOpen: (socket) => {
      for (const part of conversation(next, `a${token++}`, token % 2 === 0 ? 4 : 5))
        socket.write(part);
    },
  });
};

const away: Attack = (target, over) =>
  swarm(over, {
    count: 200,
    againMs: 0,
    port: target.mqtt,
    onOpen: (socket, index) => {
      const own = topicOf(target, `away/${index}`);
      socket.write(hello(target, `away-${index}`, { clean: false }));
      socket.write(subscribePacket(1, topicOf(target, 'away/#')));
      for (let at = 2; at < 5; at++) socket.write(encodePublish(own, 'x'.repeat(1000), 1, at));
    },
    onData: (socket, data) => {
      if (data.length > 4) drop(socket);
    },
  });

const halfTls: Attack = ({ mqtts = 0 }, over) =>
  swarm(over, {
    count: 1000,
    port: mqtts,
    onOpen: (socket, index) => {
      if (index % 2 === 0) socket.write(Buffer.from('16030100c8010000c403', 'hex'));
    },
  });

const handshakes: Attack = ({ mqtts = 0 }, over) =>
  swarm(over, {
    count: 30,
    againMs: 0,
    port: mqtts,
    isSecure: true,
    onOpen: drop,
  });

const foreignPages: Attack = ({ ws }, over) =>
  swarm(over, {
    count: 30,
    againMs: 0,
    port: ws,
    onOpen: (socket) =>
      socket.write(
        'GET / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n',
      ),
    onData: drop,
  });

const falseGateways: Attack = ({ uplink, site }, over) =>
  swarm(over, {
    count: 100,
    againMs: 5,
    port: uplink,
    isSecure: site === 'apart',
    onOpen: (socket, index) => {
      socket.write(
        connectPacket({ id: `gateway-x${index}`, user: `x${index}`, password: 'wrong' }),
      );
      socket.write(packet(0x32, Buffer.alloc(3000, 1)));
    },
  });

const deepJson = (index: number): string =>
  `${'['.repeat(2000 + (index % 100))}${']'.repeat(2000)}`;
const lyingCbor = (index: number): Buffer =>
  Buffer.concat([
    Buffer.from([0xbb, 0, 0, 0, 0, 0x7f, 0xff, 0xff, index & 255]),
    Buffer.alloc(2000, 0x9b),
  ]);

/** Name → what it does. */
export const MQTT_ATTACKS: Record<string, Attack> = {
  'sockets that say nothing, or a byte a second': silent,
  '10,500 connections of one address': tenThousand,
  'connects and goes, without end': churn,
  'wrong passwords, one address': wrongPasswords(() => BAD),
  'wrong passwords, 400 addresses': wrongPasswords(anyAddress),
  'filters of 98 levels, sessions that stay': filters,
  'retained messages on ever new topics': (target, over) =>
    sending(4, 50, (index) =>
      encodePublish(topicOf(target, `r/${index}`), 'x'.repeat(2000), 1, 1 + (index % 60_000), 1),
    )(target, over),
  'wills of 3 kB, dying': dyingWithWills,
  'QoS 2 without PUBREL': (target, over) =>
    sending(20, 50, (index) => encodePublish(topicOf(target, 'q'), 'x', 2, 1 + (index % 65_000)))(
      target,
      over,
    ),
  'packets of 1 MiB, a few at a time': (target, over) =>
    sending(4, 1, (index) =>
      encodePublish(topicOf(target, 'large'), Buffer.alloc(MIB - 100, index), 1, 1),
    )(target, over),
  'packets of 1 MiB that never end': begun,
  'subscribers that never read': unread,
  'what is no MQTT': garbage,
  'sessions that are away, with queues': away,
  'a version 5 flood of aliases and properties': (target, over) =>
    sending(
      10,
      20,
      () =>
        connect5('again', {
          properties: Array.from({ length: 50 }, () => P.user('x'.repeat(50), 'y')),
        }),
      { version: 5 },
    )(target, over),
  'JSON 2,000 levels deep': (target, over) =>
    sending(4, 20, (index) =>
      encodePublish(topicOf(target, 'deep'), deepJson(index), 1, 1 + (index % 60_000)),
    )(target, over),
  'CBOR that lies about its length': (target, over) =>
    sending(4, 20, (index) =>
      encodePublish(topicOf(target, 'lies'), lyingCbor(index), 1, 1 + (index % 60_000)),
    )(target, over),
  'TLS that never gets done': halfTls,
  'TLS handshakes, one after another': handshakes,
  "MQTT over WebSocket from a stranger's page": foreignPages,
  'gateways that are none': falseGateways,
};
