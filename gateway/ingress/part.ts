/** What devices come in by, as a part of a gateway: MQTT over TCP, TLS and WebSocket. */
import type { Address } from '../../shared/net/listen.ts';
import { counter, gauge } from '../../shared/telemetry/metrics.ts';
import { bufferPart } from '../buffer/part.ts';
import type { GatewayPart, GatewaySite } from '../part.ts';
import { uplinkPart } from '../uplink/part.ts';
import type { Guard } from './guard.ts';
import { guardPart } from './guard-part.ts';
import { Ingress } from './ingress.ts';
import { WebSocketListener } from './websocket.ts';

export interface MqttAddresses {
  mqtt: Address | undefined;
  mqtts: Address | undefined;
  ws: Address | undefined;
  wss: Address | undefined;
}

interface Devices {
  ingress: Ingress;
  webSockets: WebSocketListener[];
  addresses: MqttAddresses;
}

const BEGUN_BYTES_MAX = 32 * 1024 * 1024;

function ingressOf(site: GatewaySite): Ingress {
  const { config, env, notify } = site.context;
  return new Ingress(
    env,
    {
      mqtt: {
        connectBytesMax: config['limits.connectBytesMax'],
        packetBytesMax: config['limits.packetBytesMax'],
        clientIdBytesMax: config['limits.clientIdBytesMax'],
        filtersMax: config['limits.filtersMax'],
      },
      server: {
        connectionsMax: config['limits.connectionsMax'],
        connectionsPerAddressMax: config['limits.connectionsPerAddressMax'],
        connectTimeoutMs: config['limits.connectTimeoutMs'],
      },
      shares: {
        connectionsMax: config['limits.connectionsMax'],
        sessionsMax: config['limits.sessionsMax'],
        subscriptionsMax: config['limits.subscriptionsMax'],
        subscriptionLevelsMax: config['limits.subscriptionLevelsMax'],
        qos2Max: config['limits.qos2Max'],
        offlineBytesMax: config['limits.offlineBytesMax'],
        retainedMessagesMax: config['limits.retainedMessagesMax'],
        retainedBytesMax: config['limits.retainedBytesMax'],
        willBytesMax: config['buffer.pendingBytesMax'],
        begunBytesMax: Math.max(BEGUN_BYTES_MAX, 2 * config['limits.packetBytesMax']),
        bufferBytesMax: site.get(bufferPart).buffer.lastBytes,
      },
      qos2InFlightMax: config['limits.qos2InFlightMax'],
      offlineMessagesMax: config['limits.offlineMessagesMax'],
      sessionExpiryMs: config['limits.sessionExpiryMs'],
      subscriberStallMs: config['limits.subscriberStallMs'],
      keepAliveMaxSeconds: config['limits.keepAliveMaxSeconds'],
      messagesPerSecond: config['limits.messagesPerSecond'],
      subscriptionsPerClientMax: config['limits.subscriptionsPerClientMax'],
    },
    site.get(guardPart),
    site.get(bufferPart).buffer,
    notify,
  );
}

/** Every way in for devices. */
async function listen({ ingress, webSockets }: Devices, site: GatewaySite): Promise<MqttAddresses> {
  const { config } = site.context;
  const { tls, clientCertificates, passwords } = site.get(guardPart);
  const [tcp, secure] = [config['mqtt.listen'], config['mqtts.listen']];
  const { server } = ingress;
  const mqtt = tcp === undefined ? undefined : await server.listen(tcp, '--mqtt');
  const mqtts =
    secure === undefined || tls === undefined
      ? undefined
      : await server.listenTls(secure, '--mqtts', tls, clientCertificates);
  const webSocket = async (
    address: Address | undefined,
    flag: string,
    own: Guard['tls'],
  ): Promise<Address | undefined> => {
    if (address === undefined) return undefined;
    const listener = new WebSocketListener(
      {
        address,
        flag,
        tls: own,
        clients: clientCertificates,
        // Whoever is asked who it is may come from any page.
        anyOrigin: passwords !== undefined,
        handshakeMs: config['limits.connectTimeoutMs'],
      },
      server,
    );
    webSockets.push(listener);
    return await listener.listen();
  };
  const ws = await webSocket(config['ws.listen'], '--ws', undefined);
  const wss = await webSocket(config['wss.listen'], '--wss', tls);
  return { mqtt, mqtts, ws, wss };
}

