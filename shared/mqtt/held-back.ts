/** Connections that are not read from until there is room again; each is held once, however often it asks. */
import type { MqttConnection } from './connection.ts';

export class HeldBack {
  private readonly connections = new Set<MqttConnection>();

  hold(connection: MqttConnection): void {
    if (this.connections.has(connection)) return;
    this.connections.add(connection);
    connection.hold();
  }

  /** Reading goes on of those of which `may` says so; a connection that fills the room again may be held anew meanwhile. */
  releaseAll(may: (connection: MqttConnection) => boolean = () => true): void {
    for (const connection of [...this.connections])
      if (may(connection) && this.connections.delete(connection)) connection.release();
  }

  /** The connection is closed. */
  forget(connection: MqttConnection): void {
    this.connections.delete(connection);
  }
}
