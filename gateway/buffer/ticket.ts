/** What is to be done once a message is durable, as the buffer keeps it beside the message. */

/** Released when its group is durable. */
export interface Ticket {
  durable(): void;
}
