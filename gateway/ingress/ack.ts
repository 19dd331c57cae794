/** What waits in the buffer for the fsync of its group: an acknowledgement of a device's packet, mostly. */
import type { MqttConnection } from '../../shared/mqtt/connection.ts';
import type { Ticket } from '../buffer/ticket.ts';
import type { PUBACK, PUBCOMP, PUBREC } from '../../shared/mqtt/packets.ts';

/** One acknowledgement. A class, not a closure: there is one for each message. */
export class Ack implements Ticket {
  readonly connection: MqttConnection;
  readonly type: typeof PUBACK | typeof PUBREC | typeof PUBCOMP;
  readonly packetId: number;
  readonly touched: Set<MqttConnection>;

  constructor(
    connection: MqttConnection,
    type: typeof PUBACK | typeof PUBREC | typeof PUBCOMP,
    packetId: number,
    touched: Set<MqttConnection>,
  ) {
    this.connection = connection;
    this.type = type;
    this.packetId = packetId;
    this.touched = touched;
  }

  durable(): void {
    this.connection.acknowledge(this.type, this.packetId);
    this.touched.add(this.connection);
  }
}