export const ingressPart: GatewayPart<Devices> = {
  name: 'ingress',
  open: async (site) => {
    const ingress = ingressOf(site);
    const { hooks } = site.get(bufferPart);
    hooks.onDurable = (tickets) => ingress.release(tickets);
    hooks.onRelief = () => ingress.relieve();
    const uplink = site.find(uplinkPart);
    if (uplink !== undefined)
      uplink.onCommand = (topic, payload) => ingress.command(topic, payload);
    await ingress.start();
    const nowhere = { mqtt: undefined, mqtts: undefined, ws: undefined, wss: undefined };
    return { ingress, webSockets: [], addresses: nowhere };
  },
  start: async (devices, site) => {
    devices.addresses = await listen(devices, site);
  },
  metrics: {
    headwater_ingress_messages_total: counter(
      'PUBLISH packets received from devices.',
      ({ ingress }) => ingress.publishing.messages,
    ),
    headwater_ingress_payload_bytes_total: counter(
      'Payload bytes received from devices.',
      ({ ingress }) => ingress.publishing.bytes,
    ),
    headwater_ingress_denied_total: counter(
      'What access rules or limits denied, by kind; the audit log says whom and what.',
      ({ ingress }) => [
        { labels: { kind: 'publish' }, value: ingress.publishing.denied },
        { labels: { kind: 'subscribe' }, value: ingress.grants.denied },
      ],
    ),
    headwater_ingress_connections: gauge(
      'Device connections now.',
      ({ ingress }) => ingress.server.connectionCount,
    ),
    headwater_ingress_connections_refused_total: counter(
      'Device connections refused for a limit.',
      ({ ingress }) => ingress.server.refused,
    ),
    headwater_ingress_logins_unchecked_total: counter(
      'Passwords that were not looked at: too many wrong ones from the address, or nobody waited any more.',
      ({ ingress }) => ingress.uncheckedLogins,
    ),
    headwater_ingress_connections_closed_total: counter(
      'Device connections closed, by reason.',
      ({ ingress }) => ingress.closedBy.read(),
    ),
    headwater_ingress_offline_dropped_total: counter(
      'Messages that a session has lost because more was queued for it than is allowed.',
      ({ ingress }) => ingress.offlineDropped,
    ),
    headwater_limit_refused_total: counter(
      'Times that a user or address got nothing more of what is there for all, by limit (docs/limits.md).',
      ({ ingress }) =>
        ingress.shares.read(
          ingress.server.share,
          ({ refused }) => refused,
          (door, users) => door + users,
        ),
    ),
    headwater_limit_used: gauge('What is taken of a limit that holds for all.', ({ ingress }) =>
      ingress.shares.read(ingress.server.share, ({ used }) => used),
    ),
    headwater_limit_max: gauge('The most of it, for all together.', ({ ingress }) =>
      ingress.shares.read(ingress.server.share, ({ whole }) => whole),
    ),
    headwater_ingress_sessions_ended_total: counter(
      'Persistent and other sessions that were ended here, by reason.',
      ({ ingress }) => ingress.endings.endedBy.read(),
    ),
    headwater_ingress_mqtt5_sessions: gauge(
      'Sessions of MQTT 5 clients, and those of 3.1.1 without a clean session, with or without a connection.',
      ({ ingress }) => ingress.front5.broker.sessionCount,
    ),
    headwater_ingress_mqtt5_dropped_total: counter(
      'Messages not delivered to a local subscriber of MQTT 5, by reason.',
      ({ ingress }) => ingress.front5.broker.droppedBy.read(),
    ),
    headwater_ingress_retained_messages: gauge(
      'Retained messages kept.',
      ({ ingress }) => ingress.retainedCount,
    ),
  },
  close: async ({ ingress, webSockets }) => {
    for (const listener of webSockets) await listener.close();
    await ingress.close();
  },
};
